/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests to the servers of our cell, over the process's one channel. A request always ends: with its reply, or because the
 * channel is dead. A request that is interrupted is cancelled, and its reply, which comes soon then, is awaited: so no reply and
 * no descriptor is ever lost.
 */
#include "personality/host/channel.h"
#include "personality/host/host.h"
#include "personality/task/task.h"
#include <asm/errno.h>
#include <asm/unistd.h>
#include <dvk/error.h>
#include <linux/futex.h>
#include <linux/mman.h>
#include <linux/fcntl.h>
#include <linux/socket.h>
#include <linux/stat.h>
#include <linux/uio.h>

#define SPIN_MIN 8u
#define SPIN_MAX 400u /* polls of about 40 ns to 100 ns: at most what a wake-up across cores costs */

struct dvk_doorbell *channel_doorbell;

/* socket(2)'s structures: the C library's headers are not ours to include. */
struct host_message_header {
    void *name;
    uint32_t name_len;
    struct iovec *parts;
    uint64_t part_count;
    void *control;
    uint64_t control_len;
    uint32_t flags;
};
struct fd_control {
    uint64_t len;
    int32_t level, type;
    int32_t fds[DVK_MESSAGE_FDS];
};
#define CONTROL_HEADER 16u
#define HOST_SOL_SOCKET 1
#define HOST_SCM_RIGHTS 1
#define HOST_MSG_DONTWAIT 0x40
#define HOST_MSG_NOSIGNAL 0x4000
#define HOST_MSG_CMSG_CLOEXEC 0x40000000

int host_fd_own(const struct process *process, int low) {
    int own[] = {process->channel.socket, space.message_fd}, next = INT32_MAX;
    for (unsigned i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i] >= low && own[i] < next)
            next = own[i];
    return next;
}

int channel_open(struct channel *channel, int memfd, int socket) {
    /* In a fork's child this is the copy of its parent's: of the stash, which is large, only what is in use is written. */
    channel->view = (struct dvk_channel_view){0};
    channel->mapped = channel->mapped_len = 0;
    channel->sequence = 0;
    channel->socket = socket;
    channel->spin = SPIN_MIN * 4;
    channel->ring_lock = channel->receive_lock = (struct lock){0};
    channel->slots = (struct slot_set){0};
    for (unsigned i = 0; i < DVK_GUEST_SLOTS; i++)
        if (channel->stash[i].count != 0)
            channel->stash[i].count = 0;
    long size = CALL3(__NR_lseek, memfd, 0, 2 /* SEEK_END */);
    if (size <= 0 || size > (1l << 32)) {
        CALL1(__NR_close, memfd);
        return size < 0 ? (int)size : -EINVAL;
    }
    uint64_t address = area_reserve((size_t)size);
    long at = address == 0 ? -ENOMEM
                           : CALL6(__NR_mmap, address, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd, 0);
    CALL1(__NR_close, memfd);
    if (at < 0)
        return (int)at;
    channel->mapped = address;
    channel->mapped_len = (uint64_t)size;
    /* a child has a channel of its own and must not see ours */
    CALL3(__NR_madvise, address, size, MADV_DONTFORK);
    if (dvk_channel_view_init(&channel->view, (void *)address, (uint64_t)size) != 0)
        return -EPROTO;
    channel->slots.count =
        channel->view.slots[0] < DVK_GUEST_SLOTS ? channel->view.slots[0] : DVK_GUEST_SLOTS;
    return 0;
}

void channel_close(struct channel *channel, bool close_socket) {
    if (channel->mapped != 0) {
        CALL2(__NR_munmap, channel->mapped, channel->mapped_len);
        area_unreserve(channel->mapped, channel->mapped_len);
        channel->mapped = 0;
    }
    if (close_socket)
        CALL1(__NR_close, channel->socket);
}

long channel_errno(int32_t status) {
    if (status >= 0 || status > -DVK_ERROR_BASE)
        return status;
    return status == -DVK_EINTERRUPTED ? -EINTR : -EIO;
}

