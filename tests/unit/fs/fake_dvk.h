/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A fake of libdvk for tests of fs: several nodes in one process, messages in a queue, delivered when the test says,
 * in an order drawn from a seed (requests of one pair of nodes stay in order, as in a channel; answers do not).
 */
#ifndef TEST_FAKE_DVK_H
#define TEST_FAKE_DVK_H

#include "vos/host/module.h"
#include "vos/protocol.h"

#define FAKE_NODES 4u
#define FAKE_DATA 65536u

struct answer {
    bool done;
    int status;
    uint64_t words[26];
    uint8_t data[FAKE_DATA];
    uint32_t len;
    int fd; /* granted; the test's */
};

/* A pm or tty server for the tests; NULL: -ENOSYS. */
extern void (*fake_server)(struct vos *vos, struct dvk_request *req);

/* Nodes 1..count; node 1 is the primary. Image and upper are directories (opened). Starts fs on each. */
void fake_start(struct vos *vos, unsigned count, const char *image, const char *upper);
void fake_stop(struct vos *vos, unsigned count);
/* Deliver until nothing moves (watched fds included; timers fire only when nothing else does, at most `timers` of them). */
void fake_run(unsigned timers);
void fake_run_one(void); /* one message */
void fake_seed(unsigned seed); /* 0: in order */
void fake_node_down(struct vos *vos, unsigned count, uint32_t node);
unsigned fake_queued(void);
unsigned fake_delivered(void); /* messages so far, answers too */

/* A guest's request. fake_request returns at once; *out is filled in when the answer comes. */
struct dvk_request *fake_request(struct vos *vos, uint32_t pid, uint32_t type, const uint64_t words[8], const void *data, size_t len,
                                 int fd, struct answer *out);
/* From the fs of another node. */
struct dvk_request *fake_peer_request(struct vos *vos, uint32_t node, uint32_t type, const uint64_t *words, unsigned word_count,
                                      const void *data, size_t len, struct answer *out);
void fake_cancel(struct vos *vos, struct dvk_request *req);
/* The same, run to its end. Returns the status; -999 when no answer came. */
int fake_call(struct vos *vos, uint32_t pid, uint32_t type, const uint64_t words[8], const void *data, size_t len, int fd,
              struct answer *out);
/* From the cell's own pm. */
int fake_pm_call(struct vos *vos, uint32_t type, const uint64_t words[4], const void *data, size_t len, struct answer *out);
/* A process with these ids, working directory /. */
void fake_process(struct vos *vos, uint32_t pid, uint32_t uid, uint32_t gid);

#endif
