/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three pms against a model of what processes should see. Guests fork, exec (in place, afresh, on other nodes), wait, kill, stop and
 * exit at random, in an order that a seeded scheduler makes up; nodes are lost and come back. Checked all along: every child is
 * waited for exactly once and with the right status, ECHILD only when there is none, no pid is given out twice, kill of a
 * live process works; at the end: nobody waits for ever and nothing is left over.
 *
 * PM_MODEL_SEED=n runs from that seed on: it alone, or PM_MODEL_RUNS of them. PM_MODEL_LOSS=0 or 1: only without or with loss of
 * nodes. PM_MODEL_TRACE=1 tells what happens.
 */
#include "world.h"
#include "vos/image.h"
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define PIDS 4096
#define SLOT_LIMIT 448
#define MOST_GUESTS 60

enum doing {
    FREE, /* not waiting for an answer */
    FORKING,
    FORK_DONE,
    PLACING,
    EXECING, /* PM_EXEC is under way */
    BETWEEN, /* no host process: it will be cloned */
    LOADING,
    EXECED,
    WAITING,
    KILLING,
    OTHER,
};

struct guest {
    bool used, alive, reaped, orphan, uncertain, started, no_children;
    int node;
    dvk_endpoint endpoint, greeted;
    uint32_t pid, parent; /* parent 1: started by dvkd */
    uint32_t pgid;
    enum doing doing;
    int status;
    int step;           /* of LOADING */
    int32_t wait_pid;   /* of WAITING */
    uint32_t options;
    unsigned incarnation; /* no other process has the same, whatever its pid */
    unsigned kills;       /* asked of it */
    unsigned kills_over;  /* of these, the ones that may meet whoever gets the pid next */
    uint32_t victim;      /* of its kill that has no answer yet; 0: none */
    unsigned victim_incarnation;
    bool victim_lived;
    unsigned asked_at, gone_at; /* time of its last request, and of the first ESRCH for a kill of it; 0: none */
    bool husk[WORLD_NODES]; /* its old host process there has not been told to end yet */
};

static struct guest guests[PIDS];
static unsigned alive_count, forks, moves, told_exits, starts, current_seed, incarnations, now;
static bool draining, unsettled;

#define CHECK(condition, ...)                                                                                                  \
    do {                                                                                                                       \
        if (!(condition)) {                                                                                                    \
            printf("seed %u: ", current_seed);                                                                                 \
            printf(__VA_ARGS__);                                                                                               \
            printf("\n");                                                                                                      \
            fail();                                                                                                            \
        }                                                                                                                      \
    } while (0)

/* What the pms know of a pid, to explain a failure. */
static void show(uint32_t pid) {
    for (int i = 0; i < WORLD_NODES; i++) {
        struct slot_entry *entry = world_alive(i) ? pm_entry(world_pm(i), pid) : NULL;
        if (!entry)
            continue;
        printf("  node %d:", i);
        if (entry->process)
            printf(" record state %d ppid %u parent node %u moves %u kept %u parent_lost %d transit %d;", entry->process->state,
                   entry->process->ppid, entry->process->parent_node, entry->process->moves, entry->process->kept_count,
                   entry->process->parent_lost, entry->process->in_transit);
        if (entry->child)
            printf(" child of %u, node %u moves %u zombie %d;", entry->child->parent->pid, entry->child->node, entry->child->moves,
                   entry->child->zombie);
        printf(" husk %d away %u/%u host %d\n", !!entry->husk, entry->away_node, entry->away_moves, world_host_exists(i, pid));
    }
}

#define trace(...) (getenv("PM_MODEL_TRACE") ? (void)printf(__VA_ARGS__) : (void)0)

