/* SPDX-License-Identifier: Apache-2.0 */
/* The wait, the scan of the doorbell, and what is handed out. */
#include "dvk/internal.h"
#include "dvk/relay.h"

#include <stdlib.h>

#define TAKE_AT_ONCE 16 /* entries of one channel before the next has its turn */
#define SCAN_ACTIVE_NS (100 * NS_PER_MS)
#define SCAN_IDLE_NS (1000 * NS_PER_MS)
#define STALL_NS (1000 * NS_PER_MS)

void receive_mark_more(struct dvk *dvk, struct channel *channel) {
    if (!list_has(&channel->more) && !channel->closed)
        list_append(&dvk->more, &channel->more);
}

void receive_arrived(struct dvk *dvk, struct request *request) {
    request->stats->arrived++;
    request_ready(dvk, request);
}

/* Has the last message from there shown that this one's source may send there and that its destination is ours? Guests may write
 * destinations in two ways, proxies speak for many. */
static bool is_last_pair(const struct dvk *dvk, const struct channel *channel, const struct dvk_message *msg) {
    return msg->source == channel->last_pair.source && msg->destination == channel->last_pair.destination &&
           channel->last_pair.own_changes == dvk->own_changes && msg->source != DVK_NONE &&
           channel->last_pair.revision == (uint32_t)(msg->reserved >> 32);
}

static void last_pair_set(const struct dvk *dvk, struct channel *channel, dvk_endpoint source, dvk_endpoint destination,
                          const struct own_endpoint *own) {
    channel->last_pair.source = channel->guest ? DVK_NONE : source;
    channel->last_pair.destination = destination;
    channel->last_pair.full = own->endpoint;
    channel->last_pair.stats = own->stats;
    channel->last_pair.revision = own->revision;
    channel->last_pair.own_changes = dvk->own_changes;
}

/* Can that message be from a peer that keeps to the protocol? It has neither data nor descriptors and is no notification. */
static bool simple_is_valid(const struct dvk *dvk, const struct channel *channel, const struct dvk_message *msg, uint32_t kind) {
    return kind < DVK_SLOT_POST ? !channel->proxy || msg->source != DVK_NONE
                                : kind == DVK_SLOT_POST && !dvk->relay && !channel->guest && !channel->proxy;
}

/* The same of any other. A post has nothing of that. */
static bool entry_is_valid(const struct channel *channel, uint32_t i, const struct dvk_message *msg, uint32_t kind, uint32_t span,
                           unsigned fds) {
    const struct dvk_channel_view *view = &channel->view;
    return kind < DVK_SLOT_POST && span <= (channel->guest ? 1 : view->slots[1 - channel->side] - i) &&
           msg->data_len <= (uint64_t)span * view->data_bytes && fds <= DVK_MESSAGE_FDS &&
           !(channel->proxy && (fds || msg->source == DVK_NONE)) &&
           (!msg->notify || kind == DVK_SLOT_SEND || (kind == DVK_SLOT_SENDREC && msg->flags & DVK_MSG_RESUMED));
}

/*
 * Is a message that came for who is not ours, has another revision, or is frozen, ours all the same? 1: it is; 0: leave it for now;
 * 2: it was answered, and the request freed.
 */
static int entry_astray(struct dvk *dvk, struct channel *channel, struct request *request, uint32_t i, uint32_t sequence,
                        uint32_t revision) {
    dvk_endpoint to = request->public.msg.destination;
    broker_drain(dvk); /* dvkd tells of what has moved to us before a message can be sent to it here */
    const struct own_endpoint *own = own_at(dvk, channel->dc, to);
    const struct moved *moved = own ? NULL : moved_find(dvk, channel->dc, to);
    bool is_post = request->kind == DVK_SLOT_POST;
    if (own && (own->revision == revision || channel->guest) && !(own->frozen && (is_post || request->public.fd_count)))
        return 1;
    bool stays = channel->closed || (own && own->revision == revision && is_post); /* it holds no slot once it is taken */
    if (!stays && own && own->revision != revision)
        slot_moved(dvk, channel, i, sequence, own->endpoint, (int32_t)(own->revision - revision) > 0 ? own->revision : revision);
    else if (!stays && moved)
        slot_moved(dvk, channel, i, sequence, moved->endpoint, moved->revision);
    else if (!stays)
        request_error(dvk, channel, i, sequence, own ? -DVK_EMIGRATING : -DVK_ENOTBOUND);
    request_free(dvk, request);
    return stays ? 0 : 2;
}

