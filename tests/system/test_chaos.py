# SPDX-License-Identifier: Apache-2.0
"""Calls are done once each while things fail: a short run of `chaos` with a fixed seed and chosen steps; and that its checker finds what it
is there for."""
import importlib.machinery
import importlib.util
import os

import binder_log
import counter_log
import pytest
from counter_log import BOUND, DONE, WRONG, Disturbance, Line
from dvslab import ROOT

NAMES = {2003: "DVK_EDEADDST", 2008: "DVK_ETIMEDOUT", 2015: "DVK_ENODAEMON"}
CLIENT = 1 << 32 | 5


def load_chaos():
    loader = importlib.machinery.SourceFileLoader("chaos", os.path.join(ROOT, "tests", "system", "chaos"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("chaos", loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("kinds, drop", [(["reset", "client", "proxy", "blip", "server"], 1), (["bind", "majority"], 0),
                                         (["stop", "bind"], 0), (["move", "reset"], 1)], ids=["connections", "nodes", "fence", "moves"])
def test_calls_are_done_once_each(own_lab, kinds, drop):
    module = load_chaos()
    own_lab.up(3, "--nodes-named", "a,b,c", "--slots", module.SLOTS)
    chaos = module.Chaos(own_lab, seed=7, drop=drop)
    try:
        chaos.round(kinds)
    finally:
        chaos.end()
    assert not chaos.failures, "\n".join(chaos.failures)
    assert chaos.counts["steps"] == len(kinds) and chaos.counts["answered"] > 100 and chaos.counts["bound"] > 50


def test_the_steps_follow_from_the_seed():
    def steps(seed):
        chaos = load_chaos().Chaos(None, seed)
        try:
            return [(kind, chaos.chance("step", i).random()) for i, kind in enumerate(chaos.choose(list(chaos.steps), 50))]
        finally:
            os.rmdir(chaos.directory)
    assert steps(3) == steps(3) != steps(4)


def done(sequence, status=0, value=None, start=10.0, end=10.1, kind=DONE):
    return Line(kind, status, CLIENT, sequence, 0 if status else 3, 0 if status else value or sequence, start, end)


def failures(server, client, disturbances=()):
    return counter_log.check(server, client, 2, list(disturbances), NAMES)[0]


def test_the_checker_accepts_what_may_be():
    served = [Line(BOUND, 0, 3, 0, 0, 0, 1.0, 1.0), done(1), done(2), done(3)]
    assert failures(served, [done(1), done(2)]) == [] # the third was under way at the end
    for nodes in ({1}, {2}, {0}):
        assert failures([done(1)], [done(1), done(2, -2003)], [Disturbance(nodes, 9.0, 9.5)]) == []
        assert failures([done(1)], [done(1), done(2, -2003)], [Disturbance(nodes, 10.05, None)]) == []


@pytest.mark.parametrize("server, client, words", [
    ([done(1), done(1)], [done(1)], "done twice"),
    ([done(1, value=4)], [done(1, value=5)], "was answered (3, 5), but done (3, 4)"),
    ([], [done(1)], "but done None"),
    ([], [done(1, -2003)], "was lost"),
    ([], [done(1, -2008)], "DVK_ETIMEDOUT"),
    ([], [done(1, -22)], "-22"),
    ([done(1, 1, kind=WRONG)], [], "out of order"),
    ([], [done(1, 5, kind=WRONG)], "another call"),
])
def test_the_checker_finds(server, client, words):
    assert any(words in text for text in failures(server, client)), failures(server, client)
    # what is lost elsewhere, before or after is no excuse, and for a timeout nothing is
    away = [Disturbance({3}, 9.0, 11.0), Disturbance({1, 2}, 1.0, 8.0), Disturbance({1, 2}, 10.2, 11.0)]
    assert failures(server, client, away)
    if words != "was lost":
        assert failures(server, client, [Disturbance({0, 1, 2, 3}, 1.0, None)])


def bound(start, client=CLIENT):
    return Line(BOUND, 0, client, 0, 0, 0, start, start)


def test_what_a_node_says_that_was_put_out_is_not_taken():
    def failures_of(server, client, node):
        return counter_log.fenced(server, client, 2, [(node, 10.0)])
    late, bound_again = done(2, start=10.2, end=10.4), [bound(1.0), bound(10.3)]
    assert any("was done" in text for text in failures_of([late], bound_again, 1))
    assert any("was done" in text for text in failures_of([late], [bound(1.0)], 1)) # not bound again at all
    assert not failures_of([late], [bound(10.1)], 1) and not failures_of([late], bound_again, 3)
    assert not failures_of([done(1, start=9.9)], bound_again, 1)
    assert any("was answered" in text for text in failures_of([bound(1.0, 3), bound(10.5, 3)], [late], 2))
    assert not failures_of([bound(1.0, 3), bound(10.35, 3)], [late], 2)
    assert not failures_of([bound(1.0, 3)], [done(2, status=-2003, start=10.2, end=10.4)], 2)


def test_addresses_are_had_once():
    def log(*lines):
        return "".join(f"{letter} {word} {int(at * 1e9)}\n" for letter, word, at in lines)

    def failures_of(one, other, disturbances=()):
        held = [binder_log.holds(node, text, list(disturbances)) for node, text in ((1, one), (2, other))]
        return [text for _, wrong in held for text in wrong] + binder_log.check([hold for ones, _ in held for hold in ones], {})
    first = log(("B", "500000040", 1.0), ("U", "500000040", 2.0), ("R", "7", 2.5))
    assert binder_log.reached(first + "R 8") == {"7"} # a line that is not whole is none
    assert failures_of(first, log(("B", "600000040", 2.0))) == []
    assert any("twice" in text for text in failures_of(first, log(("B", "500000040", 3.0))))
    assert any("slot 64 was had by two" in text for text in failures_of(first, log(("B", "600000040", 1.5))))
    lost, loss = log(("B", "500000040", 1.0), ("L", "0", 4.0)), Disturbance({1}, 2.0, 5.0)
    for before in ([], [Disturbance({2}, 2.0, 5.0)], [Disturbance({1}, 1.5, 2.0)]):
        assert any("nothing happened" in text for text in failures_of(lost, "", before))
    assert failures_of(lost, log(("B", "600000040", 3.0)), [loss]) == []
    assert any("slot 64 was" in text for text in failures_of(lost, log(("B", "600000040", 1.9)), [loss]))
    unbound_late = log(("B", "500000040", 1.0), ("U", "500000040", 3.5), ("B", "500000041", 3.5), ("L", "0", 4.0))
    assert failures_of(unbound_late, log(("B", "600000040", 3.0)), [loss]) == []
    ignorant = log(("B", "500000040", 3.0), ("L", "0", 4.0))
    assert failures_of(ignorant, log(("B", "600000040", 2.5)), [loss]) == []
    assert any("twice" in text for text in failures_of(ignorant, log(("B", "500000040", 2.5)), [loss]))


def test_an_error_of_ones_own_node_needs_a_loss_of_it():
    for node, wrong in ((1, 0), (2, 1), (0, 1)):
        assert len(failures([], [done(1, -2015)], [Disturbance({node}, 9.0, 11.0)])) == wrong


def test_errors_are_those_of_the_header():
    names = counter_log.errors(ROOT)
    assert names[2005] == "DVK_ENODEUNREACH" and counter_log.LOSS | counter_log.OWN <= set(names.values())
