/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between two CPUs: the time goes into cache lines that travel from one to the other, each some 100 ns. They are
 * asked for early and all at once, instead of one after the other as each is touched.
 */
#include "dvk/internal.h"

#include <sched.h>

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
#define PAUSE_MAX_NS (3200 * NS_PER_MS)
#define POLLS 32              /* between two looks at the clock */
#define YIELDS_MAX 2            /* in a wait */
#define TAKEN_TICKS 500000u /* of the CPU's counter, some 200 us: others have used the CPU that we yielded, a slice or most of it */

/* It brought nothing, or no more than sleeping would have. */
static void effort_slow(struct effort *effort) {
    effort->successes = 0;
    if (++effort->slow < SLOW_MAX)
        return;
    effort->slow = 0;
    effort->rest = effort->rest < REST_MIN ? REST_MIN : effort->rest < REST_MAX ? effort->rest * 2 : REST_MAX;
    effort->skip = effort->rest;
}

/* How long it is left alone when others have had the CPU: the pause grows by a factor each time, and is halved by a run
 * of fast waits. */
struct pause {
    int64_t min_ns, factor;
    unsigned successes;
};
static const struct pause poll_pause = {100 * NS_PER_MS, 2, 8192};
/* Shorter, since the CPU is also away for a moment when nobody else here wants it: a virtual machine's is its host's. */
static const struct pause yield_pause = {NS_PER_MS, 4, 2048};

static void effort_taken(struct effort *effort, const struct pause *pause, int64_t now) {
    effort->pause_ns *= pause->factor;
    if (effort->pause_ns < pause->min_ns)
        effort->pause_ns = pause->min_ns;
    if (effort->pause_ns > PAUSE_MAX_NS)
        effort->pause_ns = PAUSE_MAX_NS;
    effort->paused_until = now + effort->pause_ns;
}

static void effort_fast(struct effort *effort, const struct pause *pause) {
    effort->slow = 0;
    if (++effort->successes % SUCCESSES == 0)
        effort->rest /= 2;
    if (effort->successes % pause->successes == 0)
        effort->pause_ns /= 2;
}

/* Is this wait one in which it is tried? */
static bool effort_due(struct effort *effort) {
    if (effort->skip) {
        effort->skip--;
        return false;
    }
    if (effort->paused_until) {
        if (now_ns() < effort->paused_until)
            return false;
        effort->paused_until = 0;
    }
    return true;
}

static inline bool has_come(const struct news *news) {
    return __atomic_load_n(news->word[0], __ATOMIC_ACQUIRE) != news->value[0] ||
           __atomic_load_n(news->word[1], __ATOMIC_ACQUIRE) != news->value[1];
}

/* The lines are asked for with each look: they then travel while the word, which is written last, is being waited for. */
static inline void lines_ask(const struct news *news) {
    for (int i = 0; i < 4; i++)
        __builtin_prefetch(news->line[i]);
}

static bool poll_until(struct effort *effort, const struct news *news) {
    int64_t start = now_ns(), last = start;
    for (;;) {
        bool changed = false;
        for (int i = 0; i < POLLS && !changed; i++) {
            changed = has_come(news);
            lines_ask(news);
            if (!changed)
                __builtin_ia32_pause();
        }
        int64_t now = now_ns();
        if (now - last > TAKEN_NS) {
            effort_taken(effort, &poll_pause, now);
            return changed;
        }
        if (changed && now - start <= FAST_NS)
            effort_fast(effort, &poll_pause);
        else if (changed || now - start >= SPIN_MAX_NS)
            effort_slow(effort);
        if (changed || now - start >= SPIN_MAX_NS)
            return changed;
        last = now;
    }
}

/*
 * The peer shares our CPU. Instead of going to sleep and being woken, both give the CPU to each other as long as that
 * brings an answer: one system call for each of them and hand-over, not two. Who yields gives up the rest of his share: a third process
 * that wants the CPU then gets all of that, some milliseconds. So one such loss ends it for a while.
 */
static bool yield_until(struct effort *effort, const struct news *news) {
    for (int i = 0; i < YIELDS_MAX; i++) {
        uint64_t start = __builtin_ia32_rdtsc();
        (void)sched_yield();
        bool changed = has_come(news);
        if (__builtin_ia32_rdtsc() - start > TAKEN_TICKS) {
            effort_taken(effort, &yield_pause, now_ns());
            return changed;
        }
        if (changed) {
            effort_fast(effort, &yield_pause);
            return true;
        }
    }
    effort_slow(effort);
    return false;
}

bool spin_until(struct dvk *dvk, struct spin *spin, const struct news *news, uint32_t peer_cpu) {
    bool same = peer_cpu == dvk->cpu;
    if (has_come(news))
        return true;
    /* a relay has a second thread, which waits for its turn meanwhile */
    if (peer_cpu == 0 || (same ? dvk->relay : dvk->cpu_count < 2) || !effort_due(same ? &spin->yield : &spin->poll))
        return false;
    return same ? yield_until(&spin->yield, news) : poll_until(&spin->poll, news);
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

void channel_lines(const struct channel *channel, const void *line[4]) {
    const struct dvk_channel_view *view = &channel->view;
    int peer = 1 - channel->side;
    const struct dvk_slot *slot = &view->slot[peer][channel->last_peer];
    line[0] = &view->header->ring[peer].entry[channel->taken & (2 * view->slots[peer] - 1)];
    line[1] = slot;
    line[2] = &slot->request;
    line[3] = (const uint8_t *)&slot->request + DVK_LINE;
}
