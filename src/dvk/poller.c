/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File descriptors beside the doorbell. A futex and an epoll set cannot be waited for together, so a small thread polls
 * the epoll set; when something is ready it sets fds_ready, wakes the main thread by the doorbell and waits until that
 * has handled it. A message thus costs no system call for fds, and callbacks run in the main thread only.
 *
 * In a relay, where most messages come through fds, this thread runs the callbacks itself while the main thread sleeps
 * (one wake-up less): dvk.turn says whose turn it is. See relay.h.
 */
#include "dvk/internal.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#define BROKER_KEY UINT64_MAX
#define STOP_KEY (UINT64_MAX - 1)
#define EVENTS 64

void poller_bell(struct dvk *dvk) {
    if (!dvk->doorbell)
        return;
    __atomic_fetch_add(&dvk->doorbell->word, 1u, __ATOMIC_SEQ_CST);
    /* whatever `sleeping` says: peers can write it */
    dvk_futex_wake(&dvk->doorbell->word, 1);
}

/*
 * Waits with a timeout cost more than those without (the kernel programs a timer each time), and nearly every wait
 * needs one, for things that seldom happen: the periodic scan, a look whether dvkd is alive. So while the main thread
 * waits often, this thread ticks, and the main thread sleeps without a timeout, its wish in alarm_ns.
 *
 * Order: the main thread stores alarm_ns, then loads ticking; this thread stores ticking = false, then loads alarm_ns
 * (both seq_cst): either the main thread sees that it must look after itself, or this thread that it must go on. A wake
 * that comes before the sleep is lost, but the alarm stays set, and the next tick wakes again.
 */
#define TICK_NS (100 * NS_PER_MS)
#define IDLE_TICKS 10      /* without enough waits: stop */
#define ENOUGH_WAITS 8     /* in a tick */
#define TIMED_WAITS_MAX 64 /* then ticking is worth it */

struct ticker {
    uint32_t waits;
    unsigned idle;
};

static void tick(struct dvk *dvk, struct ticker *ticker) {
    int64_t now = now_ns();
    if (now - __atomic_load_n(&dvk->tick_ns, __ATOMIC_RELAXED) < TICK_NS)
        return;
    __atomic_store_n(&dvk->tick_ns, now, __ATOMIC_RELAXED);
    if (__atomic_load_n(&dvk->alarm_ns, __ATOMIC_SEQ_CST) <= now) {
        uint32_t *word = __atomic_load_n(&dvk->wait_word, __ATOMIC_RELAXED);
        poller_bell(dvk);
        if (word) /* it may have been unmapped meanwhile: then nobody is woken */
            dvk_futex_wake(word, INT_MAX);
    }
    uint32_t waits = __atomic_load_n(&dvk->waits, __ATOMIC_RELAXED);
    ticker->idle = waits - ticker->waits < ENOUGH_WAITS ? ticker->idle + 1 : 0;
    ticker->waits = waits;
    if (ticker->idle < IDLE_TICKS)
        return;
    __atomic_store_n(&dvk->ticking, false, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&dvk->alarm_ns, __ATOMIC_SEQ_CST) != INT64_MAX)
        __atomic_store_n(&dvk->ticking, true, __ATOMIC_SEQ_CST);
}

static void events_run(struct dvk *dvk, const struct epoll_event *events, int count) {
    for (int i = 0; i < count; i++) {
        if (events[i].data.u64 == BROKER_KEY) {
            if (events[i].events & EPOLLOUT)
                broker_flush(dvk);
            broker_drain(dvk);
            continue;
        }
        uint32_t fd = (uint32_t)events[i].data.u64, generation = (uint32_t)(events[i].data.u64 >> 32);
        if (events[i].data.u64 != STOP_KEY && fd < dvk->watch_cap && dvk->watches[fd].events &&
            dvk->watches[fd].generation == generation)
            dvk->watches[fd].fn(dvk->watches[fd].context, (int)fd, events[i].events);
    }
}

/* A relay's fds are ready. Its main thread sleeps, or it is busy and sees fds_ready: then it may handle them first. */
static void take_turn(struct dvk *dvk, const struct epoll_event *events, int count) {
    __atomic_store_n(&dvk->fds_ready, FDS_NEWS, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&dvk->turn);
    if (__atomic_exchange_n(&dvk->fds_ready, 0u, __ATOMIC_SEQ_CST))
        events_run(dvk, events, count);
    bool more = !list_is_empty(&dvk->events) || !list_is_empty(&dvk->completed) || !list_is_empty(&dvk->more) ||
                !list_is_empty(&dvk->notices) || timer_next(dvk) < dvk->sleeping_until || dvk->broker_gone;
    pthread_mutex_unlock(&dvk->turn);
    if (more)
        poller_bell(dvk);
}

