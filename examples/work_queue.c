/* SPDX-License-Identifier: Apache-2.0 */
/*
 * work_queue DC LIMIT TASKS: counts the primes below LIMIT, cut into TASKS tasks, on all nodes of the container that have a
 * work_server. Each server has one task at a time, so the fast ones get more. The task of one that is lost is done by
 * another; a node that comes back is used again.
 */
#include "example.h"
#include "work.h"

#include <stdbool.h>

#define RETRY_MS 200 /* how soon a node without a server is tried again */

struct queue {
    struct dvk *dvk;
    dvk_endpoint self;
    struct work_task *tasks;
    unsigned count, done;
    unsigned *waiting, waiting_count; /* a stack of tasks that nobody does now */
    uint64_t primes;
};

struct worker {
    struct queue *queue;
    uint32_t node;
    unsigned task; /* what it is doing */
    unsigned finished;
};

static void worker_feed(void *context);

static void task_done(void *context, int status, const struct dvk_message *reply, const void *data, size_t data_len,
                      const int *fds, unsigned fd_count) {
    (void)data, (void)data_len, (void)fds, (void)fd_count;
    struct worker *worker = context;
    struct queue *queue = worker->queue;
    if (status < 0) { /* lost, with the worker: somebody else's now */
        queue->waiting[queue->waiting_count++] = worker->task;
        uint64_t timer;
        int error = is_gone(status) ? dvk_timer(queue->dvk, RETRY_MS, worker_feed, worker, &timer) : status;
        if (error < 0)
            die("worker", error);
        return;
    }
    if (reply->status < 0)
        die("worker", reply->status);
    struct work_result result;
    memcpy(&result, reply->payload.bytes, sizeof result);
    queue->primes += result.primes;
    queue->done++;
    worker->finished++;
    worker_feed(worker);
}

/* Give it the next task, if there is one. */
static void worker_feed(void *context) {
    struct worker *worker = context;
    struct queue *queue = worker->queue;
    if (queue->done == queue->count)
        dvk_wake(queue->dvk); /* that was the last: ends dvk_receive in main */
    uint64_t timer;
    int error = 0;
    if (queue->waiting_count == 0) { /* others are at it: one of them may yet be lost */
        if (queue->done < queue->count)
            error = dvk_timer(queue->dvk, RETRY_MS, worker_feed, worker, &timer);
    } else {
        worker->task = queue->waiting[--queue->waiting_count];
        struct dvk_message message = {.destination = dvk_service_endpoint(worker->node, SERVICE_WORK), .type = WORK_COUNT};
        memcpy(message.payload.bytes, &queue->tasks[worker->task], sizeof *queue->tasks);
        error = dvk_call(queue->dvk, queue->self, &message, NULL, 0, NULL, 0, task_done, worker, NULL);
    }
    if (error < 0)
        die("worker", error);
}

static void queue_fill(struct queue *queue, uint64_t limit, unsigned count) {
    queue->count = queue->waiting_count = count;
    queue->tasks = calloc(count, sizeof *queue->tasks);
    queue->waiting = calloc(count, sizeof *queue->waiting);
    if (!queue->tasks || !queue->waiting)
        die("tasks", -ENOMEM);
    for (unsigned i = 0; i < count; i++) {
        queue->tasks[i] = (struct work_task){limit * i / count, limit * (i + 1) / count};
        queue->waiting[count - 1 - i] = i;
    }
}

int main(int argc, char **argv) {
    uint32_t dc, nodes[DVK_MAX_NODE];
    static struct queue queue;
    static struct worker workers[DVK_MAX_NODE];
    if (argc != 4 || atoll(argv[2]) < 1 || atoi(argv[3]) < 1) {
        fprintf(stderr, "usage: work_queue DC LIMIT TASKS\n");
        return 2;
    }
    queue.dvk = open_dc(argv[1], &dc);
    queue.self = bind_service(queue.dvk, dc, 0);
    queue_fill(&queue, (uint64_t)atoll(argv[2]), (unsigned)atoi(argv[3]));
    int count = dvk_dc_nodes(queue.dvk, dc, nodes, DVK_MAX_NODE);
    if (count < 0)
        die("nodes", count);
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){.queue = &queue, .node = nodes[i]};
        worker_feed(&workers[i]);
    }
    while (queue.done < queue.count) {
        struct dvk_request *request;
        int error = dvk_receive(queue.dvk, &request, -1);
        if (error == 0 && request->wants_reply)
            dvk_reply_status(queue.dvk, request, -ENOSYS);
        else if (error == 0)
            dvk_release(queue.dvk, request);
        else if (error != -DVK_EINTERRUPTED)
            die("receive", error);
    }
    printf("%llu primes\n", (unsigned long long)queue.primes);
    for (int i = 0; i < count; i++)
        printf("node %u: %u tasks\n", nodes[i], workers[i].finished);
    dvk_close(queue.dvk);
    return 0;
}
