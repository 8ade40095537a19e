"""Queues between processes, driven to where their bound holds: the table in HACKING.md.

What is held is seen from outside, as memory of the proxy; and nothing is lost. Those inside of a
proxy are driven by tests/unit/test_bounds.c.
"""

import os
import signal
import time

import pytest

from harness import FABRIC, PATIENCE, Group, ServerError, encode, rss_bytes, wait_for
from heal import Servers, a_follower, equal_everywhere, fill_bulk, outrun, transfer_of, wait_restored
from test_heal_memcached import Memcacheds, values_at
from test_links import put_wires_in

MIB = 1 << 20


def most_memory(pids, seconds):
    """The most private memory that each of these had in that time."""
    most = dict.fromkeys(pids, 0)
    until = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < until:
        most = {pid: max(most[pid], rss_bytes(pid)) for pid in pids}
        time.sleep(0.02)
    return most


def test_who_waits_for_a_key_leaves_room_for_who_feeds_it(group):
    """With all of max-held taken nobody would be read from, and so nothing ever be pushed."""
    for i in group.ids:
        group.restart_with(i, "\n[limits]\nmax-held = 256K\n")
    leader = group.wait_leader()
    name = "k:" + "x" * 2000
    clients = [group.redis(leader if n % 2 else leader % 3 + 1) for n in range(200)]
    for n, client in enumerate(clients):
        client.send(encode("BLPOP", f"{n}{name}", 0))
    with group.redis(leader) as pusher:
        refused = 0
        for n, client in enumerate(clients):
            pusher.call("RPUSH", f"{n}{name}", n)
            reply = client.reply()
            if isinstance(reply, ServerError):
                assert "too much memory" in str(reply), reply
                refused += 1
                assert pusher.call("LPOP", f"{n}{name}") == b"%d" % n
            else:
                assert reply == [f"{n}{name}".encode(), b"%d" % n]
        # 128 KiB have room for some fifty of them.
        assert 50 < refused < 180, refused
    for client in clients:
        client.close()


def test_a_server_that_stands_still_is_handed_no_more():
    """What is committed meanwhile waits in the ring, not in the proxy."""
    with Group(ring_size="64M") as group:
        group.wait_ready()
        victim = a_follower(group)
        pid = group.read_pid(victim)
        fill_bulk(group, 1)  # buffers have come to what they are
        before = rss_bytes(pid)
        server = group.kill(victim, signal.SIGSTOP, "redis.pid")
        try:
            with group.redis(group.wait_leader(), 60) as client:
                for n in range(300):
                    assert client.call("SET", f"more:{n % 20}", os.urandom(100000)) == b"OK"
            assert most_memory([pid], 0.3)[pid] < before + 8 * MIB
        finally:
            os.kill(server, signal.SIGCONT)
        equal_everywhere(group)


class Standing:
    """A group of which one server is given another's state, over wires that stand still midway."""

    def __init__(self, group, kind):
        self.group, self.servers = group, kind(group)
        self.wires = put_wires_in(group)
        self.victim = a_follower(group)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.servers.close()
        for wire in self.wires.values():
            wire.stopping = True

    def limit(self, most):
        for (i, _), wire in self.wires.items():
            wire.limit = most if i == self.victim else None

    def lose(self):
        """The server comes back empty. Returns by how much the donor's proxy grows meanwhile."""
        pids = [self.group.read_pid(i) for i in self.group.ids]
        before = {pid: rss_bytes(pid) for pid in pids}
        self.limit(MIB)
        self.servers.empty(self.victim)
        wait_for(lambda: any(self.wires[self.victim, j].any_full()
                             for j in self.group.ids if j != self.victim), "it to flow", 30)
        # It is at its bound, and then it has time enough for all of it.
        wait_for(lambda: any(rss_bytes(pid) > before[pid] + 3 * MIB for pid in pids), "it to wait")
        most = most_memory(pids, 2)
        return max(most[pid] - before[pid] for pid in pids)


WIRED = pytest.mark.skipif(FABRIC != "shm", reason="the links of fabric = shm")


@WIRED
def test_a_redis_whose_state_nobody_takes():
    with Group(ring_size="1M") as group, Standing(group.wait_ready(), Servers) as standing:
        fill_bulk(group, 32)
        outrun(group, group.wait_leader())
        assert standing.lose() < 14 * MIB
        assert transfer_of(group, standing.victim)["stage"] == "receiving"
        standing.limit(None)
        wait_restored(group, standing.victim)
        equal_everywhere(group)


@WIRED
def test_a_memcached_whose_items_nobody_takes():
    with Group(ring_size="1M") as group, Standing(group.wait_ready(), Memcacheds) as standing:
        items = {f"bulk:{n}": os.urandom(100000) for n in range(320)}
        with group.memcached(group.wait_leader(), 60) as client:
            for key, value in items.items():
                assert client.set(key, value) == b"STORED"
        group.wait_level()
        assert standing.lose() < 14 * MIB
        standing.limit(None)
        wait_restored(group, standing.victim)
        there = values_at(group, standing.victim, items)
        assert there.items() <= items.items() and len(there) > 300
