# SPDX-License-Identifier: Apache-2.0
"""libdvk for Python: location-transparent messages between the processes of a distributed container.

The functions of <dvk/*.h> under the same names, as methods of a context; a negative result is an exception.
`man 7 dvk` and docs/DVK.md explain the ideas, the headers each call. Needs nothing but Python and libdvk.so.1.

    import dvk

    with dvk.open() as d:                                       # a server
        d.bind(d.find_dc("work"), dvk.system_slot(d.node(), 32))
        for request in d.requests():
            request.reply(payload=b"Hello " + request.text())

    with dvk.open() as d:                                       # a client, on any node
        me = d.bind(d.find_dc("work"))
        reply, data = d.sendrec(me, dvk.Message(dvk.service_endpoint(2, 32), type=1, payload=b"Ada"), timeout_ms=5000)
        print(reply.status, reply.text())

Threads: one at a time uses a context; wake() may be called by any. Waits give way to Python's own signal handlers (Ctrl-C)
within half a second in receive(), but not in sendrec() and send(): give these a timeout.
"""
import collections
import ctypes
import errno
import os
import time

import dvk_more
from dvk_more import * # pylint: disable=wildcard-import,unused-wildcard-import

# ---- constants (<dvk/endpoint.h>, <dvk/message.h>) ----

NONE, ANY, SLOT_ANY = 0, 2 ** 64 - 1, 0
USER_SLOTS, FIRST_USER_SLOT, SYSTEM_BASE = 1 << 20, 64, 1 << 24
MAX_NODE, MAX_DC, SERVICE_MAX = 384, 4096, 256
MESSAGE_SIZE, PAYLOAD_SIZE, DATA_MAX, MESSAGE_FDS = 256, 208, 65536, 32
LOAN_MAX = 4194304                                        # <dvk/loan.h>
GRANT_READ, GRANT_WRITE, GRANT_SHARE, GRANT_OWN = 1, 2, 4, 0 # <dvk/vcopy.h>
GROUP_DATA_MAX, GROUP_MEMBERS_MAX = 8192, 1024            # <dvk/group.h>
GROUP_MESSAGE, GROUP_VIEW = 1, 2
GROUP_QUORATE, GROUP_OUT = 1, 2
KEY_MAX, KV_VALUE_MAX, KV_ANY, KV_NONE = 255, 32768, 2 ** 64 - 1, 0 # <dvk/service.h>
STALE, TRY, VALUES = 1, 2, 4

EVENT_ENDPOINT_GONE, EVENT_NODE_UP, EVENT_NODE_DOWN, EVENT_DC_GONE, EVENT_CONTROL = 1, 2, 3, 4, 5
EVENT_LOST, EVENT_PROMOTED, EVENT_BACKUP_GONE, EVENT_MIGRATE_ENDED = 16, 20, 21, 22


def endpoint_make(generation, slot):
    return generation << 32 | slot


def endpoint_slot(endpoint):
    return endpoint & 0xffffffff


def endpoint_generation(endpoint):
    return endpoint >> 32


def slot_is_system(slot):
    return slot >= SYSTEM_BASE


def slot_is_user(slot):
    return FIRST_USER_SLOT <= slot < USER_SLOTS


def system_slot(node, service):
    """The slot of a service on a node."""
    return SYSTEM_BASE + node * SERVICE_MAX + service


def service_endpoint(node, service):
    """The well-known address of a service on a node, whichever process offers it now."""
    return endpoint_make(0, system_slot(node, service))


# ---- errors (<dvk/error.h>) ----

ENOTBOUND, EDEADSRC, EDEADDST, ENODC, ENODEUNREACH, ENOTALLOWED, EDEADLOCK, ETIMEDOUT = range(2001, 2009)
EINTERRUPTED, EMIGRATING, ENOSLOT, ESLOTBUSY, EBADPEER, ENOQUORUM, ENODAEMON, EVERSION = range(2009, 2017)
ENOTGRANTED, EREVOKED, EOUTOFGRANT = range(2020, 2023)
ECONFLICT, ENOKEY, EUNKNOWN, ELOST, ENOTMEMBER, EGAP = range(2031, 2037)
ENOBACKUP, ENOTMIGRATING, ENOTCARRIED = range(2040, 2043)
_names = {value: "DVK_" + name for name, value in globals().items()
          if name[0] == "E" and isinstance(value, int) and 2001 <= value <= 2042}


class Error(Exception):
    """A call ended with a negative result. code: that result, e.g. -dvk.ENODC or -errno.EINVAL; name: "DVK_ENODC"."""

    def __init__(self, code):
        super().__init__(strerror(code))
        self.code = code
        self.name = _names.get(-code) or errno.errorcode.get(-code) or str(-code)


class TimedOut(Error, TimeoutError):
    """The timeout passed."""


class Interrupted(Error):
    """wake() or a cancellation ended the wait."""


class Gone(Error):
    """Nobody is there, or not any more: -ENOTBOUND, -EDEADDST, -EDEADSRC or -ENODEUNREACH."""


class NoDC(Error):
    """There is no such distributed container, or not any more."""