/* stop_fd can be read: somebody wants us to tick, or to stop. */
static void kicked(struct dvk *dvk, struct ticker *ticker) {
    uint64_t kicks;
    if (read(dvk->stop_fd, &kicks, sizeof kicks) != sizeof kicks)
        return;
    ticker->idle = 0;
    __atomic_store_n(&dvk->tick_ns, now_ns(), __ATOMIC_RELAXED);
    __atomic_store_n(&dvk->ticking, true, __ATOMIC_SEQ_CST);
}

/* The same thread in a relay: it waits for the fds themselves and handles them. */
static void relay_poll(struct dvk *dvk, struct ticker *ticker) {
    struct epoll_event events[EVENTS];
    bool ticking = __atomic_load_n(&dvk->ticking, __ATOMIC_RELAXED);
    int n = epoll_wait(dvk->epoll_fd, events, EVENTS, ticking ? (int)(TICK_NS / NS_PER_MS) : -1);
    bool work = false;
    for (int i = 0; i < n; i++) {
        if (events[i].data.u64 == STOP_KEY)
            kicked(dvk, ticker);
        else
            work = true;
    }
    if (ticking)
        tick(dvk, ticker);
    if (work)
        take_turn(dvk, events, n);
}

static void *poller_main(void *context) {
    struct dvk *dvk = context;
    struct ticker ticker = {0};
    struct pollfd fds[2] = {{.fd = dvk->epoll_fd, .events = POLLIN}, {.fd = dvk->stop_fd, .events = POLLIN}};
    while (!__atomic_load_n(&dvk->stopping, __ATOMIC_ACQUIRE)) {
        if (__atomic_load_n(&dvk->relay, __ATOMIC_ACQUIRE)) {
            relay_poll(dvk, &ticker);
            continue;
        }
        bool ticking = __atomic_load_n(&dvk->ticking, __ATOMIC_RELAXED);
        int n = poll(fds, 2, ticking ? (int)(TICK_NS / NS_PER_MS) : -1);
        if (n > 0 && fds[1].revents)
            kicked(dvk, &ticker);
        if (ticking)
            tick(dvk, &ticker);
        if (n <= 0 || !(fds[0].revents & POLLIN) || __atomic_load_n(&dvk->relay, __ATOMIC_ACQUIRE))
            continue;
        __atomic_store_n(&dvk->fds_ready, FDS_NEWS, __ATOMIC_SEQ_CST);
        poller_bell(dvk);
        uint32_t ready;
        while ((ready = __atomic_load_n(&dvk->fds_ready, __ATOMIC_ACQUIRE)) &&
               !__atomic_load_n(&dvk->stopping, __ATOMIC_ACQUIRE)) {
            ticking = __atomic_load_n(&dvk->ticking, __ATOMIC_RELAXED);
            (void)dvk_futex_wait(&dvk->fds_ready, ready, ticking ? TICK_NS : -1);
            if (ticking)
                tick(dvk, &ticker);
        }
    }
    return NULL;
}

bool wait_word(struct dvk *dvk, uint32_t *word, uint32_t value, int64_t exact, int64_t about) {
    if (__atomic_load_n(&dvk->ticking, __ATOMIC_RELAXED)) {
        /* the end of an exact wait is a timed one */
        int64_t alarm = exact == INT64_MAX ? INT64_MAX : exact - 2 * TICK_NS;
        if (about < alarm)
            alarm = about;
        if (alarm > __atomic_load_n(&dvk->tick_ns, __ATOMIC_RELAXED)) {
            __atomic_store_n(&dvk->waits, dvk->waits + 1, __ATOMIC_RELAXED);
            __atomic_store_n(&dvk->wait_word, word == &dvk->doorbell->word ? NULL : word, __ATOMIC_RELAXED);
            __atomic_store_n(&dvk->alarm_ns, alarm, __ATOMIC_SEQ_CST);
            bool ticking = __atomic_load_n(&dvk->ticking, __ATOMIC_SEQ_CST);
            if (ticking)
                (void)dvk_futex_wait(word, value, -1);
            __atomic_store_n(&dvk->alarm_ns, INT64_MAX, __ATOMIC_RELAXED);
            if (ticking)
                return __atomic_load_n(&dvk->tick_ns, __ATOMIC_RELAXED) >= alarm;
        }
    } else if (++dvk->timed_waits == TIMED_WAITS_MAX) {
        dvk->timed_waits = 0;
        uint64_t one = 1;
        if (write(dvk->stop_fd, &one, sizeof one) < 0)
            dvk->timed_waits = 0; /* asked again later */
    }
    int64_t until = exact < about ? exact : about, left = -1;
    if (until != INT64_MAX) {
        int64_t now = now_ns();
        left = until - now;
        if (left <= 0) {
            __atomic_store_n(&dvk->tick_ns, now, __ATOMIC_RELAXED); /* about_now says so too, and not only after the next tick */
            return true;
        }
    }
    return dvk_futex_wait(word, value, left) == -ETIMEDOUT;
}