static void ask(struct guest *guest, enum doing doing, uint32_t type, uint64_t w0, uint64_t w1, uint64_t w2, const void *data, size_t len) {
    const uint64_t words[3] = {w0, w1, w2};
    guest->doing = doing;
    guest->asked_at = ++now;
    trace("%u asks %x %lx %lx\n", guest->pid, type, w0, w1);
    world_request(guest->node, guest->endpoint, type, words, 3, data, len);
}

/* ---- death ---- */

static void guest_died(struct guest *guest, int status) {
    if (!guest->alive)
        return;
    guest->alive = false;
    guest->status = status;
    guest->doing = FREE;
    alive_count--;
    trace("%u died %x\n", guest->pid, status);
    for (uint32_t pid = 0; pid < PIDS; pid++)
        if (guests[pid].used && guests[pid].parent == guest->pid)
            guests[pid].orphan = true;
}

/* Its host process ends. */
static void guest_end(struct guest *guest, int status) {
    world_host_state(guest->node, guest->pid, status);
    guest_died(guest, status);
}

static void signalled(uint32_t pid, int node, int sig) {
    struct guest *guest = &guests[pid];
    if (sig != SIGKILL)
        return;
    CHECK(guest->used && guest->node == node, "signal to %u on node %d where it is not", pid, node);
    if (guest->alive) {
        CHECK(guest->kills, "%u was killed by nobody", pid);
        guest_end(guest, SIGKILL);
    } else {
        guest->husk[node] = false;
        world_host_state(node, pid, SIGKILL);
    }
}

/* ---- what guests do ---- */

static void do_exec_image(struct guest *guest) {
    struct {
        struct vos_image_header header;
        char strings[16];
    } image = {.header = {.magic = VOS_IMAGE_MAGIC, .version = 1, .argc = 1, .string_bytes = 16}, .strings = "a\0a"};
    for (int i = 0; i < WORLD_NODES; i++)
        guest->uncertain = guest->uncertain || !world_alive(i); /* it may go where nobody is any more */
    ask(guest, EXECING, PM_EXEC, 0, sizeof(image), 0, &image, sizeof(image));
}

static void do_place(struct guest *guest) {
    static const char *const places[] = {"", "", "", "local", "node=n1", "node=n2", "node=n3", "nonsense"};
    const char *place = places[world_random(8)];
    ask(guest, PLACING, PM_PLACE, world_random(3) == 0 ? PM_PLACE_FRESH : 0, 0, 0, place, strlen(place) + 1);
}

static struct guest *random_guest(void) {
    for (int i = 0; i < 200; i++) {
        struct guest *guest = &guests[world_random(SLOT_LIMIT)];
        if (guest->used)
            return guest;
    }
    return NULL;
}

static void do_wait(struct guest *guest, int32_t pid, uint32_t options) {
    guest->wait_pid = pid;
    guest->options = options;
    ask(guest, WAITING, PM_WAIT, (uint64_t)(int64_t)pid, options, 0, NULL, 0);
}

static void do_random_wait(struct guest *guest) {
    static const uint32_t options[] = {WEXITED, WEXITED | WNOHANG, WEXITED | WUNTRACED | WNOHANG, WEXITED | WNOWAIT | WNOHANG,
                                       WEXITED | WNOHANG | WCONTINUED | WUNTRACED};
    int32_t pid = -1;
    uint32_t kind = world_random(5);
    if (kind == 0)
        pid = 0;
    for (uint32_t i = 0; i < PIDS && kind == 1; i++)
        if (guests[i].used && guests[i].parent == guest->pid && world_random(2))
            pid = (int32_t)i;
    struct guest *other = random_guest();
    if (kind == 2 && other)
        pid = -(int32_t)other->pgid;
    do_wait(guest, pid, options[world_random(5)]);
}

static void do_kill(struct guest *guest) {
    struct guest *victim = random_guest();
    if (!victim || victim->parent == 1)
        return;
    guest->victim = victim->pid;
    guest->victim_lived = victim->alive && !victim->uncertain && !unsettled; /* after a loss, homes must first be found anew */
    guest->victim_incarnation = victim->incarnation;
    victim->kills_over += !victim->alive || victim->uncertain || victim->kills;
    victim->kills++;
    ask(guest, KILLING, PM_KILL, victim->pid, SIGKILL, 0, NULL, 0);
}

