/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Binds and unbinds endpoints in any user slots, so that sets of slots change hands, and writes down which it had and when.
 *
 *   dvs-binder keep LOG DC    keep as many as standard input says, in lines "COUNT TOKEN"; until killed, or its end
 *   dvs-binder try DC         bind one and say how that ended: 0 or the (positive) error number; exit code 0
 *
 * The node is that of $DVS_SOCKET. Each line of LOG is a letter, a word and CLOCK_MONOTONIC in ns:
 *   B ENDPOINT   it is bound (hexadecimal)        R TOKEN   as many are bound as the line with this token wanted
 *   U ENDPOINT   it is being unbound              E NUMBER  binding failed with this error
 *   L 0          all are lost: dvkd, or this node's quorum, is gone
 * While it has as many as it should, it changes one for another now and then. Exit code 1: something that should not be.
 */
#include <dvk/dvk.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define KEEP_MAX 4096u
#define CHANGE_MS 50
#define RETRY_MS 50

struct binder {
    struct dvk *dvk;
    int log;
    uint32_t dc;
    bool cut; /* our node has lost its quorum, and we our endpoints */
    dvk_endpoint kept[KEEP_MAX];
    unsigned first, count, want;
    unsigned long token; /* 0: was told of */
};

static _Noreturn void fail(const char *what, int error) {
    fprintf(stderr, "dvs-binder: %s: %s\n", what, dvk_strerror(error));
    exit(1);
}

static void say(const struct binder *binder, char what, unsigned long word) {
    struct timespec ts;
    char line[64];
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int len = snprintf(line, sizeof line, what == 'B' || what == 'U' ? "%c %lx %lld\n" : "%c %lu %lld\n", what, word,
                       ts.tv_sec * 1000000000ll + ts.tv_nsec);
    if (write(binder->log, line, (size_t)len) != len)
        fail("cannot write the log", -errno);
}

static void pause_ms(long ms) {
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000l}, NULL);
}

static void on_event(void *context, const struct dvk_event *event) {
    struct binder *binder = context;
    if (event->type == DVK_EVENT_DC_GONE)
        binder->cut = true;
}

static void open_again(struct binder *binder) {
    if (binder->count)
        say(binder, 'L', 0);
    binder->count = 0;
    dvk_close(binder->dvk);
    while (dvk_open(NULL, &binder->dvk) < 0)
        pause_ms(RETRY_MS);
    dvk_on_event(binder->dvk, on_event, binder);
    binder->cut = false;
}

/* Events are told of in dvk_receive only. */
static void look(struct binder *binder) {
    struct dvk_request *req;
    int error = dvk_receive(binder->dvk, &req, 0);
    if (error == 0)
        fail("somebody talks to it", -DVK_ENOTALLOWED);
    if (error != -DVK_ETIMEDOUT && error != -DVK_EINTERRUPTED && error != -DVK_ENODAEMON)
        fail("dvk_receive", error);
    if (error == -DVK_ENODAEMON || binder->cut)
        open_again(binder);
}

static void bind_one(struct binder *binder) {
    dvk_endpoint endpoint;
    int error = dvk_bind(binder->dvk, binder->dc, DVK_SLOT_ANY, &endpoint);
    if (error < 0) {
        say(binder, 'E', (unsigned long)-error);
        pause_ms(RETRY_MS);
        return;
    }
    say(binder, 'B', endpoint);
    binder->kept[(binder->first + binder->count++) % KEEP_MAX] = endpoint;
}

static void unbind_one(struct binder *binder) {
    dvk_endpoint endpoint = binder->kept[binder->first];
    say(binder, 'U', endpoint); /* first: from now on somebody else may have the slot */
    int error = dvk_unbind(binder->dvk, endpoint);
    if (error < 0 && error != -DVK_ENODAEMON && error != -DVK_ENOTBOUND) /* the latter: an event is on its way */
        fail("dvk_unbind", error);
    binder->first = (binder->first + 1) % KEEP_MAX;
    binder->count--;
}

static void turn(struct binder *binder) {
    look(binder);
    if (binder->count < binder->want) {
        bind_one(binder);
    } else if (binder->count > binder->want) {
        unbind_one(binder);
    } else if (binder->token) {
        say(binder, 'R', binder->token);
        binder->token = 0;
    }
}

/* Take a line of standard input, if there is one within so long; false: there will be none any more. */
static bool listen_ms(struct binder *binder, int ms) {
    static char line[64];
    static size_t len;
    struct pollfd in = {.fd = 0, .events = POLLIN};
    if (poll(&in, 1, ms) <= 0)
        return true;
    ssize_t n = read(0, line + len, sizeof line - 1 - len);
    if (n <= 0)
        return false;
    line[len += (size_t)n] = 0;
    for (char *end; (end = strchr(line, '\n')); len = strlen(line)) {
        if (sscanf(line, "%u %lu", &binder->want, &binder->token) != 2 || binder->want > KEEP_MAX)
            fail("standard input makes no sense", -EINVAL);
        memmove(line, end + 1, strlen(end + 1) + 1);
    }
    return true;
}

static void keep(struct binder *binder) {
    open_again(binder);
    for (;;) {
        bool settled = binder->count == binder->want && !binder->token;
        if (!listen_ms(binder, settled ? CHANGE_MS : 0))
            return;
        turn(binder);
        if (settled && binder->count) {
            unbind_one(binder);
            bind_one(binder);
        }
    }
}

int main(int argc, char **argv) {
    static struct binder binder;
    bool keeps = argc == 4 && strcmp(argv[1], "keep") == 0;
    if (!keeps && !(argc == 3 && strcmp(argv[1], "try") == 0)) {
        fprintf(stderr, "usage: dvs-binder keep LOG DC | try DC\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    binder.dc = (uint32_t)strtoul(argv[argc - 1], NULL, 10);
    if (keeps) {
        binder.log = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (binder.log < 0)
            fail(argv[2], -errno);
        keep(&binder);
    } else {
        dvk_endpoint endpoint;
        int error = dvk_open(NULL, &binder.dvk);
        if (error == 0)
            error = dvk_bind(binder.dvk, binder.dc, DVK_SLOT_ANY, &endpoint);
        printf("%d\n", -error);
    }
    dvk_close(binder.dvk);
    return 0;
}
