/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tty module over a fake libdvk: watches are polled by the test, calls of pm are answered from a table of
 * processes, replies are recorded. The ptys are real.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "vos/host/module.h"
#include "vos/pm/info.h"
#include "vos/tty/tty.h"
#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

/* ---- fake libdvk ---- */

struct dvk {
    struct watch {
        int fd;
        uint32_t events;
        void (*fn)(void *, int, uint32_t);
        void *context;
    } watches[32];
    struct timer {
        uint64_t due_ms;
        void (*fn)(void *);
        void *context;
    } timers[16];
};

static struct dvk dvk;
static struct vos *vos;

static struct process {
    uint32_t pid, pgid, sid;
} processes[] = {{100, 100, 100}, {101, 101, 100}, {102, 102, 100}, {200, 200, 200}};

static struct raised {
    bool group;
    uint32_t id;
    int signal;
} raised[64];
static unsigned raised_count;
static int group_state; /* what PM_S_GROUP answers for a group that exists */

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

int dvk_watch_fd(struct dvk *d, int fd, uint32_t events, void (*fn)(void *, int, uint32_t), void *context) {
    struct watch *free_one = NULL;
    for (size_t i = 0; i < ARRAY_LENGTH(d->watches); i++) {
        if (d->watches[i].events && d->watches[i].fd == fd) {
            d->watches[i] = (struct watch){fd, events, fn, context};
            return 0;
        }
        if (!d->watches[i].events)
            free_one = &d->watches[i];
    }
    if (!events)
        return 0;
    assert_non_null(free_one);
    *free_one = (struct watch){fd, events, fn, context};
    return 0;
}
int dvk_timer(struct dvk *d, uint64_t delay_ms, void (*fn)(void *), void *context, uint64_t *id) {
    for (size_t i = 0; i < ARRAY_LENGTH(d->timers); i++)
        if (!d->timers[i].fn) {
            d->timers[i] = (struct timer){now_ms() + delay_ms, fn, context};
            *id = i;
            return 0;
        }
    return -ENOMEM;
}
void dvk_timer_cancel(struct dvk *d, uint64_t id) {
    d->timers[id].fn = NULL;
}

struct answer {
    struct dvk_request req;
    struct dvk_message reply;
    uint8_t data[65536], reply_data[65536];
    bool answered;
};

void dvk_reply(struct dvk *d, struct dvk_request *req, const struct dvk_message *reply, const int *fds,
               unsigned fd_count) {
    struct answer *answer = (struct answer *)req;
    assert_false(answer->answered);
    answer->answered = true;
    answer->reply = *reply;
}
void dvk_reply_status(struct dvk *d, struct dvk_request *req, int status) {
    dvk_reply(d, req, &(struct dvk_message){.status = status}, NULL, 0);
}
void dvk_release(struct dvk *d, struct dvk_request *req) {
    ((struct answer *)req)->answered = true;
}
const char *dvk_strerror(int error) {
    return strerror(-error);
}
static struct process *process_find(uint64_t pid) {
    for (size_t i = 0; i < ARRAY_LENGTH(processes); i++)
        if (processes[i].pid == pid)
            return &processes[i];
    return NULL;
}

int dvk_call(struct dvk *d, dvk_endpoint from, const struct dvk_message *message, const void *data, size_t data_len,
             const int *fds, unsigned fd_count, dvk_done *done, void *context, uint64_t *call) {
    const uint64_t *w = message->payload.words;
    struct dvk_message reply = {.status = -ESRCH};
    struct pm_process_info info = {0};
    struct process *process;
    switch (message->type) {
    case PM_S_INFO:
        process = process_find(w[0]);
        if (process) {
            reply.status = 0;
            info = (struct pm_process_info){.pid = process->pid, .pgid = process->pgid, .sid = process->sid};
        }
        break;
    case PM_S_RAISE:
        assert_true(raised_count < ARRAY_LENGTH(raised));
        raised[raised_count++] = (struct raised){w[0] == 1, (uint32_t)w[1], (int)w[2]};
        reply.status = 1;
        break;
    case PM_S_GROUP:
        for (size_t i = 0; i < ARRAY_LENGTH(processes); i++)
            if (processes[i].pgid == w[0])
                reply.status = processes[i].sid == w[1] ? group_state : -EPERM;
        break;
    default:
        fail_msg("call of type %x", message->type);
    }
    done(context, 0, &reply, &info, reply.status < 0 ? 0 : sizeof info, NULL, 0);
    return 0;
}