static void guest_act(struct guest *guest) {
    uint32_t dice = world_random(100);
    if (draining) {
        if (guest->no_children)
            guest_end(guest, (int)world_random(200) << 8);
        else
            do_wait(guest, -1, WEXITED);
    } else if (dice < 25 && alive_count < MOST_GUESTS) {
        ask(guest, FORKING, PM_FORK, SIGCHLD, 0, 0, NULL, 0);
    } else if (dice < 45) {
        do_place(guest);
    } else if (dice < 70) {
        do_random_wait(guest);
    } else if (dice < 72) {
        do_kill(guest);
    } else if (dice < 76) {
        ask(guest, OTHER, PM_SETPGID, 0, world_random(2) ? 0 : guest->pgid, 0, NULL, 0);
    } else if (dice < 78) {
        world_host_state(guest->node, guest->pid, SIGSTOP << 8 | 0x7f);
        world_host_state(guest->node, guest->pid, 0xffff);
    } else if (dice < 80) {
        struct guest *other = random_guest();
        ask(guest, OTHER, PM_GETPGID, other ? other->pid : 0, 0, 0, NULL, 0);
    } else if (dice < 90 && guest->parent != 1) {
        guest_end(guest, (int)world_random(200) << 8);
    }
}

/* ---- answers ---- */

/* Killed between two host processes, or lost with a node on the way: it may be dead, and nobody is there to tell us. */
static bool unseen(const struct guest *guest) {
    return !guest->alive || (guest->doing == BETWEEN && (guest->kills || guest->uncertain));
}

/* How many kills of a process that had the pid before may meet the one that has it now. */
static unsigned kills_inherited(uint32_t pid) {
    unsigned kills = guests[pid].kills_over;
    for (uint32_t i = 0; i < PIDS; i++)
        kills += guests[i].used && guests[i].victim == pid;
    return kills;
}

static void forked(struct guest *guest, const struct dvk_message *reply) {
    if (reply->status < 0) {
        CHECK(reply->status == -EAGAIN, "fork: %d", reply->status);
        guest->doing = FREE;
        return;
    }
    uint32_t pid = (uint32_t)reply->payload.words[0];
    struct guest *child = &guests[pid];
    bool free = !child->used || child->reaped || child->orphan || unseen(&guests[child->parent]);
    CHECK(free && (!child->alive || unseen(child)), "pid %u given out twice", pid);
    guest_died(child, SIGKILL);
    for (uint32_t i = 0; i < PIDS; i++)
        CHECK(unseen(&guests[i]) || guests[i].pgid != pid, "pid %u is the group of %u", pid, i);
    if (world_random(20) == 0) { /* clone failed */
        ask(guest, FORK_DONE, PM_FORK_DONE, pid, EAGAIN, 0, NULL, 0);
        return;
    }
    *child = (struct guest){.used = true, .alive = true, .node = guest->node, .endpoint = world_bound(guest->node, pid), .pid = pid,
                            .parent = guest->pid, .pgid = guest->pgid, .incarnation = ++incarnations, .kills = kills_inherited(pid)};
    alive_count++;
    forks++;
    world_host_add(guest->node, pid);
    guest->no_children = false;
    trace("fork %u -> %u\n", guest->pid, pid);
    ask(guest, FORK_DONE, PM_FORK_DONE, pid, 0, 0, NULL, 0);
}

static void placed(struct guest *guest, const struct dvk_message *reply) {
    if (reply->status < 0) {
        CHECK(reply->status == -EHOSTDOWN, "place: %d", reply->status);
        guest->doing = FREE;
    } else if (reply->payload.words[0] == PM_IN_PLACE) {
        ask(guest, EXECED, PM_EXECED, 0, 0, 0, "x\0x", 4);
    } else {
        do_exec_image(guest);
    }
}