class NoQuorum(Error):
    """This node is not in a quorate partition."""


class NoDaemon(Error):
    """dvkd is not running or went away."""


_classes = {ETIMEDOUT: TimedOut, EINTERRUPTED: Interrupted, ENOTBOUND: Gone, EDEADDST: Gone, EDEADSRC: Gone,
            ENODEUNREACH: Gone, ENODC: NoDC, ENOQUORUM: NoQuorum, ENODAEMON: NoDaemon}


def strerror(code):
    """A short text for a result."""
    return _lib.dvk_strerror(code).decode()


def _check(result):
    if result < 0:
        raise _classes.get(-result, Error)(result)
    return result


# ---- structures; python and C must agree: tests/unit/api/layout.c ----

class Message(ctypes.Structure):
    """struct dvk_message. `payload`: its PAYLOAD_SIZE bytes; shorter ones are filled up with zeroes."""

    _fields_ = [("source", ctypes.c_uint64), ("destination", ctypes.c_uint64), ("type", ctypes.c_uint32),
                ("status", ctypes.c_int32), ("data_len", ctypes.c_uint32), ("flags", ctypes.c_uint16),
                ("fds", ctypes.c_uint16), ("notify", ctypes.c_uint64), ("reserved", ctypes.c_uint64),
                ("_payload", ctypes.c_ubyte * PAYLOAD_SIZE)]

    def __init__(self, destination=NONE, type=0, payload=b"", status=0): # pylint: disable=redefined-builtin
        super().__init__(destination=destination, type=type, status=status)
        self.payload = payload

    @property
    def payload(self):
        return bytes(self._payload)

    @payload.setter
    def payload(self, value):
        value = bytes(value)
        if len(value) > PAYLOAD_SIZE:
            raise ValueError(f"a payload has at most {PAYLOAD_SIZE} bytes; more go as data")
        self._payload[:] = value.ljust(PAYLOAD_SIZE, b"\0")

    def text(self):
        """The payload up to its first NUL."""
        return self.payload.split(b"\0", 1)[0]


class _Request(ctypes.Structure):
    _fields_ = [("msg", Message), ("dc", ctypes.c_uint32), ("data", ctypes.c_void_p), ("reply_data", ctypes.c_void_p),
                ("reply_cap", ctypes.c_uint32), ("wants_reply", ctypes.c_bool), ("cancelled", ctypes.c_bool),
                ("local", ctypes.c_bool), ("source_node", ctypes.c_uint32), ("fds", ctypes.c_int * MESSAGE_FDS),
                ("fd_count", ctypes.c_uint), ("user", ctypes.c_void_p), ("user_key", ctypes.c_uint64),
                ("group", ctypes.c_uint64), ("group_event", ctypes.c_uint32)]


class _Event(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("dc", ctypes.c_uint32), ("node", ctypes.c_uint32), ("endpoint", ctypes.c_uint64),
                ("id", ctypes.c_uint64), ("text", ctypes.c_char_p), ("fds", ctypes.c_int * MESSAGE_FDS),
                ("fd_count", ctypes.c_uint)]


class Area(ctypes.Structure):
    """struct dvk_area: memory that `endpoint` has granted, from `offset` on."""

    _fields_ = [("endpoint", ctypes.c_uint64), ("grant", ctypes.c_uint64), ("offset", ctypes.c_uint64)]


class _Member(ctypes.Structure):
    _fields_ = [("endpoint", ctypes.c_uint64), ("node", ctypes.c_uint32), ("reserved", ctypes.c_uint32)]


class _View(ctypes.Structure):
    _fields_ = [("number", ctypes.c_uint64), ("flags", ctypes.c_uint32), ("count", ctypes.c_uint32),
                ("members", ctypes.POINTER(_Member))]


class _KV(ctypes.Structure):
    _fields_ = [("key", ctypes.c_char_p), ("value", ctypes.c_void_p), ("len", ctypes.c_size_t), ("revision", ctypes.c_uint64),
                ("created", ctypes.c_uint64), ("changes", ctypes.c_uint32), ("deleted", ctypes.c_bool), ("gap", ctypes.c_bool)]


class _Lock(ctypes.Structure):
    _fields_ = [("handle", ctypes.c_uint64), ("token", ctypes.c_uint64)]


class _Leader(ctypes.Structure):
    _fields_ = [("endpoint", ctypes.c_uint64), ("node", ctypes.c_uint32), ("token", ctypes.c_uint64), ("text", ctypes.c_char * 256)]


class _NodeState(ctypes.Structure):
    _fields_ = [("node", ctypes.c_uint32), ("reserved", ctypes.c_uint32), ("since_ms", ctypes.c_int64)]


GroupView = collections.namedtuple("GroupView", "number flags members")
GroupMember = collections.namedtuple("GroupMember", "endpoint node")
KV = collections.namedtuple("KV", "key value revision created changes deleted gap")
Leader = collections.namedtuple("Leader", "endpoint node token text")
NodeState = collections.namedtuple("NodeState", "node since_ms")


