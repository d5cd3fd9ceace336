# SPDX-License-Identifier: Apache-2.0
"""Calls are done once each while things fail: a short run of `chaos` with a fixed seed and chosen steps; and that its checker finds what it
is there for."""
import importlib.machinery
import importlib.util
import os

import counter_log
import pytest
from counter_log import BOUND, DONE, WRONG, Disturbance, Line
from dvslab import ROOT

NAMES = {2003: "DVK_EDEADDST", 2008: "DVK_ETIMEDOUT"}
CLIENT = 1 << 32 | 5


def load_chaos():
    loader = importlib.machinery.SourceFileLoader("chaos", os.path.join(ROOT, "tests", "system", "chaos"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("chaos", loader))
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("kinds", [["reset", "client", "proxy", "blip", "server", "drop"], ["dvkd", "majority"], ["stop"]],
                         ids=["connections", "nodes", "fence"])
def test_calls_are_done_once_each(own_lab, kinds):
    own_lab.up(3, "--nodes-named", "a,b,c")
    chaos = load_chaos().Chaos(own_lab, seed=7)
    try:
        chaos.round(kinds)
    finally:
        chaos.end()
    assert not chaos.failures, "\n".join(chaos.failures)
    assert chaos.counts["steps"] == len(kinds) and chaos.counts["answered"] > 100


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


def test_errors_are_those_of_the_header():
    names = counter_log.errors(ROOT)
    assert names[2005] == "DVK_ENODEUNREACH" and counter_log.LOSS <= set(names.values())
