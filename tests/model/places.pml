/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One endpoint that moves between three nodes: src/dvkd/place_table.c, config_places.c and places.c upon group.pml, with a client
 * that sends to it. A process on the first node has it bound; one on each other node is a spare.
 *
 *   step              stands for
 *   on_change         config_place: place_table_start, _commit, _rollback, _drop, _gone
 *   on_survive        config_places_survive, place_table_survive
 *   look_at_table     places_changed: see_instance, see_unknown, see_missing, move_away, freeze
 *   confirm           places_confirmed: broker_place_taken
 *   propose_move      DVK_BROKER_MIGRATE by the process that has the endpoint; step_done
 *   on_quorum_lost    places_quorum; dvkd unbinds its programs
 *   kill              the process ends: places_unbound, places_client_gone
 *   route, arrive     libdvk finds the way, CONNECT, a message comes into the ring of a place
 *   accept, answer    dvk_receive, dvk_reply
 *   bounce            what is in the ring of a place that the endpoint has left goes back to its source's libdvk; what was accepted
 *                     goes on as resumed; notifications' bits go from dvkd to dvkd
 *
 * What differs: a table of one endpoint; at most one process of it on a node, so an instance is its node as long as the node has
 * its first incarnation (lives). Adding spares is not in it, nor the order of one source's messages. The revision of a place is
 * the epoch. A promotion is confirmed when each member has written the change (check_confirmed), as the group's state is known
 * to this model, not by messages "applied".
 *
 * Bounds: MOVES (starts), MESSAGES (requests, and one notification if NOTIFY), KILLS (of processes), FAILURES (of nodes and the
 * network), KIND1, KIND2 (what the spares are: 1 backup, 2 replica), CLIENT (its node).
 */
#ifndef MOVES
#define MOVES 1
#endif
#ifndef MESSAGES
#define MESSAGES 1
#endif
#ifndef NOTIFY
#define NOTIFY 0
#endif
#ifndef KILLS
#define KILLS 0
#endif
#ifndef FAILURES
#define FAILURES 0
#endif
#ifndef KIND1
#define KIND1 1
#endif
#ifndef KIND2
#define KIND2 2
#endif
#ifndef CLIENT
#define CLIENT 2
#endif
#ifndef LAG
#define LAG 5
#endif
#define INBOX 12
#define OUTBOX 7
#define STATE int
#define ALL_MESSAGES (MESSAGES + NOTIFY)
#if ALL_MESSAGES > 0
#define ROOM ALL_MESSAGES
#else
#define ROOM 1 /* an array of none is no array */
#endif

/* Guards that a mutant takes out; more are in group.pml. */
#ifdef MUTANT_stale
#define GUARD_STALE(ok) true
#else
#define GUARD_STALE(ok) (ok)
#endif
#ifdef MUTANT_confirmed
#define GUARD_CONFIRMED(ok) true
#else
#define GUARD_CONFIRMED(ok) (ok)
#endif
#ifdef MUTANT_frozen
#define GUARD_FROZEN(frozen) false
#else
#define GUARD_FROZEN(frozen) (frozen)
#endif
#ifdef MUTANT_known
#define GUARD_KNOWN(ok) true
#else
#define GUARD_KNOWN(ok) (ok)
#endif
#ifdef MUTANT_survive
#define GUARD_SURVIVE(lost) false
#else
#define GUARD_SURVIVE(lost) (lost)
#endif
#ifdef MUTANT_lost_target
#define GUARD_LOST_TARGET(lost) false
#else
#define GUARD_LOST_TARGET(lost) (lost)
#endif
#ifdef MUTANT_backup
#define GUARD_REPLICA(ok) true
#else
#define GUARD_REPLICA(ok) (ok)
#endif
#ifdef MUTANT_moving
#define GUARD_MOVING(ok) true
#else
#define GUARD_MOVING(ok) (ok)
#endif
#ifdef MUTANT_resumed
#define GUARD_RESUMED(accepted) false
#else
#define GUARD_RESUMED(accepted) (accepted)
#endif
#ifdef MUTANT_carried
#define GUARD_CARRIED(ok) false
#else
#define GUARD_CARRIED(ok) (ok)
#endif
#ifdef MUTANT_gone
#define GUARD_GONE(ok) false
#else
#define GUARD_GONE(ok) (ok)
#endif