def _kv_of(raw, value):
    return KV(raw.key.decode() if raw.key else "", value, raw.revision, raw.created, raw.changes, raw.deleted, raw.gap)


class Event:
    """struct dvk_event, copied. fds: the receiver's own."""

    def __init__(self, event):
        self.type, self.dc, self.node, self.endpoint, self.id = event.type, event.dc, event.node, event.endpoint, event.id
        self.text = event.text.decode() if event.text else None
        self.fds = list(event.fds[:event.fd_count])


# ---- the library ----

_DONE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(Message), ctypes.c_void_p, ctypes.c_size_t,
                         ctypes.POINTER(ctypes.c_int), ctypes.c_uint)
_ON_CANCEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(_Request))
_ON_EVENT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(_Event))
_ON_FD = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32)
_ON_TIMER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_ON_KV = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(_KV))
_ON_GONE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int)


def _load():
    lib = ctypes.CDLL(os.environ.get("DVK_LIBRARY", "libdvk.so.1"))
    pointer, u32, u64, size = ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint64, ctypes.c_size_t
    integer, message, out = ctypes.c_int, ctypes.POINTER(Message), ctypes.POINTER
    request, fds, text = out(out(_Request)), out(ctypes.c_int), ctypes.c_char_p
    for name, result, *arguments in (
            ("strerror", text, integer),
            ("open", integer, text, out(pointer)),
            ("close", None, pointer),
            ("node", u32, pointer),
            ("find_dc", integer, pointer, text, out(u32)),
            ("dc_nodes", integer, pointer, u32, out(u32), size),
            ("bind", integer, pointer, u32, u32, out(u64)),
            ("unbind", integer, pointer, u64),
            ("sendrec", integer, pointer, u64, message, pointer, size, pointer, size, out(size), integer),
            ("send", integer, pointer, u64, message, pointer, size, integer),
            ("notify", integer, pointer, u64, u64, u64),
            ("call", integer, pointer, u64, message, pointer, size, fds, ctypes.c_uint, _DONE, pointer, out(u64)),
            ("cancel", integer, pointer, u64),
            ("receive", integer, pointer, request, integer),
            ("receive_from", integer, pointer, u64, u64, request, integer),
            ("receive_request", integer, pointer, u64, u64, request, integer),
            ("reply", None, pointer, out(_Request), message, fds, ctypes.c_uint),
            ("reply_status", None, pointer, out(_Request), integer),
            ("release", None, pointer, out(_Request)),
            ("on_cancel", None, pointer, _ON_CANCEL, pointer),
            ("on_event", None, pointer, _ON_EVENT, pointer),
            ("watch_fd", integer, pointer, integer, u32, _ON_FD, pointer),
            ("timer", integer, pointer, u64, _ON_TIMER, pointer, out(u64)),
            ("timer_cancel", None, pointer, u64),
            ("wake", None, pointer),
            ("loan_get", integer, pointer, u64, u64, size, integer, out(pointer)),
            ("loan_drop", None, pointer, pointer),
            ("accept", integer, pointer, size),
            ("post", integer, pointer, u64, message, pointer, size, integer),
            ("grant", integer, pointer, u64, u64, pointer, size, u32, out(u64)),
            ("revoke", integer, pointer, u64),
            ("vcopy", integer, pointer, u64, out(Area), out(Area), u64, integer, out(u64)),
            ("arena_create", integer, pointer, size, out(pointer)),
            ("arena_destroy", integer, pointer, pointer),
            ("group_join", integer, pointer, u64, text, out(u64), integer),
            ("group_leave", integer, pointer, u64, integer),
            ("group_mcast", integer, pointer, u64, message, pointer, size, integer),
            ("group_view_of", integer, out(_Request), out(_View)),
            ("kv_get", integer, pointer, u64, text, pointer, size, out(_KV), ctypes.c_uint, integer),
            ("kv_put", integer, pointer, u64, text, pointer, size, out(u64), integer),
            ("kv_cas", integer, pointer, u64, text, u64, pointer, size, out(u64), integer),
            ("kv_delete", integer, pointer, u64, text, u64, integer),
            ("kv_list", integer, pointer, u64, text, _ON_KV, pointer, ctypes.c_uint, integer),
            ("kv_watch", integer, pointer, u64, text, _ON_KV, pointer, out(u64), out(u64), integer),
            ("kv_unwatch", integer, pointer, u64, integer),
            ("lock", integer, pointer, u64, text, ctypes.c_uint, out(_Lock), integer),
            ("unlock", integer, pointer, out(_Lock), integer),
            ("leader_campaign", integer, pointer, u64, text, text, ctypes.c_uint, out(_Lock), integer),
            ("leader_get", integer, pointer, u64, text, out(_Leader), ctypes.c_uint, integer),
            ("barrier", integer, pointer, u64, text, ctypes.c_uint, integer),
            ("watch_endpoint", integer, pointer, u64, u64, _ON_GONE, pointer, out(u64)),
            ("unwatch_endpoint", integer, pointer, u64),
            ("nodes", integer, pointer, out(_NodeState), size), *dvk_more.functions(out(_Request))):
        function = getattr(lib, "dvk_" + name)
        function.restype, function.argtypes = result, arguments
    return lib


