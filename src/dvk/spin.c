/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between two CPUs: the time goes into cache lines that travel from one to the other, each some 100 ns. They are
 * asked for early and all at once, instead of one after the other as each is touched.
 */
#include "dvk/internal.h"

/*
 * Spinning pays only while the other side runs on another CPU and answers at once: a wake-up across CPUs costs some 20 to
 * 60 us, a hand-over on one CPU 2 us. Nobody tells whether it runs, and a CPU that others want is better given to them:
 * so what counts is what spinning has brought. A few spins that took as long as a wake-up are followed by a rest, whose
 * length doubles each time and is halved by a run of fast ones: among many processes on few CPUs soon nobody spins.
 *
 * Who spins uses up its share of a CPU that others want, and then waits for theirs: some milliseconds, where one that
 * sleeps is woken at once. So a spin in which the CPU was taken away ends spinning for a while, and for longer if it
 * happens again.
 */
#define SPIN_MAX_NS 50000 /* as long as it takes to wake the other side: so both come to be awake */
#define FAST_NS 10000     /* it was running */
#define SLOW_MAX 4u       /* one after the other: then a rest */
#define REST_MIN 16u /* waits */
#define REST_MAX 16384u
#define SUCCESSES 64u /* that halve the rest */
#define TAKEN_NS 100000 /* between two looks: the CPU was taken away */
#define PAUSE_MIN_NS (100 * NS_PER_MS)
#define PAUSE_MAX_NS (3200 * NS_PER_MS)
#define PAUSE_SUCCESSES 8192u /* that halve the pause */

/* It brought nothing, or no more than sleeping would have. */
static void spin_slow(struct spin *spin) {
    spin->successes = 0;
    if (++spin->slow < SLOW_MAX)
        return;
    spin->slow = 0;
    spin->rest = spin->rest < REST_MIN ? REST_MIN : spin->rest < REST_MAX ? spin->rest * 2 : REST_MAX;
    spin->skip = spin->rest;
}

static void spin_taken(struct spin *spin, int64_t now) {
    spin->pause_ns *= 2;
    if (spin->pause_ns < PAUSE_MIN_NS)
        spin->pause_ns = PAUSE_MIN_NS;
    if (spin->pause_ns > PAUSE_MAX_NS)
        spin->pause_ns = PAUSE_MAX_NS;
    spin->paused_until = now + spin->pause_ns;
}

static void spin_fast(struct spin *spin) {
    spin->slow = 0;
    if (++spin->successes % SUCCESSES == 0)
        spin->rest /= 2;
    if (spin->successes % PAUSE_SUCCESSES == 0)
        spin->pause_ns /= 2;
}

bool spin_until(struct dvk *dvk, struct spin *spin, const uint32_t *word, uint32_t value, uint32_t peer_cpu) {
    if (dvk->cpu_count < 2 || peer_cpu == 0 || peer_cpu == dvk->cpu)
        return __atomic_load_n(word, __ATOMIC_ACQUIRE) != value;
    if (spin->skip) {
        spin->skip--;
        return __atomic_load_n(word, __ATOMIC_ACQUIRE) != value;
    }
    if (spin->paused_until) {
        if (about_now(dvk) < spin->paused_until)
            return __atomic_load_n(word, __ATOMIC_ACQUIRE) != value;
        spin->paused_until = 0;
    }
    int64_t start = now_ns(), last = start;
    for (;;) {
        bool changed = false;
        for (int i = 0; i < 32 && !changed; i++) {
            changed = __atomic_load_n(word, __ATOMIC_ACQUIRE) != value;
            if (!changed)
                __builtin_ia32_pause();
        }
        int64_t now = now_ns();
        if (now - last > TAKEN_NS) {
            spin_taken(spin, now);
            return changed;
        }
        if (changed && now - start <= FAST_NS)
            spin_fast(spin);
        else if (changed || now - start >= SPIN_MAX_NS)
            spin_slow(spin);
        if (changed || now - start >= SPIN_MAX_NS)
            return changed;
        last = now;
    }
}

void channel_prefetch_own(const struct channel *channel) {
    const struct dvk_channel_view *view = &channel->view;
    int side = channel->side;
    const struct dvk_ring *ring = &view->header->ring[side];
    const struct dvk_slot *slot = &view->slot[side][channel->last_own];
    __builtin_prefetch(slot, 1);
    __builtin_prefetch(&slot->request, 1);
    __builtin_prefetch((const uint8_t *)&slot->request + DVK_LINE, 1);
    __builtin_prefetch(&ring->head, 1);
    __builtin_prefetch(&ring->entry[channel->next_sequence & (2 * view->slots[side] - 1)], 1);
}

void channel_prefetch_peer(const struct channel *channel) {
    const struct dvk_channel_view *view = &channel->view;
    int peer = 1 - channel->side;
    const struct dvk_ring *ring = &view->header->ring[peer];
    const struct dvk_slot *slot = &view->slot[peer][channel->last_peer];
    __builtin_prefetch(&ring->head);
    __builtin_prefetch(&ring->entry[channel->taken & (2 * view->slots[peer] - 1)]);
    __builtin_prefetch(slot);
    __builtin_prefetch(&slot->request);
    __builtin_prefetch((const uint8_t *)&slot->request + DVK_LINE);
}
