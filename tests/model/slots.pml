/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ownership of sets of user slots among three nodes: src/dvkd/slot_table.c, config_slots.c and slot_agent.c upon group.pml.
 *
 *   step               stands for
 *   want, ask_next     slot_agent_want, ask_next, next_donor
 *   take_come          config_slots_take, slot_table_take, take_done when it is refused
 *   give_come          config_slots_give, slot_table_give, slot_agent_changed at the receiver
 *   ask_come           take_ask: port.choose
 *   answer             slot_agent_offer: give_propose or give_none
 *   nothing_come       slot_agent_cast: "none"
 *   confirm            take_done, give_done when all have written the change
 *   fail               fail_timer_fn, when the node is alone
 *   on_survive         config_slots_survive, slot_table_survive
 *   on_installed       slot_agent_changed with no effect; proposals are sent again (send_proposal)
 *   on_quorum_lost     port.quorum: slot_agent_quorum; the node's programs are ended
 *   serve, end         a fork that binds or waits, a process that ends: broker_slots.c, pm
 *
 * What differs: a set has one slot, a donation is one set, a want is for WANT sets. Who waits is refused with its want's error (pm
 * would ask again until its time is over). Processes do not move to other nodes: what that needs is in tests/unit/pm.
 *
 * Bounds: SETS, FORKS, FAILURES (each a crash or a cut; how soon restart and heal follow is open).
 */
#ifndef FORKS
#define FORKS 2
#endif
#ifndef ENDS
#define ENDS 0
#endif
#ifndef FAILURES
#define FAILURES 1
#endif
#ifndef WANT
#define WANT 1
#endif
#ifndef SETS
#define SETS 4
#endif
#define STATE short
#ifdef FREE_SET /* 0 and 1 belong to the first node, but 1 to nobody at first; 2 to the second; 3 to the third */
#define FIRST_OWNERS (1 + (2 << 4) + (3 << 6))
#else
#define FIRST_OWNERS (1 + (1 << 2) + (2 << 4) + (3 << 6))
#endif
#ifndef LAG
#define LAG 6
#endif
#define INBOX 12
#define OUTBOX 6


/* Guards that a mutant takes out; more are in group.pml. */
#ifdef MUTANT_stale
#define GUARD_STALE(ok) true
#else
#define GUARD_STALE(ok) (ok)
#endif
#ifdef MUTANT_giving
#define GUARD_GIVING(busy) false
#else
#define GUARD_GIVING(busy) (busy)
#endif
#ifdef MUTANT_free
#define GUARD_FREE(ok) true
#else
#define GUARD_FREE(ok) (ok)
#endif
#ifdef MUTANT_bound
#define GUARD_BOUND(ok) true
#else
#define GUARD_BOUND(ok) (ok)
#endif
#ifdef MUTANT_survive
#define GUARD_SURVIVE(ok) false
#else
#define GUARD_SURVIVE(ok) (ok)
#endif
#ifdef MUTANT_refusal
#define GUARD_REFUSAL(ok) false
#else
#define GUARD_REFUSAL(ok) (ok)
#endif
#ifdef MUTANT_ended
#define GUARD_ENDED(ok) false
#else
#define GUARD_ENDED(ok) (ok)
#endif
#ifdef MUTANT_settled
#define GUARD_SETTLED(ok) false
#else
#define GUARD_SETTLED(ok) (ok)
#endif
#ifdef MUTANT_sent
#define GUARD_SENT(ok) true
#else
#define GUARD_SENT(ok) (ok)
#endif
#ifdef MUTANT_quorate_bind
#define GUARD_QUORATE_BIND(ok) true
#else
#define GUARD_QUORATE_BIND(ok) (ok)
#endif

#define has_nothing_proposed(x) (take[x] == 0 && give[x] == 0)
#define is_addressed (c == n) /* a cast */
#define on_hello_bit 0
#define on_greeting() skip
#define on_round_forgotten() skip
#define on_agreed() skip
#include "group.pml"

/* A table: two bits a set, 0: nobody's, else its owner + 1. Sets are 0..SETS-1 here. */
#define owner(table, set) (((table) >> (2 * (set))) & 3)
#define with_owner(table, set, whose) (((table) & ~(3 << (2 * (set)))) | ((whose) << (2 * (set))))

#define TAKE 1
#define GIVE 2
#define ASK 3
#define NOTHING 4

/* wanting, giving: as in slot_agent.h */
#define IDLE 0
#define TAKING 1
#define ASKING 2
#define NONE 0
#define CHOOSING 1
#define GIVING 2