static void execed(struct guest *guest, const struct dvk_message *reply) {
    CHECK(reply->status == 0, "exec of %u: %d", guest->pid, reply->status);
    guest->doing = BETWEEN;
    if (world_host_exists(guest->node, guest->pid))
        world_host_state(guest->node, guest->pid, 0);
}

/* Groups change under way, so whether a child was in the group waited for is not checked. */
static bool child_matches(const struct guest *guest, const struct guest *child, bool certainly) {
    if (!child->used || child->parent != guest->pid || child->reaped || child->orphan)
        return false;
    if (guest->wait_pid > 0)
        return child->pid == (uint32_t)guest->wait_pid;
    return guest->wait_pid == -1 || !certainly;
}

static void waited(struct guest *guest, const struct dvk_message *reply) {
    guest->doing = FREE;
    if (reply->status == -EINTR)
        return;
    if (reply->status == -ECHILD) {
        for (uint32_t i = 0; i < PIDS; i++)
            if (child_matches(guest, &guests[i], true))
                show(i);
        for (uint32_t i = 0; i < PIDS; i++)
            CHECK(!child_matches(guest, &guests[i], true), "%u has child %u, but wait(%d) gave ECHILD", guest->pid, i, guest->wait_pid);
        guest->no_children = guest->wait_pid == -1;
        return;
    }
    CHECK(reply->status == 0, "wait: %d", reply->status);
    uint32_t pid = (uint32_t)reply->payload.words[0];
    int status = (int)reply->payload.words[1];
    if (pid == 0) {
        CHECK(guest->options & WNOHANG, "wait gave 0");
        return;
    }
    struct guest *child = &guests[pid];
    CHECK(child_matches(guest, child, false), "%u waited for %d and got %u, which is not its child (parent %u, reaped %d)", guest->pid,
          guest->wait_pid, pid, child->parent, child->reaped);
    if (WIFSTOPPED(status) || WIFCONTINUED(status)) {
        CHECK(guest->options & (WUNTRACED | WCONTINUED), "stop not asked for");
        return;
    }
    CHECK(!child->gone_at || child->gone_at > guest->asked_at, "%u can be waited for, but a kill of it gave ESRCH", pid);
    if (child->alive) {
        CHECK(status == SIGKILL && (child->kills || child->uncertain), "%u lives, but its parent was told %x", pid, status);
        if (child->doing == EXECING && world_host_exists(child->node, pid))
            child->husk[child->node] = true; /* it died after that host process; the answer to PM_EXEC is still to come there */
        for (int i = 0; i < WORLD_NODES; i++)
            CHECK(!world_alive(i) || !world_host_exists(i, pid) || child->husk[i], "%u was reported dead while it runs", pid);
        guest_died(child, status);
    }
    CHECK(child->status == status || (child->uncertain && status == SIGKILL), "%u ended with %x, its parent was told %x", pid, child->status, status);
    if (!(guest->options & WNOWAIT))
        child->reaped = true;
}

static void loaded(struct guest *guest, const struct dvk_message *reply) {
    CHECK(reply->status == 0, "loading: %d", reply->status);
    switch (guest->step++) {
    case 0:
        CHECK(reply->payload.words[0] == guest->pid, "told another pid");
        CHECK(reply->payload.words[9] > 0, "no image");
        ask(guest, LOADING, PM_IMAGE, 0, 0, 0, NULL, 0);
        break;
    case 1: {
        CHECK(reply->data_len >= sizeof(struct vos_image_header), "no image");
        ask(guest, LOADING, PM_STARTED, 0, 0, 0, "x\0x", 4);
        break;
    }
    default:
        guest->doing = FREE;
    }
}

