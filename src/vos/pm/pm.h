/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pm, inside. One struct pm a cell; every function here runs in the cell's event loop and never blocks.
 *
 * Files:  main.c   the module            process.c  the table of records           exec.c    place, image, STARTED
 *         table.c  type -> handler       slots.c    which pids are free            move.c    leaving for another node
 *         peers.c  the other pms         spare.c    endpoints made ready           arrive.c  coming from another node
 *         share.c  which sets of pids are ours
 *         fork.c exit.c wait.c signal.c group.c creds.c ids.c limits.c place.c list.c control.c ps.c: a topic each
 *         spawn.c  the zygote            host.c     system calls
 *
 * States of a record (enum process_state):
 *
 *   PM_FORK ──> FORKING ──────────────────────────────┐
 *   start ────> BINDING ──> QUEUED ──> CLONING ──> LOADING ──> RUNNING ──PM_EXEC──> REPLACED ──old host process gone──> BINDING
 *   PM_S_SPAWN > ARRIVING ─────^                                  └─────PM_EXEC──> LEAVING ──accepted──> (gone; a husk and a trace stay)
 *   any ──> ZOMBIE ──waited for──> (gone)                                                └──refused──> REPLACED
 *
 * An asynchronous answer finds its process by (pid, serial), never by pointer: the record may be gone by then.
 */
#ifndef PM_PM_H
#define PM_PM_H

#include "cell/init_protocol.h"
#include "common/list.h"
#include "common/table.h"
#include "vos/host/module.h"
#include "vos/pm/creds.h"
#include "vos/pm/remote.h"
#include "vos/pm/slots.h"

#define PM_SPARES 8u
#define PM_LIMITS 16u
#define PM_KEPT_SIGNALS 64u
#define PM_INIT_PID 1u
#define PM_RECENT 1024u
#define PM_SLOT_WAIT_MS 2000 /* who needs a pid or thread id waits that long for one at most (EAGAIN) */

enum process_state {
    PROCESS_FORKING = 1, /* its parent may clone it now */
    PROCESS_ARRIVING,    /* being taken over from another node, not accepted yet */
    PROCESS_REPLACED,    /* execs in a new host process here; the old one has not ended yet */
    PROCESS_BINDING,     /* waits for an endpoint */
    PROCESS_QUEUED,      /* waits for the zygote */
    PROCESS_CLONING,     /* the zygote is cloning it */
    PROCESS_LOADING,     /* host process loads the program */
    PROCESS_RUNNING,
    PROCESS_LEAVING, /* on its way to another node; record is frozen */
    PROCESS_ZOMBIE
};

/* A child, as its parent's pm knows it. */
struct child {
    struct list link; /* struct process.children */
    struct process *parent;
    uint32_t pid;
    uint32_t node;
    uint32_t moves;
    uint32_t sequence;
    uint32_t pgid, sid, uid;
    uint32_t exit_signal;
    bool zombie, stopped, continued; /* unreported changes; zombie: ended */
    bool lost; /* its node was lost while the parent's record was frozen */
    int32_t status, stop_status;
    struct init_rusage usage;
    /* of programs that dvkd started (parent: pm->init) */
    uint64_t start_id; /* control request to answer when it runs, 0: none */
    uint32_t tty;
};

/* A PM_WAIT that is pending. */
struct wait_call {
    struct list link; /* struct process.waits */
    struct dvk_request *req;
    struct process *process;
    int32_t pid;
    uint32_t group; /* for pid 0: the caller's group at the time of the call */
    uint32_t options;
};

struct kept_signal {
    int32_t signal;
    uint32_t tid;
    struct vos_siginfo_fields fields;
};

/* A request that waits, in some list. */
struct parked {
    struct list link;
    struct dvk_request *req;
    int64_t since_ms;
};

/* An exec image: arriving from a guest, then waiting for the new host process. */
struct image {
    uint8_t *bytes;
    size_t len, total;
    int *fds;
    unsigned fd_count, fds_given;
};

struct tid_list {
    uint32_t *tids;
    uint32_t count, capacity;
};

