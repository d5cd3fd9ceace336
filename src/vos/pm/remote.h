/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between the pms of a DC. Each is a request with a reply (status, and words where said). The receiver accepts them
 * only from a pm of its own DC. All fields are little-endian; every payload begins with struct pm_head.
 *
 * Who knows what of a process P:
 *   its pm       the record. Exactly one pm holds it; while P execs on another node the old pm holds it until the new one
 *                has answered.
 *   its home     (owner of the pid's slot, or if that node is gone the next active node in the circle) where P runs
 *   parent's pm  an entry for P as a child: node, state, and the zombie's status
 * A message about P goes to where the sender believes P to be; who does not hold P hands it on: to where it saw P go, else to the
 * home, at most PM_MAX_HOPS times (-ESRCH after that).
 *
 * A move (exec on another node): each has a number that travels with the record, so that news of moves that arrive out
 * of order are recognised (the higher number is right). When the parent's pm is not the one that P leaves, the new pm tells it
 * *before* it accepts P. The parent's pm thereby decides what became of P if a node is lost on the way: it has either already reported P as
 * killed (-ECHILD: the new pm refuses P), or knows the new node.
 */
#ifndef PM_REMOTE_H
#define PM_REMOTE_H

#include "cell/init_protocol.h"
#include "vos/pm/info.h"
#include "vos/protocol.h"

#define PM_REMOTE_VERSION 2u
#define PM_MAX_HOPS 8u

struct pm_head {
    uint16_t version; /* PM_REMOTE_VERSION, else -EPROTO */
    uint16_t hops;    /* how often it was handed on */
    uint32_t load;    /* of the sender's node: runnable processes * 1000 / CPUs. In replies: words[25] */
};
#define PM_REPLY_LOAD_WORD 25

/* PM_S_SPAWN: part of a moving process (move_pack.h says what the bytes are). w data: bytes offset.. of total. The reply to the part that
 * completes it comes when the process is accepted (0) or refused (negative errno). A transfer ends with its sender's node. */
struct pm_s_spawn {
    struct pm_head head;
    uint32_t pid;
    uint32_t transfer; /* the sender's number for it */
    uint32_t offset, total;
};

/* PM_S_LOCATE: a question about one process, answered by the pm that holds it. */
enum pm_locate_op {
    PM_LOCATE_IDS = 1,      /* reply: words[0] pgid, words[1] sid */
    PM_LOCATE_CHILD = 2,    /* is `pid` of birth b alive, with a child a? -ESRCH, -ECHILD; reply: words[0] its node */
    PM_LOCATE_RLIMIT = 3,   /* a resource b set? c soft d hard. reply: words[0] soft words[1] hard, the old */
    PM_LOCATE_PRIORITY = 4, /* a set? b value. reply: words[0] 20 - nice */
    PM_LOCATE_SEES = 5      /* 0 when it exists */
};
struct pm_s_locate {
    struct pm_head head;
    uint32_t op; /* enum pm_locate_op */
    uint32_t pid;
    uint32_t uid, euid; /* the asking process's */
    uint64_t a, b, c, d;
};

/* PM_S_MOVED */
enum pm_moved_kind {
    PM_MOVED_HOME = 1,   /* to the home; data: struct pm_moved_entry[]: these run on the sender's node */
    PM_MOVED_PARENT = 2, /* to the pm of parent `ppid`: its child `pid` is about to go on at `node`. -ESRCH: no such parent (P
                            goes on as an orphan), -ECHILD: not its child any more (P is refused) */
    PM_MOVED_CHILD = 3,  /* to the pm of `pid`: its parent `ppid` now runs on `node`. -ECHILD: it has another parent now */
    PM_MOVED_GONE = 4    /* to the home: `pid` exists no more */
};
struct pm_moved_entry {
    uint32_t pid, moves;
};
struct pm_s_moved {
    struct pm_head head;
    uint32_t kind; /* enum pm_moved_kind */
    uint32_t pid, ppid;
    uint32_t node;
    uint32_t moves;
    uint32_t count; /* of entries in the data */
    uint64_t birth; /* PARENT: of `ppid` */
};

/* PM_S_CHILD_STATE */
enum pm_child_kind {
    /* to the pm of parent `ppid`; for ppid 1 (a program that dvkd started) to the node where it was started */
    PM_CHILD_EXITED = 1,    /* reply status 1: reaped already, 0: keep the zombie until PM_CHILD_REAPED; -ESRCH: no such parent, -ECHILD */
    PM_CHILD_STOPPED = 2,
    PM_CHILD_CONTINUED = 3,
    PM_CHILD_RELATION = 4,  /* pgid, sid, uid or exit signal changed */
    PM_CHILD_STARTED = 5,   /* first program only: status: 0 it runs, else errno */
    /* to the pm of `pid` */
    PM_CHILD_REAPED = 6,    /* its parent has waited for it: forget the zombie */
    PM_CHILD_ORPHANED = 7   /* its parent `ppid` has ended */
};
struct pm_s_child_state {
    struct pm_head head;
    uint16_t kind; /* enum pm_child_kind */
    uint16_t node; /* where `pid` is, 0: not told */
    uint32_t pid, ppid;
    uint32_t moves;
    uint32_t sequence; /* of the child's reports: older ones that come late are ignored */
    int32_t status;    /* wait status, or errno */
    uint32_t pgid, sid, uid;
    uint32_t exit_signal;
    uint64_t birth;           /* to the parent: its, 0: not known */
    struct init_rusage usage; /* with the children that it waited for */
};

/* PM_S_SIGNAL */
enum pm_signal_kind {
    PM_SIGNAL_PROCESS = 1, /* target: pid. reply status 0 or errno */
    PM_SIGNAL_GROUP = 2,   /* target: pgid. To every active node; not handed on. reply words: [0] members, [1] permitted */
    PM_SIGNAL_ALL = 3,     /* every process but `sender` and pid 1; as PM_SIGNAL_GROUP */
    PM_SIGNAL_DELIVER = 4  /* target: pid: permission was checked before the process moved */
};
struct pm_s_signal {
    struct pm_head head;
    uint32_t kind; /* enum pm_signal_kind */
    uint32_t target;
    uint32_t tid; /* 0: the process */
    int32_t signal;
    uint32_t system; /* not 0: sent by the DC itself: always permitted */
    uint32_t sender, uid, euid, sid; /* who asks */
    uint32_t pad;
    struct vos_siginfo_fields fields;
};

/* PM_S_RELATE: not handed on. */
enum pm_relate_op {
    PM_RELATE_GROUP = 1, /* pgid, sid: words[0]: 1 a member is here and all are of sid, 2 a member is here in another session, 0 none */
    PM_RELATE_SWEEP = 2  /* set, version: words[0]: which of its 64 slots are known here in any way; -EAGAIN: the table of who owns
                            which slots is older here than that version */
};
struct pm_s_relate {
    struct pm_head head;
    uint32_t op; /* enum pm_relate_op */
    uint32_t pgid, sid;
    uint32_t set;
    uint64_t version;
};

/* PM_S_INFO and PM_S_LIST between pms: the words of pm/info.h, in this frame. */
struct pm_s_list {
    struct pm_head head;
    uint32_t pid;    /* INFO: which; LIST: only pids above it */
    uint32_t pad;
};

/*
 * PM_S_JOIN: a pm that starts tells the primary's pm, then every node that this one named active. Until all have answered it gives out no
 * pid and takes no guest's request. reply: words[0..5]: bit n-1 (of 384): node n is active (meaningful from the primary); data:
 * struct pm_join_entry[]: what the receiver knows of slots that the joiner owns; status: their count.
 */
struct pm_join_entry {
    uint32_t pid;
    uint32_t moves; /* a process of the receiver's; UINT32_MAX: the number is only in use as a group, session or thread */
};
struct pm_s_join {
    struct pm_head head;
    uint32_t after; /* only entries above this pid (answers that did not fit are asked on) */
    uint32_t pad;
};

_Static_assert(sizeof(struct pm_s_child_state) <= 25 * 8, "fits the payload before the load word");
_Static_assert(sizeof(struct pm_s_signal) <= DVK_PAYLOAD_SIZE, "fits the payload");
_Static_assert(sizeof(struct pm_s_locate) <= DVK_PAYLOAD_SIZE, "fits the payload");

#endif
