# SPDX-License-Identifier: Apache-2.0
"""A process that makes the calls of libdvk that it is told, for tests of their results: call_peer.py LIBRARY.

One line of JSON on standard input is one call, [NAME, ARGUMENT...] without the context; one line comes back: [RESULT,
OUTPUT...]. How each argument is made from JSON stands in SIGNATURES. Received requests are named by handles, 0 first.
"""
import ctypes
import errno
import json
import os
import resource
import sys

PAYLOAD = 208
u32, u64, size, pointer = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p
INTERRUPTED, TIMEDOUT = -2009, -2008


class Message(ctypes.Structure):
    _fields_ = [("source", u64), ("destination", u64), ("type", u32), ("status", ctypes.c_int32), ("data_len", u32),
                ("flags", ctypes.c_uint16), ("fds", ctypes.c_uint16), ("notify", u64), ("reserved", u64),
                ("payload", ctypes.c_ubyte * PAYLOAD)]


class Request(ctypes.Structure):  # its beginning
    _fields_ = [("msg", Message), ("dc", u32), ("data", pointer), ("reply_data", pointer), ("reply_cap", u32),
                ("wants_reply", ctypes.c_bool), ("cancelled", ctypes.c_bool), ("local", ctypes.c_bool), ("source_node", u32)]


class Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("dc", u32), ("node", u32), ("endpoint", u64), ("id", u64)]


Area = u64 * 3
DONE = ctypes.CFUNCTYPE(None, pointer, ctypes.c_int, pointer, pointer, size, pointer, ctypes.c_uint)
GONE = ctypes.CFUNCTYPE(None, pointer, u64, ctypes.c_int)
ON_EVENT = ctypes.CFUNCTYPE(None, pointer, ctypes.POINTER(Event))
ANYTHING = ctypes.CFUNCTYPE(None, pointer)

# One letter an argument:
#   i u q z  int, uint32_t, uint64_t, size_t     s  text, or null                 o  uint64_t that comes out
#   m        [destination, type]: a message      d  N: N bytes and N; -N: NULL and N   h  handle of a request
#   r        room for a reply and its length     R  a request that comes out      c  null, 0: descriptors that go along
#   f        [file]: one descriptor that goes along, of a file opened by that name    a  [endpoint, grant, offset]
#   D G F A  callbacks with their context: done, gone, other; null: none          x  4096 bytes that nobody looks at
#   k        [handle, token]: a lock             K  a lock that comes out          p  an address, or null
SIGNATURES = {
    "find_dc": "so", "dc_nodes": "uxz", "bind": "uuo", "unbind": "q", "sendrec": "qmdri", "send": "qmdi", "post": "qmdi",
    "notify": "qqq", "call": "qmdcDo", "call_fds": "qmdfDo", "cancel": "q", "receive": "Ri", "receive_from": "qqRi",
    "receive_request": "qqRi", "relay": "hq", "wait_bind": "qqoi", "wait_unbind": "qqi", "info_endpoint": "qqx",
    "watch_endpoint": "qqGo", "unwatch_endpoint": "q", "nodes": "xz", "control_reply": "qs", "control_send": "s",
    "watch_fd": "iuF", "timer": "qFo", "loan_get": "qqzio", "accept": "z", "grant": "qqpzuo", "revoke": "q",
    "vcopy": "qaaqio", "arena_create": "zo", "arena_destroy": "p", "kv_get": "qsxzxui", "kv_put": "qsdoi",
    "kv_cas": "qsqdoi", "kv_delete": "qsqi", "kv_list": "qsFui", "kv_watch": "qsFooi", "kv_unwatch": "qi",
    "lock": "qsuKi", "unlock": "ki", "leader_campaign": "qssuKi", "leader_get": "qsxui", "barrier": "qsui",
    "group_join": "qsoi", "group_leave": "qi", "group_mcast": "qmdi", "group_view_of": "hx", "slots_watch": "uF",
    "slots_take": "uuu", "slots_give": "uxu", "get_privileges": "qqxi", "set_privileges": "qqxi", "bind_backup": "uqi", "bind_replica": "uqi", "unbind_backup": "uq", "migrate_start": "qui", "migrate_carry": "hq", "migrate_commit": "qi",
    "migrate_rollback": "qi", "guest_bind": "uuuF", "guest_unbind": "qu",
}
NUMBERS = {"i": ctypes.c_int, "u": u32, "q": u64, "z": size, "p": pointer}

lib = ctypes.CDLL(sys.argv[1])
context = pointer()
held, completions, gone, events = [], [], [], []
awaited = None # the list that somebody waits for
scratch = [ctypes.create_string_buffer(1 << 23) for _ in range(2)]


def tell(what, value):
    what.append(value)
    if what is awaited:
        lib.dvk_wake(context)


@DONE
def on_done(_context, status, *_):
    tell(completions, status)


@GONE
def on_gone(_context, _endpoint, status):
    tell(gone, status)


@ON_EVENT
def on_event(_context, event):
    tell(events, [event.contents.type, event.contents.id])


@ANYTHING
def on_anything(_context):
    pass


def out_of(kind):
    """Memory for what comes out."""
    return {"o": u64, "R": pointer, "K": u64 * 2}[kind]()