/* One turn of the loop; false when nothing happened for 20 ms. */
static bool turn(void) {
    struct pollfd fds[ARRAY_LENGTH(dvk.watches)];
    struct watch copies[ARRAY_LENGTH(dvk.watches)];
    nfds_t count = 0;
    bool some = false;
    for (size_t i = 0; i < ARRAY_LENGTH(dvk.timers); i++)
        if (dvk.timers[i].fn && dvk.timers[i].due_ms <= now_ms()) {
            struct timer timer = dvk.timers[i];
            dvk.timers[i].fn = NULL;
            timer.fn(timer.context);
            some = true;
        }
    for (size_t i = 0; i < ARRAY_LENGTH(dvk.watches); i++)
        if (dvk.watches[i].events) {
            copies[count] = dvk.watches[i];
            fds[count++] = (struct pollfd){.fd = dvk.watches[i].fd, .events = (short)dvk.watches[i].events};
        }
    if (poll(fds, count, 20) <= 0)
        return some;
    for (nfds_t i = 0; i < count; i++)
        for (size_t k = 0; fds[i].revents && k < ARRAY_LENGTH(dvk.watches); k++)
            if (dvk.watches[k].events && dvk.watches[k].fd == copies[i].fd &&
                dvk.watches[k].context == copies[i].context) {
                copies[i].fn(copies[i].context, copies[i].fd, (uint32_t)fds[i].revents);
                break;
            }
    return true;
}
static void settle(void) {
    for (int i = 0; i < 200 && turn(); i++)
        ;
}

/* ---- driving ---- */

static uint32_t number;
static int person; /* our end of the stream */

static struct answer *ask_with(uint32_t type, uint32_t pid, const uint64_t w[4], const void *data, size_t len, int fd) {
    struct answer *answer = calloc(1, sizeof *answer);
    assert_non_null(answer);
    answer->req.msg.type = type;
    answer->req.msg.source = dvk_service_endpoint(1, DVK_SERVICE_FS);
    memcpy(answer->req.msg.payload.words, w, 4 * sizeof *w);
    answer->req.msg.payload.words[TTY_WORD_PID] = pid;
    answer->req.msg.payload.words[TTY_WORD_FLAGS] = VOS_TTY_KNOWN;
    answer->req.msg.data_len = (uint32_t)len;
    if (len)
        memcpy(answer->data, data, len);
    answer->req.data = answer->data;
    answer->req.reply_data = answer->reply_data;
    answer->req.reply_cap = sizeof answer->reply_data;
    answer->req.wants_reply = true;
    if (fd >= 0) {
        answer->req.fds[0] = fd;
        answer->req.fd_count = 1;
    }
    tty_module.request(vos, &answer->req);
    return answer;
}
static struct answer *ask(uint32_t type, uint32_t pid, uint64_t w1, uint64_t w2, uint64_t w3, const void *data,
                          size_t len) {
    return ask_with(type, pid, (const uint64_t[4]){number, w1, w2, w3}, data, len, -1);
}
/* Ask, settle, expect an answer; its status. */
static int ask_status(uint32_t type, uint32_t pid, uint64_t w1, uint64_t w2, uint64_t w3, const void *data,
                      size_t len) {
    struct answer *answer = ask(type, pid, w1, w2, w3, data, len);
    settle();
    assert_true(answer->answered);
    int status = answer->reply.status;
    free(answer);
    return status;
}
static void expect_read(uint32_t pid, const char *text) {
    struct answer *answer = ask(TTY_READ, pid, 4096, 0, 1, NULL, 0);
    assert_true(answer->answered);
    assert_int_equal(answer->reply.status, strlen(text));
    assert_int_equal(answer->reply.data_len, strlen(text));
    assert_memory_equal(answer->reply_data, text, strlen(text));
    free(answer);
}
static void type(const char *text) {
    assert_int_equal(send(person, text, strlen(text), 0), strlen(text));
    settle();
}
static void expect_shown(const char *text) {
    char shown[65536];
    size_t len = 0;
    uint64_t begin = now_ms();
    do { /* the kernel echoes when it gets to it */
        settle();
        ssize_t count = recv(person, shown + len, sizeof shown - 1 - len, MSG_DONTWAIT);
        len += count > 0 ? (size_t)count : 0;
    } while (len < strlen(text) && now_ms() < begin + 5000);
    shown[len] = 0;
    assert_string_equal(shown, text);
}
static bool was_raised(bool group, uint32_t id, int signal) {
    for (unsigned i = 0; i < raised_count; i++)
        if (raised[i].group == group && raised[i].id == id && raised[i].signal == signal)
            return true;
    return false;
}