/* proposals: slots-take and slots-give of each node */
#define PENDING 1
#define APPLIED 2

byte wanting[N], donor[N], asked[N], number[N];
byte giving[N], receiver[N], receiver_number[N], asked_view[N], giving_set[N];
byte take[N], take_view[N], give[N];
byte waiting;   /* some: a fork waits */
byte bound[N];  /* some of sets: a process has its slot here */
byte forks = FORKS, ends = ENDS; /* still to come */
hidden byte old;

/* slot_agent_is_ours */
#define is_ours(x, set) (owner(config[x], set) == (x) + 1 && !GUARD_GIVING(giving[x] == GIVING && giving_set[x] == (set)))
#define is_idle(x, set) (is_ours(x, set) && GUARD_BOUND(!has(bound[x], set)))

#define is_idle_to_bind(set) (is_ours(n, set) && !has(bound[n], set))

/* broker_bind_now: what waits binds in the lowest set that is idle. i == SETS: there is none. */
inline bind_now() {
    i = 0;
    do
    :: i < SETS && !is_idle_to_bind(i) -> i++
    :: else -> break
    od;
    if
    :: i < SETS && GUARD_QUORATE_BIND(has(told_quorum, n)) ->
        bound[n] = bound[n] | bit(i);
        waiting = waiting & ~bit(n);
        j = 0;
        do
        :: j < N ->
            assert(j == n || !together(n, j) || (!has(bound[j], i) && !is_ours(j, i))); /* another's */
            j++
        :: else -> break
        od
    :: else -> i = SETS
    fi
}

inline want() {
    wanting[n] = TAKING;
    take[n] = PENDING;
    take_view[n] = view[n];
    if
    :: state[n] == SYNCED -> send(CHANGE, view[n], TAKE, take_view[n], 0, 0)
    :: else
    fi
}

/* bind_waits_serve. again: the view has changed, so it asks again. */
inline want_end(again) {
    wanting[n] = IDLE;
    donor[n] = 0;
    asked[n] = 0;
    if
    :: has(waiting, n) ->
        bind_now();
        if
        :: i == SETS && again && has(told_quorum, n) -> want()
        :: else -> waiting = waiting & ~bit(n)
        fi
    :: else
    fi
}

inline ask_next() {
    i = 0;
    j = 0;    /* the most */
    what = N; /* who has it */
    do
    :: i < N ->
        some = 0;
        c = 0;
        do
        :: c < SETS -> some = some + (owner(config[n], c) == i + 1); c++
        :: else -> break
        od;
        if
        :: i != n && !has(asked[n], i) && has(up[n], i) && some > j ->
            j = some;
            what = i
        :: else
        fi;
        i++
    :: else -> break
    od;
    if
    :: what == N -> want_end(false)
    :: else ->
        wanting[n] = ASKING;
        donor[n] = what;
        asked[n] = asked[n] | bit(what);
        number[n]++;
        send(CAST, view[n], ASK, what, number[n], 0)
    fi
}

inline answer_nothing(to, question) {
    if
    :: GUARD_REFUSAL(state[n] == SYNCED) -> send(CAST, view[n], NOTHING, to, question, 0)
    :: else
    fi
}

inline give_nothing() {
    giving[n] = NONE;
    if
    :: asked_view[n] == view[n] -> answer_nothing(receiver[n], receiver_number[n])
    :: else
    fi;
    deal_forget()
}

inline deal_forget() {
    receiver[n] = 0;
    receiver_number[n] = 0;
    asked_view[n] = 0;
    giving_set[n] = 0
}

/* set == SETS: there is nothing to offer */
inline answer(set) {
    if
    :: set < SETS && asked_view[n] == view[n] && has(told_quorum, n) && has(up[n], receiver[n]) ->
        giving[n] = GIVING;
        giving_set[n] = set;
        give[n] = PENDING;
        if
        :: state[n] == SYNCED -> send(CHANGE, view[n], GIVE, asked_view[n], receiver[n] + N * set, 0)
        :: else
        fi
    :: else -> give_nothing()
    fi
}

/* ---- changes ---- */

