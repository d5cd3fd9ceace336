# SPDX-License-Identifier: Apache-2.0
"""The part of dvk.py that few programs need: <dvk/primitives.h>, <dvk/migrate.h>, <dvk/privilege.h>,
<dvk/stats.h>. Import dvk, not this."""
import collections
import ctypes

_u32, _u64, _i32, _i64 = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int32, ctypes.c_int64
_pointer, _integer, _out = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER

STATS_TIMED_OUT, STATS_DEAD, STATS_UNREACHABLE, STATS_NOT_BOUND, STATS_REFUSED, STATS_INTERRUPTED, STATS_BROKEN, STATS_OTHER = range(8)
STATS_COUNTED, STATS_GUEST = 1, 2
DC_BARE, DC_VOS = 1, 2
(MAY_SEND, MAY_SENDREC, MAY_NOTIFY, MAY_RELAY, MAY_GRANT, MAY_COPY, MAY_GROUP, MAY_SERVICE, MAY_MIGRATE, MAY_BIND,
 MAY_PRIVILEGE) = (1 << bit for bit in range(11))
MAY_ALL = (1 << 11) - 1
PEERS_ALL, PEERS_SERVERS, PEERS_RANGES = 1, 2, 16


class Stats(ctypes.Structure):
    """struct dvk_stats: what only grows. `errors`: by STATS_TIMED_OUT and so on."""

    _fields_ = [(name, _u64) for name in (
        "sendrecs", "calls", "sends", "posts", "notifies", "completed", "bytes_out", "bytes_in", "arrived", "requests_in",
        "sends_in", "notifies_in", "casts_in", "replies", "relayed", "withdrawn", "casts", "loans", "posts_failed")]
    _fields_ += [("errors", _u64 * 8), ("reserved", _u64 * 5)]


class StatsNow(ctypes.Structure):
    """struct dvk_stats_now: what is under way."""

    _fields_ = [(name, _u64) for name in ("pending", "unanswered", "queued", "untaken")]


class EndpointStats(ctypes.Structure):
    """struct dvk_endpoint_stats."""

    _fields_ = [("size", _u32), ("dc", _u32), ("endpoint", _u64), ("node", _u32), ("flags", _u32), ("since_ms", _i64),
                ("pid", _i32), ("reserved", _u32), ("now", StatsNow), ("total", Stats)]


class DCStats(ctypes.Structure):
    """struct dvk_dc_stats."""

    _fields_ = [("size", _u32), ("dc", _u32), ("nodes", _u32), ("missing", _u32), ("endpoints", _u64), ("channels", _u64),
                ("channel_bytes", _u64), ("binds", _u64), ("connects", _u64), ("now", StatsNow), ("total", Stats)]


class NodeStats(ctypes.Structure):
    """struct dvk_node_stats."""

    _fields_ = [("size", _u32), ("node", _u32), ("since_ms", _i64), ("endpoints", _u64), ("channels", _u64),
                ("channel_bytes", _u64), ("binds", _u64), ("connects", _u64), ("processes", _u64), ("packets_in", _u64),
                ("packets_out", _u64), ("changes", _u64), ("now", StatsNow), ("total", Stats)]


class EndpointInfo(ctypes.Structure):
    """struct dvk_endpoint_info."""

    _fields_ = [("endpoint", _u64), ("dc", _u32), ("node", _u32), ("backups", _u32)]


class PeersRange(ctypes.Structure):
    """struct dvk_peers_range."""

    _fields_ = [("first", _u64), ("last", _u64)]


class Peers(ctypes.Structure):
    """struct dvk_peers: Peers(PEERS_SERVERS, 70, (80, 90)): these, slot 70, and slots 80 to 90."""

    _fields_ = [("flags", _u32), ("count", _u32), ("ranges", PeersRange * PEERS_RANGES)]

    def __init__(self, flags=0, *ranges):
        if len(ranges) > PEERS_RANGES:
            raise ValueError(f"more than {PEERS_RANGES} ranges")
        super().__init__(flags, len(ranges))
        for at, one in zip(self.ranges, ranges):
            at.first, at.last = one if isinstance(one, tuple) else (one, one)


class Privileges(ctypes.Structure):
    """struct dvk_privileges. `from` is a word of Python's: it is called from_ here."""

    _fields_ = [("calls", _u32), ("reserved", _u32), ("to", Peers), ("from_", Peers)]

    def __init__(self, calls=MAY_ALL, to=None, from_=None):
        super().__init__(calls, 0, to or Peers(PEERS_ALL), from_ or Peers(PEERS_ALL))


class _DCInfo(ctypes.Structure):
    _fields_ = [("size", _u32), ("dc", _u32), ("kind", _u32), ("node_count", _u32), ("sets", _u32), ("sets_free", _u32),
                ("endpoints", _u64), ("name", ctypes.c_char * 64)]


class _DCNode(ctypes.Structure):
    _fields_ = [("node", _u32), ("up", _u32), ("sets", _u32), ("reserved", _u32)]


DCInfo = collections.namedtuple("DCInfo", "dc kind name sets sets_free endpoints nodes")
DCNode = collections.namedtuple("DCNode", "node up sets")