/*
 * Do privileges allow it? 1: they do; 2: they do not; 0: they have just changed, look again. to: its destination in full. The sender of
 * a notification adds bits to it until they are taken: those that it adds after a change must not be refused by what was before.
 */
static int entry_judge(struct dvk *dvk, struct channel *channel, struct dvk_slot *slot, uint32_t kind, const struct dvk_message *msg,
                       dvk_endpoint to) {
    if (privilege_message_allowed(dvk, channel, kind, msg, to))
        return 1;
    uint64_t bits = kind == DVK_SLOT_SEND ? __atomic_exchange_n(&slot->request.notify, 0, __ATOMIC_ACQ_REL) : 0;
    if (!bits || !privileges_are_old(dvk))
        return 2;
    (void)__atomic_fetch_or(&slot->request.notify, bits, __ATOMIC_ACQ_REL);
    receive_mark_more(dvk, channel);
    return 0;
}

/* The message in the peer's slot i: copied once, checked. 1: *out; 0: leave it for now; -1: the peer broke the
 * protocol; 2: nothing to hand out, go on. */
static int entry_take(struct dvk *dvk, struct channel *channel, uint32_t i, struct request **out) {
    int peer = 1 - channel->side;
    const struct dvk_channel_view *view = &channel->view;
    struct dvk_slot *slot = &view->slot[peer][i];
    if (channel->requests[i])
        return -1; /* it has not been answered yet */
    uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
    if (DVK_STATE_KIND(state) != DVK_SLOT_WAITING)
        return DVK_STATE_KIND(state) == DVK_SLOT_DEAD ? 2 : -1;
    uint32_t sequence = DVK_STATE_SEQUENCE(state);
    uint32_t flags = __atomic_load_n(&slot->flags, __ATOMIC_RELAXED);
    struct request *request = request_new(dvk);
    if (!request)
        return 0; /* later, when there is memory */
    struct dvk_request *pub = &request->public;
    dvk_message_read(&pub->msg, &slot->request, dvk_flags_lines(flags)); /* the one copy */
    struct dvk_message *msg = &pub->msg;
    uint32_t kind = flags & DVK_SLOT_KIND_MASK, span = DVK_SLOT_SPAN(flags);
    unsigned fds = msg->flags & DVK_MSG_FDS ? msg->fds : 0;
    bool post = kind == DVK_SLOT_POST, simple = !(msg->data_len | msg->notify | fds | (span - 1));
    bool resumed = kind == DVK_SLOT_SENDREC && msg->flags & DVK_MSG_RESUMED;
    if (!(simple ? simple_is_valid(dvk, channel, msg, kind) : entry_is_valid(channel, i, msg, kind, span, fds))) {
        request_free(dvk, request);
        return -1;
    }
    if (msg->source == DVK_NONE && !channel->proxy && channel->peer_count == 1)
        msg->source = channel->peers[0]; /* the channel says who it is */
    if (privileges_are_old(dvk)) {
        privilege_catch_up(dvk);
        if (channel->closed) {
            request_free(dvk, request);
            return 2;
        }
    }
    bool same_pair = is_last_pair(dvk, channel, msg);
    if (!same_pair && !channel->proxy && !channel_peer_known(channel, msg->source)) {
        broker_drain(dvk); /* dvkd tells of a new endpoint before its first message can be sent */
        if (channel->closed || (!channel_peer_known(channel, msg->source) && !channel_peer_was(channel, msg->source))) {
            request_free(dvk, request);
            int64_t now = now_ns();
            if (!channel->stalled_until)
                channel->stalled_until = now + STALL_NS;
            return now < channel->stalled_until ? 0 : -1;
        }
    }
    channel->stalled_until = 0;
    if (fds) {
        request->fds_used = true;
        int got = fdpass_receive(channel, i, peer, false, sequence, fds, pub->fds);
        if (got < 0) {
            request_free(dvk, request);
            return -1;
        }
        pub->fd_count = (unsigned)got;
    }
    uint32_t to = dvk_endpoint_slot(msg->destination);
    if (channel->guest && dvk_slot_is_system(to) &&
        dvk_system_slot_node(to) == 0) /* a guest's way to say: of this node */
        msg->destination = dvk_service_endpoint(dvk->node, dvk_system_slot_service(to));
    const struct own_endpoint *own = same_pair || dvk->relay ? NULL : own_at(dvk, channel->dc, msg->destination);
    uint32_t revision = (uint32_t)(msg->reserved >> 32);
    request->kind = kind;
    if (!same_pair && !dvk->relay && (!own || own->revision != revision || own->frozen)) {
        int taken = entry_astray(dvk, channel, request, i, sequence, revision);
        if (taken != 1)
            return taken;
        own = own_at(dvk, channel->dc, msg->destination);
    }
    dvk_endpoint full = same_pair ? channel->last_pair.full : own ? own->endpoint : msg->destination;
    int allowed = channel->judged ? entry_judge(dvk, channel, slot, kind, msg, full) : 1;
    if (allowed != 1) {
        if (allowed == 2)
            request_error(dvk, channel, i, sequence, -DVK_ENOTALLOWED);
        request_free(dvk, request);
        return allowed;
    }
    if (msg->data_len > dvk->accepts) {
        request_error(dvk, channel, i, sequence, -EMSGSIZE);
        request_free(dvk, request);
        return 2;
    }
    request->stats = same_pair ? channel->last_pair.stats : own ? own->stats : &dvk->uncounted;
    if (own && !own->frozen && !channel->proxy && channel_peer_known(channel, msg->source))
        last_pair_set(dvk, channel, msg->source, msg->destination, own);
    msg->destination = full;
    msg->flags = fds ? DVK_MSG_FDS : 0;
    msg->fds = (uint16_t)fds;
    msg->status = 0;
    uint32_t node = (uint32_t)msg->reserved;
    pub->source_node = channel->proxy && node <= DVK_MAX_NODE ? node : dvk->node;
    request->revision = revision;
    request->resumed = resumed;
    request->key = resumed ? msg->notify : 0;
    if (resumed)
        msg->notify = 0;
    msg->reserved = 0;
    pub->dc = channel->dc;
    pub->local = !channel->proxy;
    pub->data = dvk_channel_buffer(view, peer, 0, i);
    pub->reply_data = dvk_channel_buffer(view, peer, 1, i);
    pub->reply_cap = span * view->data_bytes;
    pub->wants_reply = kind == DVK_SLOT_SENDREC || dvk->relay;
    request->channel = channel;
    request->slot = i;
    request->sequence = sequence;
    channel_hold(channel);
    *out = request;
    dvk->last_channel = channel;
    if (post) { /* it is ours now, whatever becomes of the slot */
        request->finished = true;
        channel->posts_ready++;
        return 1;
    }
    if (kind == DVK_SLOT_SENDREC) {
        __builtin_prefetch(&slot->reply, 1);
        __builtin_prefetch((const uint8_t *)&slot->reply + DVK_LINE, 1);
    }
    channel->last_peer = i;
    request->sync = !(flags & DVK_SLOT_RING_BACK);
    if (request->sync)
        channel->sync_requests++;
    channel->requests[i] = request;
    return 1;
}