/* Descriptors for request `sequence` of slot i go out before the request is published. */
static long fds_send(struct channel *channel, uint32_t i, uint32_t sequence, const int *fds, unsigned count) {
    struct dvk_fd_packet packet = {.magic = DVK_FD_MAGIC, .slot = (uint16_t)i, .sequence = sequence, .count = count};
    struct fd_control control = {.len = CONTROL_HEADER + 4ull * count, .level = HOST_SOL_SOCKET, .type = HOST_SCM_RIGHTS};
    memcpy(control.fds, fds, 4ull * count);
    struct iovec part = {&packet, sizeof packet};
    struct host_message_header header = {.parts = &part, .part_count = 1, .control = &control, .control_len = control.len};
    long result;
    do
        result = CALL3(__NR_sendmsg, channel->socket, &header, HOST_MSG_NOSIGNAL);
    while (result == -EINTR);
    return result < 0 ? result : 0;
}

static void fds_close(const int *fds, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        CALL1(__NR_close, fds[i]);
}

/* Take one packet from the socket into the stash of its slot. Returns 0 or negative errno. Under receive_lock. */
static long fds_receive_one(struct channel *channel) {
    struct dvk_fd_packet packet = {0};
    struct fd_control control = {0};
    struct iovec part = {&packet, sizeof packet};
    struct host_message_header header = {
        .parts = &part, .part_count = 1, .control = &control, .control_len = sizeof control};
    long result;
    do
        result = CALL3(__NR_recvmsg, channel->socket, &header, HOST_MSG_DONTWAIT | HOST_MSG_CMSG_CLOEXEC);
    while (result == -EINTR);
    if (result < 0)
        return result;
    unsigned count = 0;
    if (header.control_len >= CONTROL_HEADER && control.level == HOST_SOL_SOCKET && control.type == HOST_SCM_RIGHTS &&
        control.len >= CONTROL_HEADER && control.len <= sizeof control)
        count = (unsigned)((control.len - CONTROL_HEADER) / 4);
    if (result == 0 && count == 0)
        return -EIO; /* the server's end is closed */
    if (result != (long)sizeof packet || packet.magic != DVK_FD_MAGIC || packet.slot >= DVK_GUEST_SLOTS ||
        packet.side != 0 || packet.reply != 1) {
        fds_close(control.fds, count);
        return 0;
    }
    struct fd_stash *stash = &channel->stash[packet.slot];
    fds_close(stash->fds, stash->count); /* of an older request that nobody asked for */
    stash->sequence = packet.sequence;
    stash->count = count;
    memcpy(stash->fds, control.fds, 4ull * count);
    return 0;
}

/* The descriptors of the reply to request `sequence` of slot i; surplus ones are closed. Returns how many went to fds. */
static unsigned fds_receive(struct channel *channel, uint32_t i, uint32_t sequence, int *fds, unsigned cap) {
    unsigned taken = 0;
    lock_acquire(&channel->receive_lock);
    struct fd_stash *stash = &channel->stash[i];
    while (stash->count == 0 || stash->sequence != sequence)
        if (fds_receive_one(channel) < 0)
            break;
    if (stash->count != 0 && stash->sequence == sequence) {
        taken = stash->count < cap ? stash->count : cap;
        memcpy(fds, stash->fds, 4ull * taken);
        fds_close(stash->fds + taken, stash->count - taken);
        stash->count = 0;
    }
    lock_release(&channel->receive_lock);
    return taken;
}

/* Tell the servers that our ring has something. Returns true when they were asleep. */
static bool bell_post(struct channel *channel) {
    struct dvk_doorbell *bell = channel_doorbell;
    uint32_t bit = __atomic_load_n(&channel->view.header->doorbell_bit[1], __ATOMIC_RELAXED);
    if (!dvk_doorbell_post(bell, bit))
        return false;
    CALL3(__NR_futex, &bell->word, FUTEX_WAKE, 1);
    return true;
}

static void request_cancel(struct channel *channel, uint32_t i, uint32_t *position) {
    lock_acquire(&channel->ring_lock);
    *position = dvk_slot_cancel(&channel->view, 0, i);
    lock_release(&channel->ring_lock);
    bell_post(channel);
}

