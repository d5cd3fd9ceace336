/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults on purpose, to see that nothing is lost or done twice when things fail. Only in a build with -Dfaults=true; in
 * any other fault_at is the constant 0, and the code behind it is not there.
 *
 *   DVS_FAULTS="seed=7;proxy.write=lose:0.01;proxy.write=short:0.2;replica.deliver=delay:0.05:20"
 *
 * Each rule: at that point, with that probability, that action. The points and what can be done there are FAULT_POINTS;
 * delay (for so many milliseconds, 1 to 1000; 10) and crash (abort(3)) can be done anywhere. What happens is drawn from
 * seed, node and daemon: the same daemon draws the same again, as far as it comes to the same points in the same order.
 * Every fault goes to the flight recorder.
 *
 * What daemons send each other they send over ordered, reliable streams. Between proxies, single frames are
 * nevertheless dropped, repeated and swapped with the next one (proxy.frame): frames are numbered, so a proxy has to
 * notice, and to have sent again what is missing. dvkd has nothing of the kind: what corosync orders it takes as it
 * comes.
 */
#ifndef COMMON_FAULT_H
#define COMMON_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum fault_action {
    FAULT_DELAY = 1u << 0,  /* done by fault_at */
    FAULT_CRASH = 1u << 1,  /* done by fault_at */
    FAULT_SHORT = 1u << 2,  /* a read or write of a few bytes */
    FAULT_LOSE = 1u << 3,   /* the connection */
    FAULT_FAIL = 1u << 4,   /* no memory, no space: the error that belongs to the point */
    FAULT_FULL = 1u << 5,   /* the receiver takes nothing now */
    FAULT_DROP = 1u << 6,   /* one message */
    FAULT_REPEAT = 1u << 7, /* one message comes twice */
    FAULT_SWAP = 1u << 8,   /* one message comes after the one behind it, if that has come already */
};
#define FAULT_LAST FAULT_SWAP
#define FAULT_ANYWHERE (FAULT_DELAY | FAULT_CRASH)

/* Name in C, name, actions besides delay and crash, where it is. */
#define FAULT_POINTS(X)                                                                                                \
    X(PROXY_CONNECT, "proxy.connect", FAULT_FAIL, "a proxy begins a connection")                                       \
    X(PROXY_READ, "proxy.read", FAULT_SHORT | FAULT_LOSE, "a proxy reads from another (short: unencrypted only)")      \
    X(PROXY_WRITE, "proxy.write", FAULT_SHORT | FAULT_LOSE, "a proxy writes to another")                               \
    X(PROXY_FRAME, "proxy.frame", FAULT_DROP | FAULT_REPEAT | FAULT_SWAP, "a frame of another proxy arrives")          \
    X(PROXY_REQUEST, "proxy.request", FAULT_FAIL, "a proxy takes a request of its node (fail: no memory)")             \
    X(BROKER_SEND, "broker.send", FAULT_FULL, "dvkd sends a packet to a process")                                      \
    X(BROKER_CHANNEL, "broker.channel", FAULT_FAIL, "dvkd makes a channel (fail: no memory)")                          \
    X(REPLICA_SEND, "replica.send", 0, "dvkd multicasts to the others")                                                \
    X(REPLICA_DELIVER, "replica.deliver", 0, "dvkd takes what was multicast")                                          \
    X(STORE_WRITE, "store.write", FAULT_FAIL, "dvkd writes a change (fail: disk full)")                                \
    X(STORE_COMMIT, "store.commit", 0, "dvkd has written a change and not yet committed it")

enum fault_point {
#define FAULT_ENUM(id, name, actions, where) FAULT_##id,
    FAULT_POINTS(FAULT_ENUM)
#undef FAULT_ENUM
    FAULT_POINT_END
};

struct fault_description {
    const char *name;
    unsigned actions; /* FAULT_ANYWHERE included */
    const char *where;
};
/* All points, by enum fault_point. In every build. */
extern const struct fault_description fault_points[FAULT_POINT_END];
/* The name of one action, e.g. "lose". */
const char *fault_action_name(enum fault_action action);

#define FAULT_RULES_MAX 32u
#define FAULT_WHY 240u

struct fault_rule {
    enum fault_point point;
    enum fault_action action;
    double probability; /* 0..1 */
    unsigned delay_ms;
};
struct fault_plan {
    uint64_t seed;
    unsigned count;
    struct fault_rule rules[FAULT_RULES_MAX];
};

/* Read a plan. 0, or -EINVAL with one line that says what is wrong in why. Pure. */
int fault_parse(const char *text, struct fault_plan *plan, char why[static FAULT_WHY]);
/* What a plan does at a point, drawn from *state. The actions, *delay_ms for FAULT_DELAY. Pure. */
unsigned fault_draw(const struct fault_plan *plan, enum fault_point point, uint64_t *state, unsigned *delay_ms);

/* Does this build inject faults? */
bool fault_built(void);

#ifdef DVS_FAULTS
/* Take the plan from $DVS_FAULTS. 0, or -EINVAL, having said why on standard error. */
int fault_init(const char *daemon, uint32_t node);
/* Delay and crash, if they are drawn; returns the other actions that are. */
unsigned fault_at(enum fault_point point);
#else
static inline int fault_init(const char *daemon, uint32_t node) {
    (void)daemon, (void)node;
    return 0;
}
static inline unsigned fault_at(enum fault_point point) {
    (void)point;
    return 0;
}
#endif

#endif