/* A guest's notification bits (it has no slots to spare for them). */
static void header_notify_take(struct dvk *dvk, struct channel *channel) {
    uint64_t *word = &channel->view.header->notify[1 - channel->side];
    if (!channel->guest || __atomic_load_n(word, __ATOMIC_ACQUIRE) == 0 || channel->peer_count == 0)
        return;
    struct request *request = request_new(dvk);
    if (!request)
        return;
    memset(&request->public.msg, 0, sizeof request->public.msg);
    request->public.msg.notify = __atomic_exchange_n(word, 0, __ATOMIC_ACQ_REL);
    request->public.msg.source = channel->peers[0];
    request->public.dc = channel->dc;
    request->public.local = true;
    request->public.source_node = dvk->node;
    request->kind = DVK_SLOT_SEND;
    request->in_header = true;
    if (request->public.msg.notify == 0)
        request_free(dvk, request);
    else
        receive_arrived(dvk, request);
}

/* We took posts: their sender may wait for that. It is told of many at a time, or when we have taken all: each time it may have
 * to be woken. */
static void room_tell(struct channel *channel, bool more) {
    if (more && channel->posts_untold < channel->view.slots[1 - channel->side] / 2)
        return;
    channel->posts_untold = 0;
    uint32_t *wants = &channel->view.header->wants_room[1 - channel->side];
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* P6 */
    if (__atomic_load_n(wants, __ATOMIC_RELAXED) && __atomic_exchange_n(wants, 0u, __ATOMIC_SEQ_CST))
        channel_ring_plain(channel);
}

