# SPDX-License-Identifier: Apache-2.0
"""A model of the primitives' rules, and random runs of several processes on three nodes that it judges.

Each process (dvk_driver) does what a seeded generator draws, whatever the others do meanwhile. Each message has a number of
its own in its payload. The model keeps what was sent, what became of it and what was received, and says which rule an
observation breaks. It predicts nothing that depends on timing: what may come earlier or later, it allows both ways.
"""
import random
import select
import time

from test_primitives import ANY, DEADDST, DEADLOCK, DEADSRC, FOREVER, INTERRUPTED, NOTBOUND, TIMEDOUT, Party

HOPS = 8
PATIENCE_S = 20 # with nobody getting on


class Broken(AssertionError):
    """A rule that does not hold."""


class Message:
    def __init__(self, number, kind, sender, receiver, length):
        self.number, self.kind, self.length = number, kind, length
        self.source, self.destination = sender.self, receiver.self
        self.local = sender.node == receiver.node
        self.hops = self.received = 0
        self.ended = False   # its sender knows, or has given it up: it may never be received
        self.reply = None    # (status, word, source) that was given
        self.handed_to_source = False


class Actor(Party):
    """A process, and what it is about."""

    def __init__(self, lab, node, dc):
        super().__init__(lab, node, dc)
        self.bind()
        self.busy = None     # (name, arguments, Message or None, when it began)
        self.held = {}       # handle -> Message: requests to be answered, and sends to be released
        self.calls = {}      # number -> (dvk's number, Message)
        self.alive = True


