/* SPDX-License-Identifier: Apache-2.0 */
/* Attacks on the DVK and the servers, through our own channel. They may cost us the channel, and nobody else anything.
 */
#include "hostile.h"
#include "personality/personality.h"
#include <dvk/error.h>
#include <linux/sched.h>

/* Make a request in a slot that the personality is not using, and wait for its reply. 1: it came, 0: the channel is no
 * more, -1: neither. */
static int request(const struct dvk_channel_view *view, const struct dvk_message *message, struct dvk_message *reply) {
    uint32_t i = view->slots[0] - 1; /* the personality takes low ones first */
    static uint32_t sequence = 0x12340;
    struct dvk_slot *slot = &view->slot[0][i];
    sequence++;
    slot->request = *message;
    dvk_slot_publish(view, 0, i, DVK_SLOT_SENDREC, sequence);
    dvk_ring_append(&view->header->ring[0], view->slots[0], (uint16_t)i);
    for (int wait = 0; wait < 400; wait++) { /* no doorbell: the receiver looks by itself from time to time */
        enum dvk_slot_look look = dvk_slot_look(slot, sequence);
        if (look == DVK_LOOK_DONE) {
            *reply = slot->reply;
            dvk_slot_free(slot);
            return 1;
        }
        if (look != DVK_LOOK_WAITING)
            return 0;
        sleep_ms(10);
    }
    return dvk_channel_is_dead(view) ? 0 : -1;
}

static struct dvk_message message_to(uint32_t node, uint32_t service, uint32_t type) {
    struct dvk_message message;
    for (size_t i = 0; i < sizeof message; i++)
        ((volatile uint8_t *)&message)[i] = 0;
    message.destination = dvk_service_endpoint(node, service);
    message.type = type;
    return message;
}

/* This node's id is not told to guests in a way that does not need the personality: the right one is whichever answers.
 */
static int request_any_node(const struct dvk_channel_view *view, struct dvk_message *message, uint32_t service,
                            struct dvk_message *reply) {
    for (uint32_t node = 1; node <= 8; node++) {
        message->destination = dvk_service_endpoint(node, service);
        int came = request(view, message, reply);
        if (came <= 0)
            return came;
        if (reply->status > -DVK_ERROR_BASE)
            return 1;
    }
    return 0;
}

/* Say that we are somebody else: process 64, then every service. */
enum outcome attack_forge(long argument) {
    struct dvk_channel_view view;
    struct dvk_message reply;
    long parent = GUEST(__NR_getppid);
    if (channel_find(&view))
        return UNTRIED;
    struct dvk_message message = message_to(1, DVK_SERVICE_PM, PM_GETPPID);
    message.source = dvk_endpoint_make(1, (uint32_t)parent); /* whose parent is another than ours */
    int came = request_any_node(&view, &message, DVK_SERVICE_PM, &reply);
    if (came <= 0)
        return came ? UNTRIED : REFUSED; /* the channel was taken from us */
    return reply.status < 0 || (long)reply.payload.words[0] == parent ? REFUSED : SUCCEEDED;
}

/* Say that we are a server: end a process for fs, take a terminal, hand out credentials. */
enum outcome attack_forge_server(long argument) {
    struct dvk_channel_view view;
    struct dvk_message reply;
    static const uint32_t types[] = {FS_S_EXIT,
                                     FS_S_CREDS,
                                     FS_S_FORK,
                                     FS_S_EXPORTS,
                                     PM_S_RAISE,
                                     PM_S_SIGNAL,
                                     PM_S_MOVED,
                                     PM_S_CHILD_STATE,
                                     VOS_TYPE(DVK_SERVICE_TTY, 3),
                                     VOS_TYPE(DVK_SERVICE_TTY, 16),
                                     VOS_TYPE(DVK_SERVICE_TTY, 18)};
    long parent = GUEST(__NR_getppid);
    if (channel_find(&view))
        return UNTRIED;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct dvk_message message = message_to(1, VOS_SERVICE(types[i]), types[i]);
        for (uint32_t node = 1; node <= 3; node++) {
            message.destination = dvk_service_endpoint(node, VOS_SERVICE(types[i]));
            message.source = dvk_service_endpoint(node, DVK_SERVICE_PM);
            message.payload.words[0] = (uint64_t)parent;
            message.payload.words[1] = (uint64_t)parent;
            message.payload.words[2] = 9;
            int came = request(&view, &message, &reply);
            if (came <= 0)
                return came ? UNTRIED : REFUSED;
            if (reply.status >= 0)
                return SUCCEEDED;
        }
    }
    return REFUSED;
}

static uint64_t random_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Random bytes over slots and ring, again and again. */
enum outcome attack_garbage(long argument) {
    struct dvk_channel_view view;
    uint64_t state = 88172645463325252ull;
    if (channel_find(&view))
        return UNTRIED;
    for (int round = 0; round < 300; round++) {
        for (uint32_t i = 0; i < view.slots[0]; i++) {
            uint64_t *words = (uint64_t *)&view.slot[0][i];
            for (size_t k = 0; k < sizeof(struct dvk_slot) / 8; k++)
                words[k] = random_next(&state);
        }
        uint32_t *ring = (uint32_t *)&view.header->ring[0];
        for (size_t k = 0; k < sizeof(struct dvk_ring) / 4; k++)
            ring[k] = (uint32_t)random_next(&state);
        view.header->notify[0] = random_next(&state);
        view.header->doorbell_bit[0] = (uint32_t)random_next(&state);
        view.header->doorbell_bit[1] = (uint32_t)random_next(&state);
        view.header->slots[0] = (uint32_t)random_next(&state);
        view.header->data_bytes = (uint32_t)random_next(&state);
        view.header->ring[0].head = (uint32_t)random_next(&state) % 8; /* now and then a length that can be */
        sleep_ms(5);
    }
    return REFUSED; /* what matters is that the others go on, which our parent and the test see */
}