inline take_come() {
    if
    :: GUARD_STALE(c == view[n]) ->
        i = 0;    /* nobody's */
        j = 0;    /* the taker's */
        some = 0; /* how many it gets */
        do
        :: some < SETS ->
            i = i + (owner(config[n], some) == 0);
            j = j + (owner(config[n], some) == from + 1);
            some++
        :: else -> break
        od;
        some = (j < SETS / N -> SETS / N - j : 0);
        some = (some > (i + 1) / 2 -> some : (i + 1) / 2);
        some = (WANT > some -> some : WANT);
        some = (some > i -> i : some);
        what = some;
        i = 0;
        do
        :: i < SETS && some > 0 ->
            if
            :: GUARD_FREE(owner(config[n], i) == 0) ->
                config[n] = with_owner(config[n], i, from + 1);
                some--
            :: else
            fi;
            i++
        :: else -> break
        od;
        if
        :: what > 0 -> epoch[n]++
        :: else
        fi;
        assert(from != n || take[n] == PENDING); /* once only */
        if
        :: from != n
        :: from == n && what > 0 -> take[n] = APPLIED
        :: else ->
            take[n] = 0;
            take_view[n] = 0;
            ask_next()
        fi
    :: else ->
        if
        :: from == n ->
            take[n] = 0;
            take_view[n] = 0;
            want_end(true)
        :: else
        fi
    fi
}

inline give_come() {
    if
    :: GUARD_STALE(c == view[n]) && owner(config[n], d / N) == from + 1 ->
        config[n] = with_owner(config[n], d / N, d % N + 1);
        epoch[n]++;
        if
        :: d % N == n && wanting[n] == ASKING -> want_end(false)
        :: else
        fi;
        assert(from != n || give[n] == PENDING);
        if
        :: from == n -> give[n] = APPLIED
        :: else
        fi
    :: else ->
        if
        :: from == n && GUARD_SETTLED(true) ->
            give[n] = 0;
            give_nothing()
        :: else
        fi
    fi
}

inline on_change() {
    if
    :: b == TAKE -> take_come()
    :: else -> give_come()
    fi
}

inline ask_come() {
    if
    :: giving[n] == NONE && wanting[n] == IDLE ->
        giving[n] = CHOOSING;
        receiver[n] = from;
        receiver_number[n] = d;
        asked_view[n] = view[n]
    :: else -> answer_nothing(from, d)
    fi
}

inline on_cast() {
    if
    :: b == ASK && c == n -> ask_come()
    :: b == NOTHING && c == n && wanting[n] == ASKING && donor[n] == from && number[n] == d -> ask_next()
    :: else
    fi
}

inline confirm() {
    if
    :: take[n] == APPLIED ->
        take[n] = 0;
        take_view[n] = 0;
        want_end(false)
    :: else ->
        give[n] = 0;
        giving[n] = NONE;
        deal_forget()
    fi
}

/* What was proposed ends: it is not known how. */
inline give_up(which_take, which_give) {
    if
    :: which_take ->
        take[n] = 0;
        take_view[n] = 0;
        want_end(true)
    :: else
    fi;
    if
    :: which_give ->
        give[n] = 0;
        give_nothing()
    :: else
    fi
}

inline fail() { give_up(take[n], give[n]) }

/* ---- views ---- */

/* Cut each run of a lost node's sets into parts for the members, the first parts one longer. */
inline on_survive() {
    i = 0;
    do
    :: GUARD_SURVIVE(i < SETS) ->
        from = owner(config[n], i);
        c = 1; /* the run's length */
        do
        :: i + c < SETS && owner(config[n], i + c) == from -> c++
        :: else -> break
        od;
        j = 0; /* members that have had their part */
        a = 0; /* the next one */
        d = 0; /* sets of the run that are given */
        do
        :: from > 0 && !has(members[n], from - 1) && d < c ->
            if
            :: has(members[n], a) ->
                b = c / size_of(members[n]) + (j < c % size_of(members[n]));
                do
                :: b > 0 ->
                    config[n] = with_owner(config[n], i + d, a + 1);
                    d++;
                    b--
                :: else -> break
                od;
                j++
            :: else
            fi;
            a++
        :: else -> break
        od;
        i = i + c
    :: else -> break
    od
}

inline on_installed() {
    old = take[n] == PENDING;
    if
    :: GUARD_ENDED(wanting[n] == ASKING) -> want_end(true)
    :: else
    fi;
    if /* only what was not sent in this view already */
    :: take[n] == PENDING && GUARD_SENT(old) -> send(CHANGE, view[n], TAKE, take_view[n], 0, 0)
    :: else
    fi;
    if
    :: give[n] == PENDING -> send(CHANGE, view[n], GIVE, asked_view[n], receiver[n] + N * giving_set[n], 0)
    :: else
    fi;
    give_up(what && take[n] == APPLIED, what && give[n] == APPLIED)
}