/* ESRCH is right only for a process that has ended and was waited for. One that another kill met between two host processes ended
 * there, which nobody tells us; but then it must never be heard of again. */
static void kill_answered(struct guest *guest, int status) {
    struct guest *victim = &guests[guest->victim];
    bool same = victim->incarnation == guest->victim_incarnation;
    guest->victim = 0;
    guest->doing = FREE;
    if (status == 0)
        return;
    bool ended = !same || !victim->alive || ((victim->doing == EXECING || victim->doing == BETWEEN) && victim->kills > 1);
    if (!ended && guest->victim_lived && !unsettled)
        show(victim->pid);
    CHECK(status == -ESRCH && (ended || !guest->victim_lived || unsettled), "kill of live %u: %d", victim->pid, status);
    if (same && ended && !victim->gone_at && !victim->uncertain && !unsettled) {
        victim->gone_at = ++now;
        if (getenv("PM_MODEL_TRACE"))
            show(victim->pid);
    }
}

static void answered(dvk_endpoint endpoint, int node, const struct dvk_message *reply, const void *data) {
    uint32_t slot = dvk_endpoint_slot(endpoint);
    struct guest *guest = &guests[slot];
    if (guest->husk[node] && (!guest->alive || guest->endpoint != endpoint)) {
        guest->husk[node] = false;
        world_host_state(node, slot, 0);
        return;
    }
    if (!guest->alive || guest->endpoint != endpoint || guest->node != node)
        return; /* it died meanwhile */
    trace("%u answered %d %lx %lx\n", guest->pid, reply->status, reply->payload.words[0], reply->payload.words[1]);
    switch (guest->doing) {
    case FORKING:
        forked(guest, reply);
        break;
    case PLACING:
        placed(guest, reply);
        break;
    case EXECING:
        execed(guest, reply);
        break;
    case WAITING:
        waited(guest, reply);
        break;
    case LOADING:
        loaded(guest, reply);
        break;
    case KILLING:
        kill_answered(guest, reply->status);
        break;
    case FORK_DONE:
    case EXECED:
    case OTHER:
        guest->doing = FREE;
        break;
    case FREE:
    case BETWEEN:
        CHECK(false, "%u got an answer it did not ask for", guest->pid);
    }
    if (guest->alive && guest->doing == FREE && guest->used) {
        struct process *process = process_here(world_pm(guest->node), guest->pid);
        if (process)
            guest->pgid = process->pgid;
    }
}

static void cloned(uint32_t pid, int node, dvk_endpoint endpoint) {
    struct guest *guest = &guests[pid];
    trace("%u cloned on node %d\n", pid, node);
    if (!guest->alive && (guest->kills || guest->uncertain) && guest->status == SIGKILL)
        return; /* the kill overtook the clone, or the parent was told first: pm sees to it */
    if (guest->doing == EXECING && guest->node != node) { /* the new place is quicker than the old one's answer */
        guest->husk[guest->node] = true;
        guest->doing = BETWEEN;
    }
    if (!guest->alive)
        show(pid);
    CHECK(guest->alive, "%u runs again though it was dead", pid);
    CHECK(!guest->gone_at, "%u runs again though a kill of it gave ESRCH", pid);
    CHECK(guest->doing == BETWEEN, "%u was cloned while it ran: doing %d step %d, on %d", pid, guest->doing, guest->step, node);
    for (int i = 0; i < WORLD_NODES; i++)
        CHECK(i == node || !world_alive(i) || !world_host_exists(i, pid) || guest->husk[i], "%u runs on two nodes", pid);
    moves += guest->node != node;
    guest->node = node;
    guest->endpoint = endpoint;
    guest->step = 0;
    guest->uncertain = false;
    guest->doing = LOADING;
}

static void told(int node, const char *text) {
    if (strstr(text, "exited"))
        told_exits++;
}

/* ---- a run ---- */