def arguments(signature, given):
    """The C arguments, and what of them comes out: (letter, object)."""
    given, made, outs = iter(given), [], []
    for kind in signature:
        if kind in "oRK":
            outs.append((kind, out_of(kind)))
            made.append(ctypes.byref(outs[-1][1]))
        elif kind == "x":
            made.append(scratch[1])
        elif kind == "r":
            made += [scratch[1], size(65536), ctypes.byref(size())]
        elif kind == "c":
            made += [None, ctypes.c_uint(0)]
        else:
            made += argument(kind, next(given))
    return made, outs


def argument(kind, value):
    if kind in NUMBERS:
        return [NUMBERS[kind](value) if kind == "p" or value >= 0 else NUMBERS[kind](value % 2 ** (8 * ctypes.sizeof(NUMBERS[kind])))]
    if kind == "s":
        return [value if value is None else value.encode()]
    if kind == "m":
        message = Message(destination=value[0], type=value[1])
        return [ctypes.byref(message)]
    if kind == "d":
        return [scratch[0] if value > 0 else None, size(abs(value))]
    if kind == "f":
        return [(ctypes.c_int * 1)(os.open(value, os.O_RDONLY)), ctypes.c_uint(1)]
    if kind == "h":
        return [held[value]]
    if kind == "a":
        return [ctypes.byref(Area(*value))]
    if kind == "k":
        return [ctypes.byref((u64 * 2)(*value))]
    return [{"D": on_done, "G": on_gone, "F": on_anything}[kind] if value else None, None]


def told(kind, value, result):
    if kind == "o":
        return [value.value]
    if kind == "K":
        return list(value)
    if result < 0:
        return []
    held.append(value)
    request = ctypes.cast(value, ctypes.POINTER(Request)).contents
    return [len(held) - 1, request.msg.source, request.msg.type, request.msg.notify, int(request.wants_reply)]


def call(name, *given):
    """One call. Waits that a completion has ended begin anew: nobody called dvk_wake to have them end."""
    while True:
        made, outs = arguments(SIGNATURES[name], given)
        if name != "group_view_of": # the one call without it
            made.insert(0, context)
        result = getattr(lib, "dvk_" + name.replace("call_fds", "call"))(*made)
        if result != INTERRUPTED or not name.startswith("receive"):
            return [result] + [word for kind, value in outs for word in told(kind, value, result)]


def wait_for_one(what):
    """The next of what callbacks told; requests that come meanwhile are released."""
    global awaited # pylint: disable=global-statement
    awaited = what
    while not what:
        request = pointer()
        result = lib.dvk_receive(context, ctypes.byref(request), 10000)
        if result == 0:
            lib.dvk_release(context, request)
        elif result != INTERRUPTED:
            return [result]
    return [0, what.pop(0)]


def opened(path):
    result = lib.dvk_open(path.encode() if path is not None else None, ctypes.byref(context))
    if result == 0:
        lib.dvk_on_event(context, on_event, None)
    return [result]


def opened_again(path):
    """A second context, closed at once."""
    other = pointer()
    result = lib.dvk_open(path.encode(), ctypes.byref(other))
    if result == 0:
        lib.dvk_close(other)
    return [result]


def reply(handle, status):
    lib.dvk_reply_status(context, held[handle], ctypes.c_int(status))
    return [0]


def release(handle):
    lib.dvk_release(context, held[handle])
    return [0]


def woken(name, *given):
    """A receive after dvk_wake."""
    made, _ = arguments(SIGNATURES[name], given)
    lib.dvk_wake(context)
    return [getattr(lib, "dvk_" + name)(context, *made)]


def again(count, name, *given):
    """A call that many times, until one fails; "%" in its texts is the number of the time."""
    for number in range(count):
        result = call(name, *(word.replace("%", str(number)) if isinstance(word, str) else word for word in given))
        if result[0] < 0:
            return [result[0], number]
    return [0, count]


def calls(count, source, slot):
    """So many calls to addresses with that slot, one after another without looking what comes."""
    for generation in range(1, count + 1):
        made, _ = arguments(SIGNATURES["call"], [source, [generation << 32 | slot, 1], 0, True])
        result = lib.dvk_call(context, *made)
        if result < 0:
            return [result]
    return [0]


def descriptors(most):
    """At most so many; 0: as many as there are now."""
    most = most or len(os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return [0]


def address(length):
    """Of that many bytes of memory."""
    memory = ctypes.create_string_buffer(length)
    held.append(memory)
    return [0, ctypes.addressof(memory)]


def open_file(path):
    return [0, os.open(path, os.O_RDONLY)]


OWN = {"open": opened, "open_file": open_file, "open_again": opened_again, "reply": reply, "release": release, "woken": woken, "calls": calls, "again": again,
       "descriptors": descriptors, "address": address,
       "done": lambda: wait_for_one(completions), "gone": lambda: wait_for_one(gone), "event": lambda: wait_for_one(events)}


def main():
    lib.dvk_reply_status.argtypes = [pointer, pointer, ctypes.c_int]
    lib.dvk_release.argtypes = [pointer, pointer]
    lib.dvk_wake.argtypes = [pointer]
    for line in sys.stdin:
        name, *given = json.loads(line)
        try:
            answer = OWN[name](*given) if name in OWN else call(name, *given)
        except OSError as error:
            answer = [-error.errno if error.errno else -errno.EIO]
        print(json.dumps(answer), flush=True)
    if context:
        lib.dvk_close(context)


main()
