# SPDX-License-Identifier: Apache-2.0
"""libdvk for Python: location-transparent messages between the processes of a distributed container.

The functions of <dvk/dvk.h> under the same names, as methods of a context; a negative result is an exception.
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
import ctypes
import errno
import os
import time

# ---- constants (<dvk/endpoint.h>, <dvk/message.h>) ----

NONE, ANY, SLOT_ANY = 0, 2 ** 64 - 1, 0
USER_SLOTS, FIRST_USER_SLOT, SYSTEM_BASE = 1 << 20, 64, 1 << 24
MAX_NODE, MAX_DC, SERVICE_MAX = 384, 4096, 256
MESSAGE_SIZE, PAYLOAD_SIZE, DATA_MAX, MESSAGE_FDS = 256, 208, 65536, 32

EVENT_ENDPOINT_GONE, EVENT_NODE_UP, EVENT_NODE_DOWN, EVENT_DC_GONE, EVENT_CONTROL = 1, 2, 3, 4, 5
EVENT_LOST = 16


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
_names = {value: "DVK_" + name for name, value in globals().items() if isinstance(value, int) and 2001 <= value <= 2016}


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
            ("wake", None, pointer)):
        function = getattr(lib, "dvk_" + name)
        function.restype, function.argtypes = result, arguments
    return lib


_lib = _load()


def _bytes_of(data):
    """(address, length, what keeps it alive) of a bytes-like object. A writable one is not copied."""
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


class Request:
    """What was received (struct dvk_request). One that wants a reply must be answered once, by reply() or reply_status();
    any other is ended by release(). As a context manager it does that itself at the end of the block if the block has not:
    with status 0, or -EIO if the block was left by an exception.

    message, dc, wants_reply, local, source_node as in C; fds: the receiver's own; data: a copy of the out-of-line data."""

    def __init__(self, context, pointer):
        self._context, self._pointer = context, pointer
        raw = pointer.contents
        self.message = Message.from_buffer_copy(raw.msg)
        self.dc, self.wants_reply, self.local, self.source_node = raw.dc, raw.wants_reply, raw.local, raw.source_node
        self.reply_cap = raw.reply_cap
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


class Dvk:
    """A context: a connection to the DVK, closed at the end of a `with` block. Make it by open()."""

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
        self._event_fn = self._cancel_fn = None
        self._reply = None   # where sendrec puts data, made when it is first needed
        # libdvk keeps these: they must live as long as the context
        self._c_done, self._c_timer, self._c_fd = _DONE(self._on_done), _ON_TIMER(self._on_timer), _ON_FD(self._on_fd)
        self._c_event, self._c_cancel = _ON_EVENT(self._on_event), _ON_CANCEL(self._on_cancel)

    def _handle(self):
        if self._dvk is None:
            raise ValueError("this context is closed")
        return self._dvk

    def close(self):
        """End everything: pending calls end with -EINTERRUPTED. May be called again."""
        if self._dvk is None:
            return
        handle, self._dvk = self._dvk, None
        for request in self._open.values():
            request._pointer = None
        self._open.clear()
        _lib.dvk_close(handle)
        self._callbacks.clear()
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
        _check(_lib.dvk_sendrec(self._handle(), source, reply, address, count, self._reply, reply_cap, length, timeout_ms))
        del keep
        return reply, ctypes.string_at(self._reply, length.value)

    def send(self, source, message, data=b"", timeout_ms=-1):
        """Returns when the receiver has taken the message."""
        address, count, keep = _bytes_of(data)
        copy = Message.from_buffer_copy(message)
        _check(_lib.dvk_send(self._handle(), source, copy, address, count, timeout_ms))
        del keep

    def notify(self, source, to, bits):
        _check(_lib.dvk_notify(self._handle(), source, to, bits))

    def call(self, source, message, done, data=b"", fds=()):
        """Send a request; done(status, reply, data, fds) is called by a later receive(). fds are taken over. Returns its number."""
        number = ctypes.c_uint64()
        address, count, keep = _bytes_of(data)
        key = self._key_of(done)
        result = _lib.dvk_call(self._handle(), source, message, address, count, _ints(fds), len(fds), self._c_done, key, number)
        del keep
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