/* A well-formed ring with impossible indexes, types, lengths. */
enum outcome attack_bad_slot(long argument) {
    struct dvk_channel_view view;
    struct dvk_message reply;
    if (channel_find(&view))
        return UNTRIED;
    static const uint32_t lengths[] = {0, 1, 65536, 65537, 0x7fffffff, 0xffffffff};
    for (uint32_t type = 0; type < 7 * 256; type++) {
        struct dvk_message message = message_to(1 + type % 3, type >> 8, type);
        message.data_len = lengths[type % 3];
        for (size_t k = 0; k < sizeof message.payload.words / 8; k++)
            message.payload.words[k] = k % 2 ? ~0ull : (uint64_t)1 << 63;
        if ((type & 0xff) == 12 || (type & 0xff) == 4) /* our own exit; a zygote's wait, which never ends */
            continue;
        uint32_t i = view.slots[0] - 1 - type % 32;
        view.slot[0][i].request = message;
        dvk_slot_publish(&view, 0, i, DVK_SLOT_SEND, type + 7);
        dvk_ring_append(&view.header->ring[0], view.slots[0], (uint16_t)i);
        if (type % 32 == 31)
            sleep_ms(20);
    }
    struct dvk_message message = message_to(1, DVK_SERVICE_FS, FS_STAT);
    message.data_len = 0xffffffffu;
    message.fds = 0xffff;
    message.flags = 0xffff;
    (void)request(&view, &message, &reply);
    for (uint32_t i = 0; i < 64; i++)
        dvk_ring_append(&view.header->ring[0], view.slots[0], (uint16_t)(0x7fff - i));
    sleep_ms(1500);
    return REFUSED;
}

/* Declare ourselves dead. */
enum outcome attack_dead_flag(long argument) {
    struct dvk_channel_view view;
    if (channel_find(&view))
        return UNTRIED;
    view.header->dead = 1;
    for (uint32_t i = 0; i < view.slots[0]; i++)
        view.slot[0][i].state = DVK_SLOT_DEAD;
    sleep_ms(200);
    return REFUSED;
}

/* Without a channel we can ask nobody anything; the call after it must end, by an error or our death. */
enum outcome attack_unmap(long argument) {
    struct dvk_channel_view view;
    if (channel_find(&view))
        return UNTRIED;
    if (HOST(__NR_munmap, view.base, dvk_channel_size(view.slots, view.data_bytes)))
        return UNTRIED;
    long result = GUEST(__NR_mkdir, "/tmp/hostile-unmap", 0700);
    return result < 0 ? REFUSED : SUCCEEDED;
}

/* The servers' doorbell page, which all guests of the cell share, holds hints only: keep it clear for a second. The
 * test sees that others are served meanwhile. It is the page whose first word moves when we ask something. */
enum outcome attack_doorbell(long argument) {
    struct dvk_channel_view view;
    uint8_t resident;
    uint64_t before, after;
    int pipe[2];
    if (channel_find(&view) || HOST(__NR_pipe2, pipe, 0))
        return UNTRIED;
    uint64_t channel = (uint64_t)view.base, channel_end = channel + dvk_channel_size(view.slots, view.data_bytes);
    for (uint64_t at = PERSONALITY_AREA; at < PERSONALITY_AREA + (64ull << 20); at += 4096) {
        if ((at >= channel && at < channel_end) || HOST(__NR_mincore, at, 4096, &resident) || !peek(pipe, at, &before))
            continue;
        GUEST(__NR_rmdir, "/no/such/directory");
        if (!peek(pipe, at, &after) || (uint32_t)before == (uint32_t)after)
            continue;
        volatile struct dvk_doorbell *bell = (struct dvk_doorbell *)at;
        uint32_t pad = bell->pad;
        for (size_t k = sizeof *bell / 4; k < DVK_DOORBELL_SIZE / 4; k++) /* nothing lies behind it */
            pad |= ((volatile uint32_t *)at)[k];
        if (pad || bell->sleeping > 1 || bell->cpu > 4096)
            continue; /* something else that moves */
        for (int i = 0; i < 1000; i++) {
            for (size_t k = 0; k < DVK_DOORBELL_BITS / 64; k++)
                bell->pending[k] = 0;
            bell->summary[0] = bell->summary[1] = 0;
            bell->sleeping = 0;
            sleep_ms(1);
        }
        return REFUSED;
    }
    return UNTRIED;
}

/* A process that pm never heard of, which does not want to end. It ends with the cell. */
enum outcome attack_stray(long argument) {
    struct clone_args args;
    for (size_t k = 0; k < sizeof args; k++)
        ((volatile char *)&args)[k] = 0;
    args.flags = CLONE_PARENT;
    long pid = HOST(__NR_clone3, &args, sizeof args);
    if (!pid)
        for (;;)
            sleep_ms(1000000);
    return pid > 0 ? REFUSED : UNTRIED;
}