static int setup(void **state) {
    int pair[2];
    dvk = (struct dvk){0};
    raised_count = 0;
    group_state = PM_GROUP_EXISTS;
    vos = calloc(1, sizeof *vos);
    vos->dvk = &dvk;
    vos->node = 1;
    vos->node_count = 1;
    vos->proc_fd = open("/proc", O_RDONLY | O_CLOEXEC);
    vos->pts_fd = open("/dev/pts", O_RDONLY | O_CLOEXEC);
    if (tty_module.start(vos) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
        return -1;
    person = pair[0];
    struct answer *answer = ask_with(TTY_S_CREATE, 0, (const uint64_t[4]){24, 80, 100, 100}, NULL, 0, pair[1]);
    if (!answer->answered || answer->reply.status)
        return -1;
    number = (uint32_t)answer->reply.payload.words[0];
    free(answer);
    return ask_status(TTY_OPEN, 100, O_RDWR | O_NOCTTY, 0, 0, NULL, 0);
}
static int teardown(void **state) {
    free(ask(TTY_CLOSE, 0, 1, 0, 0, NULL, 0));
    settle();
    close(person);
    settle();
    for (size_t i = 0; i < ARRAY_LENGTH(dvk.watches); i++)
        if (dvk.watches[i].events)
            return -1; /* something was left open */
    close(vos->pts_fd);
    close(vos->proc_fd);
    free(vos->state[DVK_SERVICE_TTY]);
    free(vos);
    return 0;
}

/* ---- tests ---- */

static void test_canonical(void **state) {
    struct answer *answer = ask(TTY_READ, 100, 4096, 0, 0, NULL, 0);
    type("hel");
    assert_false(answer->answered);
    type("lo\r");
    assert_true(answer->answered);
    assert_int_equal(answer->reply.status, 6);
    assert_memory_equal(answer->reply_data, "hello\n", 6);
    free(answer);
    expect_shown("hello\r\n");
    assert_int_equal(ask_status(TTY_READ, 100, 10, 0, 1, NULL, 0), -EAGAIN);
    type("two\rlines\r");
    expect_read(100, "two\n");
    expect_read(100, "lines\n");
    type("\004");
    assert_int_equal(ask_status(TTY_READ, 100, 10, 0, 0, NULL, 0), 0);
}

static void test_output(void **state) {
    assert_int_equal(ask_status(TTY_WRITE, 100, 0, 0, 0, "a\nb", 3), 3);
    expect_shown("a\r\nb");
}

/* More than all buffers together: the writer waits until the person reads, and nothing is lost. */
static void test_backpressure(void **state) {
    enum { TOTAL = 60000, ROUNDS = 20 };
    static char block[TOTAL];
    memset(block, 'x', sizeof block);
    uint64_t seen = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct answer *answer = ask(TTY_WRITE, 100, 0, 0, 0, block, TOTAL);
        for (int i = 0; i < 5000 && !answer->answered; i++) {
            turn();
            char shown[4096];
            ssize_t count;
            while ((count = recv(person, shown, sizeof shown, MSG_DONTWAIT)) > 0)
                seen += (uint64_t)count;
        }
        assert_true(answer->answered);
        assert_int_equal(answer->reply.status, TOTAL);
        free(answer);
    }
    settle();
    char shown[65536];
    for (ssize_t count; (count = recv(person, shown, sizeof shown, MSG_DONTWAIT)) > 0; settle())
        seen += (uint64_t)count;
    assert_int_equal(seen, (uint64_t)TOTAL * ROUNDS);
}