int poller_watch_broker(struct dvk *dvk, bool output) {
    struct epoll_event event = {.events = EPOLLIN | (output ? EPOLLOUT : 0), .data.u64 = BROKER_KEY};
    return epoll_ctl(dvk->epoll_fd, EPOLL_CTL_MOD, dvk->broker_fd, &event) < 0 ? -errno : 0;
}

int poller_start(struct dvk *dvk) {
    dvk->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    dvk->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    dvk->alarm_ns = INT64_MAX;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = BROKER_KEY};
    struct epoll_event nothing = {.events = 0, .data.u64 = STOP_KEY}; /* until poller_relay */
    if (dvk->epoll_fd < 0 || dvk->stop_fd < 0 || epoll_ctl(dvk->epoll_fd, EPOLL_CTL_ADD, dvk->broker_fd, &event) < 0 ||
        epoll_ctl(dvk->epoll_fd, EPOLL_CTL_ADD, dvk->stop_fd, &nothing) < 0)
        return -errno;
    /* signals are the program's: never ours */
    sigset_t all, old;
    sigfillset(&all);
    pthread_attr_t attr;
    int error = pthread_attr_init(&attr);
    if (error)
        return -error;
    (void)pthread_attr_setstacksize(&attr, 256 * 1024);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&dvk->poller, &attr, poller_main, dvk);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    dvk->poller_runs = error == 0;
    return -error;
}

void poller_stop(struct dvk *dvk) {
    if (dvk->poller_runs) {
        __atomic_store_n(&dvk->stopping, true, __ATOMIC_SEQ_CST);
        uint64_t one = 1;
        while (write(dvk->stop_fd, &one, sizeof one) < 0 && errno == EINTR)
            ;
        __atomic_store_n(&dvk->fds_ready, 0u, __ATOMIC_SEQ_CST);
        dvk_futex_wake(&dvk->fds_ready, INT_MAX);
        pthread_join(dvk->poller, NULL);
        dvk->poller_runs = false;
    }
    if (dvk->epoll_fd >= 0)
        close(dvk->epoll_fd);
    if (dvk->stop_fd >= 0)
        close(dvk->stop_fd);
    dvk->epoll_fd = dvk->stop_fd = -1;
    free(dvk->watches);
    dvk->watches = NULL;
    dvk->watch_cap = 0;
}

void poller_relay(struct dvk *dvk) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = STOP_KEY};
    (void)epoll_ctl(dvk->epoll_fd, EPOLL_CTL_MOD, dvk->stop_fd, &event); /* cannot fail: it is there */
}

void poller_run(struct dvk *dvk) {
    struct epoll_event events[EVENTS];
    events_run(dvk, events, epoll_wait(dvk->epoll_fd, events, EVENTS, 0));
    __atomic_store_n(&dvk->fds_ready, 0u, __ATOMIC_SEQ_CST);
    dvk_futex_wake(&dvk->fds_ready, 1);
}

void poller_glance(struct dvk *dvk) {
    if (__atomic_load_n(&dvk->fds_ready, __ATOMIC_RELAXED) != FDS_NEWS)
        return;
    broker_drain(dvk);
    if (dvk->watch_count == 0 && list_is_empty(&dvk->outgoing)) {
        __atomic_store_n(&dvk->fds_ready, 0u, __ATOMIC_SEQ_CST);
        dvk_futex_wake(&dvk->fds_ready, 1);
    } else
        __atomic_store_n(&dvk->fds_ready, FDS_GLANCED, __ATOMIC_SEQ_CST);
}

int dvk_watch_fd(struct dvk *dvk, int fd, uint32_t events, void (*fn)(void *context, int fd, uint32_t events),
                 void *context) {
    if (fd < 0 || (events && !fn))
        return -EINVAL;
    if ((size_t)fd >= dvk->watch_cap) {
        if (!events)
            return -ENOENT;
        size_t cap = dvk->watch_cap ? dvk->watch_cap : 64;
        while (cap <= (size_t)fd)
            cap *= 2;
        struct watch *watches = realloc(dvk->watches, cap * sizeof *watches);
        if (!watches)
            return -ENOMEM;
        memset(watches + dvk->watch_cap, 0, (cap - dvk->watch_cap) * sizeof *watches);
        dvk->watches = watches;
        dvk->watch_cap = cap;
    }
    struct watch *watch = &dvk->watches[fd];
    if (!events) {
        if (!watch->events)
            return -ENOENT;
        watch->events = 0;
        dvk->watch_count--;
        watch->generation++;
        return epoll_ctl(dvk->epoll_fd, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
    }
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)watch->generation << 32 | (uint32_t)fd};
    if (epoll_ctl(dvk->epoll_fd, watch->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    dvk->watch_count += watch->events == 0;
    watch->events = events;
    watch->fn = fn;
    watch->context = context;
    return 0;
}