class World:
    def __init__(self, lab, dc, seed, nodes="aaaabbc"):
        self.lab, self.dc, self.random, self.seed = lab, dc, random.Random(seed), seed
        self.actors = [Actor(lab, node, dc) for node in nodes]
        self.messages = {}   # number -> Message
        self.between = {}    # (source, destination) -> Messages not received yet, in order
        self.bits = {}       # (source, destination) -> {bit: number of messages made before}
        self.dead = set()    # endpoints that are gone
        self.gone = []       # some of them, to be addressed
        self.waits = []      # [who, for whom, begin, end or None] of sends, sendrecs and posts
        self.log = []
        self.steps = self.received = self.refused = 0

    # ---- what is wrong

    def check(self, holds, rule, *what):
        if not holds:
            recent = "\n".join(self.log[-40:])
            raise Broken(f"{rule}: {what}\nseed {self.seed}, step {self.steps}\n{recent}")

    def note(self, actor, *what):
        self.log.append(f"{self.actors.index(actor) if actor in self.actors else '?'}{actor.node} {' '.join(map(str, what))}")

    # ---- doing

    def begin(self, actor, name, *arguments, message=None):
        self.note(actor, name, *arguments)
        actor.busy = (name, arguments, message, time.monotonic())
        if name in ("send", "sendrec", "post"): # the first post to somebody waits as a send does
            self.waits.append([actor.self, arguments[1], time.monotonic(), None])
        actor.start(name, *arguments)

    def at_once(self, actor, name, *arguments):
        """A call that never blocks: its result comes though nobody else does anything."""
        self.note(actor, name, *arguments)
        return actor.do(name, *arguments)

    def make(self, actor, kind, to, length):
        message = Message(len(self.messages) + 1, kind, actor, to, length)
        self.messages[message.number] = message
        self.between.setdefault((message.source, message.destination), []).append(message)
        return message

    def poll(self, wait=0.0):
        """Take the results that are there; True if there were any."""
        busy = {actor.process.stdout: actor for actor in self.actors if actor.busy}
        ready = select.select(list(busy), [], [], wait)[0] if busy else []
        for stream in ready:
            self.finished(busy[stream])
        return bool(ready)

    def finished(self, actor):
        (name, arguments, message, since), actor.busy = actor.busy, None
        result = actor.finish()
        self.note(actor, "->", name, *result)
        for wait in self.waits:
            if wait[0] == actor.self and wait[3] is None:
                wait[3] = time.monotonic()
        if result[0] == TIMEDOUT and name in ("send", "sendrec", "receive", "receive_from", "receive_request"):
            timeout = arguments[-1]
            self.check(timeout >= 0, "a wait for ever does not time out", name, arguments)
            self.check((time.monotonic() - since) * 1000 >= timeout, "nothing times out early", name, arguments)
        if name.startswith("receive"):
            self.was_received(actor, name, arguments, result)
        elif name in ("send", "sendrec"):
            self.was_sent(actor, message, result)
        elif name == "post":
            if result[0] < 0:
                message.ended = True
                self.check(result[0] in (TIMEDOUT, DEADDST, NOTBOUND, DEADLOCK), "an error of a post", result)
        for told in ([actor] if actor.calls else []):
            self.take_completions(told)

    # ---- judging

    def was_sent(self, actor, message, result):
        status, now = result[0], time.monotonic()
        message.ended = True
        gone = message.destination in self.dead or message.hops
        if status == 0 and message.kind == "sendrec":
            self.check(message.reply is not None, "a reply is somebody's", message.number)
            self.check(tuple(result[1:4]) == message.reply, "each gets the reply to its own request", result, message.reply)
        elif status == DEADLOCK:
            self.check(message.handed_to_source or self.chain(message, now), "only a circle is refused", message.number)
            self.refused += 1
        elif status in (DEADDST, NOTBOUND):
            self.check(gone, "who is there is not dead", message.number, status)
        else:
            self.check(status in (0, TIMEDOUT), "an error of a send", message.number, status)

    def chain(self, message, now):
        """Did its destination wait for its source, perhaps through others, while it was made?"""
        since = next(wait[2] for wait in reversed(self.waits) if wait[0] == message.source and wait[1] == message.destination)
        edges = {}
        for who, whom, begin, end in self.waits:
            if end is None or end >= since and begin <= now:
                edges.setdefault(who, set()).add(whom)
        seen, next_ones = set(), set(edges.get(message.source, ()))
        while next_ones:
            one = next_ones.pop()
            if one == message.source:
                return True
            seen.add(one)
            next_ones |= edges.get(one, set()) - seen
        return False

    def was_received(self, actor, name, arguments, result):
        if result[0] < 0:
            allowed = {TIMEDOUT}
            if name != "receive" and arguments[1] != ANY:
                allowed |= {NOTBOUND, DEADSRC} if arguments[1] in self.dead else set()
            self.check(result[0] in allowed, "an error of a receive", name, arguments, result)
            return
        handle, source, kind, bits, word, wants, _, _ = result[1:]
        self.received += 1
        wanted = ANY if name == "receive" else arguments[1]
        self.check(wanted in (ANY, source), "a filter lets nobody else through", name, arguments, result)
        self.check(name != "receive_request" or (wants and not bits), "a receive_request gives requests only", result)
        if bits:
            return self.bits_came(actor, source, kind, bits, wants, handle)
        message = self.messages.get(word)
        self.check(message is not None and message.source == source, "the source is who sent it", result)
        self.check(message.destination == actor.self, "it is for who receives it", result)
        self.check(bool(wants) == (message.kind in ("sendrec", "call")), "a send stays a send", result)
        message.received += 1
        self.check(message.received == message.hops + 1, "a message is received once", word)
        if message.hops == 0:
            self.in_order(actor, name, message)
        if wants or message.length:
            actor.held[handle] = message
        else:
            self.at_once(actor, "release", handle)

    def in_order(self, actor, name, message):
        line = self.between[message.source, message.destination]
        for earlier in line[:line.index(message)]:
            skipped = name == "receive_request" and earlier.kind not in ("sendrec", "call")
            self.check(earlier.ended or skipped, "messages of one source come in order", earlier.number, message.number)
        line.remove(message)
        if name == "receive_request" or message.source in self.dead: # what one that is gone had not sent yet is lost
            return
        waiting = self.bits.get((message.source, actor.self), {})
        late = [bit for bit, before in waiting.items() if before < message.number]
        self.check(not late, "notifications come first", late, message.number)

    def bits_came(self, actor, source, kind, bits, wants, handle):
        waiting = self.bits.get((source, actor.self), {})
        self.check(kind == 0 and not wants, "a notification is nothing else", source)
        for bit in range(64):
            if bits >> bit & 1:
                self.check(bit in waiting, "bits come once, from who set them", bit, source)
                del waiting[bit]
        self.at_once(actor, "release", handle)

    def take_completions(self, actor):
        count, *words = actor.ok("completions")
        for i in range(count):
            number, status, *reply = words[i * 5:i * 5 + 5]
            _, message = actor.calls.pop(number)
            self.note(actor, "completed", number, status, *reply)
            if status == 0:
                self.check(message.reply == tuple(reply), "each gets the reply to its own call", reply, message.reply)
            else:
                allowed = {INTERRUPTED} if message.ended else set()
                allowed |= {DEADDST, NOTBOUND} if message.destination in self.dead or message.hops else set()
                self.check(status in allowed, "an error of a call", number, status)
            message.ended = True

    # ---- what can be drawn

    def other(self, actor):
        return self.random.choice([one for one in self.actors if one is not actor])

    def draw_receive(self, actor):
        name = self.random.choice(("receive", "receive", "receive_from", "receive_from", "receive_request"))
        timeout = self.random.choice((0, 0, 3, 20))
        if name == "receive":
            return self.begin(actor, name, timeout)
        source = self.random.choice([ANY, *(one.self for one in self.actors if one is not actor), *self.gone[-1:]])
        return self.begin(actor, name, actor.self, source, timeout)

    def draw_send(self, actor):
        to, kind = self.other(actor), self.random.choice(("send", "sendrec"))
        timeout = self.random.choice((0, 5, 30, FOREVER) if to.node == actor.node else (0, 5, 30, 200))
        message = self.make(actor, kind, to, self.random.choice((0, 0, 10, 5000)))
        self.begin(actor, kind, actor.self, to.self, 1, message.number, message.length, timeout, message=message)

    def draw_call(self, actor):
        to = self.other(actor)
        if len(actor.calls) > 20:
            return
        message = self.make(actor, "call", to, self.random.choice((0, 10)))
        error, number = self.at_once(actor, "call", actor.self, to.self, 1, message.number, message.length)
        self.check(error == 0, "a call begins", error)
        actor.calls[message.number] = number, message

    def draw_post(self, actor):
        to = self.other(actor)
        message = self.make(actor, "post", to, self.random.choice((0, 0, 10)))
        self.begin(actor, "post", actor.self, to.self, 1, message.number, message.length, 50, message=message)

    def draw_notify(self, actor):
        to = self.other(actor)
        waiting = self.bits.setdefault((actor.self, to.self), {})
        free = [bit for bit in range(64) if bit not in waiting]
        if free:
            bit = self.random.choice(free)
            waiting[bit] = len(self.messages)
            self.check(self.at_once(actor, "notify", actor.self, to.self, 1 << bit) == [0], "a notification is made")

    def draw_answer(self, actor):
        if not actor.held:
            return
        handle = self.random.choice(list(actor.held))
        message = actor.held[handle]
        if message.kind not in ("sendrec", "call"):
            del actor.held[handle]
            self.at_once(actor, "release", handle)
        elif message.hops < HOPS and self.random.random() < 0.2:
            to = self.other(actor)
            message.hops += 1
            message.handed_to_source |= to.self == message.source
            message.destination = to.self
            if message.kind == "sendrec" and not message.ended: # now its source waits for that one
                self.waits.append([message.source, to.self, time.monotonic(), None])
            self.check(self.at_once(actor, "relay", handle, to.self) == [0], "a request can be handed on")
            del actor.held[handle]
        else:
            del actor.held[handle]
            message.reply = self.random.randrange(-40, 40), self.random.getrandbits(60), actor.self
            self.at_once(actor, "reply", handle, message.reply[0], message.reply[1], 0)

    def draw_cancel(self, actor):
        if actor.calls:
            number, message = self.random.choice(list(actor.calls.values()))
            message.ended = True
            self.check(self.at_once(actor, "cancel", number)[0] in (0, -3), "a call can be taken back")

    def forget(self, actor):
        """Its endpoint is gone."""
        self.dead.add(actor.self)
        self.gone.append(actor.self)
        for message in self.messages.values():
            message.ended |= actor.self in (message.source, message.destination)
        self.bits = {pair: bits for pair, bits in self.bits.items() if pair[1] != actor.self}

    def draw_unbind(self, actor):
        if actor.held or actor.calls:
            return # replies to them would be from an endpoint that is none any more
        self.forget(actor)
        self.check(self.at_once(actor, "unbind", actor.self) == [0], "one's own can be unbound")
        actor.bind()

    def draw_kill(self, actor):
        self.note(actor, "is killed")
        self.forget(actor)
        for number in [*actor.calls]:
            actor.calls.pop(number)
        actor.kill()
        actor.process.stdin.close()
        actor.process.stdout.close()
        self.waits = [wait for wait in self.waits if wait[0] != actor.self]
        self.actors[self.actors.index(actor)] = Actor(self.lab, actor.node, self.dc)

    DRAWS = (("receive", 40), ("send", 18), ("call", 8), ("post", 8), ("notify", 12), ("answer", 30), ("cancel", 2), ("unbind", 0.4),
             ("kill", 0.15))

    def step(self):
        self.steps += 1
        self.poll(0.0)
        idle = [actor for actor in self.actors if not actor.busy]
        if not idle:
            self.poll(0.02)
            return
        actor = self.random.choice(idle)
        name = self.random.choices([name for name, _ in self.DRAWS], [weight for _, weight in self.DRAWS])[0]
        if name == "kill": # also one that waits
            actor = self.random.choice(self.actors)
        getattr(self, "draw_" + name)(actor)
        if len(self.waits) > 200:
            self.waits = [wait for wait in self.waits if wait[3] is None or wait[3] > time.monotonic() - 5]

    # ---- the end

    def serve(self, actor):
        """Answer all it has, and take what there is."""
        for handle in list(actor.held):
            message = actor.held.pop(handle)
            if message.kind in ("sendrec", "call"):
                message.reply = 7, self.random.getrandbits(60), actor.self
                self.at_once(actor, "reply", handle, message.reply[0], message.reply[1], 0)
            else:
                self.at_once(actor, "release", handle)
        if not actor.busy:
            self.begin(actor, "receive", 10)

    def settle(self, done):
        """Everyone serves until done(). A wait that nothing ends is found here."""
        last = time.monotonic()
        while not done():
            self.steps += 1
            before = self.received, sum(1 for actor in self.actors if actor.busy and not actor.busy[0].startswith("receive"))
            for actor in self.actors:
                if not actor.busy:
                    self.serve(actor)
            self.poll(0.05)
            after = self.received, sum(1 for actor in self.actors if actor.busy and not actor.busy[0].startswith("receive"))
            last = time.monotonic() if before != after else last
            self.check(time.monotonic() - last < PATIENCE_S, "every wait ends", [actor.busy for actor in self.actors])

    def finish(self):
        self.settle(lambda: not any(actor.calls or (actor.busy and not actor.busy[0].startswith("receive")) for actor in self.actors))
        # behind what was posted and notified: what came before has been received by then
        for distance in range(1, len(self.actors)):
            for actor in self.actors:
                to = self.actors[(self.actors.index(actor) + distance) % len(self.actors)]
                self.settle(lambda actor=actor: not actor.busy)
                message = self.make(actor, "sendrec", to, 0)
                self.begin(actor, "sendrec", actor.self, to.self, 1, message.number, 0, 5000, message=message)
                self.settle(lambda actor=actor, message=message: message.ended)
                self.check(message.reply is not None, "who serves answers", message.number)
        self.settle(lambda: not any(actor.busy and not actor.busy[0].startswith("receive") for actor in self.actors))
        for pair, line in self.between.items():
            lost = [message.number for message in line if not message.ended and not message.hops]
            self.check(not lost, "nothing is lost between two that live", pair, lost)
        for pair, bits in self.bits.items():
            self.check(not bits or pair[0] in self.dead, "no bit is lost between two that live", pair, bits)

    def end(self):
        for actor in self.actors:
            actor.kill()
            actor.process.stdin.close()
            actor.process.stdout.close()


def run(lab, dc, seed, steps):
    """One run; (messages received, circles refused). Raises Broken."""
    world = World(lab, dc, seed)
    try:
        while world.steps < steps:
            world.step()
        world.finish()
    finally:
        world.end()
    return world.received, world.refused
