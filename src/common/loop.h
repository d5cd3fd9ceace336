/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop of a daemon: file descriptors, timers, signals and child processes, over one epoll set. Single
 * threaded: every function is called, and every callback runs, in the loop's thread. A callback may add and
 * remove any watch, its own included; a removed watch is never called again, also not for an event of the same round.
 */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>

struct loop;
struct loop_watch;
struct loop_timer;

typedef void loop_fd_fn(void *context, int fd, uint32_t events);
typedef void loop_timer_fn(void *context);
typedef void loop_signal_fn(void *context, int signal_number);
typedef void loop_child_fn(void *context, pid_t pid, int wait_status);

/* 0 or a negative errno. */
int loop_create(struct loop **out);
/* Frees the loop and what is left in it; closes no descriptor that was not its own. NULL is allowed. */
void loop_destroy(struct loop *loop);

/*
 * Watch a descriptor for epoll events (level-triggered; EPOLLHUP and EPOLLERR always come). The watch must be
 * removed before fd is closed. 0 or a negative errno; *out is the watch.
 */
int loop_fd_add(struct loop *loop, int fd, uint32_t events, loop_fd_fn *fn, void *context, struct loop_watch **out);
/* Change the events waited for. */
int loop_fd_set(struct loop_watch *watch, uint32_t events);
/* NULL is allowed. */
void loop_watch_remove(struct loop_watch *watch);

/* Call fn once after delay_ms. *out (may be NULL) is valid until fn is called or the timer cancelled. 0 or -ENOMEM. */
int loop_timer_add(struct loop *loop, uint64_t delay_ms, loop_timer_fn *fn, void *context, struct loop_timer **out);
/* NULL is allowed. */
void loop_timer_cancel(struct loop_timer *timer);

/* Block a signal for the process and have it delivered here. 0 or a negative errno. For the loop's life. */
int loop_signal_add(struct loop *loop, int signal_number, loop_signal_fn *fn, void *context);

/* Have fn called when the child `pid` has ended; it is reaped (pidfd_open(2), waitpid(2)). 0 or a negative errno. */
int loop_child_add(struct loop *loop, pid_t pid, loop_child_fn *fn, void *context, struct loop_watch **out);

/* Handle events until loop_quit. Returns loop_quit's code, or a negative errno. */
int loop_run(struct loop *loop);
/* Handle what is ready, waiting at most timeout_ms (-1: for ever). 0 or a negative errno. */
int loop_step(struct loop *loop, int timeout_ms);
void loop_quit(struct loop *loop, int code);

/* Milliseconds of the monotonic clock. */
uint64_t loop_now_ms(void);

#endif
