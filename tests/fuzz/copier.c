/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copier: grants as dvkd tells them, requests of anybody, pieces of other copiers in any order and of any kind.
 * libdvk is played here; memory is two memfds, one as an arena and one as a process's. What was never granted for
 * writing stays as it was; each request is answered once, with no more done than was asked for.
 */
#include "copier/copy.h"
#include "copier/memory.h"
#include "dvk/copy_protocol.h"
#include "input.h"

#include <dvk/vcopy.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define NODE 2u
#define DC 5u
#define OTHER ((uint64_t)3 << DVK_GRANT_NODE_SHIFT)
#define HERE ((uint64_t)NODE << DVK_GRANT_NODE_SHIFT)
#define SIZE 262144u
#define REQUESTS 16u
#define CALLS 256u
#define NUMBERS 8u

struct call {
    dvk_done *done; /* NULL: free */
    void *context;
    uint64_t length;
};

static struct copier copier;
static int fds[2];
static uint8_t *bytes[2];
static bool writable[2][SIZE / 256]; /* blocks that were ever granted for writing */
static struct dvk_request *pending[REQUESTS];
static uint8_t reply_room[DVK_DATA_MAX], piece[DVK_DATA_MAX];
static struct call calls[CALLS];
static void (*timer_fn)(void *context);
static void *timer_context;
static uint64_t timer_id;
static bool is_send, refuse_calls;

/* ---- libdvk ---- */

uint32_t dvk_node(const struct dvk *dvk) {
    return NODE;
}
void dvk_copier_drain(struct dvk *dvk) {}
bool dvk_relay_is_send(const struct dvk_request *req) {
    return is_send;
}
int dvk_timer(struct dvk *dvk, uint64_t delay_ms, void (*fn)(void *context), void *context, uint64_t *id) {
    if (timer_fn)
        return -ENOMEM; /* one will do */
    timer_fn = fn;
    timer_context = context;
    *id = ++timer_id;
    return 0;
}
void dvk_timer_cancel(struct dvk *dvk, uint64_t id) {
    MUST(id == timer_id && timer_fn);
    timer_fn = NULL;
}
static void answered(struct dvk_request *req) {
    for (unsigned i = 0; i < REQUESTS; i++)
        if (pending[i] == req) {
            pending[i] = NULL;
            free(req);
            return;
        }
    MUST(!"a request that was answered already");
}
void dvk_reply(struct dvk *dvk, struct dvk_request *req, const struct dvk_message *reply, const int *reply_fds,
               unsigned count) {
    struct dvk_copy_ask ask;
    memcpy(&ask, &req->msg.payload, sizeof ask);
    MUST(reply->status <= 0 && reply->data_len <= req->reply_cap && count == 0);
    if (req->msg.type == DVK_COPY)
        MUST(reply->payload.words[0] <= ask.length && (reply->status || reply->payload.words[0] == ask.length));
    answered(req);
}
void dvk_reply_status(struct dvk *dvk, struct dvk_request *req, int status) {
    answered(req);
}
int dvk_call_as(struct dvk *dvk, uint32_t dc, const struct dvk_message *message, const void *data, size_t data_len,
                dvk_done *done, void *context, uint64_t *call) {
    struct dvk_copy_read read;
    memcpy(&read, &message->payload, sizeof read);
    MUST(dc == DC && message->type == DVK_COPY_READ && read.length && read.length <= DVK_DATA_MAX &&
         read.length <= read.rest);
    for (unsigned i = 0; i < CALLS && !refuse_calls; i++)
        if (!calls[i].done) {
            calls[i] = (struct call){done, context, read.length};
            return 0;
        }
    return -ENOMEM;
}

/* ---- steps ---- */

static uint64_t number(struct input *in) {
    uint8_t how = input_byte(in);
    uint64_t shared = how & 0x20 ? DVK_GRANT_SHARED : 0;
    return how & 0x80 ? input_u64(in) : (how & 0x40 ? OTHER : HERE) | shared | (how % NUMBERS + 1);
}

static uint64_t offset(struct input *in) {
    uint8_t how = input_byte(in);
    return how & 0x80 ? input_u64(in) : how & 0x40 ? input_u32(in) : (uint64_t)input_u16(in) * 4;
}

static void made(struct input *in) {
    uint8_t how = input_byte(in);
    unsigned which = how & 1;
    struct dvk_broker_grant what = {.address = offset(in),
                                    .length = offset(in),
                                    .arena = which        ? 7
                                             : how & 0x40 ? 9
                                                          : 0,
                                    .access = input_byte(in)};
    struct dvk_broker_packet head = {.type = DVK_BROKER_GRANT_MADE,
                                     .dc = how & 2 ? DC : input_u32(in),
                                     .endpoint = how & 4 ? 1 : input_byte(in),
                                     .peer = how & 8 ? 2 : input_byte(in),
                                     .channel = number(in),
                                     .id = how & 0x10 ? which + 100 : input_byte(in),
                                     .text_len = how & 0x20 ? input_byte(in) : sizeof what};
    int fd = how & 0x80 ? -1 : dup(fds[which]);
    int result = grants_made(&copier.grants, &head, &what, &fd);
    MUST(result == 0 || result == -EPROTO || result == -ENOMEM);
    if (fd >= 0)
        close(fd);
    if (result != 0 || !(what.access & DVK_GRANT_WRITE))
        return;
    /* it may be in memory that was told before: take it for granted in both */
    for (uint64_t at = what.address; at < SIZE && at < what.address + what.length; at = (at | 255) + 1)
        writable[0][at / 256] = writable[1][at / 256] = true;
}