static void test_interrupt(void **state) {
    type("abc");
    expect_shown("abc");
    type("\003");
    assert_int_equal(raised_count, 1);
    assert_true(was_raised(true, 100, SIGINT));
    expect_shown("^C");
    assert_int_equal(ask_status(TTY_READ, 100, 10, 0, 1, NULL, 0), -EAGAIN); /* flushed */
    type("\032");
    assert_true(was_raised(true, 100, SIGTSTP));
}

/* What a program writes when it hears of the signal is shown: the flush came before the signal. */
static void test_nothing_lost(void **state) {
    for (int i = 0; i < 200; i++) {
        char text[32], shown[256] = "";
        size_t len = 0;
        raised_count = 0;
        assert_int_equal(send(person, "ab\032", 3, 0), 3);
        while (!raised_count)
            turn();
        snprintf(text, sizeof text, "stopped %d;", i);
        assert_int_equal(ask_status(TTY_WRITE, 100, 0, 0, 0, text, strlen(text)), strlen(text));
        uint64_t begin = now_ms();
        while (!strstr(shown, text) && now_ms() < begin + 2000) {
            turn();
            ssize_t count = recv(person, shown + len, sizeof shown - 1 - len, MSG_DONTWAIT);
            len += count > 0 ? (size_t)count : 0;
            shown[len] = 0;
        }
        assert_non_null(strstr(shown, text));
    }
}

static tcflag_t local_modes(void) {
    struct termios settings;
    struct answer *answer = ask(TTY_IOCTL, 100, TCGETS, 0, 0, NULL, 0);
    assert_int_equal(answer->reply.data_len, sizeof settings);
    memcpy(&settings, answer->reply_data, sizeof settings);
    free(answer);
    return settings.c_lflag;
}

/* NOFLSH is what the program set, in either layout of the settings, and does what it says. */
static void test_no_flush(void **state) {
    uint16_t old[9]; /* struct termio: c_lflag is its fourth word */
    assert_false(local_modes() & NOFLSH);
    struct answer *answer = ask(TTY_IOCTL, 100, TCGETA, 0, 0, NULL, 0);
    assert_int_equal(answer->reply.data_len, sizeof old);
    memcpy(old, answer->reply_data, sizeof old);
    free(answer);
    assert_false(old[3] & NOFLSH);
    old[3] |= NOFLSH;
    assert_int_equal(ask_status(TTY_IOCTL, 100, TCSETA, 0, 0, old, sizeof old), 0);
    assert_true(local_modes() & NOFLSH);
    type("abc");
    type("\003");
    type("d\n");
    expect_read(100, "abcd\n");
    old[3] &= (uint16_t)~NOFLSH;
    assert_int_equal(ask_status(TTY_IOCTL, 100, TCSETAF, 0, 0, old, sizeof old), 0);
    assert_false(local_modes() & NOFLSH);
    type("abc\003d\n");
    expect_read(100, "d\n");
}