void receive_post_done(struct dvk *dvk, struct channel *channel) {
    channel->posts_ready--;
    if (channel->posts_stopped && channel->posts_ready <= channel->view.slots[1 - channel->side] / 2) {
        channel->posts_stopped = false;
        receive_mark_more(dvk, channel);
    }
}

static uint32_t ring_head(const struct channel *channel) {
    return __atomic_load_n(&channel->view.header->ring[1 - channel->side].head, __ATOMIC_ACQUIRE); /* P1 */
}

/* Ask early for what the next message but one will be read from. */
static inline void entry_prefetch(const struct channel *channel, uint32_t head) {
    int peer = 1 - channel->side;
    const struct dvk_channel_view *view = &channel->view;
    uint32_t at = channel->taken + 2;
    if ((int32_t)(head - at) <= 0)
        return;
    uint16_t entry = __atomic_load_n(&view->header->ring[peer].entry[at & (2 * view->slots[peer] - 1)], __ATOMIC_RELAXED);
    const struct dvk_slot *slot = &view->slot[peer][entry & (view->slots[peer] - 1)]; /* whatever it says */
    __builtin_prefetch(slot);
    __builtin_prefetch(&slot->request);
    __builtin_prefetch((const uint8_t *)&slot->request + DVK_LINE);
}