#define has_nothing_proposed(x) (step_of[x] == 0 && ends_of[x] == 0)
#define is_addressed false /* no casts here */
/* A hello tells the incarnation: whether it is the first still. */
#define on_hello_bit (has(lives, n) * HELLO_BIT)

#include "group.pml"

inline on_greeting() {
    if
    :: d & HELLO_BIT -> alive_in[n] = alive_in[n] | bit(from)
    :: else
    fi
}

inline on_round_forgotten() { alive_in[n] = 0 }
inline on_cast() { skip }

byte lives = 7;   /* mask: nodes of their first incarnation */
byte alive_in[3]; /* SYNCING: those that said so */

/*
 * The entry: primary's node (2 bits; NOBODY: there is none), moving (1), to (2), each node's kind of spare (2 each: 0: none), which
 * of two spares is the older (1: the one with the higher id), revision of the primary (8).
 */
#define NOBODY 3
#define primary_of(table) ((table) & 3)
#define is_moving(table) (((table) >> 2) & 1)
#define target_of(table) (((table) >> 3) & 3)
#define kind_of(table, x) (((table) >> (5 + 2 * (x))) & 3)
#define revision_of(table) (((table) >> 11) & 255)
#define settled(table) ((table) & ~(7 << 2))
#define moving_to(table, x) (settled(table) | 4 | ((x) << 3))
#define without_spare(table, x) ((table) & ~(3 << (5 + 2 * (x))))
#define promoted(table, x, revision) ((without_spare(settled(table), x) & ~(3 | (255 << 11))) | (x) | ((revision) << 11))
#define no_entry NOBODY

/* changes */
#define START_MOVE 1
#define COMMIT 2
#define ROLLBACK 3
#define DROP 4
#define GONE 5

/* role, of an instance here: as in places.c; 0: none */
#define SPARE 1
#define PROMOTING 2
#define PRIMARY 3

byte role[N], rev[N], left[N]; /* left: the revision with which it moved away, if it did */
byte bound = 1, frozen = 0;    /* masks */
byte process = EVERYBODY;      /* mask: nodes whose process lives */
byte step_of[N], step_view[N], step_to[N]; /* a step that is under way: START_MOVE... */
byte ends_of[N];               /* mask of bit(DROP - DROP), bit(GONE - DROP): proposals that an instance is no more */
byte last_view[N], last_epoch[N]; /* how far it was when it went from that view to another */
byte moves = MOVES, kills = KILLS;
bool harmed, too_late;                  /* a process, a node or the network has failed */

/* messages */
#define HERE 0     /* at its source: to be sent, or again */
#define FLYING 1
#define QUEUED 2   /* in the ring of a place */
#define ACCEPTED_THERE 3
#define HANDED_ON 4 /* accepted by an earlier place: on its way to the next as resumed; or a notification that dvkd carries */
#define ANSWERED 5
#define FAILED 6

byte where[ROOM], at[ROOM], known[ROOM], handled[ROOM];

#define is_notification(m) (NOTIFY && (m) == MESSAGES)
#define is_over(m) (where[m] == ANSWERED || where[m] == FAILED)

/* ---- the table ---- */

inline primary_lost() {
    /* the oldest replica: spares were added in the order of their nodes */
    i = 0;
    do
    :: i < N && !(kind_of(config[n], i) > 0 && GUARD_REPLICA(kind_of(config[n], i) == 2)) -> i++
    :: else -> break
    od;
    if
    :: i < N ->
        assert(kind_of(config[n], i) == 2); /* a backup only by a commit */
        config[n] = promoted(config[n], i, epoch[n])
    :: else -> config[n] = no_entry
    fi
}

inline spare_remove(x) {
    if
    :: GUARD_LOST_TARGET(is_moving(config[n]) && target_of(config[n]) == x) -> config[n] = settled(config[n])
    :: else
    fi;
    config[n] = without_spare(config[n], x)
}