static void test_background(void **state) {
    int group = 101;
    /* The shell makes its child the foreground and then is in the background itself. */
    assert_int_equal(ask_status(TTY_IOCTL, 100, TIOCSPGRP, 0, 0, &group, sizeof group), 0);
    assert_int_equal(ask_status(TTY_READ, 100, 10, 0, 0, NULL, 0), -TTY_RESTART);
    assert_true(was_raised(true, 100, SIGTTIN));
    group = 100;
    assert_int_equal(ask_status(TTY_IOCTL, 100, TIOCSPGRP, 0, 0, &group, sizeof group), -TTY_RESTART);
    assert_true(was_raised(true, 100, SIGTTOU));
    /* With SIGTTOU off it may take the terminal back. */
    struct answer *answer = calloc(1, sizeof *answer);
    *answer = (struct answer){.req = {.msg = {.type = TTY_IOCTL,
                                              .source = dvk_service_endpoint(1, DVK_SERVICE_FS),
                                              .data_len = sizeof group,
                                              .payload.words = {number, TIOCSPGRP}},
                                      .wants_reply = true}};
    answer->req.msg.payload.words[TTY_WORD_PID] = 100;
    answer->req.msg.payload.words[TTY_WORD_FLAGS] = VOS_TTY_KNOWN | VOS_TTY_TTOU_OFF;
    answer->req.data = &group;
    answer->req.reply_data = answer->reply_data;
    answer->req.reply_cap = sizeof answer->reply_data;
    tty_module.request(vos, &answer->req);
    assert_true(answer->answered);
    assert_int_equal(answer->reply.status, 0);
    free(answer);
    answer = ask(TTY_IOCTL, 101, TIOCGPGRP, 0, 0, NULL, 0);
    assert_true(answer->answered);
    memcpy(&group, answer->reply_data, sizeof group);
    assert_int_equal(group, 100);
    free(answer);
    /* Writing from the background is allowed, until TOSTOP. */
    assert_int_equal(ask_status(TTY_WRITE, 101, 0, 0, 0, "x", 1), 1);
    answer = ask(TTY_IOCTL, 100, TCGETS, 0, 0, NULL, 0);
    struct termios settings;
    memcpy(&settings, answer->reply_data, sizeof settings);
    free(answer);
    settings.c_lflag |= TOSTOP;
    assert_int_equal(ask_status(TTY_IOCTL, 100, TCSETS, 0, 0, &settings, sizeof settings), 0);
    assert_int_equal(ask_status(TTY_WRITE, 101, 0, 0, 0, "x", 1), -TTY_RESTART);
    assert_true(was_raised(true, 101, SIGTTOU));
    /* An orphaned group gets an error instead. */
    group_state = PM_GROUP_EXISTS | PM_GROUP_ORPHANED;
    assert_int_equal(ask_status(TTY_READ, 102, 10, 0, 0, NULL, 0), -EIO);
    assert_false(was_raised(true, 102, SIGTTIN));
}

static void test_strangers(void **state) {
    int group = 200;
    assert_int_equal(ask_status(TTY_IOCTL, 200, TIOCGPGRP, 0, 0, NULL, 0), -ENOTTY);
    assert_int_equal(ask_status(TTY_IOCTL, 200, TIOCSPGRP, 0, 0, &group, sizeof group), -ENOTTY);
    assert_int_equal(ask_status(TTY_IOCTL, 100, TIOCSPGRP, 0, 0, &group, sizeof group), -EPERM);
    group = 999;
    assert_int_equal(ask_status(TTY_IOCTL, 100, TIOCSPGRP, 0, 0, &group, sizeof group), -ESRCH);
    assert_int_equal(ask_status(TTY_IOCTL, 200, TIOCSCTTY, 0, 0, NULL, 0), -EPERM); /* it is taken */
    assert_int_equal(ask_status(TTY_IOCTL, 100, 0x12345678, 0, 0, NULL, 0), -ENOTTY);
    assert_int_equal(ask_status(TTY_IOCTL, 100, TCSETS, 0, 0, &group, 4), -EINVAL);
    assert_int_equal(ask_status(TTY_IOCTL, 100, TIOCSTI, 0, 0, "x", 1), -ENOTTY);
    struct answer *answer = calloc(1, sizeof *answer); /* a guest */
    answer->req.msg.type = TTY_READ;
    answer->req.msg.source = dvk_endpoint_make(1, 100);
    answer->req.wants_reply = true;
    tty_module.request(vos, &answer->req);
    assert_true(answer->answered);
    assert_int_equal(answer->reply.status, -EPERM);
    free(answer);
}