void receive_scan_channel(struct dvk *dvk, struct channel *channel) {
    if (channel->closed)
        return;
    channel_hold(channel);
    bool dead = dvk_channel_is_dead(&channel->view);
    call_scan(dvk, channel); /* replies that came before the end still count */
    if (channel->post_count && !list_is_empty(&channel->queue))
        posts_make_room(dvk, channel);
    if (dead)
        channel_is_gone(dvk, channel);
    if (!channel->closed)
        header_notify_take(dvk, channel);
    int peer = 1 - channel->side;
    struct dvk_ring *ring = &channel->view.header->ring[peer];
    uint32_t head = channel->taken;
    for (int n = 0; !channel->closed; n++) {
        uint16_t entry;
        if (head == channel->taken) /* the peer writes it with each message: looked at as seldom as can be */
            head = ring_head(channel);
        int found = dvk_ring_peek_to(ring, channel->view.slots[peer], head, channel->taken, &entry);
        channel->ring_emptied = found == 0;
        if (found == 0)
            break;
        if (n == TAKE_AT_ONCE) {
            receive_mark_more(dvk, channel);
            break;
        }
        if (channel->posts_ready >= channel->view.slots[peer]) { /* they hold no slots: the ring must hold the rest */
            channel->posts_stopped = true;
            break;
        }
        entry_prefetch(channel, head);
        struct request *request = NULL;
        int took = 2;
        if (found > 0 && entry & DVK_RING_CANCEL) {
            uint32_t i = entry & ~DVK_RING_CANCEL;
            if (channel->requests[i] &&
                __atomic_load_n(&channel->view.slot[peer][i].cancel, __ATOMIC_RELAXED)) /* else: a stale one */
                request_cancel(dvk, channel->requests[i]);
        } else if (found > 0)
            took = entry_take(dvk, channel, entry, &request);
        if (found < 0 || took < 0) {
            channel_close(dvk, channel, -DVK_EBADPEER, true, true);
            break;
        }
        if (took == 0)
            break; /* the periodic scan tries again */
        channel->posts_untold += !request || request->kind == DVK_SLOT_POST;
        channel->taken++;
        if (took == 1)
            receive_arrived(dvk, request);
    }
    if (!channel->closed && channel->taken != __atomic_load_n(&ring->tail, __ATOMIC_RELAXED))
        dvk_ring_tell(ring, channel->taken);
    if (channel->posts_untold && !channel->closed)
        room_tell(channel, list_has(&channel->more));
    channel_release(channel);
}

/* Run through the channels in dvk.more, each once. */
static bool scan_more(struct dvk *dvk) {
    struct link batch;
    list_init(&batch);
    list_splice(&batch, &dvk->more);
    struct channel *channel;
    bool any = false;
    while ((channel = list_first(&batch, struct channel, more))) {
        any = dvk->active = true;
        list_remove(&channel->more);
        receive_scan_channel(dvk, channel);
    }
    return any;
}

/* Has the channel something that only its doorbell's bit tells of: what is no message in its ring? */
static bool channel_awaits(const struct channel *channel) {
    return channel_awaits_answers(channel) || channel->post_count || channel->posted_bytes || !list_is_empty(&channel->queue);
}

/* The ring of the channel that spoke last can be watched in place of the doorbell. */
static bool ring_is_watchable(const struct channel *channel) {
    return channel && channel->ring_emptied && !channel->closed;
}

/*
 * Of two that talk to each other over and over, each message would have its sender set the doorbell's bits and its receiver
 * clear them: the dearest lines of all, since both write them. So the bits stay set while they are those of last_channel
 * alone, whose ring is watched anyway: its sender finds them set and goes on. Before sleep they are cleared (P3).
 */
static bool bell_may_stay(const struct dvk *dvk) {
    const struct dvk_doorbell *bell = dvk->doorbell;
    const struct channel *last = dvk->last_channel;
    if (!dvk->awake || !ring_is_watchable(last) || last->guest || last->bit_link.next != last->bit_link.prev)
        return false;
    uint32_t word = last->bit / 64, s = word / 64;
    return __atomic_load_n(&bell->summary[s], __ATOMIC_RELAXED) == 1ull << (word % 64) &&
           __atomic_load_n(&bell->summary[1 - s], __ATOMIC_RELAXED) == 0 &&
           __atomic_load_n(&bell->pending[word], __ATOMIC_RELAXED) == 1ull << (last->bit % 64) && !channel_awaits(last);
}

