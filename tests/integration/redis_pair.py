"""A plain redis-server beside a group, and what can be compared of the two."""

import subprocess
import tempfile

from harness import RawRedis, ServerError, free_ports, wait_for

# How far in its future a backend holds a deadline (proxy/deadline_effects.h).
PAD_MS = 4398046512000


class PlainRedis:
    """A redis-server as people run it, without persistence."""

    def __init__(self, *arguments, program="redis-server"):
        self._directory = tempfile.TemporaryDirectory(prefix="muproxy-plain-", dir="/tmp")
        self.port = free_ports(1)
        self.process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
             "--appendonly", "no", "--dir", self._directory.name, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(self._answers, "redis-server")

    def _answers(self):
        try:
            with RawRedis(("127.0.0.1", self.port)) as client:
                return client.call("PING") == b"PONG"
        except OSError:
            return False

    def client(self, timeout=10):
        return RawRedis(("127.0.0.1", self.port), timeout)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self._directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def stream_state(client, key):
    """Entries, groups, consumers and what is pending: DEBUG DIGEST knows the entries only."""
    groups = []
    for group in client.call("XINFO", "GROUPS", key):
        fields = dict(zip(group[::2], group[1::2]))
        pending = client.call("XPENDING", key, fields[b"name"], "-", "+", 10000)
        groups.append((fields[b"name"], fields[b"last-delivered-id"],
                       sorted((entry[0], entry[1], entry[3]) for entry in pending)))
    return client.call("XRANGE", key, "-", "+"), sorted(groups)


def deliveries(client, key):
    """When what is pending was delivered, as the server holds it."""
    def fields(flat):
        return dict(zip(flat[::2], flat[1::2]))
    groups = fields(client.call("XINFO", "STREAM", key, "FULL", "COUNT", 0))[b"groups"]
    return {fields(group)[b"name"]: fields(group)[b"pending"] for group in groups}


def value_of(client, key):
    """A key's type and content, in an order that does not depend on how it came about."""
    kind = client.call("TYPE", key).decode()
    if kind == "string":
        return kind, client.call("GET", key)
    if kind == "list":
        return kind, client.call("LRANGE", key, 0, -1)
    if kind == "set":
        return kind, sorted(client.call("SMEMBERS", key))
    if kind == "zset":
        return kind, client.call("ZRANGE", key, 0, -1, "WITHSCORES")
    if kind == "hash":
        flat = client.call("HGETALL", key)
        return kind, sorted(zip(flat[::2], flat[1::2]))
    if kind == "stream":
        return kind, stream_state(client, key)
    raise AssertionError(f"{key!r} is a {kind}")


def contents(client, databases=16, with_deliveries=False):
    """{(database, key): (type, content, deadline)} of everything that clients see there.

    with_deliveries: and of streams, fourth, the times of delivery of what is pending.
    """
    found = {}
    for database in range(databases):
        client.call("SELECT", database)
        for key in client.call("KEYS", "*"):
            deadline = client.call("PEXPIRETIME", key)
            if deadline == -2:
                continue  # a plain server has expired it in between
            try:
                found[database, key] = (*value_of(client, key), deadline)
                if with_deliveries and found[database, key][0] == "stream":
                    found[database, key] += (deliveries(client, key),)
            except (AssertionError, ServerError):
                if client.call("EXISTS", key):
                    raise
    client.call("SELECT", 0)
    return found


def backends_are_equal(group):
    """All of them hold the same, deadlines and times of delivery included. Returns what that is."""
    group.wait_level()
    states = {}
    for i in group.ids:
        with group.redis_backend(i) as backend:
            states[i] = contents(backend, with_deliveries=True)
    first = states[group.ids[0]]
    for i in group.ids[1:]:
        differing = [key for key in first.keys() | states[i].keys()
                     if first.get(key) != states[i].get(key)]
        assert not differing, (f"replicas {group.ids[0]} and {i} differ in "
                               f"{[(k, first.get(k), states[i].get(k)) for k in differing[:3]]}")
    return first
