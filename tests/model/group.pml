/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Three nodes, the group that orders their messages, and the replica of the configuration upon it. A model (slots.pml,
 * places.pml) includes this and gives what is replicated and what is done with it, by the inlines named on_*.
 *
 * The group keeps CPG's promises and no more, as tests/unit/dvkd/played_group.h does: the members of a group get the same messages
 * and views in the same order; what was sent and not ordered may be ordered in a later view; who is cut off may see his own
 * last messages alone. The replica is src/dvkd/replica.c. Each step here is one call into it:
 *
 *   step            stands for
 *   view_come       replica_view, and with it start_sync or go_alone
 *   start_come      deliver_start, promise
 *   hello_come      deliver_hello, deliver_refusal, check_sync; and send_snapshot with deliver_snapshot: see below
 *   install         finish_sync
 *   order           CPG puts a sender's oldest message into the order of its group
 *   cut, heal       the network parts one node from the others, and back
 *   crash, restart  dvkd ends (only what is written is kept), and another begins
 *
 *   deliver, late   a view of a minority that is seen when the network is well again, and quorum as it is then
 *
 * What differs: a hello carries the state itself, so no snapshot follows. That is the same but for the time: between hellos and
 * snapshot nothing is applied, and what comes between makes the round void in either. When all have written what was applied
 * (check_confirmed) is left open: a change is confirmed at any time after it was applied here. So no message
 * "applied" and no "resync". Nobody hangs, so nobody is put out ("exclude"). Writing to the disk and what follows is one step, as nothing
 * is sent before it is written.
 */
#define N 3
#define EVERYBODY 7
#define bit(n) (1 << (n))
#define has(nodes, n) (((nodes) >> (n)) & 1)
#define size_of(nodes) (has(nodes, 0) + has(nodes, 1) + has(nodes, 2))
#define is_quorum(nodes) (size_of(nodes) >= 2)
#define lowest(nodes) (has(nodes, 0) -> 0 : (has(nodes, 1) -> 1 : 2))
/* the process ids of some nodes: two bits each, one higher with each restart */
#define pids_of(nodes) (pids & ((has(nodes, 0) * 3) | (has(nodes, 1) * 12) | (has(nodes, 2) * 48)))

/* Guards that a mutant takes out: with -DMUTANT_x the search must find what then goes wrong. */
#ifdef MUTANT_quorum
#define GUARD_QUORUM(ok) true
#else
#define GUARD_QUORUM(ok) (ok)
#endif
#ifdef MUTANT_promise
#define GUARD_PROMISE(accepted) ACCEPTED
#else
#define GUARD_PROMISE(accepted) accepted
#endif
#ifdef MUTANT_left_behind
#define GUARD_LEFT_BEHIND(left) false
#else
#define GUARD_LEFT_BEHIND(left) (left)
#endif

#define ALONE 0
#define SYNCING 1
#define SYNCED 2

mtype = { VIEW, START, HELLO, CHANGE, CAST }
/*
 *           a                b       c               d
 * VIEW      members          pids
 * START     members          pids    round           view to be
 * HELLO     round            view    epoch           promised, accepted   with the sender's state
 * CHANGE    view when sent   what    of the model
 * CAST      view when sent   what    of the model
 */
#define ACCEPTED 128
#define HELLO_BIT 64 /* of the model: on_hello_bit */
#define PROMISED_MASK 63

/* ---- the group ---- */

byte running = EVERYBODY, cut_off = 0, pids = 0; /* masks */
byte failures = FAILURES;                        /* still to come */
chan inbox[N] = [INBOX] of { mtype, byte, byte, byte, byte, byte, STATE };
chan outbox[N] = [OUTBOX] of { mtype, byte, byte, byte, byte, byte, STATE };

#define group_of(n) (has(cut_off, n) -> bit(n) : (running & ~cut_off))

/* ---- the replica ---- */

byte state[N], members[N], member_pids[N], up[N];
byte told_quorum;                            /* nodes: what port.quorum said last */
byte view[N], epoch[N], promised[N];         /* written */
STATE config[N];                             /* written: what is replicated */
byte round[N], round_view[N], greeted[N];    /* SYNCING */
byte best_view[N], best_epoch[N], best_from[N]; /* the newest that hellos told */
STATE best_config[N];
byte last_round;

/* of one step only: not part of any state */
hidden byte n, i, j, what, some, found, late, from, a, b, c, d;
hidden STATE content;
hidden mtype type;

inline send(ty, x1, x2, x3, x4, x5) { outbox[n]!ty, n, x1, x2, x3, x4, x5 }