/* b: what, c: the view when proposed, d: of which instance (DROP, GONE), or to which (START_MOVE) */
inline on_change() {
    what = primary_of(config[n]) != NOBODY; /* is it possible? */
    if
    :: b == DROP -> what = what && kind_of(config[n], d) > 0
    :: b == GONE -> what = what && primary_of(config[n]) == d
    :: else -> what = what && GUARD_STALE(c == view[n]) && primary_of(config[n]) == from
    fi;
    if
    :: b == START_MOVE -> what = what && !is_moving(config[n]) && kind_of(config[n], d) > 0
    :: b == COMMIT || b == ROLLBACK -> what = what && GUARD_MOVING(is_moving(config[n]))
    :: else
    fi;
    if
    :: what ->
        epoch[n]++;
        if
        :: b == START_MOVE -> config[n] = moving_to(config[n], d)
        :: b == COMMIT ->
            some = target_of(config[n]);
            assert(kind_of(config[n], some) > 0);
            config[n] = promoted(config[n], some, epoch[n])
        :: b == ROLLBACK -> config[n] = settled(config[n])
        :: b == DROP -> spare_remove(d)
        :: else -> primary_lost()
        fi
    :: else
    fi;
    if
    :: from == n && b < DROP -> step_end()
    :: from == n && b >= DROP -> ends_of[n] = ends_of[n] & ~bit(b - DROP)
    :: else
    fi;
    look_at_table()
}

inline step_end() {
    step_of[n] = 0;
    step_view[n] = 0;
    step_to[n] = 0
}

inline on_survive() {
    on_survive_table();
    last_view[n] = 0;
    last_epoch[n] = 0
}

#define is_lost(x) GUARD_SURVIVE(!(has(members[n], x) && has(alive_in[n], x)))

inline on_survive_table() {
    if
    :: primary_of(config[n]) != NOBODY ->
        j = 0;
        do
        :: j < N ->
            if
            :: kind_of(config[n], j) > 0 && is_lost(j) -> spare_remove(j)
            :: else
            fi;
            j++
        :: else -> break
        od;
        j = primary_of(config[n]);
        if
        :: is_lost(j) -> primary_lost()
        :: else
        fi
    :: else
    fi
}

/* ---- what a dvkd does as the table says ---- */

/* An instance of this node stands in the table and is no more. */
inline propose_end(kind) {
    if
    :: GUARD_GONE(!has(ends_of[n], kind - DROP)) ->
        ends_of[n] = ends_of[n] | bit(kind - DROP);
        if
        :: state[n] == SYNCED -> send(CHANGE, view[n], kind, 0, n, 0)
        :: else
        fi
    :: else
    fi
}

inline move_away() {
    assert(!too_late); /* what was received after the freeze is in no image */
    role[n] = 0;
    bound = bound & ~bit(n);
    frozen = frozen & ~bit(n);
    left[n] = revision_of(config[n]);
    rev[n] = 0
}

/* Called when a change was applied, when a view is installed, when a process has ended. */
inline look_at_table() {
    if
    :: !has(told_quorum, n) || !has(lives, n) /* another incarnation: nothing in the table is ours */
    :: else ->
        if
        :: primary_of(config[n]) == n && role[n] == 0 -> propose_end(GONE)
        :: primary_of(config[n]) == n && role[n] == SPARE ->
            role[n] = PROMOTING;
            rev[n] = revision_of(config[n])
        :: else
        fi;
        if
        :: primary_of(config[n]) != n && primary_of(config[n]) != NOBODY && kind_of(config[n], n) > 0 && role[n] == 0 -> propose_end(DROP)
        :: primary_of(config[n]) != n && role[n] == PRIMARY -> move_away()
        :: (primary_of(config[n]) == NOBODY || kind_of(config[n], n) == 0) && primary_of(config[n]) != n && role[n] == SPARE -> role[n] = 0
        :: primary_of(config[n]) != n && role[n] == PROMOTING -> role[n] = 0
        :: else
        fi;
        if
        :: role[n] == PRIMARY && is_moving(config[n]) -> frozen = frozen | bit(n)
        :: else ->
            too_late = too_late && !has(frozen, n);
            frozen = frozen & ~bit(n)
        fi
    fi
}

/* Has x written what was applied in epoch e of view v? */
#define has_written(x, v, e) ((view[x] == (v) && epoch[x] >= (e)) || (last_view[x] == (v) && last_epoch[x] >= (e)))
#define all_written(x, e) ((!has(members[x], 0) || has_written(0, view[x], e)) && \
    (!has(members[x], 1) || has_written(1, view[x], e)) && (!has(members[x], 2) || has_written(2, view[x], e)))
#define can_confirm(x) (role[x] == PROMOTING && state[x] == SYNCED && GUARD_CONFIRMED(all_written(x, rev[x])))

