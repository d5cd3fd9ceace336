/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: a binary heap by time. Cancelling looks through the heap: timers are few. */
#include "dvk/internal.h"

#include <stdlib.h>

static void swap(struct timer *a, struct timer *b) {
    struct timer t = *a;
    *a = *b;
    *b = t;
}

static void sift_up(struct timer *heap, size_t i) {
    for (; i && heap[i].at_ns < heap[(i - 1) / 2].at_ns; i = (i - 1) / 2)
        swap(&heap[i], &heap[(i - 1) / 2]);
}

static void sift_down(struct timer *heap, size_t count, size_t i) {
    for (;;) {
        size_t least = i, left = 2 * i + 1, right = left + 1;
        if (left < count && heap[left].at_ns < heap[least].at_ns)
            least = left;
        if (right < count && heap[right].at_ns < heap[least].at_ns)
            least = right;
        if (least == i)
            return;
        swap(&heap[i], &heap[least]);
        i = least;
    }
}

static void heap_remove(struct dvk *dvk, size_t i) {
    dvk->timers[i] = dvk->timers[--dvk->timer_count];
    if (i < dvk->timer_count) {
        sift_down(dvk->timers, dvk->timer_count, i);
        sift_up(dvk->timers, i);
    }
}

int dvk_timer(struct dvk *dvk, uint64_t delay_ms, void (*fn)(void *context), void *context, uint64_t *id) {
    if (!fn || delay_ms > INT64_MAX / NS_PER_MS / 2)
        return -EINVAL;
    if (dvk->timer_count == dvk->timer_cap) {
        size_t cap = dvk->timer_cap ? dvk->timer_cap * 2 : 16;
        struct timer *timers = realloc(dvk->timers, cap * sizeof *timers);
        if (!timers)
            return -ENOMEM;
        dvk->timers = timers;
        dvk->timer_cap = cap;
    }
    struct timer timer = {
        .at_ns = now_ns() + (int64_t)delay_ms * NS_PER_MS, .id = ++dvk->next_timer, .fn = fn, .context = context};
    dvk->timers[dvk->timer_count] = timer;
    sift_up(dvk->timers, dvk->timer_count++);
    if (id)
        *id = timer.id;
    return 0;
}

void dvk_timer_cancel(struct dvk *dvk, uint64_t id) {
    for (size_t i = 0; i < dvk->timer_count; i++)
        if (dvk->timers[i].id == id) {
            heap_remove(dvk, i);
            return;
        }
}

bool timer_run(struct dvk *dvk, int64_t now) {
    bool any = false;
    while (dvk->timer_count && dvk->timers[0].at_ns <= now) {
        struct timer timer = dvk->timers[0];
        heap_remove(dvk, 0);
        any = true;
        timer.fn(timer.context);
    }
    return any;
}
