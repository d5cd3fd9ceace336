/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner of memory, requester of copies, sender and receiver of loans: what tests/system/test_vcopy.py tells it.
 *
 *   copy_peer DC      says "ready ENDPOINT", then answers each line on its standard input with one: numbers
 *
 *   memory BYTES               address          grant TO ADDRESS BYTES ACCESS    error, grant
 *   arena BYTES                address          revoke GRANT                     error
 *   fill ADDRESS BYTES SEED    0                copy OWNER GRANT OFFSET OWNER GRANT OFFSET BYTES MS    error, done
 *   check ADDRESS BYTES SEED   0, or where it differs + 1
 *   again ...                  as copy, again and again until one fails
 *   lend TO BYTES SEED         error, and what the receiver found: as check
 *   serve COUNT                error; answers so many requests of lend; longest accepted: DVK_LOAN_MAX
 */
#include <dvk/loan.h>
#include <dvk/vcopy.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct dvk *dvk;
static dvk_endpoint self;

static uint8_t byte_of(uint64_t i, uint64_t seed) {
    return (uint8_t)(i * 7 + (i >> 8) * 3 + (i >> 16) * 5 + seed);
}

static void fill(uint8_t *bytes, uint64_t length, uint64_t seed) {
    for (uint64_t i = 0; i < length; i++)
        bytes[i] = byte_of(i, seed);
}

static uint64_t check(const uint8_t *bytes, uint64_t length, uint64_t seed) {
    for (uint64_t i = 0; i < length; i++)
        if (bytes[i] != byte_of(i, seed))
            return i + 1;
    return 0;
}

static void say(int64_t a, uint64_t b) {
    printf("%" PRId64 " %" PRIu64 "\n", a, b);
    fflush(stdout);
}

static void copy(const uint64_t *n, int again) {
    struct dvk_area from = {n[0], n[1], n[2]}, to = {n[3], n[4], n[5]};
    uint64_t done;
    int error;
    do
        error = dvk_vcopy(dvk, self, &from, &to, n[6], (int)(int64_t)n[7], &done);
    while (again && error == 0);
    say(error, done);
}

static void lend(const uint64_t *n) {
    void *data;
    struct dvk_message message = {.destination = n[0], .type = 1};
    int error = dvk_loan_get(dvk, self, n[0], n[1], 5000, &data);
    if (error == 0) {
        fill(data, n[1], n[2]);
        message.payload.words[0] = n[2];
        error = dvk_sendrec(dvk, self, &message, data, n[1], NULL, 0, NULL, 10000);
    }
    say(error, error ? 0 : message.payload.words[0]);
}

static void serve(uint64_t count) {
    int error = dvk_accept(dvk, DVK_LOAN_MAX);
    while (error == 0 && count--) {
        struct dvk_request *req;
        error = dvk_receive(dvk, &req, 10000);
        if (error == 0) {
            struct dvk_message reply = {.status = 0};
            reply.payload.words[0] = check(req->data, req->msg.data_len, req->msg.payload.words[0]);
            dvk_reply(dvk, req, &reply, NULL, 0);
        }
    }
    say(error, 0);
}

static void obey(const char *what, const uint64_t *n) {
    void *at;
    uint64_t grant;
    if (strcmp(what, "memory") == 0) {
        at = mmap(NULL, n[0], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        say(0, at == MAP_FAILED ? 0 : (uintptr_t)at);
    } else if (strcmp(what, "arena") == 0) {
        int error = dvk_arena_create(dvk, n[0], &at);
        say(error, (uintptr_t)at);
    } else if (strcmp(what, "fill") == 0) {
        fill((uint8_t *)(uintptr_t)n[0], n[1], n[2]);
        say(0, 0);
    } else if (strcmp(what, "check") == 0)
        say(0, check((uint8_t *)(uintptr_t)n[0], n[1], n[2]));
    else if (strcmp(what, "grant") == 0) {
        int error = dvk_grant(dvk, self, n[0], (void *)(uintptr_t)n[1], n[2], (uint32_t)n[3], &grant);
        say(error, grant);
    } else if (strcmp(what, "revoke") == 0)
        say(dvk_revoke(dvk, n[0]), 0);
    else if (strcmp(what, "copy") == 0 || strcmp(what, "again") == 0)
        copy(n, what[0] == 'a');
    else if (strcmp(what, "lend") == 0)
        lend(n);
    else if (strcmp(what, "serve") == 0)
        serve(n[0]);
    else
        say(-EINVAL, 0);
}

int main(int argc, char **argv) {
    uint32_t dc;
    char line[512], what[16];
    int error = argc == 2 ? dvk_open(NULL, &dvk) : -EINVAL;
    if (error == 0)
        error = dvk_find_dc(dvk, argv[1], &dc);
    if (error == 0)
        error = dvk_bind(dvk, dc, DVK_SLOT_ANY, &self);
    if (error < 0) {
        fprintf(stderr, "copy_peer: %s\n", dvk_strerror(error));
        return 1;
    }
    printf("ready %" PRIu64 "\n", self);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        uint64_t n[8] = {0};
        if (sscanf(line,
                   "%15s %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64,
                   what, &n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7]) >= 1)
            obey(what, n);
    }
    dvk_close(dvk);
    return 0;
}