inline confirm() {
    role[n] = PRIMARY;
    bound = bound | bit(n);
    left[n] = 0;
    assert(primary_of(config[n]) == n); /* only after the commit, or as heir */
    look_at_table()
}

/* how it was before the view it leaves now is installed over */
inline on_agreed() {
    last_view[n] = view[n];
    last_epoch[n] = epoch[n]
}

inline on_installed() {
    if
    :: step_of[n] > 0 -> send(CHANGE, view[n], step_of[n], step_view[n], step_to[n], 0)
    :: else
    fi;
    if
    :: has(ends_of[n], 0) -> send(CHANGE, view[n], DROP, 0, n, 0)
    :: else
    fi;
    if
    :: has(ends_of[n], 1) -> send(CHANGE, view[n], GONE, 0, n, 0)
    :: else
    fi;
    look_at_table()
}

inline forget_instance() {
    role[n] = 0;
    rev[n] = 0;
    left[n] = 0;
    bound = bound & ~bit(n);
    frozen = frozen & ~bit(n)
}

inline on_quorum_lost() {
    forget_instance();
    lives = lives & ~bit(n);
    source_lost()
}

inline on_crash() {
    forget_instance();
    lives = lives & ~bit(n);
    process = process & ~bit(n);
    step_end();
    ends_of[n] = 0;
    source_lost()
}

/* What is proposed while the node is alone fails. */
inline fail() {
    step_end();
    ends_of[n] = 0
}
#define can_fail(x) (state[x] == ALONE && has(running, x) && !has_nothing_proposed(x))

/* ---- the process that has the endpoint ---- */

#define can_start(x, to) (moves > 0 && has(bound, x) && step_of[x] == 0 && state[x] == SYNCED && primary_of(config[x]) == x && \
    !is_moving(config[x]) && kind_of(config[x], to) > 0)
#define can_end_move(x) (has(frozen, x) && step_of[x] == 0 && state[x] == SYNCED && is_moving(config[x]))

inline propose_move(kind, to) {
    step_of[n] = kind;
    step_view[n] = view[n];
    step_to[n] = to;
    moves = moves - (kind == START_MOVE);
    send(CHANGE, view[n], kind, view[n], to, 0)
}

#define can_kill(x) (kills > 0 && has(process, x) && has(lives, x) && role[x] > 0)

inline kill() {
    kills--;
    harmed = true;
    process = process & ~bit(n);
    bound = bound & ~bit(n);
    frozen = frozen & ~bit(n);
    role[n] = 0;
    rev[n] = 0;
    if
    :: state[n] == SYNCED -> look_at_table()
    :: else
    fi
}

/* ---- messages ---- */

/* The source is no more, or told that all is lost. */
inline source_lost() {
    if
    :: n == CLIENT ->
        i = 0;
        do
        :: i < ALL_MESSAGES ->
            if
            :: where[i] != ANSWERED -> where[i] = FAILED; at[i] = 0; known[i] = 0
            :: else
            fi;
            i++
        :: else -> break
        od
    :: else
    fi
}

#define table_of_client config[CLIENT]
#define is_up(x) (has(running, x) && has(up[CLIENT] | bit(CLIENT), x))
#define client_is_well (has(running, CLIENT) && state[CLIENT] == SYNCED)
#define is_handed_over(m) (where[m] == HERE || where[m] == HANDED_ON)

/* The way: by the client's node's table, when that has come to the revision it was sent back with. */
#define can_route(m) (is_handed_over(m) && client_is_well && epoch[CLIENT] >= known[m] && \
    (primary_of(table_of_client) == NOBODY || is_up(primary_of(table_of_client))))
/* not while its place is promoted, nor before it knows of the revision: CONNECT waits there, too */
#define can_arrive(m) (where[m] == FLYING && has(running, at[m] >> 1) && role[at[m] >> 1] != PROMOTING && \
    GUARD_KNOWN(epoch[at[m] >> 1] >= known[m]))
#define can_accept(m) (where[m] == QUEUED && has(bound, at[m] >> 1) && !GUARD_FROZEN(has(frozen, at[m] >> 1)))
#define can_answer(m) (where[m] == ACCEPTED_THERE && has(bound, at[m] >> 1))
/* its place has gone: moved, and it can be made again; or it has ended */
#define is_left(m) (left[at[m] >> 1] > 0 && !has(bound, at[m] >> 1))
#define can_bounce(m) ((where[m] == QUEUED || where[m] == ACCEPTED_THERE) && has(running, at[m] >> 1) && is_left(m))
#define is_ended(m) (left[at[m] >> 1] == 0 && !has(bound, at[m] >> 1) && role[at[m] >> 1] != PROMOTING)
#define can_be_lost(m) (where[m] >= FLYING && where[m] <= ACCEPTED_THERE && has(running, CLIENT) && \
    (!is_up(at[m] >> 1) || (where[m] != FLYING && is_ended(m))))