/* The group has changed for these: they get the view, by the queue by which messages come. */
inline regroup(whom) {
    i = 0;
    do
    :: i < N ->
        if
        :: has(whom, i) && has(running, i) ->
            a = group_of(i);
            b = pids_of(a);
            inbox[i]!VIEW, i, a, b, 0, 0, 0
        :: else
        fi;
        i++
    :: else -> break
    od
}

inline order_to(sender, group) {
    outbox[sender]?type, from, a, b, c, d, content;
    j = 0;
    do
    :: j < N ->
        if
        :: has(group, j) -> inbox[j]!type, from, a, b, c, d, content
        :: else
        fi;
        j++
    :: else -> break
    od
}

inline order() {
    some = group_of(n);
    order_to(n, some)
}

/* n is parted from the others. how & 1: what it has sent it sees alone, in the view that ends; how & 2: so do the others. */
inline cut(how) {
    some = group_of(n) & ~bit(n);
    what = some;
    i = 0;
    do
    :: i < N ->
        do
        :: (how & 1) && i == n && len(outbox[i]) > 0 -> order_to(i, bit(n))
        :: (how & 2) && has(some, i) && len(outbox[i]) > 0 -> order_to(i, some)
        :: else -> break
        od;
        i++
    :: else -> break
    od;
    cut_off = cut_off | bit(n);
    failures--;
    if
    :: what != 0 ->
        what = what | bit(n);
        regroup(what)
    :: else
    fi
}

inline heal() {
    cut_off = cut_off & ~bit(n);
    what = group_of(n);
    if
    :: what != bit(n) -> regroup(what)
    :: else
    fi
}

inline forget_round() {
    round[n] = 0;
    greeted[n] = 0;
    best_view[n] = 0;
    best_epoch[n] = 0;
    best_from[n] = 0;
    best_config[n] = 0;
    on_round_forgotten()
}

inline crash() {
    do
    :: len(inbox[n]) > 0 -> inbox[n]?type, from, a, b, c, d, content
    :: len(outbox[n]) > 0 -> outbox[n]?type, from, a, b, c, d, content
    :: else -> break
    od;
    what = group_of(n);
    running = running & ~bit(n);
    state[n] = ALONE;
    members[n] = 0;
    member_pids[n] = 0;
    up[n] = 0;
    told_quorum = told_quorum & ~bit(n);
    round_view[n] = 0;
    forget_round();
    failures--;
    regroup(what);
    on_crash()
}

inline restart() {
    running = running | bit(n);
    pids = (pids & ~(3 << (2 * n))) | ((((pids >> (2 * n)) + 1) & 3) << (2 * n));
    what = group_of(n);
    regroup(what)
}

/* ---- views ---- */

inline tell_quorum(quorate) {
    if
    :: has(told_quorum, n) != quorate ->
        told_quorum = (told_quorum & ~bit(n)) | (quorate << n);
        if
        :: !(quorate) -> on_quorum_lost()
        :: else
        fi
    :: else
    fi
}

/* The lowest member opens a round. */
inline send_start() {
    if
    :: n == lowest(members[n]) ->
        last_round++;
        some = (promised[n] > view[n] -> promised[n] : view[n]);
        send(START, members[n], member_pids[n], last_round, some + 1, 0)
    :: else
    fi
}

inline view_come() {
    members[n] = a;
    member_pids[n] = b;
    up[n] = up[n] & a;
    forget_round();
    round_view[n] = 0;
    if
    :: GUARD_QUORUM(is_quorum(a) || late) -> /* late: what the group says of quorum is newer than this view */
        state[n] = SYNCING;
        send_start()
    :: else ->
        state[n] = ALONE;
        up[n] = 0;
        tell_quorum(0)
    fi
}

/* accepted: the promise was made now */
inline promise(number, accepted) {
    if
    :: number > promised[n] && number > view[n] ->
        promised[n] = number;
        accepted = ACCEPTED
    :: else -> accepted = 0
    fi
}

#define is_start_of_now (state[n] == SYNCING && round[n] == 0 && from == lowest(members[n]) && a == members[n] && b == member_pids[n])

inline start_come() {
    if
    :: is_start_of_now ->
        round[n] = c;
        round_view[n] = d;
        promise(d, what);
        send(HELLO, c, view[n], epoch[n], promised[n] | GUARD_PROMISE(what) | on_hello_bit, config[n])
    :: else
    fi
}

#define better (b > best_view[n] || (b == best_view[n] && (c > best_epoch[n] || \
                (c == best_epoch[n] && content != best_config[n] && from < best_from[n]))))