inline on_quorum_lost() {
    bound[n] = 0;
    if
    :: GUARD_ENDED(wanting[n] == ASKING) -> want_end(true)
    :: else
    fi
}

inline on_crash() {
    wanting[n] = IDLE;
    donor[n] = 0;
    asked[n] = 0;
    number[n] = 0;
    giving[n] = NONE;
    deal_forget();
    take[n] = 0;
    take_view[n] = 0;
    give[n] = 0;
    bound[n] = 0;
    waiting = waiting & ~bit(n)
}

/* ---- processes ---- */

/* handle_bind, broker_bind_wait */
inline fork() {
    forks--;
    waiting = waiting | bit(n);
    bind_now();
    if
    :: i == SETS && wanting[n] == IDLE -> want()
    :: else
    fi
}

/* A process ends: that with the lowest slot. */
inline end_lowest() {
    ends--;
    bound[n] = bound[n] & (bound[n] - 1)
}

/* ---- what must hold ---- */

#define is_bound_twice(x, y) (together(x, y) && (bound[x] & bound[y]))
#define is_owned_twice(x, y, set) (together(x, y) && is_ours(x, set) && is_ours(y, set))
/* each set that is owned belongs to a member of the view */
#define is_kept(x, set) (state[x] != SYNCED || owner(config[x], set) == 0 || has(members[x], owner(config[x], set) - 1))

#define can_confirm(x) (state[x] == SYNCED && (take[x] == APPLIED || give[x] == APPLIED))
#define can_fail(x) (state[x] == ALONE && (take[x] || give[x]))
#define is_busy(x) (can_confirm(x) || can_fail(x) || giving[x] == CHOOSING)
#define is_quiet (nothing_under_way && !is_busy(0) && !is_busy(1) && !is_busy(2))

inline check() {
    assert(agree(0, 1) && agree(0, 2) && agree(1, 2));
    assert(!is_bound_twice(0, 1) && !is_bound_twice(0, 2) && !is_bound_twice(1, 2));
    i = 0;
    do
    :: i < SETS ->
        assert(!is_owned_twice(0, 1, i) && !is_owned_twice(0, 2, i) && !is_owned_twice(1, 2, i));
        assert(is_kept(0, i) && is_kept(1, i) && is_kept(2, i));
        i++
    :: else -> break
    od;
    if
    :: is_quiet -> check_rest()
    :: else
    fi
}

/* Nothing moves any more: each want was answered, each donation settled, and with all nodes back all agree. */
inline check_rest() {
    i = 0;
    do
    :: i < N ->
        assert(wanting[i] == IDLE && giving[i] == NONE && !take[i] && !give[i] && !has(waiting, i));
        assert(has_settled(i));
        assert(!all_well || together(0, i));
        i++
    :: else -> break
    od
}

#define DELIVER 0
#define ORDER 1
#define CONFIRM 3
#define FAIL 4
#define FORK 5
#define END 6
#define CUT 7
#define HEAL 8
#define CRASH 9
#define RESTART 10

#define ANSWER 11

hidden byte step, arg;

#define can_deliver(x) (has(running, x) && len(inbox[x]) > 0)
#define can_deliver_late(x) (has(running, x) && inbox[x]?[VIEW] && is_quorum(group_of(x)) && state[x] == SYNCED)
#define can_order(x) (has(running, x) && len(outbox[x]) > 0 && len(inbox[0]) < LAG && len(inbox[1]) < LAG && len(inbox[2]) < LAG)
#define can_fork(x) (forks > 0 && has(running, x) && !has(waiting, x))
#define can_end(x) (ends > 0 && bound[x] != 0)
#define can_answer(x, set) (giving[x] == CHOOSING && (set == SETS || is_idle(x, set)))
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
            config[n] = FIRST_OWNERS;
            n++
        :: else -> break
        od;
        bound[0] = bit(0);
        bound[1] = bit(2);
        bound[2] = bit(3);
        told_quorum = EVERYBODY;
        n = 0
    }