struct process {
    struct list link; /* struct pm.processes */
    uint64_t serial;
    uint32_t pid;
    enum process_state state;
    dvk_endpoint endpoint; /* DVK_NONE while it has none */
    int channel_fd, socket_fd; /* until they are given to the process; -1 */
    dvk_endpoint birth, parent_birth; /* first endpoints: unlike a pid never given out again. parent_birth 0: not known, or pid 1 */
    uint32_t ppid, parent_node; /* ppid 1: parent_node is where dvkd started it, or 0: an orphan */
    uint32_t pgid, sid;
    struct creds creds;
    uint64_t limits[PM_LIMITS][2];
    uint32_t umask;
    int32_t nice;
    uint32_t exit_signal;
    uint32_t chld_flags; /* enum pm_chld_flags */
    uint32_t moves;      /* how often it moved */
    uint32_t parent_moves; /* of the parent when it came to parent_node: older news of its place are void */
    uint32_t sequence;   /* of its reports to the parent */
    bool execed;         /* has run exec since fork */
    bool placed;         /* placement has chosen for it since fork */
    bool stopped;        /* host process is stopped */
    bool in_transit;     /* LEAVING, and sent: else it waits for its parent or children, which are on their way */
    bool host_gone;      /* LEAVING, REPLACED: the old host process has ended */
    bool parent_lost;    /* parent's node was lost; being looked for */
    bool announce_start; /* tell parent_node when it runs */
    uint32_t parent_tries;
    int32_t status; /* wait status of a zombie; of the husk while host_gone */
    uint32_t place_node; /* PM_PLACE's answer, 0: none */
    struct image image;
    struct init_rusage usage;          /* of host processes it had before */
    struct init_rusage children_usage; /* of children waited for */
    int64_t start_ms;
    char comm[16];
    char *cmdline;
    uint32_t cmdline_len;
    struct tid_list tids; /* numbers of its threads; given back when the host process ends */
    struct list children; /* struct child */
    struct list waits;    /* struct wait_call */
    struct list parked;   /* struct parked: other pms' requests while LEAVING */
    struct kept_signal kept[PM_KEPT_SIGNALS];
    uint32_t kept_count;
    struct dvk_request *exec_req; /* PM_EXEC to answer; NULL */
    struct list spawn_link; /* struct pm.spawn_queue, .move_waits */
    struct list report_link; /* struct pm.parked_reports */
    uint32_t zygote_tries;
    struct arrival *arrival; /* ARRIVING */
};

/* What is left on a node of a process that moved away: the old host process until it ends. */
struct husk {
    dvk_endpoint endpoint;
    struct tid_list tids;
};

/* All that is known of one slot number. */
struct slot_entry {
    struct process *process; /* it runs (or is a zombie) here */
    struct child *child;     /* its parent is here */
    struct husk *husk;
    uint32_t thread_of;      /* thread id of this process here */
    uint32_t away_node;      /* not here, but said to run on that node (its home knows, and who saw it leave) */
    uint32_t away_moves;
    bool reserved;           /* taken for a process to come */
};

struct spare {
    dvk_endpoint endpoint;
    int channel_fd, socket_fd;
};

struct peer {
    bool active; /* its pm has joined: it may hold processes. Own entry: always */
    uint32_t load;
};

struct recent {
    uint32_t pid, pgid, sid;
    int64_t until_ms;
};

struct pm {
    struct vos *vos;
    uint32_t index; /* of this node in vos->nodes */
    struct slots slots;
    bool taking;           /* we have asked for more slots */
    int64_t take_failed_ms; /* when nobody had any, last */
    struct table entries; /* pid -> struct slot_entry */
    struct list processes;
    unsigned process_count;
    uint64_t next_serial;
    struct process *init; /* pid 1: parent of the programs that dvkd starts here. Not in the table */

    struct peer peers[VOS_MAX_NODES]; /* by index in vos->nodes */
    bool ready;                       /* all peers have answered our JOIN */
    unsigned joins_pending;
    struct list early; /* struct parked: requests before that */
    uint32_t next_transfer;

    struct spare spares[PM_SPARES];
    unsigned spare_count, spare_pending;
    uint64_t spare_timer;
    bool spare_timer_urgent;
    bool filling, serving; /* in spare_fill, in tids_serve: sweeps that end at once call them again */
    struct list spare_waits; /* struct spare_wait */
    struct list tid_waits;   /* struct parked */