/* at: the place's node, and whether it is resumed (1) */
inline route(m) {
    if
    :: primary_of(table_of_client) == NOBODY -> where[m] = FAILED; at[m] = 0; known[m] = 0
    :: else ->
        at[m] = 2 * primary_of(table_of_client) + (where[m] == HANDED_ON);
        known[m] = revision_of(table_of_client);
        where[m] = FLYING
    fi
}

inline arrive(m) {
    n = at[m] >> 1;
    if
    :: has(bound, n) && rev[n] == known[m] ->
        where[m] = (at[m] & 1 -> ACCEPTED_THERE : QUEUED)
    :: has(bound, n) && rev[n] != known[m] ->
        where[m] = (at[m] & 1 -> HANDED_ON : HERE);
        known[m] = (rev[n] > known[m] -> rev[n] : known[m])
    :: !has(bound, n) && left[n] > 0 ->
        where[m] = (at[m] & 1 -> HANDED_ON : HERE);
        known[m] = left[n]
    :: else -> where[m] = FAILED; at[m] = 0; known[m] = 0
    fi
}

inline accept(m) {
    handled[m]++;
    too_late = too_late || has(frozen, at[m] >> 1);
    assert(handled[m] == 1); /* at most once */
    where[m] = (is_notification(m) -> ANSWERED : ACCEPTED_THERE)
}

inline bounce(m) {
    n = at[m] >> 1;
    if
    :: where[m] == ACCEPTED_THERE && !has(process, n) -> where[m] = FAILED /* nobody knows how far it was */
    :: where[m] == ACCEPTED_THERE && has(process, n) -> where[m] = (GUARD_RESUMED(true) -> HANDED_ON : HERE)
    :: where[m] == QUEUED -> where[m] = (is_notification(m) && !GUARD_CARRIED(true) -> FAILED : HERE)
    fi;
    known[m] = left[n];
    at[m] = 0
}

inline lose(m) {
    where[m] = FAILED;
    at[m] = 0;
    known[m] = 0
}

/* ---- what must hold ---- */

#define is_two(x, y) (together(x, y) && has(bound, x) && has(bound, y))
#define is_busy(x) (can_confirm(x) || can_fail(x) || can_end_move(x))
#define is_message_busy(m) (can_route(m) || can_arrive(m) || can_accept(m) || can_answer(m) || can_bounce(m) || can_be_lost(m))
#define is_quiet (nothing_under_way && !is_busy(0) && !is_busy(1) && !is_busy(2))

inline check() {
    assert(agree(0, 1) && agree(0, 2) && agree(1, 2));
    assert(!is_two(0, 1) && !is_two(0, 2) && !is_two(1, 2)); /* never two in one view */
    if
    :: is_quiet -> check_rest()
    :: else
    fi
}

/* Nothing moves any more: moves have ended, who is in the table is there, messages have come. */
inline check_rest() {
    i = 0;
    do
    :: i < N ->
        assert(has_settled(i) && has_nothing_proposed(i) && !has(frozen, i) && role[i] != PROMOTING);
        assert(!all_well || together(0, i));
        if
        :: state[i] == SYNCED && primary_of(config[i]) != NOBODY ->
            j = primary_of(config[i]);
            assert(!is_moving(config[i]) && has(members[i], j) && has(bound, j)) /* and no replica waits while there is none */
        :: state[i] == SYNCED && primary_of(config[i]) == NOBODY -> assert(role[i] == 0)
        :: else
        fi;
        i++
    :: else -> break
    od;
    check_messages()
}

inline check_messages() {
    i = 0;
    do
    :: i < ALL_MESSAGES ->
        assert(is_message_busy(i) || is_over(i) || !has(running, CLIENT) || !client_is_well);
        assert(is_message_busy(i) || harmed || (where[i] == ANSWERED && handled[i] == 1)); /* exactly once while all live */
        i++
    :: else -> break
    od
}

