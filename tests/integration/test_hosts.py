"""A group over tcp, each replica on a host of its own: a network namespace."""

import os
import signal
import socket
import threading
import time

import pytest

from harness import Disconnected, ServerError, wait_for
from hosts import Hosts, why_not
from test_failures import backends_agree, check_loads, more_work, start_loads

REASON = why_not()
if REASON:
    print(f"SKIPPED, all of test_hosts.py: {REASON}")
pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


@pytest.fixture(scope="module")
def hosts():
    """One group for all tests here: each leaves it whole, which is half of what is tested."""
    with Hosts() as group:
        yield group
        group.print_logs()


@pytest.fixture(autouse=True)
def whole(hosts):
    hosts.wait_level()
    hosts.wait_leader()
    with hosts.redis(1) as client:
        client.call("FLUSHALL")
    yield
    for i in hosts.ids:
        hosts.heal(i)
        hosts.delay(i, 0)


def test_every_replica_serves(hosts):
    assert all(hosts.status(i)["fabric"] == "tcp" for i in hosts.ids)
    for i in hosts.ids:
        with hosts.redis(i) as client, hosts.memcached(i) as cache:
            assert client.call("SET", f"k{i}", "x" * 200000) == b"OK"
            assert cache.set(f"m{i}", b"value") == b"STORED"
    for i in hosts.ids:
        with hosts.redis(i) as client, hosts.memcached(i) as cache:
            for j in hosts.ids:
                assert client.call("GET", f"k{j}") == b"x" * 200000
                assert cache.get(f"m{j}") == b"value"


def test_the_leader_is_killed(hosts):
    leader = hosts.wait_leader()
    loads = start_loads(hosts)
    hosts.kill(leader)
    more_work([load for load in loads if load.replica != leader], 100)
    hosts.start_replica(leader)
    hosts.wait_rejoined(leader)
    check_loads(hosts, loads, leader)
    backends_agree(hosts)


def test_the_leader_is_stopped(hosts):
    leader = hosts.wait_leader()
    others = [i for i in hosts.ids if i != leader]
    loads = start_loads(hosts)
    pid = hosts.kill(leader, signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        hosts.wait_leader(other_than=leader, ask=others[0])
        print(f"another leader after {(time.monotonic() - stopped) * 1000:.0f} ms")
        more_work([load for load in loads if load.replica != leader], 100)
    finally:
        os.kill(pid, signal.SIGCONT)
    hosts.wait_rejoined(leader)
    check_loads(hosts, loads, leader)
    backends_agree(hosts)


class Reader(threading.Thread):
    """Reads one key at one replica, and notes when each read began and what it saw."""

    def __init__(self, group, replica, key):
        super().__init__(daemon=True)
        self.group, self.replica, self.key = group, replica, key
        self.seen = []  # (when it was sent, when it was answered, value)
        self.stopping = False

    def run(self):
        while not self.stopping:
            try:
                with self.group.redis(self.replica, timeout=1) as client:
                    while not self.stopping:
                        sent = time.monotonic()
                        value = client.call("GET", self.key)
                        self.seen.append((sent, time.monotonic(), int(value)))
            except (ServerError, Disconnected, socket.timeout):
                continue

    def stop(self):
        self.stopping = True
        self.join(30)
        assert not self.is_alive()


def lead_alone(hosts, sever, heal):
    """The leader's link is severed somehow: another leads, and nobody reads the past."""
    leader = hosts.wait_leader()
    others = [i for i in hosts.ids if i != leader]
    with hosts.redis(others[0], timeout=30) as writer:
        assert writer.call("SET", "number", "0") == b"OK"
        reader = Reader(hosts, leader, "number")
        reader.start()
        wait_for(lambda: len(reader.seen) > 50, "reads at the leader")
        severed = time.monotonic()
        sever(leader)
        written = []  # (when it was acknowledged, value)
        for n in range(1, 200):
            assert writer.call("SET", "number", str(n)) == b"OK"
            written.append((time.monotonic(), n))
    assert hosts.leader(others[0]) in others
    print(f"first write acknowledged after {(written[0][0] - severed) * 1000:.0f} ms")
    wait_for(lambda: hosts.status(leader)["replicas"][leader - 1]["role"] != "leader",
             "the severed leader to step down")
    alone = [answered for _, answered, value in reader.seen if value == 0]
    print(f"last answer of the severed leader after {(max(alone) - severed) * 1000:.0f} ms")
    heal(leader)
    hosts.wait_rejoined(leader)
    wait_for(lambda: reader.seen[-1][2] == 199, "reads at the healed one")
    reader.stop()
    for sent, _, value in reader.seen:
        acknowledged = max((n for when, n in written if when < sent), default=0)
        assert value >= acknowledged, f"read {value} although {acknowledged} was acknowledged"
    backends_agree(hosts)


def test_the_leader_is_cut_off(hosts):
    lead_alone(hosts, hosts.cut, hosts.heal)


def test_the_leader_hears_but_is_not_heard(hosts):
    lead_alone(hosts, lambda i: hosts.loss(i, 100, "from"), hosts.heal)


def test_the_leader_is_heard_but_does_not_hear(hosts):
    lead_alone(hosts, lambda i: hosts.loss(i, 100, "to"), hosts.heal)


def test_a_follower_is_cut_off(hosts):
    leader = hosts.wait_leader()
    victim = next(i for i in hosts.ids if i != leader)
    loads = start_loads(hosts, [i for i in hosts.ids if i != victim])
    hosts.cut(victim)
    more_work(loads, 100)
    wait_for(lambda: not hosts.serves(victim), "the one that is cut off to say so")
    hosts.heal(victim)
    hosts.wait_rejoined(victim)
    check_loads(hosts, loads)
    backends_agree(hosts)


def test_a_link_that_is_slow(hosts):
    """A millisecond each way and host: four to a leader and back."""
    for i in hosts.ids:
        hosts.delay(i, 1)
    loads = start_loads(hosts)
    more_work(loads, 50)
    check_loads(hosts, loads)
    backends_agree(hosts)


def test_links_that_lose_packets(hosts):
    """One packet of twenty that a host sends."""
    for i in hosts.ids:
        hosts.loss(i, 5, "from")
    loads = start_loads(hosts)
    more_work(loads, 30)
    for i in hosts.ids:
        hosts.loss(i, 0)
    check_loads(hosts, loads)
    backends_agree(hosts)