    struct dvk_request *zygote; /* its PM_ZYGOTE_WAIT, when it is idle */
    uint32_t cloning_pid;       /* what it is cloning, 0: nothing */
    uint64_t cloning_serial;
    struct list spawn_queue; /* struct process.spawn_link */

    uint64_t go_on_timer;
    struct list move_waits;    /* struct process.spawn_link: LEAVING, but not before others */
    struct list parked_reports; /* struct process.report_link: what became of it is told when the parent is not on its way any more */
    struct list arrival_waits; /* struct arrival: their parent here is on its way elsewhere */
    struct list transfers;     /* struct transfer (arrive.c) */
    uint32_t spread_next;  /* index of the node that `spread` chose last */
    int64_t load_sampled_ms;
    uint32_t own_load;
    struct recent recent[PM_RECENT]; /* groups and sessions of processes that left: still in use while they arrive elsewhere */
    unsigned recent_next;
};

/* ---- process.c: the table ---- */
struct slot_entry *pm_entry(struct pm *pm, uint32_t pid);      /* NULL: nothing is known */
struct slot_entry *pm_entry_make(struct pm *pm, uint32_t pid); /* NULL: not a user slot, or no memory */
void pm_entry_trim(struct pm *pm, uint32_t pid);               /* drop an entry that says nothing any more */
struct process *process_here(struct pm *pm, uint32_t pid);
/* Is it the one of that birth, and not one that has got its pid since? birth DVK_NONE: not known, yes. */
bool process_is(const struct process *process, dvk_endpoint birth);
/* Its parent, if that is here and not pid 1. */
struct process *process_parent(struct pm *pm, const struct process *process);
struct process *process_by_serial(struct pm *pm, uint32_t pid, uint64_t serial);
/* A record with empty lists and default limits, in the table. NULL: no memory, or the pid is taken. */
struct process *process_create(struct pm *pm, uint32_t pid);
/* Forget a record and all it holds; neither endpoint nor slot is given back. */
void process_free(struct pm *pm, struct process *process);
/* Give its endpoint back to the DVK, if it has one. */
void process_unbind(struct pm *pm, struct process *process, bool moved);
struct child *child_find(struct pm *pm, struct process *parent, uint32_t pid);
struct child *child_add(struct pm *pm, struct process *parent, uint32_t pid);
void child_remove(struct pm *pm, struct child *child);
void image_drop(struct image *image);
int tid_list_add(struct tid_list *list, uint32_t tid);
void tid_list_release(struct pm *pm, struct tid_list *list);
void usage_add(struct init_rusage *to, const struct init_rusage *from);
int process_set_command(struct process *process, const void *data, size_t len);
/* Its record is being carried from one node to another: what happens to it is put off, and asked or done again afterwards. */
static inline bool process_frozen(const struct process *process) {
    return process->in_transit || process->state == PROCESS_ARRIVING;
}

/* ---- table.c ---- */
void pm_request(struct pm *pm, struct dvk_request *req);
void pm_cancelled(struct pm *pm, struct dvk_request *req);

/* Take over what was parked, to be asked again (pm_request) when the process has a place; *to is an initialised list. */
void pm_parked_take(struct pm *pm, struct process *process, struct list *to);
void pm_request_again(struct pm *pm, struct list *parked);

/* ---- main.c ---- */
int pm_create(struct vos *vos, struct pm **out);
/* It goes on when dvkd has told which slots are ours. 0 or negative error. */
int pm_start(struct pm *pm);
void pm_destroy(struct pm *pm);
/* Answer with up to three words; a message that wants no answer is released. */
void pm_answer(struct pm *pm, struct dvk_request *req, int status, uint64_t w0, uint64_t w1, uint64_t w2);
/* Answer with a prepared message; data lies in req->reply_data already. */
void pm_answer_message(struct pm *pm, struct dvk_request *req, const struct dvk_message *reply, const int *fds, unsigned fd_count);
/* Put a request aside; true, or false (answered -ENOMEM). */
bool pm_park(struct pm *pm, struct list *list, struct dvk_request *req);
struct dvk_request *pm_unpark(struct list *list); /* the first, or NULL */
/* A message to a server of this cell. */
int pm_call_local(struct pm *pm, uint32_t service, struct dvk_message *message, const void *data, size_t len, const int *fds,
                  unsigned fd_count, dvk_done *done, void *context);