#define DELIVER 0
#define ORDER 1
#define CONFIRM 2
#define FAIL 3
#define MOVE 4
#define START_TO 5
#define KILL 6
#define CUT 7
#define HEAL 8
#define CRASH 9
#define RESTART 10
#define ROUTE 11
#define ARRIVE 12
#define ACCEPT 13
#define ANSWER 14
#define BOUNCE 15
#define LOSE 16

hidden byte step, arg;

#define can_deliver(x) (has(running, x) && len(inbox[x]) > 0)
#define can_deliver_late(x) (has(running, x) && inbox[x]?[VIEW] && is_quorum(group_of(x)) && state[x] == SYNCED)
#define can_order(x) (has(running, x) && len(outbox[x]) > 0 && len(inbox[0]) < LAG && len(inbox[1]) < LAG && len(inbox[2]) < LAG)
#define others_have_sent(x) (len(outbox[(x + 1) % N]) + len(outbox[(x + 2) % N]) > 0)
#define can_cut(x, how) \
    (failures > 0 && !has(cut_off, x) && has(running, x) && (!(how & 1) || len(outbox[x]) > 0) && (!(how & 2) || others_have_sent(x)))
#define can_heal(x) (has(cut_off, x))
#define can_crash(x) (failures > 0 && has(running, x))
#define can_restart(x) (!has(running, x))

#define TAKES(s, x) n = x; step = s
#define TAKES_WITH(s, x, y) n = x; step = s; arg = y