/* Poll for a reply for a while, if the server runs on another CPU: a wake-up from there would cost more. */
static enum dvk_slot_look reply_spin(struct channel *channel, struct dvk_slot *slot, uint32_t sequence) {
    uint32_t server = __atomic_load_n(&channel_doorbell->cpu, __ATOMIC_RELAXED);
    enum dvk_slot_look look = dvk_slot_look(slot, sequence);
    if (server == 0 || server - 1 == cpu_current())
        return look;
    uint32_t budget = __atomic_load_n(&channel->spin, __ATOMIC_RELAXED), polls = 0;
    while (look == DVK_LOOK_WAITING && polls++ < budget) {
        cpu_pause();
        look = dvk_slot_look(slot, sequence);
    }
    /* threads share the figure and may overwrite each other's: it is a guess anyway */
    if (look == DVK_LOOK_WAITING)
        budget = budget / 2 > SPIN_MIN ? budget / 2 : SPIN_MIN;
    else
        budget = budget * 2 < SPIN_MAX ? budget * 2 : SPIN_MAX;
    __atomic_store_n(&channel->spin, budget, __ATOMIC_RELAXED);
    return look;
}

/* Wait until the reply is there. *position: where the cancellation lies in the ring, if *cancelled. */
static enum dvk_slot_look reply_wait(struct task *task, struct channel *channel, uint32_t i, uint32_t sequence,
                                     bool interruptible, bool spin, bool *cancelled, uint32_t *position) {
    struct dvk_slot *slot = &channel->view.slot[0][i];
    enum dvk_slot_look look = spin ? reply_spin(channel, slot, sequence) : DVK_LOOK_WAITING;
    while (look == DVK_LOOK_WAITING) {
        dvk_slot_prepare_sleep(slot);
        look = dvk_slot_look(slot, sequence);
        if (look != DVK_LOOK_WAITING)
            break;
        if (dvk_channel_is_dead(&channel->view))
            return DVK_LOOK_DEAD;
        uint32_t waiting = DVK_STATE(DVK_SLOT_WAITING, sequence);
        if (interruptible && !*cancelled) {
            if (host_blocking(task, __NR_futex, (uint64_t)&slot->state, FUTEX_WAIT, waiting, 0, 0, 0) == -EINTR &&
                __atomic_load_n(&task->pending, __ATOMIC_RELAXED) != 0 &&
                dvk_slot_look(slot, sequence) == DVK_LOOK_WAITING) {
                request_cancel(channel, i, position);
                *cancelled = true;
            }
        } else {
            CALL4(__NR_futex, &slot->state, FUTEX_WAIT, waiting, 0);
        }
        look = dvk_slot_look(slot, sequence);
    }
    return look;
}

static long reply_take(struct channel *channel, uint32_t i, uint32_t sequence, struct rpc *rpc) {
    struct dvk_slot *slot = &channel->view.slot[0][i];
    memcpy(&rpc->message, &slot->reply, sizeof rpc->message);
    struct dvk_message *message = &rpc->message;
    rpc->reply_len = 0;
    rpc->fd_count = 0;
    if (message->flags & DVK_MSG_FDS)
        rpc->fd_count = fds_receive(channel, i, sequence, rpc->fds, rpc->fds != NULL ? rpc->fd_cap : 0);
    if (message->data_len > channel->view.data_bytes)
        return -EIO;
    rpc->reply_len = message->data_len;
    if (rpc->reply != NULL && message->data_len != 0) {
        size_t len = rpc->reply_len < rpc->reply_cap ? rpc->reply_len : rpc->reply_cap;
        if (guest_write((uint64_t)rpc->reply, dvk_channel_buffer(&channel->view, 0, 1, i), len) != 0) {
            fds_close(rpc->fds, rpc->fd_count);
            rpc->fd_count = 0;
            return -EFAULT;
        }
    }
    return channel_errno(message->status);
}