static void start_program(int node) {
    world_control(node, 5, "{\"op\":\"start\",\"argv\":[\"/bin/x\"],\"env\":[\"A=b\"],\"tty\":false}", 3);
    starts++;
}

/* What pm made of a start: the guest that will be cloned. */
static void adopt_started(void) {
    for (int i = 0; i < WORLD_NODES; i++) {
        struct process *process;
        if (!world_alive(i))
            continue;
        list_for_each(process, &world_pm(i)->processes, link) {
            struct guest *guest = &guests[process->pid];
            if (process->ppid != 1 || process->state != PROCESS_BINDING || guest->used)
                continue;
            *guest = (struct guest){.used = true, .alive = true, .started = true, .node = i, .pid = process->pid, .parent = 1,
                                    .pgid = process->pid, .doing = BETWEEN, .incarnation = ++incarnations};
            alive_count++;
        }
    }
}

static void node_lost(int node) {
    trace("node %d lost\n", node);
    unsettled = true;
    world_kill_node(node);
    for (uint32_t pid = 0; pid < PIDS; pid++) {
        struct guest *guest = &guests[pid];
        guest->husk[node] = false;
        if (!guest->alive) { /* nobody may have heard how it ended */
            guest->uncertain = guest->uncertain || guest->node == node;
            continue;
        }
        if (guest->doing == EXECING || guest->doing == BETWEEN) {
            guest->uncertain = true;
            if (guest->node == node)
                guest->doing = BETWEEN;
        } else if (guest->node == node) {
            guest->uncertain = true; /* only its parent's pm knows of it from now on: kill may not find it */
            guest_died(guest, SIGKILL);
        }
    }
}

static struct guest *free_guest(void) {
    uint32_t from = world_random(PIDS);
    for (uint32_t i = 0; i < PIDS; i++) {
        struct guest *guest = &guests[(from + i) % PIDS];
        if (!guest->alive)
            continue;
        if (guest->doing == LOADING && guest->step == 0) { /* its first words */
            guest->step = 0;
            return guest;
        }
        if (guest->doing == FREE)
            return guest;
    }
    return NULL;
}

static void guest_turn(void) {
    struct guest *guest = free_guest();
    if (!guest)
        return;
    if (guest->doing == LOADING) {
        if (guest->greeted == guest->endpoint)
            return;
        guest->greeted = guest->endpoint;
        ask(guest, LOADING, PM_HELLO, 0, 0, 0, NULL, 0);
        return;
    }
    guest_act(guest);
}

static void cancel_some(void) {
    for (uint32_t pid = 0; pid < PIDS; pid++)
        if (guests[pid].alive && guests[pid].doing == WAITING && !draining && world_random(10) == 0)
            world_cancel(guests[pid].node, guests[pid].endpoint);
}

static void bury_the_unseen(void) {
    for (uint32_t pid = 0; pid < PIDS; pid++)
        if (unseen(&guests[pid]))
            guest_died(&guests[pid], SIGKILL);
}

static void finish(void) {
    draining = true;
    for (unsigned i = 0; i < 400000; i++) {
        adopt_started();
        bool acted = world_random(2) && free_guest();
        if (acted)
            guest_turn();
        else if (!world_step() && !free_guest())
            break;
    }
    bury_the_unseen();
    for (uint32_t pid = 0; pid < PIDS; pid++) {
        if (guests[pid].alive) {
            printf("%u lives, doing %d:\n", pid, guests[pid].doing);
            show(pid);
        }
    }
    for (uint32_t pid = 0; pid < PIDS; pid++) {
        const struct guest *guest = &guests[pid];
        {
            CHECK(!guest->alive, "%u never ended: doing %d on node %d, parent %u, wait %d", pid, guest->doing, guest->node, guest->parent,
                  guest->wait_pid);
        }
        if (guest->used && !guest->orphan && !guest->started)
            CHECK(guest->reaped, "%u was never waited for by %u", pid, guest->parent);
    }
}