def functions(request):
    """What dvk.py declares; request: its struct dvk_request *."""
    return (("relay", _integer, _pointer, request, _u64),
            ("wait_bind", _integer, _pointer, _u64, _u64, _out(_u64), _integer),
            ("wait_unbind", _integer, _pointer, _u64, _u64, _integer),
            ("info_endpoint", _integer, _pointer, _u64, _u64, _out(EndpointInfo)),
            ("bind_backup", _integer, _pointer, _u32, _u64, _integer),
            ("bind_replica", _integer, _pointer, _u32, _u64, _integer),
            ("unbind_backup", _integer, _pointer, _u32, _u64),
            ("migrate_start", _integer, _pointer, _u64, _u32, _integer),
            ("migrate_carry", _integer, _pointer, request, _u64),
            ("migrate_resumed", ctypes.c_bool, request, _out(_u64)),
            ("migrate_commit", _integer, _pointer, _u64, _integer),
            ("migrate_rollback", _integer, _pointer, _u64, _integer),
            ("get_privileges", _integer, _pointer, _u64, _u64, _out(Privileges), _integer),
            ("set_privileges", _integer, _pointer, _u64, _u64, _out(Privileges), _integer),
            ("stats_endpoint", _integer, _pointer, _u64, _u64, _out(EndpointStats)),
            ("stats_dc", _integer, _pointer, _u64, _u32, _out(DCStats)),
            ("stats_node", _integer, _pointer, _u64, _u32, _out(NodeStats)),
            ("info_dc", _integer, _pointer, _u32, _out(_DCInfo), _out(_DCNode), ctypes.c_size_t))


class More:
    """Methods of dvk.Dvk. _ask(name, *arguments) there calls dvk_<name> with the context and raises what it returns."""

    # ---- <dvk/primitives.h>; `source`: our endpoint, of whose DC the other one is

    def relay(self, request, to):
        """Hand a request on: `to` answers it. It is over for us, unless this raises."""
        self._ask("relay", request._raw(), to)
        request._end()

    def wait_bind(self, source, endpoint, timeout_ms=-1):
        """Wait until it is bound; returns it with its generation."""
        full = _u64()
        self._ask("wait_bind", source, endpoint, full, timeout_ms)
        return full.value

    def wait_unbind(self, source, endpoint, timeout_ms=-1):
        """Wait until it is gone."""
        self._ask("wait_unbind", source, endpoint, timeout_ms)

    def info_endpoint(self, source, endpoint):
        """Who is bound there, and where: an EndpointInfo."""
        info = EndpointInfo()
        self._ask("info_endpoint", source, endpoint, info)
        return info

    # ---- <dvk/migrate.h>

    def bind_backup(self, dc, endpoint, timeout_ms=10000):
        """Stand by for an endpoint, which may then be moved here: EVENT_PROMOTED."""
        self._ask("bind_backup", dc, endpoint, timeout_ms)

    def bind_replica(self, dc, endpoint, timeout_ms=10000):
        """The same, and take its place when it is lost."""
        self._ask("bind_replica", dc, endpoint, timeout_ms)

    def unbind_backup(self, dc, endpoint):
        self._ask("unbind_backup", dc, endpoint)

    def migrate_start(self, endpoint, node=0, timeout_ms=10000):
        """Begin to move an endpoint of ours to its backup on `node` (0: to the oldest)."""
        self._ask("migrate_start", endpoint, node, timeout_ms)

    def migrate_carry(self, request, key):
        """Before the commit: name a request that is not answered, for the new place."""
        self._ask("migrate_carry", request._raw(), key)

    def migrate_resumed(self, request):
        """The key of a request that an earlier place handed on, or None."""
        key = _u64()
        return key.value if self._lib.dvk_migrate_resumed(request._raw(), key) else None

    def migrate_commit(self, endpoint, timeout_ms=10000):
        """The backup is the endpoint now. Its requests that we have not answered are over for us: they go there."""
        self._ask("migrate_commit", endpoint, timeout_ms)
        for request in self.pending():
            if request.message.destination == endpoint and request.wants_reply:
                request._end()

    def migrate_rollback(self, endpoint, timeout_ms=10000):
        self._ask("migrate_rollback", endpoint, timeout_ms)

    # ---- <dvk/privilege.h>

    def get_privileges(self, source, endpoint, timeout_ms=-1):
        """What an endpoint may do: a Privileges."""
        out = Privileges()
        self._ask("get_privileges", source, endpoint, out, timeout_ms)
        return out

    def set_privileges(self, source, endpoint, privileges, timeout_ms=-1):
        """Say what it may do from now on. Of one's own endpoints one may only take away."""
        self._ask("set_privileges", source, endpoint, privileges, timeout_ms)

    # ---- <dvk/stats.h>

    def _stats(self, name, source, what, out):
        out.size = ctypes.sizeof(out)
        self._ask(name, source, what, out)
        return out

    def stats_endpoint(self, source, endpoint):
        """An EndpointStats."""
        return self._stats("stats_endpoint", source, endpoint, EndpointStats())

    def stats_dc(self, source, node=0):
        """The sums over our DC, or those of one node: a DCStats."""
        return self._stats("stats_dc", source, node, DCStats())

    def stats_node(self, source, node=0):
        """The sums over all DCs of a node (0: this one), asked from DC 0: a NodeStats."""
        return self._stats("stats_node", source, node, NodeStats())

    def info_dc(self, dc):
        """What a DC is: a DCInfo."""
        raw, nodes = _DCInfo(), (_DCNode * 384)()
        raw.size = ctypes.sizeof(raw)
        count = self._ask("info_dc", dc, raw, nodes, len(nodes))
        return DCInfo(raw.dc, raw.kind, raw.name.decode(), raw.sets, raw.sets_free, raw.endpoints,
                      [DCNode(node.node, bool(node.up), node.sets) for node in nodes[:count]])