/* Clear the doorbell's bits; their channels are to be scanned. */
static void bell_take(struct dvk *dvk) {
    struct dvk_doorbell *bell = dvk->doorbell;
    dvk->bits_left = false;
    for (unsigned s = 0; s < 2; s++) {
        if (__atomic_load_n(&bell->summary[s], __ATOMIC_SEQ_CST) == 0)
            continue;
        uint64_t words = __atomic_exchange_n(&bell->summary[s], 0, __ATOMIC_SEQ_CST);
        for (; words; words &= words - 1) {
            unsigned w = s * 64 + (unsigned)__builtin_ctzll(words);
            uint64_t bits = __atomic_exchange_n(&bell->pending[w], 0, __ATOMIC_SEQ_CST);
            for (; bits; bits &= bits - 1) {
                struct link *list = &dvk->by_bit[w * 64 + (unsigned)__builtin_ctzll(bits)];
                list_each(channel, list, struct channel, bit_link) {
                    receive_mark_more(dvk, channel);
                }
            }
        }
    }
}

bool receive_scan(struct dvk *dvk) {
    uint32_t word = __atomic_load_n(&dvk->doorbell->word, __ATOMIC_SEQ_CST);
    if (word != dvk->seen) {
        dvk->seen = word;
        dvk->active = true;
    }
    if (bell_may_stay(dvk)) {
        dvk->bits_left = true;
        if (ring_head(dvk->last_channel) != dvk->last_channel->taken)
            receive_mark_more(dvk, dvk->last_channel);
    } else
        bell_take(dvk);
    bool any = scan_more(dvk);
    if (!list_is_empty(&dvk->moving))
        settle_run(dvk);
    return any;
}

/* All channels, whatever the doorbell says: peers may have cleared each other's hints. */
static void scan_all(struct dvk *dvk) {
    list_each(channel, &dvk->channels, struct channel, link) {
        receive_mark_more(dvk, channel);
    }
    (void)scan_more(dvk);
    dvk->active = !list_is_empty(&dvk->ready) || !list_is_empty(&dvk->ready_notes) || !list_is_empty(&dvk->completed);
}

static bool run_notices(struct dvk *dvk) {
    bool any = false;
    struct request *request;
    while ((request = list_first(&dvk->notices, struct request, link))) {
        list_remove(&request->link);
        any = true;
        if (dvk->on_cancel)
            dvk->on_cancel(dvk->on_cancel_context, &request->public);
    }
    return any;
}

static bool scan_if_due(struct dvk *dvk, int64_t now) {
    if (dvk->active && dvk->next_scan - now > SCAN_ACTIVE_NS)
        dvk->next_scan = now + SCAN_ACTIVE_NS;
    if (now < dvk->next_scan)
        return false;
    bool busy = dvk->active || dvk->guest_count;
    dvk->next_scan = list_is_empty(&dvk->channels) ? INT64_MAX : now + (dvk->active ? SCAN_ACTIVE_NS : SCAN_IDLE_NS);
    if (!dvk->active)
        dvk->timed_waits = 0;
    dvk->active = false;
    if (busy || dvk->call_free_count < dvk->call_cap) /* someone may wait for us, or we for someone */
        scan_all(dvk);
    return true;
}

/* Everything that waits to be told or run. True: something was; look again. */
static bool run_pending(struct dvk *dvk) {
    bool any = receive_scan(dvk);
    if (__atomic_load_n(&dvk->fds_ready, __ATOMIC_ACQUIRE)) {
        poller_run(dvk);
        any = true;
    }
    any |= broker_run_events(dvk);
    any |= call_run_completed(dvk);
    any |= run_notices(dvk);
    if (dvk->timer_count)
        any |= timer_run(dvk, now_ns());
    return any;
}

/* The oldest message; notifications first. */
static struct request *ready_first(const struct dvk *dvk) {
    const struct link *list = !list_is_empty(&dvk->filed_notes)   ? &dvk->filed_notes
                              : !list_is_empty(&dvk->ready_notes) ? &dvk->ready_notes
                              : !list_is_empty(&dvk->filed)       ? &dvk->filed
                                                                  : &dvk->ready;
    return list_first(list, struct request, link);
}