/* A member has promised a higher view: the round is void for all. */
inline refusal_come() {
    forget_round();
    some = d & PROMISED_MASK;
    promise(some, what);
    send_start()
}

inline greeting_come() {
    if
    :: greeted[n] == 0 || better ->
        best_view[n] = b;
        best_epoch[n] = c;
        best_from[n] = from;
        best_config[n] = content
    :: else
    fi;
    greeted[n] = greeted[n] | bit(from);
    on_greeting();
    if
    :: greeted[n] == members[n] ->
        what = view[n] != best_view[n] || epoch[n] != best_epoch[n] || config[n] != best_config[n]; /* ours is replaced */
        if
        :: GUARD_LEFT_BEHIND(best_view[n] > view[n]) -> tell_quorum(0)
        :: else
        fi;
        on_agreed();
        epoch[n] = best_epoch[n];
        config[n] = best_config[n];
        install()
    :: else
    fi
}

#define is_hello_of_now (state[n] == SYNCING && round[n] != 0 && a == round[n])

inline hello_come() {
    if
    :: is_hello_of_now ->
        if
        :: d >= ACCEPTED -> greeting_come()
        :: else -> refusal_come()
        fi
    :: else
    fi
}

/* All have the same state. what: ours was another before. */
inline install() {
    view[n] = round_view[n];
    epoch[n]++;
    on_survive(); /* what lost nodes had goes to the members */
    forget_round();
    round_view[n] = 0;
    state[n] = SYNCED;
    up[n] = members[n];
    tell_quorum(1);
    on_installed(); /* all may have changed; then what was proposed is sent again, or ends in doubt when `what` */
}

/* The message is of this view: else it is void. */
#define is_valid (state[n] == SYNCED && a == view[n])

inline deliver() {
    inbox[n]?type, from, a, b, c, d, content;
    if
    :: type == VIEW -> view_come()
    :: type == START -> start_come()
    :: type == HELLO -> hello_come()
    :: type == CHANGE && is_valid ->
        assert(is_quorum(members[n])); /* a minority changes nothing */
        on_change()
    :: type == CAST && is_valid -> on_cast()
    :: else
    fi
}

/*
 * Fewer states: what a node would be given next is given to it at once where that changes nothing that others see and nothing
 * that this node does meanwhile: what is void or to another; a hello that is not the last of its round; a view while it
 * is in none and has nothing under way. When it happens then makes no difference.
 */
#define is_last_hello (d < ACCEPTED || (greeted[n] | bit(from)) == members[n])
#define is_trivial_view (state[n] != SYNCED && !has(told_quorum, n) && has_nothing_proposed(n))

inline look() {
    inbox[n]?<type, from, a, b, c, d, content>;
    if
    :: type == VIEW -> some = is_trivial_view
    :: type == START -> some = !is_start_of_now
    :: type == HELLO -> some = !is_hello_of_now || !is_last_hello
    :: type == CHANGE -> some = !is_valid
    :: else -> some = !is_valid || !is_addressed
    fi
}

inline find_trivial() {
    found = false;
    n = 0;
    do
    :: n < N && !found ->
        if
        :: has(running, n) && len(inbox[n]) > 0 ->
            look();
            found = some
        :: else
        fi;
        n = (found -> n : n + 1)
    :: else -> break
    od
}

/* found: n is to be given its next; then all that is trivial */
inline deliver_all() {
    do
    :: found -> deliver(); found = false; late = false
    :: else ->
        find_trivial();
        if
        :: !found -> break
        :: else
        fi
    od
}

/* Two that are in the same view: of the same members, and where they are equally far, of the same state; but for one that has
 * been parted and has not seen it yet: it may have seen its own last messages alone. */
#define together(x, y) (state[x] == SYNCED && state[y] == SYNCED && view[x] == view[y])
#define is_parted(x) (inbox[x]??[VIEW])
#define agree(x, y) (!together(x, y) || \
    (members[x] == members[y] && (epoch[x] != epoch[y] || config[x] == config[y] || is_parted(x) || is_parted(y))))

#define nothing_under_way (len(inbox[0]) + len(inbox[1]) + len(inbox[2]) + len(outbox[0]) + len(outbox[1]) + len(outbox[2]) == 0)
#define all_well (running == EVERYBODY && cut_off == 0)
/* When nothing moves any more, a quorum is in one view and who is none is alone. */
#define has_settled(x) (!has(running, x) || state[x] == (is_quorum(group_of(x)) -> SYNCED : ALONE))
