/* SPDX-License-Identifier: Apache-2.0 */
/* The pure part of signals: siginfo, default actions, where frames go. */
#include "personality/entry/signal.h"

enum signal_default signal_default_of(int signal) {
    switch (signal) {
    case SIG_CHLD:
    case SIG_CONT:
    case SIG_URG:
    case SIG_WINCH:
        return DEFAULT_IGNORE;
    case SIG_STOP:
    case SIG_TSTP:
    case SIG_TTIN:
    case SIG_TTOU:
        return DEFAULT_STOP;
    case SIG_QUIT:
    case SIG_ILL:
    case SIG_TRAP:
    case SIG_ABRT:
    case SIG_BUS:
    case SIG_FPE:
    case SIG_SEGV:
    case SIG_SYS:
    case SIG_XCPU:
    case SIG_XFSZ:
        return DEFAULT_CORE;
    default:
        return DEFAULT_TERMINATE;
    }
}

void signal_info_rebuild(struct signal_info *out, const struct signal_info *in) {
    *out = *in;
    if (in->code != VOS_SI_CODE)
        return;
    struct vos_siginfo_fields fields;
    memcpy(&fields, &in->u, sizeof fields);
    memset(out, 0, sizeof *out);
    out->signal = in->signal;
    out->error = in->error;
    out->code = fields.code;
    if (in->signal == SIG_CHLD && fields.code > 0) {
        out->u.child.pid = fields.pid;
        out->u.child.uid = fields.uid;
        out->u.child.status = fields.status;
        out->u.child.utime = fields.utime;
        out->u.child.stime = fields.stime;
    } else {
        out->u.queue.pid = fields.pid;
        out->u.queue.uid = fields.uid;
        out->u.queue.value = fields.value;
    }
}

bool stack_contains(const struct guest_stack *stack, uint64_t stack_pointer) {
    return stack->size != 0 && !(stack->flags & (STACK_DISABLE | STACK_AUTODISARM)) && stack_pointer > stack->base &&
           stack_pointer - stack->base <= stack->size;
}

struct frame_place frame_place(uint64_t stack_pointer, const struct guest_stack *stack, uint64_t action_flags,
                               uint32_t extended_len) {
    struct frame_place place = {0, 0};
    uint64_t at = stack_pointer - 128; /* the red zone is the guest's */
    if ((action_flags & ACTION_ONSTACK) && stack->size != 0 && !(stack->flags & STACK_DISABLE) &&
        !stack_contains(stack, stack_pointer))
        at = stack->base + stack->size;
    if (extended_len != 0) {
        at = (at - extended_len) & ~63ull; /* XRSTOR wants 64 */
        place.extended = at;
    }
    at -= sizeof(struct signal_frame);
    place.frame = (at & ~15ull) - 8; /* as after a call */
    return place;
}