/* The bits of a notification, at the moment when it is received: its sender may have added some. See note_merge. */
static void note_take(struct request *request) {
    const struct channel *channel = request->channel;
    uint64_t *word = &channel->view.slot[1 - channel->side][request->slot].request.notify;
    uint64_t bits = __atomic_exchange_n(word, 0, __ATOMIC_ACQ_REL);
    if (bits)
        request->public.msg.notify = bits;
}

static void received_count(const struct dvk_request *request, struct dvk_stats *stats) {
    if (request->wants_reply)
        stats->requests_in++;
    else if (request->group)
        stats->casts_in++;
    else if (request->msg.notify)
        stats->notifies_in++;
    else
        stats->sends_in++;
    if (request->msg.data_len)
        stats->bytes_in += request->msg.data_len;
}

/* Hand out what the filter (NULL: none) lets through. 0 with *out, which may be NULL, or -ENOMEM. */
static int ready_pop(struct dvk *dvk, const struct filter *filter, struct request **out) {
    struct request *request = NULL;
    if (!filter) {
        request = ready_first(dvk);
    } else {
        int error = filter_next(dvk, filter, &request);
        if (error < 0)
            return error;
    }
    *out = request;
    if (!request)
        return 0;
    list_remove(&request->link);
    if (request->filed[0].inbox)
        request_unfile(request);
    request->state = REQUEST_TAKEN;
    if (request->kind == DVK_SLOT_POST && request->channel)
        receive_post_done(dvk, request->channel);
    if (request->public.group)
        service_taken(dvk, &request->public);
    if (request->channel) {
        const struct channel *channel = request->channel;
        dvk->last_cpu = __atomic_load_n(&channel->view.header->cpu[1 - channel->side], __ATOMIC_RELAXED);
    }
    if (request->public.msg.notify && request->channel && !request->detached)
        note_take(request);
    received_count(&request->public, request->stats);
    /* the data of a send stays its sender's until dvk_release */
    if (request->kind == DVK_SLOT_SEND && !request->public.wants_reply && request->public.msg.data_len == 0)
        request_taken(dvk, request);
    return 0;
}

/* Wait awake, if that is worth it, until the doorbell or the ring of the channel that spoke last has news; true if it has. */
static bool news_await(struct dvk *dvk, uint32_t seen) {
    struct channel *last = dvk->last_channel;
    const struct dvk_doorbell *bell = dvk->doorbell;
    struct news news = {{&bell->word, &bell->word}, {seen, seen}, {bell, bell, bell, bell}};
    if (ring_is_watchable(last)) {
        news.word[0] = &last->view.header->ring[1 - last->side].head;
        news.value[0] = last->taken;
        channel_lines(last, news.line);
    }
    dvk->awake = spin_until(dvk, &dvk->spin, &news, dvk->last_cpu);
    if (!dvk->awake)
        return false;
    if (ring_is_watchable(last) && ring_head(last) != last->taken) {
        dvk->active = true;
        receive_scan_channel(dvk, last);
    }
    return true;
}

static void sleep_until(struct dvk *dvk, int64_t exact, int64_t about) {
    uint32_t seen = dvk->seen;
    if ((!dvk->bits_left || bell_may_stay(dvk)) && news_await(dvk, seen))
        return;
    if (dvk->bits_left) { /* nobody has rung for what came since: look again */
        bell_take(dvk);
        return;
    }
    if (!dvk_doorbell_prepare_sleep(dvk->doorbell, seen))
        return;
    dvk->sleeping_until = exact;
    if (dvk->relay)
        pthread_mutex_unlock(&dvk->turn);
    bool time_up = wait_word(dvk, &dvk->doorbell->word, seen, exact, about);
    if (dvk->relay)
        pthread_mutex_lock(&dvk->turn);
    dvk_doorbell_awake(dvk->doorbell);
    if (time_up)
        dvk->seen = __atomic_load_n(&dvk->doorbell->word, __ATOMIC_SEQ_CST); /* the alarm's ring is no activity */
    else
        dvk->active = true; /* whatever the word says: a peer may have changed it back after waking us */
    cpu_update(dvk);
}

