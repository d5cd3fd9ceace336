/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between two CPUs: the time goes into cache lines that travel from one to the other, each some 100 ns. They are
 * asked for early and all at once, instead of one after the other as each is touched.
 */
#include "dvk/internal.h"

/*
 * Spinning pays only while the other side runs on another CPU and answers at once: a wake-up across CPUs costs some 20 to
 * 60 us, a hand-over on one CPU 2 us. Nobody tells whether it runs, and a CPU that others want is better given to them:
 * so what counts is what spinning has brought. The budget follows what the last waits took. A spin that fails (or that
 * was itself interrupted) is followed by a rest, whose length doubles with each failure and is halved by a run of successes:
 * among many processes on few CPUs soon nobody spins.
 */
#define SPIN_START_NS 20000
#define SPIN_MAX_NS 50000
#define SPIN_MIN_NS 4000
#define REST_MIN 16u /* waits */
#define REST_MAX 16384u
#define SUCCESSES 64u /* that halve the rest */

static void spin_failed(struct spin *spin) {
    spin->rest = spin->rest < REST_MIN ? REST_MIN : spin->rest < REST_MAX ? spin->rest * 2 : REST_MAX;
    spin->skip = spin->rest;
    spin->successes = 0;
    if (spin->budget_ns > 2 * SPIN_MIN_NS)
        spin->budget_ns /= 2;
}

static void spin_succeeded(struct spin *spin, int64_t spent) {
    int64_t wanted = 3 * spent + SPIN_MIN_NS;
    spin->budget_ns += (wanted - spin->budget_ns) / 8;
    if (spin->budget_ns > SPIN_MAX_NS)
        spin->budget_ns = SPIN_MAX_NS;
    if (++spin->successes % SUCCESSES == 0)
        spin->rest /= 2;
}

bool spin_until(struct dvk *dvk, struct spin *spin, const uint32_t *word, uint32_t value, uint32_t peer_cpu) {
    if (dvk->cpu_count < 2 || peer_cpu == 0 || peer_cpu == dvk->cpu)
        return __atomic_load_n(word, __ATOMIC_ACQUIRE) != value;
    if (spin->skip) {
        spin->skip--;
        return __atomic_load_n(word, __ATOMIC_ACQUIRE) != value;
    }
    if (spin->budget_ns == 0)
        spin->budget_ns = SPIN_START_NS;
    int64_t start = now_ns(), spent;
    do {
        for (int i = 0; i < 32; i++) {
            if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != value) {
                spent = now_ns() - start;
                if (spent > 2 * spin->budget_ns) /* we were not running */
                    spin_failed(spin);
                else
                    spin_succeeded(spin, spent);
                return true;
            }
            __builtin_ia32_pause();
        }
        spent = now_ns() - start;
    } while (spent < spin->budget_ns);
    spin_failed(spin);
    return false;
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