static void test_session(void **state) {
    assert_int_equal(ask_status(TTY_IOCTL, 101, TIOCNOTTY, 0, 0, NULL, 0), -EPERM);
    assert_int_equal(ask_status(TTY_IOCTL, 100, TIOCNOTTY, 0, 0, NULL, 0), 0);
    assert_true(was_raised(true, 100, SIGHUP) && was_raised(true, 100, SIGCONT));
    assert_int_equal(ask_status(TTY_IOCTL, 101, TIOCSCTTY, 0, 0, NULL, 0), -EPERM); /* no leader */
    assert_int_equal(ask_status(TTY_OPEN, 200, O_RDWR, 0, 0, NULL, 0), 0); /* free: the leader that opens it gets it */
    struct answer *answer = ask_with(TTY_S_FIND, 0, (const uint64_t[4]){200}, NULL, 0, -1);
    assert_int_equal(answer->reply.status, 0);
    assert_int_equal(answer->reply.payload.words[0], number);
    free(answer);
    assert_int_equal(ask_status(TTY_CLOSE, 0, 1, 0, 0, NULL, 0), 0);
    answer = ask_with(TTY_S_SESSION_END, 0, (const uint64_t[4]){200}, NULL, 0, -1);
    free(answer);
    assert_true(was_raised(true, 200, SIGHUP));
    answer = ask_with(TTY_S_FIND, 0, (const uint64_t[4]){200}, NULL, 0, -1);
    assert_int_equal(answer->reply.status, -ENXIO);
    free(answer);
}

static void test_hang_up(void **state) {
    struct answer *reader = ask(TTY_READ, 100, 10, 0, 0, NULL, 0);
    struct answer *poller = ask(TTY_POLL, 100, POLLIN, 1, 0, NULL, 0);
    settle();
    assert_false(reader->answered || poller->answered);
    close(person);
    settle();
    assert_true(reader->answered && poller->answered);
    assert_int_equal(reader->reply.status, 0);
    assert_int_equal(poller->reply.payload.words[0] & POLLHUP, POLLHUP);
    free(reader);
    free(poller);
    assert_true(was_raised(false, 100, SIGHUP) && was_raised(true, 100, SIGHUP));
    assert_int_equal(ask_status(TTY_WRITE, 100, 0, 0, 0, "x", 1), -EIO);
    assert_int_equal(ask_status(TTY_READ, 100, 10, 0, 0, NULL, 0), 0);
    assert_int_equal(ask_status(TTY_IOCTL, 100, TCGETS, 0, 0, NULL, 0), -EIO);
    assert_int_equal(ask_status(TTY_OPEN, 100, O_NOCTTY, 0, 0, NULL, 0), -EIO);
    person = -1;
}

static void test_cancel(void **state) {
    struct answer *reader = ask(TTY_READ, 100, 10, 0, 0, NULL, 0);
    struct answer *second = ask(TTY_READ, 100, 10, 0, 0, NULL, 0);
    tty_module.cancelled(vos, &reader->req);
    assert_true(reader->answered);
    assert_int_equal(reader->reply.status, -EINTR);
    type("x\r"); /* goes to the one that is left */
    assert_true(second->answered);
    assert_int_equal(second->reply.status, 2);
    free(reader);
    free(second);
}