_lib = _load()


def _bytes_of(data):
    """(address, length, what keeps it alive) of a bytes-like object. A writable one is not copied."""
    if isinstance(data, Memory):
        return data._address(), len(data), data
    if not data:
        return None, 0, None
    view = memoryview(data).cast("B")
    if view.readonly:
        keep = ctypes.c_char_p(bytes(view))
        return ctypes.cast(keep, ctypes.c_void_p), len(view), keep
    keep = (ctypes.c_ubyte * len(view)).from_buffer(view)
    return ctypes.cast(keep, ctypes.c_void_p), len(view), keep


def _ints(values):
    return (ctypes.c_int * max(len(values), 1))(*values)


class Memory:
    """A loan or an arena: memory of libdvk's. `data` is a memoryview of it, up to its end; keep no slice of it longer.
    len() is what a message takes of it: narrow() makes that less."""

    def __init__(self, address, length, is_loan=False):
        self._at, self._length, self._is_loan = address, length, is_loan
        self._data = memoryview((ctypes.c_ubyte * length).from_address(address)).cast("B")

    @property
    def data(self):
        self._address()
        return self._data

    def _address(self):
        if self._at is None:
            raise ValueError("this memory was given back")
        return self._at

    def _end(self):
        self._at = None
        self._data.release()

    def __len__(self):
        return self._length

    def __bool__(self):
        return True

    def narrow(self, length):
        """Take only the first `length` bytes from now on. Returns itself."""
        if not 0 < length <= self._length:
            raise ValueError(f"it has {self._length} bytes")
        self._length = length
        return self


class Lock:
    """A lock or office that we hold: struct dvk_lock. As a context manager it lets go of it at the end of the block."""

    def __init__(self, context, raw):
        self._context, self._raw = context, raw

    @property
    def handle(self):
        return self._raw.handle

    @property
    def token(self):
        """The fencing token: it grows each time that anyone gets the lock."""
        return self._raw.token

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        try:
            self._context.unlock(self)
        except Error:
            if not kind: # what ended the block says more
                raise


class Request:
    """What was received (struct dvk_request). One that wants a reply must be answered once, by reply() or reply_status();
    any other is ended by release(). As a context manager it does that itself at the end of the block if the block has not:
    with status 0, or -EIO if the block was left by an exception.

    message, dc, wants_reply, local, source_node, group, group_event as in C; fds: the receiver's own; data: a copy of the
    out-of-line data."""

    def __init__(self, context, pointer):
        self._context, self._pointer = context, pointer
        raw = pointer.contents
        self.message = Message.from_buffer_copy(raw.msg)
        self.dc, self.wants_reply, self.local, self.source_node = raw.dc, raw.wants_reply, raw.local, raw.source_node
        self.reply_cap, self.group, self.group_event = raw.reply_cap, raw.group, raw.group_event
        self.fds = list(raw.fds[:raw.fd_count])
        self.data = ctypes.string_at(raw.data, raw.msg.data_len) if raw.msg.data_len else b""

    @property
    def type(self):
        return self.message.type

    @property
    def source(self):
        return self.message.source

    @property
    def payload(self):
        return self.message.payload

    def text(self):
        """The payload up to its first NUL."""
        return self.message.text()

    @property
    def cancelled(self):
        """The sender asked to end it early, or has gone; answer soon."""
        return bool(self._raw().contents.cancelled)

    @property
    def answered(self):
        return self._pointer is None

    def _raw(self):
        if self._pointer is None:
            raise ValueError("this request is over")
        return self._pointer

    def _end(self):
        pointer = self._raw()
        self._pointer = None
        self._context._open.pop(ctypes.addressof(pointer.contents), None)
        return pointer

    def _need_reply(self):
        self._raw()
        if not self.wants_reply:
            raise ValueError("a send or a notification has no reply: release() it")

    def reply(self, status=0, payload=b"", data=b"", fds=()):
        """Answer it. data: at most reply_cap bytes. fds are passed along to a requester on this node; they stay ours."""
        self._need_reply()
        if len(data) > self.reply_cap:
            raise ValueError(f"there is room for {self.reply_cap} bytes of data")
        message = Message(status=status, payload=payload)
        message.data_len = len(data)
        if data:
            ctypes.memmove(self._raw().contents.reply_data, bytes(data), len(data))
        _lib.dvk_reply(self._context._handle(), self._end(), message, _ints(fds), len(fds))

    def reply_status(self, status):
        self._need_reply()
        _lib.dvk_reply_status(self._context._handle(), self._end(), status)

    def release(self):
        self._raw()
        if self.wants_reply:
            raise ValueError("it wants a reply")
        _lib.dvk_release(self._context._handle(), self._end())

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if self.answered:
            return
        if self.wants_reply:
            self.reply_status(-errno.EIO if kind else 0)
        else:
            self.release()


def open(socket_path=None): # pylint: disable=redefined-builtin
    """dvk_open: connect to the node's dvkd: at socket_path, else $DVS_SOCKET, else /run/dvs/dvkd.sock."""
    return Dvk(socket_path)


