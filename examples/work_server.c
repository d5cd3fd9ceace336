/* SPDX-License-Identifier: Apache-2.0 */
/* work_server DC: does the tasks that a work_queue sends, one after another. Start one on each node. */
#include "example.h"
#include "work.h"

static int is_prime(uint64_t n) {
    for (uint64_t d = 2; d * d <= n; d++)
        if (n % d == 0)
            return 0;
    return n > 1;
}

static void work(struct dvk *dvk, struct dvk_request *request) {
    struct dvk_message reply = {0};
    struct work_task task;
    struct work_result result = {0};
    memcpy(&task, request->msg.payload.bytes, sizeof task);
    if (request->msg.type != WORK_COUNT) {
        dvk_reply_status(dvk, request, -ENOSYS);
        return;
    }
    for (uint64_t n = task.from; n < task.to; n++)
        result.primes += (uint64_t)is_prime(n);
    memcpy(reply.payload.bytes, &result, sizeof result);
    dvk_reply(dvk, request, &reply, NULL, 0);
}

int main(int argc, char **argv) {
    uint32_t dc;
    if (argc != 2) {
        fprintf(stderr, "usage: work_server DC\n");
        return 2;
    }
    struct dvk *dvk = open_dc(argv[1], &dc);
    bind_service(dvk, dc, SERVICE_WORK);
    say_ready(dvk);
    for (;;) {
        struct dvk_request *request;
        int error = dvk_receive(dvk, &request, -1);
        if (error < 0)
            die("receive", error);
        if (request->wants_reply)
            work(dvk, request);
        else
            dvk_release(dvk, request);
    }
}