static void test_raw(void **state) {
    struct termios settings;
    struct answer *answer = ask(TTY_IOCTL, 100, TCGETS, 0, 0, NULL, 0);
    assert_int_equal(answer->reply.data_len, sizeof settings);
    memcpy(&settings, answer->reply_data, sizeof settings);
    free(answer);
    settings.c_lflag &= ~(unsigned)(ICANON | ECHO | ISIG);
    settings.c_cc[VMIN] = 3;
    settings.c_cc[VTIME] = 0;
    assert_int_equal(ask_status(TTY_IOCTL, 100, TCSETS, 0, 0, &settings, sizeof settings), 0);
    answer = ask(TTY_READ, 100, 10, 0, 0, NULL, 0);
    type("a\003");
    assert_false(answer->answered);
    assert_int_equal(raised_count, 0);
    type("b");
    assert_true(answer->answered);
    assert_int_equal(answer->reply.status, 3);
    assert_memory_equal(answer->reply_data, "a\003b", 3);
    free(answer);
    settings.c_cc[VTIME] = 1;
    assert_int_equal(ask_status(TTY_IOCTL, 100, TCSETS, 0, 0, &settings, sizeof settings), 0);
    answer = ask(TTY_READ, 100, 10, 0, 0, NULL, 0);
    type("q");
    uint64_t begin = now_ms();
    while (!answer->answered && now_ms() < begin + 2000)
        turn();
    assert_true(answer->answered);
    assert_int_equal(answer->reply.status, 1);
    free(answer);
}

static void test_window(void **state) {
    struct winsize size = {.ws_row = 50, .ws_col = 132}, got;
    assert_int_equal(ask_status(TTY_IOCTL, 100, TIOCSWINSZ, 0, 0, &size, sizeof size), 0);
    assert_true(was_raised(true, 100, SIGWINCH));
    raised_count = 0;
    assert_int_equal(ask_status(TTY_S_RESIZE, 0, 30, 90, 0, NULL, 0), 0);
    assert_true(was_raised(true, 100, SIGWINCH));
    raised_count = 0;
    assert_int_equal(ask_status(TTY_S_RESIZE, 0, 30, 90, 0, NULL, 0), 0); /* no change */
    assert_int_equal(raised_count, 0);
    struct answer *answer = ask(TTY_IOCTL, 100, TIOCGWINSZ, 0, 0, NULL, 0);
    memcpy(&got, answer->reply_data, sizeof got);
    assert_int_equal(got.ws_row, 30);
    assert_int_equal(got.ws_col, 90);
    free(answer);
}

/* What was written just before the last close is still shown, then the stream ends. */
static void test_close_drains(void **state) {
    char shown[64] = {0};
    assert_int_equal(ask_status(TTY_OPEN, 100, O_NOCTTY, 0, 0, NULL, 0), 0);
    struct answer *answer = ask(TTY_WRITE, 100, 0, 0, 0, "bye", 3);
    free(ask(TTY_CLOSE, 0, 2, 0, 0, NULL, 0));
    settle();
    assert_true(answer->answered);
    free(answer);
    assert_int_equal(recv(person, shown, sizeof shown, MSG_DONTWAIT), 3);
    assert_string_equal(shown, "bye");
    assert_int_equal(recv(person, shown, sizeof shown, MSG_DONTWAIT), 0);
    assert_int_equal(ask_status(TTY_READ, 100, 1, 0, 0, NULL, 0), -ENXIO);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void) {
    const struct CMUnitTest tests[] = {TEST(test_canonical), TEST(test_output),     TEST(test_backpressure),
                                       TEST(test_interrupt), TEST(test_nothing_lost), TEST(test_no_flush),
                                       TEST(test_background), TEST(test_strangers), TEST(test_session),
                                       TEST(test_hang_up),   TEST(test_cancel),
                                       TEST(test_raw),       TEST(test_window),     TEST(test_close_drains)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