void receive_sleep(struct dvk *dvk, int64_t deadline) {
    /* in slices: if dvkd itself is gone nobody will tell of the peer's death */
    sleep_until(dvk, deadline, about_now(dvk) + 500 * NS_PER_MS);
}

/* Nothing has come since the last look, so that a message that is ready may be handed out at once. */
static bool is_quiet(const struct dvk *dvk) {
    return __atomic_load_n(&dvk->doorbell->word, __ATOMIC_ACQUIRE) == dvk->seen &&
           !__atomic_load_n(&dvk->fds_ready, __ATOMIC_ACQUIRE) && !__atomic_load_n(&dvk->wake, __ATOMIC_ACQUIRE) &&
           list_is_empty(&dvk->events) && list_is_empty(&dvk->completed) && list_is_empty(&dvk->notices) &&
           dvk->timer_count == 0;
}

int receive_next(struct dvk *dvk, const struct filter *filter, struct dvk_request **out, int timeout_ms) {
    int64_t deadline = -1;
    *out = NULL;
    if (++dvk->work % 64 == 0) {
        cpu_update(dvk);
        (void)scan_if_due(dvk, now_ns());
    }
    for (bool last = false;;) {
        bool any = (!list_is_empty(&dvk->ready) && is_quiet(dvk)) || run_pending(dvk);
        if (__atomic_load_n(&dvk->wake, __ATOMIC_ACQUIRE) && __atomic_exchange_n(&dvk->wake, 0, __ATOMIC_ACQ_REL))
            return -DVK_EINTERRUPTED;
        struct request *request;
        int error = ready_pop(dvk, filter, &request);
        if (error < 0)
            return error;
        if (request) {
            *out = &request->public;
            return 0;
        }
        if (any)
            continue;
        if (dvk->broker_gone)
            return dvk->broker_error ? dvk->broker_error : -DVK_ENODAEMON;
        if (filter && filter->inbox->gone)
            return filter->inbox->gone;
        if (deadline < 0)
            deadline = deadline_of(timeout_ms);
        if (scan_if_due(dvk, about_now(dvk)))
            continue;
        if (timeout_ms == 0 || is_past(deadline)) {
            if (last)
                return -DVK_ETIMEDOUT;
            last = true; /* the time may have passed while we were not running: look once more */
            continue;
        }
        if (filter && (error = inbox_watch(dvk, filter->inbox)) < 0)
            return error;
        sleep_until(dvk, deadline < timer_next(dvk) ? deadline : timer_next(dvk), dvk->next_scan);
    }
}

/* A post that is ready, while nothing else is: most of a stream of them come so. */
static struct request *post_pop(struct dvk *dvk) {
    struct request *request = list_first(&dvk->ready, struct request, link);
    if (!request || request->kind != DVK_SLOT_POST || dvk->inboxes || !list_is_empty(&dvk->ready_notes) || !is_quiet(dvk))
        return NULL;
    list_remove(&request->link);
    request->state = REQUEST_TAKEN;
    receive_post_done(dvk, request->channel);
    request->stats->sends_in++;
    return request;
}

int dvk_receive(struct dvk *dvk, struct dvk_request **out, int timeout_ms) {
    struct request *request = post_pop(dvk);
    if (request) {
        *out = &request->public;
        return 0;
    }
    return receive_next(dvk, NULL, out, timeout_ms);
}

void dvk_wake(struct dvk *dvk) {
    __atomic_store_n(&dvk->wake, 1u, __ATOMIC_SEQ_CST);
    poller_bell(dvk);
}

void dvk_on_cancel(struct dvk *dvk, void (*fn)(void *context, struct dvk_request *req), void *context) {
    dvk->on_cancel = fn;
    dvk->on_cancel_context = context;
}