/* What an asynchronous call keeps until its answer: a request to answer, a process to find again. Freed by the answer. */
struct pending {
    struct pm *pm;
    struct dvk_request *req;
    uint32_t pid;
    uint64_t serial;
    uint32_t a, b;
};
struct pending *pending_new(struct pm *pm, struct dvk_request *req, const struct process *process);
void fd_close(int *fd);
void pm_close_fds(const int *fds, unsigned count);
dvk_done pm_ignore_done; /* for calls whose answer does not matter */

/* ---- share.c ---- */
dvk_slots_fn share_event;
void share_want(struct pm *pm); /* ask for more slots, if there are few */
bool share_somebody_waits(const struct pm *pm);

/* ---- peers.c ---- */
void peers_start(struct pm *pm);
void peers_node_change(struct pm *pm, uint32_t node, bool up);
int peer_index(const struct pm *pm, uint32_t node); /* -1: none of the DC's */
bool peer_is_up(const struct pm *pm, uint32_t node);
bool peer_is_active(const struct pm *pm, uint32_t node); /* up, and its pm has joined */
/* Other nodes whose pm has joined and is up: their number; nodes gets their ids (room for VOS_MAX_NODES) or is NULL. */
unsigned peers_active(const struct pm *pm, uint32_t *nodes);
/* The node that keeps where pid runs. */
uint32_t peer_home(const struct pm *pm, uint32_t pid);
/* Where to send a message about pid that is not here; 0: nowhere, there is no such process as far as is known. */
uint32_t peer_route(struct pm *pm, uint32_t pid);
/* Send to node's pm. payload begins with struct pm_head, which is filled in (but hops). done may be NULL. On error done is not called. */
int peer_call(struct pm *pm, uint32_t node, uint32_t type, void *payload, size_t payload_len, const void *data, size_t len,
              dvk_done *done, void *context);
/* Ask every active peer; done is called for each answer. Returns how many were asked. */
unsigned peers_call_all(struct pm *pm, uint32_t type, void *payload, size_t payload_len, dvk_done *done, void *context);
/* Send a message about pid on to where that is, and its answer back to req; answers -ESRCH when that is not known. */
void peer_relay(struct pm *pm, uint32_t pid, struct dvk_request *req, uint32_t type, void *payload, size_t payload_len);
/* The same for a request of another pm that came here: counts hops. */
void peer_forward(struct pm *pm, uint32_t pid, struct dvk_request *req);
/* Answer another pm: with our load. */
void peer_answer(struct pm *pm, struct dvk_request *req, int status, uint64_t w0, uint64_t w1);
void peer_seen(struct pm *pm, const struct dvk_message *reply);
void peer_note_load(struct pm *pm, uint32_t node, uint32_t load);
/* The home learns where pid is; moves decides which news is newer. */
void peer_note_away(struct pm *pm, uint32_t pid, uint32_t node, uint32_t moves);
void peer_note_gone(struct pm *pm, uint32_t pid);
/* pid exists no more, anywhere: free its number or tell its home. */
void peer_release_pid(struct pm *pm, const struct process *process);
void peer_handle_join(struct pm *pm, struct dvk_request *req);
void peer_handle_moved(struct pm *pm, struct dvk_request *req);
void peer_handle_relate(struct pm *pm, struct dvk_request *req);
/* Sweep the set that the allocator wants next, and then serve those who wait for numbers. True when it has ended already, as it does when
 * there is nobody to ask. */
bool peers_sweep(struct pm *pm);
void pm_note_recent(struct pm *pm, const struct process *process);

/* ---- spare.c ---- */
typedef void spare_done(struct pm *pm, void *context, int status, struct spare *spare);
/* A fresh pid with its endpoint; done may be called at once, or later when there is one. It owns *spare's fds on status 0. */
void spare_take(struct pm *pm, spare_done *done, void *context);
/* One that was taken and is not needed; its fds too. */
void spare_return(struct pm *pm, struct spare *spare);
void spare_fill(struct pm *pm);
/* A spare's slot turned out to be in use elsewhere. */
void spare_discard(struct pm *pm, uint32_t slot);
void spare_stop(struct pm *pm);
void tids_serve(struct pm *pm);