init {
    d_step {
        n = 0;
        do
        :: n < N ->
            members[n] = EVERYBODY;
            up[n] = EVERYBODY;
            state[n] = SYNCED;
            view[n] = 1;
            promised[n] = 1;
            epoch[n] = 1;
            config[n] = (KIND1 << 7) | (KIND2 << 9);
            role[n] = SPARE;
            n++
        :: else -> break
        od;
        role[0] = PRIMARY;
        told_quorum = EVERYBODY;
        n = 0
    }
end:
    do
    :: atomic {
        if
        :: can_deliver(0) -> TAKES_WITH(DELIVER, 0, false)
        :: can_deliver_late(0) -> TAKES_WITH(DELIVER, 0, true)
        :: can_order(0) -> TAKES(ORDER, 0)
        :: can_confirm(0) -> TAKES(CONFIRM, 0)
        :: can_fail(0) -> TAKES(FAIL, 0)
        :: can_end_move(0) -> TAKES_WITH(MOVE, 0, COMMIT)
        :: can_end_move(0) -> TAKES_WITH(MOVE, 0, ROLLBACK)
        :: can_start(0, 1) -> TAKES_WITH(START_TO, 0, 1)
        :: can_start(0, 2) -> TAKES_WITH(START_TO, 0, 2)
        :: can_kill(0) -> TAKES(KILL, 0)
        :: can_heal(0) -> TAKES(HEAL, 0)
        :: can_crash(0) -> TAKES(CRASH, 0)
        :: can_restart(0) -> TAKES(RESTART, 0)
        :: can_cut(0, 0) -> TAKES_WITH(CUT, 0, 0)
        :: can_cut(0, 1) -> TAKES_WITH(CUT, 0, 1)
        :: can_cut(0, 2) -> TAKES_WITH(CUT, 0, 2)
        :: can_cut(0, 3) -> TAKES_WITH(CUT, 0, 3)
        :: can_deliver(1) -> TAKES_WITH(DELIVER, 1, false)
        :: can_deliver_late(1) -> TAKES_WITH(DELIVER, 1, true)
        :: can_order(1) -> TAKES(ORDER, 1)
        :: can_confirm(1) -> TAKES(CONFIRM, 1)
        :: can_fail(1) -> TAKES(FAIL, 1)
        :: can_end_move(1) -> TAKES_WITH(MOVE, 1, COMMIT)
        :: can_end_move(1) -> TAKES_WITH(MOVE, 1, ROLLBACK)
        :: can_start(1, 0) -> TAKES_WITH(START_TO, 1, 0)
        :: can_start(1, 2) -> TAKES_WITH(START_TO, 1, 2)
        :: can_kill(1) -> TAKES(KILL, 1)
        :: can_heal(1) -> TAKES(HEAL, 1)
        :: can_crash(1) -> TAKES(CRASH, 1)
        :: can_restart(1) -> TAKES(RESTART, 1)
        :: can_cut(1, 0) -> TAKES_WITH(CUT, 1, 0)
        :: can_cut(1, 1) -> TAKES_WITH(CUT, 1, 1)
        :: can_cut(1, 2) -> TAKES_WITH(CUT, 1, 2)
        :: can_cut(1, 3) -> TAKES_WITH(CUT, 1, 3)
        :: can_deliver(2) -> TAKES_WITH(DELIVER, 2, false)
        :: can_deliver_late(2) -> TAKES_WITH(DELIVER, 2, true)
        :: can_order(2) -> TAKES(ORDER, 2)
        :: can_confirm(2) -> TAKES(CONFIRM, 2)
        :: can_fail(2) -> TAKES(FAIL, 2)
        :: can_end_move(2) -> TAKES_WITH(MOVE, 2, COMMIT)
        :: can_end_move(2) -> TAKES_WITH(MOVE, 2, ROLLBACK)
        :: can_start(2, 0) -> TAKES_WITH(START_TO, 2, 0)
        :: can_start(2, 1) -> TAKES_WITH(START_TO, 2, 1)
        :: can_kill(2) -> TAKES(KILL, 2)
        :: can_heal(2) -> TAKES(HEAL, 2)
        :: can_crash(2) -> TAKES(CRASH, 2)
        :: can_restart(2) -> TAKES(RESTART, 2)
        :: can_cut(2, 0) -> TAKES_WITH(CUT, 2, 0)
        :: can_cut(2, 1) -> TAKES_WITH(CUT, 2, 1)
        :: can_cut(2, 2) -> TAKES_WITH(CUT, 2, 2)
        :: can_cut(2, 3) -> TAKES_WITH(CUT, 2, 3)
#if ALL_MESSAGES > 0
        :: can_route(0) -> TAKES_WITH(ROUTE, 0, 0)
        :: can_arrive(0) -> TAKES_WITH(ARRIVE, 0, 0)
        :: can_accept(0) -> TAKES_WITH(ACCEPT, 0, 0)
        :: can_answer(0) -> TAKES_WITH(ANSWER, 0, 0)
        :: can_bounce(0) -> TAKES_WITH(BOUNCE, 0, 0)
        :: can_be_lost(0) -> TAKES_WITH(LOSE, 0, 0)
#endif
#if ALL_MESSAGES > 1
        :: can_route(1) -> TAKES_WITH(ROUTE, 0, 1)
        :: can_arrive(1) -> TAKES_WITH(ARRIVE, 0, 1)
        :: can_accept(1) -> TAKES_WITH(ACCEPT, 0, 1)
        :: can_answer(1) -> TAKES_WITH(ANSWER, 0, 1)
        :: can_bounce(1) -> TAKES_WITH(BOUNCE, 0, 1)
        :: can_be_lost(1) -> TAKES_WITH(LOSE, 0, 1)
#endif
#if ALL_MESSAGES > 2
        :: can_route(2) -> TAKES_WITH(ROUTE, 0, 2)
        :: can_arrive(2) -> TAKES_WITH(ARRIVE, 0, 2)
        :: can_accept(2) -> TAKES_WITH(ACCEPT, 0, 2)
        :: can_answer(2) -> TAKES_WITH(ANSWER, 0, 2)
        :: can_bounce(2) -> TAKES_WITH(BOUNCE, 0, 2)
        :: can_be_lost(2) -> TAKES_WITH(LOSE, 0, 2)
#endif
        fi;
        d_step {
            if
            :: step == DELIVER
            :: step == ORDER -> order()
            :: step == CONFIRM -> confirm()
            :: step == FAIL -> fail()
            :: step == MOVE -> propose_move(arg, 0)
            :: step == START_TO -> propose_move(START_MOVE, arg)
            :: step == KILL -> kill()
            :: step == CUT -> harmed = true; cut(arg)
            :: step == HEAL -> heal()
            :: step == CRASH -> harmed = true; crash()
            :: step == RESTART -> restart()
            :: step == ROUTE -> route(arg)
            :: step == ARRIVE -> arrive(arg)
            :: step == ACCEPT -> accept(arg)
            :: step == ANSWER -> where[arg] = ANSWERED; at[arg] = 0; known[arg] = 0
            :: step == BOUNCE -> bounce(arg)
            :: else -> lose(arg)
            fi;
            found = step == DELIVER;
            late = found && arg;
            deliver_all();
            check()
        }
    }
    od
}