end:
    do
    :: atomic {
        if
        :: can_deliver(0) -> TAKES_WITH(DELIVER, 0, false)
        :: can_deliver_late(0) -> TAKES_WITH(DELIVER, 0, true)
        :: can_deliver(1) -> TAKES_WITH(DELIVER, 1, false)
        :: can_deliver_late(1) -> TAKES_WITH(DELIVER, 1, true)
        :: can_deliver(2) -> TAKES_WITH(DELIVER, 2, false)
        :: can_deliver_late(2) -> TAKES_WITH(DELIVER, 2, true)
        :: can_order(0) -> TAKES(ORDER, 0)
        :: can_order(1) -> TAKES(ORDER, 1)
        :: can_order(2) -> TAKES(ORDER, 2)
        :: can_confirm(0) -> TAKES(CONFIRM, 0)
        :: can_confirm(1) -> TAKES(CONFIRM, 1)
        :: can_confirm(2) -> TAKES(CONFIRM, 2)
        :: can_fail(0) -> TAKES(FAIL, 0)
        :: can_fail(1) -> TAKES(FAIL, 1)
        :: can_fail(2) -> TAKES(FAIL, 2)
        :: can_fork(0) -> TAKES(FORK, 0)
        :: can_fork(1) -> TAKES(FORK, 1)
        :: can_fork(2) -> TAKES(FORK, 2)
        :: can_end(0) -> TAKES(END, 0)
        :: can_end(1) -> TAKES(END, 1)
        :: can_end(2) -> TAKES(END, 2)
        :: can_heal(0) -> TAKES(HEAL, 0)
        :: can_heal(1) -> TAKES(HEAL, 1)
        :: can_heal(2) -> TAKES(HEAL, 2)
        :: can_crash(0) -> TAKES(CRASH, 0)
        :: can_crash(1) -> TAKES(CRASH, 1)
        :: can_crash(2) -> TAKES(CRASH, 2)
        :: can_restart(0) -> TAKES(RESTART, 0)
        :: can_restart(1) -> TAKES(RESTART, 1)
        :: can_restart(2) -> TAKES(RESTART, 2)
        :: can_answer(0, 0) -> TAKES_WITH(ANSWER, 0, 0)
        :: can_answer(0, 1) -> TAKES_WITH(ANSWER, 0, 1)
        :: can_answer(0, 2) -> TAKES_WITH(ANSWER, 0, 2)
        :: can_answer(0, 3) -> TAKES_WITH(ANSWER, 0, 3)
        :: can_answer(0, SETS) -> TAKES_WITH(ANSWER, 0, SETS)
        :: can_answer(1, 0) -> TAKES_WITH(ANSWER, 1, 0)
        :: can_answer(1, 1) -> TAKES_WITH(ANSWER, 1, 1)
        :: can_answer(1, 2) -> TAKES_WITH(ANSWER, 1, 2)
        :: can_answer(1, 3) -> TAKES_WITH(ANSWER, 1, 3)
        :: can_answer(1, SETS) -> TAKES_WITH(ANSWER, 1, SETS)
        :: can_answer(2, 0) -> TAKES_WITH(ANSWER, 2, 0)
        :: can_answer(2, 1) -> TAKES_WITH(ANSWER, 2, 1)
        :: can_answer(2, 2) -> TAKES_WITH(ANSWER, 2, 2)
        :: can_answer(2, 3) -> TAKES_WITH(ANSWER, 2, 3)
        :: can_answer(2, SETS) -> TAKES_WITH(ANSWER, 2, SETS)
        :: can_cut(0, 0) -> TAKES_WITH(CUT, 0, 0)
        :: can_cut(0, 1) -> TAKES_WITH(CUT, 0, 1)
        :: can_cut(0, 2) -> TAKES_WITH(CUT, 0, 2)
        :: can_cut(0, 3) -> TAKES_WITH(CUT, 0, 3)
        :: can_cut(1, 0) -> TAKES_WITH(CUT, 1, 0)
        :: can_cut(1, 1) -> TAKES_WITH(CUT, 1, 1)
        :: can_cut(1, 2) -> TAKES_WITH(CUT, 1, 2)
        :: can_cut(1, 3) -> TAKES_WITH(CUT, 1, 3)
        :: can_cut(2, 0) -> TAKES_WITH(CUT, 2, 0)
        :: can_cut(2, 1) -> TAKES_WITH(CUT, 2, 1)
        :: can_cut(2, 2) -> TAKES_WITH(CUT, 2, 2)
        :: can_cut(2, 3) -> TAKES_WITH(CUT, 2, 3)
        fi;
        d_step {
            if
            :: step == DELIVER
            :: step == ORDER -> order()
            :: step == CONFIRM -> confirm()
            :: step == FAIL -> fail()
            :: step == FORK -> fork()
            :: step == END -> end_lowest()
            :: step == ANSWER -> answer(arg)
            :: step == CUT -> cut(arg)
            :: step == HEAL -> heal()
            :: step == CRASH -> crash()
            :: else -> restart()
            fi;
            found = step == DELIVER;
            late = found && arg;
            deliver_all();
            check()
        }
    }
    od
}
