# SPDX-License-Identifier: Apache-2.0
"""What dvs-binder wrote down (tests/programs/binder.c), and whether it may be so: no address is given out twice, no slot is two nodes' at
a time, none is lost without a loss."""
import collections

from counter_log import GRACE

Hold = collections.namedtuple("Hold", "node endpoint begin end") # monotonic seconds; end: infinite while it lasts


def lines(text):
    """(letter, word, seconds) of each whole line."""
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            letter, word, ns = line.split()
            yield letter, word, int(ns) / 1e9


def reached(text):
    """The tokens of what was reached."""
    return {word for letter, word, _ in lines(text) if letter == "R"}


def holds(node, text, disturbances):
    """(holds, failures) of a log of `node`, a number. What is lost is another's from the loss on, whenever the node learns of it."""
    held, found, failures = {}, [], []
    for letter, word, at in lines(text):
        if letter == "B":
            held[int(word, 16)] = at
        elif letter == "U":
            found.append(Hold(node, int(word, 16), held.pop(int(word, 16)), at))
        elif letter == "L":
            losses = [d.begin for d in disturbances if node in d.nodes and d.begin <= at <= (d.end or at) + GRACE]
            if not losses:
                failures.append(f"node {node} lost its endpoints at {at:.3f}, though nothing happened to it")
            found.extend(Hold(node, endpoint, begin, at) for endpoint, begin in held.items())
            found = [hold._replace(end=min(hold.end, max(losses, default=at))) for hold in found]
            held.clear()
    found.extend(Hold(node, endpoint, begin, float("inf")) for endpoint, begin in held.items())
    return found, failures


def check(all_holds, seen):
    """Failures. seen: {address: who had it}, of all that there ever were in the container, to which these are added."""
    failures, by_slot = [], collections.defaultdict(list)

    def when(hold):
        return f"node {hold.node} {hold.begin:.3f}..{hold.end:.3f}"

    for hold in all_holds:
        if hold.endpoint in seen:
            failures.append(f"address {hold.endpoint:#x} was given out twice: {when(seen[hold.endpoint])}, {when(hold)}")
        seen[hold.endpoint] = hold
        if hold.end > hold.begin: # else: bound on a node that was out already and did not know, and undone as soon as it did
            by_slot[hold.endpoint & 0xffffffff].append(hold)
    for slot, ones in by_slot.items():
        ones.sort(key=lambda hold: hold.begin)
        for one, other in zip(ones, ones[1:]):
            if other.begin < one.end:
                failures.append(f"slot {slot} was had by two at a time: {when(one)}, {when(other)}")
    return failures