static void run(uint32_t seed, bool with_loss) {
    static const struct world_hooks hooks = {answered, cloned, signalled, told};
    memset(guests, 0, sizeof(guests));
    current_seed = seed;
    alive_count = told_exits = starts = incarnations = now = 0;
    draining = false;
    world_start(seed, SLOT_LIMIT, seed % 3 ? "spread" : "balance", &hooks);
    start_program(0);
    int lost = -1;
    unsigned lost_at = 0;
    for (unsigned i = 0; i < 3000; i++) {
        adopt_started();
        if (i == 200)
            start_program(1);
        if (world_random(3) == 0)
            guest_turn();
        else
            world_step();
        unsettled = lost > 0 && i < lost_at + 1000;
        if (world_random(50) == 0)
            cancel_some();
        if (with_loss && lost < 0 && i > 600 && world_random(400) == 0)
            node_lost(lost = 1 + (int)world_random(2)), lost_at = i;
        if (lost > 0 && !world_alive(lost) && i > 2000 && seed % 2) {
            bool all_know = true;
            for (int k = 0; k < WORLD_NODES; k++)
                all_know = all_know && (k == lost || !world_pm(k)->vos->nodes[lost].up);
            if (all_know)
                world_revive_node(lost);
        }
    }
    finish();
    world_settle(100000);
    if (!with_loss)
        CHECK(told_exits == starts, "dvkd heard of %u ends of %u", told_exits, starts);
    for (uint32_t pid = 0; pid < PIDS; pid++) {
        for (int i = 0; i < WORLD_NODES; i++) {
            struct slot_entry *entry = world_alive(i) ? pm_entry(world_pm(i), pid) : NULL;
            if ((entry && (entry->process || entry->child || entry->husk)) || (world_alive(i) && world_host_exists(i, pid)))
                show(pid);
            CHECK(!entry || (!entry->process && !entry->child && !entry->husk), "%u is left over on node %d", pid, i);
            CHECK(!world_alive(i) || !world_host_exists(i, pid), "%u still runs on node %d", pid, i);
        }
    }
    world_stop();
}

static bool asked_for(bool with_loss) {
    const char *loss = getenv("PM_MODEL_LOSS");
    return !loss || with_loss == (atoi(loss) != 0);
}

static void run_seeds(bool with_loss, uint32_t count) {
    const char *first = getenv("PM_MODEL_SEED"), *runs = getenv("PM_MODEL_RUNS");
    uint32_t from = first ? (uint32_t)strtoul(first, NULL, 10) : 0;
    if (first || runs)
        count = runs ? (uint32_t)strtoul(runs, NULL, 10) : 1;
    unsigned donations = 0;
    forks = moves = 0;
    for (uint32_t i = 0; i < count; i++)
        run(from + i, with_loss), donations += world_donations();
    static const uint32_t once_failed[] = {10131, 10212, 10418, 20194, 20235, 30131, 212, 10274, 20402, 20462, 492, 40403, 50021,
                                           900068, 900337, 900569, 910214, 910331, 931110, 910074, 901382, 3105};
    for (size_t i = 0; i < sizeof(once_failed) / sizeof(*once_failed) && !first && !runs; i++)
        run(once_failed[i], with_loss);
    if (count < 10)
        return; /* too few for an average */
    assert_true(forks > count * 20); /* the runs did something */
    assert_true(moves > count * 10);
    assert_true(donations > count);
}

static void test_without_loss(void **state) {
    if (!asked_for(false))
        skip();
    run_seeds(false, 60);
}

/* In a child, which ends without looking for leaks: what a lost pm held goes with its memory, which is ours here. */
static void test_with_loss(void **state) {
    if (!asked_for(true))
        skip();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        run_seeds(true, 120);
        fflush(NULL);
        _exit(0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}


int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_without_loss), cmocka_unit_test(test_with_loss)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