static void gone(struct input *in) {
    struct dvk_broker_packet head = {.type = DVK_BROKER_GRANT_GONE, .channel = number(in)};
    head.status = input_byte(in) & 1 ? -DVK_EDEADDST : -DVK_EREVOKED;
    grants_gone(&copier.grants, &head);
}

static void request(struct input *in) {
    unsigned slot = 0;
    while (slot < REQUESTS && pending[slot])
        slot++;
    if (slot == REQUESTS)
        return;
    uint8_t how = input_byte(in);
    struct dvk_request *req = calloc(1, sizeof *req);
    MUST(req);
    req->dc = DC;
    req->local = how & 1;
    req->reply_data = reply_room;
    req->reply_cap = sizeof reply_room;
    req->wants_reply = true;
    req->msg.source = how & 2 ? 2 : dvk_endpoint_make(1, dvk_system_slot(3, how & 4 ? DVK_SERVICE_COPY : 9));
    req->msg.type = how & 8 ? DVK_COPY : how & 16 ? DVK_COPY_READ : input_u32(in);
    is_send = how == 0xff;
    if (req->msg.type == DVK_COPY) {
        struct dvk_copy_ask ask = {.source_owner = how & 32 ? 1 : input_byte(in),
                                   .source_grant = number(in),
                                   .source_offset = offset(in),
                                   .destination_owner = how & 64 ? 1 : input_byte(in),
                                   .destination_grant = number(in),
                                   .destination_offset = offset(in),
                                   .length = offset(in),
                                   .timeout_ms = (int32_t)input_byte(in) - 1};
        memcpy(&req->msg.payload, &ask, sizeof ask);
    } else {
        struct dvk_copy_read ask = {.requester = 2,
                                    .owner = how & 32 ? 1 : input_byte(in),
                                    .grant = number(in),
                                    .offset = offset(in),
                                    .length = offset(in)};
        ask.rest = how & 64 ? ask.length : offset(in);
        memcpy(&req->msg.payload, &ask, sizeof ask);
    }
    pending[slot] = req;
    copy_request(&copier, req);
}

/* An answer of the other copier. */
static void piece_comes(struct call *call, uint8_t how, struct input *in) {
    struct call was = *call;
    struct dvk_message reply = {.status = how & 1 ? -(int)input_u16(in) : 0};
    int status = how & 2 ? -2000 - input_byte(in) : 0;
    size_t len = how & 4 ? input_u16(in) : was.length;
    call->done = NULL;
    was.done(was.context, status, &reply, len ? piece : NULL, status ? 0 : len, NULL, 0);
}

static void end(void) {
    struct input none = {NULL, 0};
    for (unsigned i = 0; i < REQUESTS; i++)
        if (pending[i])
            copy_cancelled(&copier, pending[i]);
    for (unsigned i = 0; i < REQUESTS; i++)
        MUST(!pending[i]);
    MUST(list_is_empty(&copier.work));
    refuse_calls = true;
    for (unsigned i = 0; i < CALLS; i++)
        if (calls[i].done)
            piece_comes(&calls[i], 0, &none);
    MUST(!timer_fn);
    grants_free(&copier.grants);
    for (unsigned m = 0; m < 2; m++) {
        uint8_t before[256];
        memset(before, 0x11 * ((int)m + 1), sizeof before);
        for (unsigned i = 0; i < SIZE / 256; i++)
            MUST(writable[m][i] || memcmp(bytes[m] + i * 256u, before, sizeof before) == 0);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    for (unsigned m = 0; m < 2; m++) {
        fds[m] = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        MUST(fds[m] >= 0 && ftruncate(fds[m], SIZE) == 0 &&
             fcntl(fds[m], F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK) == 0);
        bytes[m] = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[m], 0);
        MUST(bytes[m] != MAP_FAILED);
    }
    memset(piece, 0x77, sizeof piece);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = {data, size};
    memset(writable, 0, sizeof writable);
    for (unsigned m = 0; m < 2; m++)
        memset(bytes[m], 0x11 * ((int)m + 1), SIZE);
    list_init(&copier.work);
    grants_init(&copier.grants);
    refuse_calls = false;
    for (unsigned steps = 0; in.left && steps < 300; steps++) {
        uint8_t op = input_byte(&in);
        switch (op % 8) {
        case 0:
        case 1:
            made(&in);
            break;
        case 2:
            gone(&in);
            break;
        case 3:
        case 4:
            request(&in);
            break;
        case 5:
            if (calls[op / 8].done)
                piece_comes(&calls[op / 8], input_byte(&in), &in);
            break;
        case 6:
            refuse_calls = op == 0xfe;
            if (pending[op / 8 % REQUESTS])
                copy_cancelled(&copier, pending[op / 8 % REQUESTS]);
            break;
        case 7:
            if (op & 0x80 && timer_fn) {
                void (*fn)(void *) = timer_fn;
                timer_fn = NULL;
                fn(timer_context);
            } else if (!list_is_empty(&copier.work))
                copy_turn(&copier);
        }
    }
    end();
    return 0;
}