/* ---- handlers of guests' requests: (pm, the process, request); they own the request ---- */
typedef void guest_handler(struct pm *pm, struct process *process, struct dvk_request *req);
guest_handler fork_handle, fork_handle_done, tids_handle, tid_handle_free;
guest_handler exec_handle_hello, exec_handle_image, exec_handle_started, exec_handle_place, exec_handle_exec, exec_handle_execed;
guest_handler exit_handle, wait_handle, signal_handle_kill, signal_handle_tgkill, signal_handle_queue;
guest_handler group_handle_getppid, group_handle_setpgid, group_handle_getpgid, group_handle_setsid, group_handle_getsid;
guest_handler ids_handle_set, ids_handle_groups, limits_handle_rusage, limits_handle_priority, limits_handle_sched;
guest_handler place_handle_nodes, limits_handle_rlimit, limits_handle_umask, wait_handle_ignore;

/* ---- fork.c ---- */
/* A forked child whose clone never happened. */
void fork_abandon(struct pm *pm, struct process *child);

/* ---- spawn.c: the zygote and new host processes ---- */
void spawn_handle_zygote(struct pm *pm, struct dvk_request *req);
/* Give it an endpoint of its own (state BINDING), then to the zygote. */
void spawn_bind(struct pm *pm, struct process *process);
/* It has an endpoint: to the zygote. */
void spawn_queue(struct pm *pm, struct process *process);

/* ---- exec.c, move.c, arrive.c ---- */
/* The image is complete: continue in a new host process here when the old one is gone. */
void exec_replace(struct pm *pm, struct process *process);
/* REPLACED, and the host process has ended with this status. */
void exec_husk_ended(struct pm *pm, struct process *process, int status, const struct init_rusage *usage);
/* Tell fs the credentials; done as for dvk_call. */
int exec_tell_fs(struct pm *pm, const struct process *process, dvk_done *done, void *context);
/* LEAVING for node `place_node`. exec_req is answered; without one the process has no host process yet. */
void move_start(struct pm *pm, struct process *process);
void arrive_handle_spawn(struct pm *pm, struct dvk_request *req);
/* The husk that an arriving process had to wait for has ended. */
void arrive_husk_gone(struct pm *pm, struct process *process);
void arrive_node_lost(struct pm *pm, uint32_t node);
/* The parent of an arriving process has ended. */
void arrive_orphaned(struct process *process);
/* A child has moved to `node`: news for its parent's entry here. */
void move_note_child(struct child *child, uint32_t node, uint32_t moves);
/* The same of a process's parent. */
void move_note_parent(struct process *process, uint32_t node, uint32_t moves);
/* Some process is not on its way any more: start those that waited for it. */
void move_go_on(struct pm *pm);
void move_go_on_soon(struct pm *pm); /* the same, from the event loop */
void arrive_go_on(struct pm *pm);

/* ---- exit.c ---- */
/* What cell init reports. */
void exit_host_state(struct pm *pm, uint32_t pid, int wait_status, const struct init_rusage *usage);
/* The process has ended: zombie, report. usage may be NULL. */
void exit_process(struct pm *pm, struct process *process, int status, const struct init_rusage *usage);
/* Tell its parent about a zombie, stop or continue (enum pm_child_kind). */
void exit_report(struct pm *pm, struct process *process, uint32_t kind, int status);
/* Zombie was waited for, or nobody will: forget it and free its pid. */
void exit_reap(struct pm *pm, struct process *process);
void exit_make_orphan(struct pm *pm, struct process *process);
void exit_handle_child_state(struct pm *pm, struct dvk_request *req);
/* Ask who and where the parent is, whose node was lost. */
void exit_find_parent(struct pm *pm, struct process *process);
/* Report what could not be reported while the parent `ppid` here was on its way elsewhere or here. */
void exit_reports_go_on(struct pm *pm, uint32_t ppid);
/* Is its parent on a node that was lost? Then look for it. May free the process. */
void exit_check_parent(struct pm *pm, struct process *process);
/* A node was lost (it is not active any more): see to all children and parents there. */
void exit_node_lost(struct pm *pm, uint32_t node);
/* The report that a child was killed with its node. */
void exit_fill_killed(const struct child *child, struct pm_s_child_state *state);
/* Children of one process that are on nodes that are not up: they were killed. */
void exit_check_children(struct pm *pm, struct process *process);