class Dvk(dvk_more.More):
    """A context: a connection to the DVK, closed at the end of a `with` block. Make it by open()."""

    _lib = _lib
    _SLICE_MS = 500 # how long a signal handler of Python's waits at most

    def __init__(self, socket_path=None):
        self._dvk = None
        handle = ctypes.c_void_p()
        _check(_lib.dvk_open(os.fsencode(socket_path) if socket_path else None, handle))
        self._dvk = handle
        self._open = {}      # address -> Request, until it is answered
        self._callbacks = {} # key -> what a call, timer or watch calls
        self._next_key = 1
        self._timers = {}    # id -> key
        self._timer_of = {}  # key -> id
        self._watches = {}   # fd -> key
        self._raised = []    # what callbacks raised: handed on by the wait that ran them
        self._memory = {}    # address -> Memory: loans and arenas
        self._grants = {}    # grant -> what keeps its memory alive
        self._kv_watches, self._gone_watches = {}, {} # id -> key
        self._event_fn = self._cancel_fn = None
        self._reply = None   # where sendrec puts data, made when it is first needed
        # libdvk keeps these: they must live as long as the context
        self._c_done, self._c_timer, self._c_fd = _DONE(self._on_done), _ON_TIMER(self._on_timer), _ON_FD(self._on_fd)
        self._c_event, self._c_cancel = _ON_EVENT(self._on_event), _ON_CANCEL(self._on_cancel)
        self._c_kv, self._c_gone = _ON_KV(self._on_kv), _ON_GONE(self._on_gone)

    def _handle(self):
        if self._dvk is None:
            raise ValueError("this context is closed")
        return self._dvk

    def _ask(self, name, *arguments):
        return _check(getattr(_lib, "dvk_" + name)(self._handle(), *arguments))

    def close(self):
        """End everything: pending calls end with -EINTERRUPTED. May be called again."""
        if self._dvk is None:
            return
        handle, self._dvk = self._dvk, None
        for request in self._open.values():
            request._pointer = None
        self._open.clear()
        for memory in self._memory.values():
            memory._end()
        self._memory.clear()
        _lib.dvk_close(handle)
        self._callbacks.clear()
        self._grants.clear()
        self._hand_on()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    # ---- callbacks from C: an exception may not pass through it

    def _guard(self, function, *arguments):
        try:
            function(*arguments)
        except BaseException as exception: # pylint: disable=broad-except
            self._raised.append(exception)
            if self._dvk is not None:
                _lib.dvk_wake(self._dvk)

    def _hand_on(self):
        if self._raised:
            raised, self._raised = self._raised, []
            raise raised[0]

    def _key_of(self, function):
        key, self._next_key = self._next_key, self._next_key + 1
        self._callbacks[key] = function
        return key

    def _on_done(self, key, status, reply, data, length, fds, count):
        function = self._callbacks.pop(key, None)
        copy = Message.from_buffer_copy(reply.contents)
        if function:
            self._guard(function, status, copy, ctypes.string_at(data, length) if length else b"", list(fds[:count]))
        else:
            for i in range(count):
                os.close(fds[i])

    def _on_timer(self, key):
        self._timers.pop(self._timer_of.pop(key, None), None)
        function = self._callbacks.pop(key, None)
        if function:
            self._guard(function)

    def _on_fd(self, key, fd, events):
        function = self._callbacks.get(key)
        if function:
            self._guard(function, fd, events)

    def _on_event(self, _, event):
        if self._event_fn:
            self._guard(self._event_fn, Event(event.contents))

    def _on_cancel(self, _, pointer):
        request = self._open.get(ctypes.addressof(pointer.contents))
        if request and self._cancel_fn:
            self._guard(self._cancel_fn, request)

    def _on_kv(self, key, raw):
        function, raw = self._callbacks.get(key), raw.contents
        value = ctypes.string_at(raw.value, raw.len) if raw.value else None
        if function:
            self._guard(function, _kv_of(raw, value))

    def _on_gone(self, key, endpoint, status):
        function = self._callbacks.pop(key, None)
        for watch in [number for number, of in self._gone_watches.items() if of == key]:
            del self._gone_watches[watch]
        if function:
            self._guard(function, endpoint, status)

    # ---- binding

    def node(self):
        """This node's id."""
        return _lib.dvk_node(self._handle())

    def find_dc(self, name):
        """The id of the distributed container of that name."""
        dc = ctypes.c_uint32()
        _check(_lib.dvk_find_dc(self._handle(), name.encode(), dc))
        return dc.value

    def dc_nodes(self, dc):
        """The ids of the nodes that it spans, ascending."""
        nodes = (ctypes.c_uint32 * MAX_NODE)()
        count = _check(_lib.dvk_dc_nodes(self._handle(), dc, nodes, MAX_NODE))
        return list(nodes[:count])

    def bind(self, dc, slot=SLOT_ANY):
        """Take a slot; returns the endpoint."""
        endpoint = ctypes.c_uint64()
        _check(_lib.dvk_bind(self._handle(), dc, slot, endpoint))
        return endpoint.value

    def unbind(self, endpoint):
        _check(_lib.dvk_unbind(self._handle(), endpoint))

    # ---- sending

    def sendrec(self, source, message, data=b"", reply_cap=DATA_MAX, timeout_ms=-1):
        """Send a request from our endpoint `source` and wait for its reply: (Message, its data as bytes)."""
        reply = Message.from_buffer_copy(message)
        length = ctypes.c_size_t()
        address, count, keep = _bytes_of(data)
        if self._reply is None or len(self._reply) < reply_cap:
            self._reply = ctypes.create_string_buffer(max(reply_cap, 1))
        result = _lib.dvk_sendrec(self._handle(), source, reply, address, count, self._reply, reply_cap, length, timeout_ms)
        self._sent(keep)
        _check(result)
        return reply, ctypes.string_at(self._reply, length.value)

    def send(self, source, message, data=b"", timeout_ms=-1):
        """Returns when the receiver has taken the message."""
        address, count, keep = _bytes_of(data)
        copy = Message.from_buffer_copy(message)
        result = _lib.dvk_send(self._handle(), source, copy, address, count, timeout_ms)
        self._sent(keep)
        _check(result)

    def post(self, source, message, data=b"", timeout_ms=-1):
        """Send without waiting until it is taken; waits only while the channel is full."""
        address, count, keep = _bytes_of(data)
        copy = Message.from_buffer_copy(message)
        result = _lib.dvk_post(self._handle(), source, copy, address, count, timeout_ms)
        self._sent(keep)
        _check(result)

    # ---- long messages and loans: `data` of sendrec, send, call and post may be a loan, which that ends

    def accept(self, length):
        """Receive messages with up to `length` bytes of data, at most LOAN_MAX."""
        _check(_lib.dvk_accept(self._handle(), length))

    def loan_get(self, source, to, length, timeout_ms=-1):
        """Memory of the channel from our endpoint `source` to `to`: a Memory, to be written in place and sent there."""
        address = ctypes.c_void_p()
        _check(_lib.dvk_loan_get(self._handle(), source, to, length, timeout_ms, address))
        loan = self._memory[address.value] = Memory(address.value, length, True)
        return loan

    def loan_drop(self, loan):
        """Give it back unsent."""
        address = loan._address()
        del self._memory[address]
        loan._end()
        _lib.dvk_loan_drop(self._handle(), address)

    def _sent(self, memory):
        """A loan is over with its message, whatever became of it; an arena is not."""
        if isinstance(memory, Memory) and memory._is_loan:
            self.loan_drop(memory)

    def notify(self, source, to, bits):
        _check(_lib.dvk_notify(self._handle(), source, to, bits))

    def call(self, source, message, done, data=b"", fds=()):
        """Send a request; done(status, reply, data, fds) is called by a later receive(). fds are taken over. Returns its number."""
        number = ctypes.c_uint64()
        address, count, keep = _bytes_of(data)
        key = self._key_of(done)
        result = _lib.dvk_call(self._handle(), source, message, address, count, _ints(fds), len(fds), self._c_done, key, number)
        self._sent(keep)
        if result < 0:
            self._callbacks.pop(key, None)
        _check(result)
        return number.value

    def cancel(self, call):
        _check(_lib.dvk_cancel(self._handle(), call))

    # ---- receiving

    def _receive(self, function, timeout_ms, *arguments):
        deadline = None if timeout_ms < 0 else time.monotonic() + timeout_ms / 1000
        pointer = ctypes.POINTER(_Request)()
        while True:
            left = self._SLICE_MS if deadline is None else max(0, int((deadline - time.monotonic()) * 1000 + 0.999))
            result = function(self._handle(), *arguments, pointer, min(left, self._SLICE_MS))
            if result == 0:
                request = self._open[ctypes.addressof(pointer.contents)] = Request(self, pointer)
            self._hand_on() # a request that came at the same time waits in pending()
            if result == 0:
                return request
            if result != -ETIMEDOUT or left <= self._SLICE_MS and deadline is not None:
                _check(result)

    def receive(self, timeout_ms=-1):
        """The next message to any of our endpoints. Meanwhile callbacks run; what they raise is raised here."""
        return self._receive(_lib.dvk_receive, timeout_ms)

    def receive_from(self, to, source=ANY, timeout_ms=-1):
        """The next message to our endpoint `to` from one source."""
        return self._receive(_lib.dvk_receive_from, timeout_ms, to, source)

    def receive_request(self, to, source=ANY, timeout_ms=-1):
        """The same, but only what wants a reply."""
        return self._receive(_lib.dvk_receive_request, timeout_ms, to, source)

    def requests(self):
        """The receive loop: all that comes, until wake() is called."""
        while True:
            try:
                request = self.receive()
            except Interrupted:
                return
            yield request

    def pending(self):
        """Requests that were received and not answered yet."""
        return list(self._open.values())

    def on_cancel(self, function):
        """function(request): its sender wants it to end early, or has gone."""
        self._cancel_fn = function
        _lib.dvk_on_cancel(self._handle(), self._c_cancel, None)

    def on_event(self, function):
        """function(Event)."""
        self._event_fn = function
        _lib.dvk_on_event(self._handle(), self._c_event, None)

    def watch_fd(self, fd, events, function=None):
        """function(fd, events) whenever fd has one of the epoll events; events 0: not any more."""
        if events:
            key = self._key_of(function)
            _check(_lib.dvk_watch_fd(self._handle(), fd, events, self._c_fd, key))
            self._callbacks.pop(self._watches.pop(fd, None), None)
            self._watches[fd] = key
        else:
            _check(_lib.dvk_watch_fd(self._handle(), fd, 0, self._c_fd, None))
            self._callbacks.pop(self._watches.pop(fd, None), None)

    def timer(self, delay_ms, function):
        """function() once after delay_ms; returns the timer's id."""
        number = ctypes.c_uint64()
        key = self._key_of(function)
        result = _lib.dvk_timer(self._handle(), delay_ms, self._c_timer, key, number)
        if result < 0:
            self._callbacks.pop(key, None)
        _check(result)
        self._timers[number.value], self._timer_of[key] = key, number.value
        return number.value

    def timer_cancel(self, timer):
        _lib.dvk_timer_cancel(self._handle(), timer)
        key = self._timers.pop(timer, None)
        self._timer_of.pop(key, None)
        self._callbacks.pop(key, None)

    def wake(self):
        """End a receive() with Interrupted; any thread may call it, as long as none closes the context."""
        if self._dvk is not None:
            _lib.dvk_wake(self._dvk)

    # ---- copies between address spaces

    def grant(self, endpoint, to, memory, access):
        """Let `to` have memory of ours copied: a bytearray or another writable buffer, a Memory, or bytes for GRANT_READ.
        Returns the grant's number. The memory stays where it is until revoke()."""
        if access & GRANT_WRITE and not isinstance(memory, Memory) and memoryview(memory).readonly:
            raise ValueError("this memory cannot be written")
        number = ctypes.c_uint64()
        address, length, keep = _bytes_of(memory)
        _check(_lib.dvk_grant(self._handle(), endpoint, to, address, length, access, number))
        self._grants[number.value] = keep
        return number.value

    def revoke(self, grant):
        """When it returns nobody touches the memory any more (but see GRANT_SHARE)."""
        _check(_lib.dvk_revoke(self._handle(), grant))
        self._grants.pop(grant, None)

    def vcopy(self, requester, source, destination, length=None, timeout_ms=-1):
        """Copy from one Area to another; either may also be memory of our own: a buffer, to be copied from its start.
        Returns the bytes copied; an Error has them as `done`. length: default is that of our own memory."""
        areas, kept, lengths = [], [], []
        for memory in (source, destination):
            if isinstance(memory, Area):
                areas.append(memory)
                continue
            if memory is destination and not isinstance(memory, Memory) and memoryview(memory).readonly:
                raise ValueError("the destination cannot be written")
            address, count, keep = _bytes_of(memory)
            areas.append(Area(requester, GRANT_OWN, getattr(address, "value", address) or 0))
            kept.append(keep)
            lengths.append(count)
        if length is None:
            if not lengths:
                raise ValueError("how long?")
            length = min(lengths)
        if any(length > count for count in lengths):
            raise ValueError("our own memory is shorter")
        done = ctypes.c_uint64()
        result = _lib.dvk_vcopy(self._handle(), requester, areas[0], areas[1], length, timeout_ms, done)
        del kept
        try:
            _check(result)
        except Error as error:
            error.done = done.value
            raise
        return done.value

    def arena_create(self, size):
        """Memory that can be granted with GRANT_SHARE: a Memory."""
        address = ctypes.c_void_p()
        _check(_lib.dvk_arena_create(self._handle(), size, address))
        arena = self._memory[address.value] = Memory(address.value, size)
        return arena

    def arena_destroy(self, arena):
        """End it and all grants in it."""
        address = arena._address()
        _check(_lib.dvk_arena_destroy(self._handle(), address))
        del self._memory[address]
        arena._end()

    # ---- groups

    def group_join(self, source, name, timeout_ms=-1):
        """Make our endpoint `source` a member; returns the membership. Views and messages come by receive()."""
        group = ctypes.c_uint64()
        _check(_lib.dvk_group_join(self._handle(), source, name.encode(), group, timeout_ms))
        return group.value

    def group_leave(self, group, timeout_ms=-1):
        _check(_lib.dvk_group_leave(self._handle(), group, timeout_ms))

    def group_mcast(self, group, message, data=b"", timeout_ms=-1):
        """To all members, in one order for all. Returns when the message has its place in it."""
        address, count, keep = _bytes_of(data)
        _check(_lib.dvk_group_mcast(self._handle(), group, message, address, count, timeout_ms))
        del keep

    def group_view_of(self, request):
        """What a request with group_event GROUP_VIEW says: a GroupView; members: oldest first."""
        view = _View()
        _check(_lib.dvk_group_view_of(request._raw(), view))
        return GroupView(view.number, view.flags, [GroupMember(m.endpoint, m.node) for m in view.members[:view.count]])

    # ---- keys and values; `source`: our endpoint, whose DC's names are meant

    def kv_get(self, source, key, options=0, timeout_ms=-1):
        """A key: a KV."""
        value, info = ctypes.create_string_buffer(KV_VALUE_MAX), _KV()
        _check(_lib.dvk_kv_get(self._handle(), source, key.encode(), value, KV_VALUE_MAX, info, options, timeout_ms))
        return _kv_of(info, ctypes.string_at(value, info.len))._replace(key=key)

    def kv_put(self, source, key, value, timeout_ms=-1):
        """Returns the revision of the change."""
        return self.kv_cas(source, key, KV_ANY, value, timeout_ms)

    def kv_cas(self, source, key, expected, value, timeout_ms=-1):
        """The same, only if the key is in the expected revision (KV_NONE: there is none)."""
        revision = ctypes.c_uint64()
        address, count, keep = _bytes_of(value)
        if expected == KV_ANY:
            result = _lib.dvk_kv_put(self._handle(), source, key.encode(), address, count, revision, timeout_ms)
        else:
            result = _lib.dvk_kv_cas(self._handle(), source, key.encode(), expected, address, count, revision, timeout_ms)
        del keep
        _check(result)
        return revision.value

    def kv_delete(self, source, key, expected=KV_ANY, timeout_ms=-1):
        _check(_lib.dvk_kv_delete(self._handle(), source, key.encode(), expected, timeout_ms))

    def kv_list(self, source, prefix="", options=0, timeout_ms=-1):
        """The keys that begin with prefix, sorted, as KVs; value is None without VALUES."""
        found = []
        key = self._key_of(found.append)
        try:
            _check(_lib.dvk_kv_list(self._handle(), source, prefix.encode(), self._c_kv, key, options, timeout_ms))
        finally:
            self._callbacks.pop(key, None)
        return found

    def kv_watch(self, source, prefix, function, timeout_ms=-1):
        """function(KV) from within receive() for each change of a key that begins with prefix: (watch, revision before them)."""
        watch, revision, key = ctypes.c_uint64(), ctypes.c_uint64(), self._key_of(function)
        result = _lib.dvk_kv_watch(self._handle(), source, prefix.encode(), self._c_kv, key, watch, revision, timeout_ms)
        if result < 0:
            self._callbacks.pop(key, None)
        _check(result)
        self._kv_watches[watch.value] = key
        return watch.value, revision.value

    def kv_unwatch(self, watch, timeout_ms=-1):
        result = _lib.dvk_kv_unwatch(self._handle(), watch, timeout_ms)
        self._callbacks.pop(self._kv_watches.pop(watch, None), None) # whatever came of it, it is not called any more
        _check(result)

    # ---- locks, elections, barriers

    def lock(self, source, name, options=0, timeout_ms=-1):
        """Wait for a named lock: a Lock. TRY: -EBUSY at once if it is held."""
        raw = _Lock()
        _check(_lib.dvk_lock(self._handle(), source, name.encode(), options, raw, timeout_ms))
        return Lock(self, raw)

    def unlock(self, lock, timeout_ms=-1):
        """Let go of a lock or office."""
        _check(_lib.dvk_unlock(self._handle(), lock._raw, timeout_ms))

    def leader_campaign(self, source, name, text="", options=0, timeout_ms=-1):
        """Stand for an office; returns when we have it: a Lock. text: what others are told of us."""
        raw = _Lock()
        _check(_lib.dvk_leader_campaign(self._handle(), source, name.encode(), text.encode(), options, raw, timeout_ms))
        return Lock(self, raw)

    def leader_get(self, source, name, options=0, timeout_ms=-1):
        """Who leads: a Leader."""
        raw = _Leader()
        _check(_lib.dvk_leader_get(self._handle(), source, name.encode(), raw, options, timeout_ms))
        return Leader(raw.endpoint, raw.node, raw.token, raw.text.decode())

    def barrier(self, source, name, count, timeout_ms=-1):
        """Wait until `count` are there."""
        _check(_lib.dvk_barrier(self._handle(), source, name.encode(), count, timeout_ms))

    # ---- the failure detector

    def watch_endpoint(self, source, endpoint, function):
        """function(endpoint, status) once, from within receive(), when it is gone. Returns the watch."""
        watch, key = ctypes.c_uint64(), self._key_of(function)
        result = _lib.dvk_watch_endpoint(self._handle(), source, endpoint, self._c_gone, key, watch)
        if result < 0:
            self._callbacks.pop(key, None)
        _check(result)
        self._gone_watches[watch.value] = key
        return watch.value

    def unwatch_endpoint(self, watch):
        self._callbacks.pop(self._gone_watches.pop(watch, None), None)
        _check(_lib.dvk_unwatch_endpoint(self._handle(), watch))

    def nodes(self):
        """The nodes that are up, by id: NodeStates."""
        states = (_NodeState * MAX_NODE)()
        count = _check(_lib.dvk_nodes(self._handle(), states, MAX_NODE))
        return [NodeState(state.node, state.since_ms) for state in states[:count]]
