/* SPDX-License-Identifier: Apache-2.0 */
#include "common/loop.h"

#include "common/list.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct loop_watch {
    struct loop *loop;
    struct list link; /* in loop->watches, or loop->removed until the round has ended */
    int fd;
    bool removed;
    pid_t child; /* not 0: fd is its pidfd, ours to close */
    loop_fd_fn *fn;
    loop_child_fn *child_fn;
    void *context;
};

struct loop_timer {
    struct list link; /* in loop->timers, by due time */
    uint64_t due_ms;
    loop_timer_fn *fn;
    void *context;
};

struct loop {
    int epoll_fd, signal_fd;
    sigset_t signals;
    struct {
        loop_signal_fn *fn;
        void *context;
    } handlers[65];
    struct loop_watch *signal_watch;
    struct list watches, removed, timers;
    bool quit;
    int code;
};

uint64_t loop_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int loop_create(struct loop **out) {
    struct loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return -ENOMEM;
    loop->signal_fd = -1;
    sigemptyset(&loop->signals);
    list_init(&loop->watches);
    list_init(&loop->removed);
    list_init(&loop->timers);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0) {
        int result = -errno;
        free(loop);
        return result;
    }
    *out = loop;
    return 0;
}

static void watch_free(struct loop_watch *watch) {
    list_remove(&watch->link);
    free(watch);
}

void loop_destroy(struct loop *loop) {
    if (!loop)
        return;
    struct loop_watch *watch;
    list_for_each(watch, &loop->watches, link) {
        if (watch->child)
            close(watch->fd);
        watch_free(watch);
    }
    list_for_each(watch, &loop->removed, link) watch_free(watch);
    struct loop_timer *timer;
    list_for_each(timer, &loop->timers, link) loop_timer_cancel(timer);
    if (loop->signal_fd >= 0)
        close(loop->signal_fd);
    close(loop->epoll_fd);
    free(loop);
}

int loop_fd_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *context, struct loop_watch **out) {
    struct loop_watch *watch = calloc(1, sizeof *watch);
    if (!watch)
        return -ENOMEM;
    *watch = (struct loop_watch){.loop = loop, .fd = fd, .fn = fn, .context = context};
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        int result = -errno;
        free(watch);
        return result;
    }
    list_append(&loop->watches, &watch->link);
    *out = watch;
    return 0;
}

int loop_fd_set(struct loop_watch *watch, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = watch};
    return epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event) < 0 ? -errno : 0;
}

void loop_watch_remove(struct loop_watch *watch) {
    if (!watch || watch->removed)
        return;
    epoll_ctl(watch->loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    if (watch->child)
        close(watch->fd);
    /* the round under way may still hold an event for it: freed afterwards */
    watch->removed = true;
    list_remove(&watch->link);
    list_append(&watch->loop->removed, &watch->link);
}

int loop_timer_add(struct loop *loop, uint64_t delay_ms, loop_timer_fn *fn, void *context, struct loop_timer **out) {
    struct loop_timer *timer = malloc(sizeof *timer);
    if (!timer)
        return -ENOMEM;
    *timer = (struct loop_timer){.due_ms = loop_now_ms() + delay_ms, .fn = fn, .context = context};
    struct list *at = loop->timers.prev; /* from the end: most timers are the latest */
    while (at != &loop->timers && list_entry(at, struct loop_timer, link)->due_ms > timer->due_ms)
        at = at->prev;
    list_append(at->next, &timer->link);
    if (out)
        *out = timer;
    return 0;
}

void loop_timer_cancel(struct loop_timer *timer) {
    if (!timer)
        return;
    list_remove(&timer->link);
    free(timer);
}

static void on_signal_fd(void *context, int fd, uint32_t events) {
    struct loop *loop = context;
    struct signalfd_siginfo info;
    while (read(fd, &info, sizeof info) == sizeof info)
        if (info.ssi_signo <= 64 && loop->handlers[info.ssi_signo].fn)
            loop->handlers[info.ssi_signo].fn(loop->handlers[info.ssi_signo].context, (int)info.ssi_signo);
}

int loop_signal_add(struct loop *loop, int signal_number, loop_signal_fn *fn, void *context) {
    if (signal_number < 1 || signal_number > 64)
        return -EINVAL;
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal_number);
    if (sigprocmask(SIG_BLOCK, &one, NULL) < 0)
        return -errno;
    sigaddset(&loop->signals, signal_number);
    int fd = signalfd(loop->signal_fd, &loop->signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    loop->handlers[signal_number].fn = fn;
    loop->handlers[signal_number].context = context;
    if (loop->signal_fd >= 0)
        return 0;
    loop->signal_fd = fd;
    return loop_fd_add(loop, fd, EPOLLIN, on_signal_fd, loop, &loop->signal_watch);
}

static void on_child_fd(void *context, int fd, uint32_t events) {
    struct loop_watch *watch = context;
    int status = 0;
    pid_t pid = waitpid(watch->child, &status, WNOHANG);
    if (pid == 0)
        return;
    if (pid < 0)
        status = SIGKILL; /* reaped by someone else: the way it ended is not known */
    loop_child_fn *fn = watch->child_fn;
    void *child_context = watch->context;
    pid = watch->child;
    loop_watch_remove(watch);
    fn(child_context, pid, status);
}

int loop_child_add(struct loop *loop, pid_t pid, loop_child_fn *fn, void *context, struct loop_watch **out) {
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return -errno;
    struct loop_watch *watch;
    int result = loop_fd_add(loop, fd, EPOLLIN, on_child_fd, NULL, &watch);
    if (result < 0) {
        close(fd);
        return result;
    }
    watch->child = pid;
    watch->child_fn = fn;
    watch->context = context;
    if (out)
        *out = watch;
    return 0;
}

static int run_timers(struct loop *loop) {
    uint64_t now = loop_now_ms();
    for (;;) {
        struct loop_timer *timer = list_first(&loop->timers, struct loop_timer, link);
        if (!timer)
            return -1;
        if (timer->due_ms > now)
            return timer->due_ms - now > 60000 ? 60000 : (int)(timer->due_ms - now);
        loop_timer_fn *fn = timer->fn;
        void *context = timer->context;
        loop_timer_cancel(timer);
        fn(context);
        if (loop->quit)
            return 0;
    }
}

int loop_step(struct loop *loop, int timeout_ms) {
    int due_ms = run_timers(loop);
    if (loop->quit)
        return 0;
    if (due_ms >= 0 && (timeout_ms < 0 || due_ms < timeout_ms))
        timeout_ms = due_ms;
    struct epoll_event events[64];
    int n = epoll_wait(loop->epoll_fd, events, 64, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < n; i++) {
        struct loop_watch *watch = events[i].data.ptr;
        if (!watch->removed)
            watch->fn(watch->child ? watch : watch->context, watch->fd, events[i].events);
    }
    struct loop_watch *watch;
    list_for_each(watch, &loop->removed, link) watch_free(watch);
    run_timers(loop);
    return 0;
}

int loop_run(struct loop *loop) {
    while (!loop->quit) {
        int result = loop_step(loop, -1);
        if (result < 0)
            return result;
    }
    return loop->code;
}

void loop_quit(struct loop *loop, int code) {
    loop->quit = true;
    loop->code = code;
}