/* A slot of ours. All 128 in use: wait for one; -EINTR when a signal is to be delivered. */
static long slot_take(struct task *task, struct channel *channel, bool interruptible) {
    const struct dvk_ring *ring = &channel->view.header->ring[0];
    for (;;) {
        uint32_t freed = __atomic_load_n(&channel->slots.freed, __ATOMIC_SEQ_CST);
        int i = slot_set_take(&channel->slots, ring, task->slot_hint);
        if (i >= 0) {
            task->slot_hint = (uint32_t)i;
            return i;
        }
        /* a slot in limbo becomes free without a wake: look again from time to time */
        int64_t timeout[2] = {0, 10000000};
        if (!interruptible)
            CALL4(__NR_futex, &channel->slots.freed, FUTEX_WAIT_PRIVATE, freed, timeout);
        else if (host_blocking(task, __NR_futex, (uint64_t)&channel->slots.freed, FUTEX_WAIT_PRIVATE, freed,
                               (uint64_t)timeout, 0, 0) == -EINTR &&
                 task->pending != 0)
            return -EINTR;
    }
}

static void slot_give(struct channel *channel, uint32_t i, bool cancelled, uint32_t position) {
    dvk_slot_free(&channel->view.slot[0][i]);
    uint64_t full = ~0ull;
    bool was_full = channel->slots.used[0] == full && (SLOT_WORDS < 2 || channel->slots.used[SLOT_WORDS - 1] == full);
    if (cancelled && !dvk_ring_has_passed(&channel->view.header->ring[0], position))
        slot_set_give_later(&channel->slots, i, position);
    else
        slot_set_give(&channel->slots, i);
    if (was_full) /* somebody may wait for a slot; one that we miss here looks again by itself */
        CALL3(__NR_futex, &channel->slots.freed, FUTEX_WAKE_PRIVATE, 1);
}

long rpc_call(struct task *task, struct rpc *rpc) {
    struct channel *channel = process_channel(task->process);
    bool interruptible = (rpc->flags & RPC_UNINTERRUPTIBLE) == 0, cancelled = false;
    uint32_t position = 0;
    rpc->reply_len = 0;
    rpc->fd_count = 0;
    if (channel->mapped == 0 || dvk_channel_is_dead(&channel->view))
        return -EIO;
    if (rpc->data_len > channel->view.data_bytes)
        return -E2BIG;
    if (rpc->send_fd_count > DVK_MESSAGE_FDS)
        return -EINVAL;
    long taken = slot_take(task, channel, interruptible);
    if (taken < 0)
        return taken;
    uint32_t i = (uint32_t)taken;
    struct dvk_slot *slot = &channel->view.slot[0][i];
    uint32_t sequence = __atomic_add_fetch(&channel->sequence, 1u, __ATOMIC_RELAXED) & DVK_SEQUENCE_MASK;

    if (rpc->data_len != 0 &&
        guest_read(dvk_channel_buffer(&channel->view, 0, 0, i), (uint64_t)rpc->data, rpc->data_len) != 0) {
        slot_give(channel, i, false, 0);
        return -EFAULT;
    }
    rpc->message.source = DVK_NONE;
    rpc->message.destination = dvk_service_endpoint(channel->node, VOS_SERVICE(rpc->message.type));
    rpc->message.status = 0;
    rpc->message.data_len = (uint32_t)rpc->data_len;
    rpc->message.flags = rpc->send_fd_count != 0 ? DVK_MSG_FDS : 0;
    rpc->message.fds = (uint16_t)rpc->send_fd_count;
    rpc->message.notify = 0;
    rpc->message.reserved = 0;
    memcpy(&slot->request, &rpc->message, sizeof slot->request);
    if (rpc->send_fd_count != 0) {
        long result = fds_send(channel, i, sequence, rpc->send_fds, rpc->send_fd_count);
        if (result != 0) {
            slot_give(channel, i, false, 0);
            return result;
        }
    }
    __atomic_store_n(&channel->view.header->cpu[0], cpu_current() + 1, __ATOMIC_RELAXED);
    lock_acquire(&channel->ring_lock);
    dvk_slot_publish(&channel->view, 0, i, DVK_SLOT_SENDREC, sequence);
    lock_release(&channel->ring_lock);
    bool slept = bell_post(channel);

    enum dvk_slot_look look =
        reply_wait(task, channel, i, sequence, interruptible, !slept, &cancelled, &position);
    long result = look == DVK_LOOK_DONE ? reply_take(channel, i, sequence, rpc) : -EIO;
    slot_give(channel, i, cancelled, position);
    return result;
}