/* ---- wait.c ---- */
/* A report about a child of a process here. 1: reaped at once, 0: kept, -ECHILD. May free nothing but the child's entry. */
int wait_child_state(struct pm *pm, struct process *parent, const struct pm_s_child_state *state);
/* Answer waits that have nothing left to wait for. */
void wait_check(struct pm *pm, struct process *parent);
void wait_cancel(struct pm *pm, struct dvk_request *req);
/* The process is ending: answer all its waits. */
void wait_drop_all(struct pm *pm, struct process *process);

/* ---- signal.c ---- */
/* Deliver, or keep until the process can take it. Permission was checked. 0 or negative errno. */
int signal_send(struct pm *pm, struct process *process, uint32_t tid, int sig, const struct vos_siginfo_fields *fields);
/* The process can take signals now. */
void signal_flush(struct pm *pm, struct process *process);
/* A SIGKILL is among the kept ones. */
bool signal_kill_kept(const struct process *process);
/* To every member here; *matched and *permitted are added to. */
void signal_group_here(struct pm *pm, const struct pm_s_signal *ask, uint32_t *matched, uint32_t *permitted);
void signal_handle_remote(struct pm *pm, struct dvk_request *req);
void signal_handle_raise(struct pm *pm, struct dvk_request *req);
/* From dvkd: pid, or 0 for all. done(context, status). */
void signal_system(struct pm *pm, uint32_t pid, uint32_t pgid, int sig, void (*done)(void *context, int status), void *context);

/* ---- group.c ---- */
void group_handle_locate(struct pm *pm, struct dvk_request *req);
void group_handle_group(struct pm *pm, struct dvk_request *req);
/* 1 a member here in session sid, 2 in another session only, 0 none */
unsigned group_look_here(struct pm *pm, uint32_t pgid, uint32_t sid);
/* The process is ending: groups that this orphans and that have stopped members get SIGHUP and SIGCONT. */
void group_check_orphans(struct pm *pm, struct process *ending);

/* ---- limits.c ---- */
void limits_default(struct process *process);
int limits_answer(struct pm *pm, struct process *process, const struct pm_s_locate *ask, uint64_t *w0, uint64_t *w1);

/* ---- place.c ---- */
struct place_policy {
    enum { PLACE_LOCAL, PLACE_NODE, PLACE_SPREAD, PLACE_BALANCE } kind;
    uint32_t node;
};
/* "local", "spread", "balance" or "node=NAME" (a node of the DC). False: none of these. */
bool place_parse(const struct vos *vos, const char *text, struct place_policy *out);
/* The node where the next program goes; this one when there is none better. */
uint32_t place_choose(struct pm *pm, const struct place_policy *policy);
/* This node's load, measured at most every 200 ms. */
uint32_t place_load(struct pm *pm);

/* ---- list.c ---- */
void list_handle_info(struct pm *pm, struct dvk_request *req);
void list_handle_list(struct pm *pm, struct dvk_request *req);
size_t list_fill(struct pm *pm, uint32_t after, void *to, size_t cap, uint32_t *count, bool *more);

/* ---- control.c, ps.c ---- */
bool control_handle(struct pm *pm, const char *op, const struct dvk_event *event);
struct json_t;
void control_reply(struct pm *pm, uint64_t id, struct json_t *answer); /* takes answer over; NULL: no memory */
void control_error(struct pm *pm, uint64_t id, int error);
void ps_start(struct pm *pm, uint64_t id, bool all); /* answers request id */
/* A program that dvkd started: it runs (0), or could not be loaded (errno). */
void control_started(struct pm *pm, struct child *child, int error);
/* It has ended. */
void control_exited(struct pm *pm, struct child *child, int status);

#endif
