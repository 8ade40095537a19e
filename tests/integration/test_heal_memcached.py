"""A memcached that comes back empty is filled from another replica's, behind its own service.

What may be missing is allowed to; what is there is never old.
"""

import contextlib
import os
import random
import subprocess
import threading
import time

import pytest

from harness import MUCTL, PATIENCE, ServerError, Disconnected, Group, wait_for
from heal import Processes, log_of, transfer_of, wait_restored
from mc_support import exchange

COLD = 4000
RING = "1M"


class Memcacheds(Processes):
    """memcacheds."""

    pid_file = "memcached.pid"

    def __init__(self, group, program="memcached"):
        super().__init__(group)
        self.program = program

    def start(self, i, *arguments):
        command = [self.program, "-s", self.group.path(i, "memcached.sock"), "-R", "1000",
                   *arguments]
        if os.geteuid() == 0:
            command += ["-u", "root"]
        self.started(i, subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def empty(self, i, *arguments):
        self.kill(i)
        self.start(i, *arguments)


@pytest.fixture
def group():
    with Group(ring_size=RING) as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.fixture
def servers(group):
    with Memcacheds(group) as servers:
        yield servers


def store_cold(group, count=COLD, bytes_each=600):
    """More than the ring is long. Returns them."""
    values = {f"cold:{n}": f"{n}:".encode() + bytes(n % bytes_each) for n in range(count)}
    left = list(values.items())
    while left:  # a busy machine's leader may change
        some, left = left[:500], left[500:]
        with contextlib.suppress(OSError, Disconnected), \
                group.memcached(group.wait_leader(), timeout=60) as client:
            client.send(b"".join(b"set %s 0 0 %d\r\n%s\r\n" % (key.encode(), len(value), value)
                                 for key, value in some))
            some = [item for item in some if client.line() != b"STORED"]
        left += some
    group.wait_level()
    return values


def outrun(group):
    """The log reaches back to nothing of before."""
    with group.memcached(group.wait_leader(), timeout=60) as client:
        for n in range(3000):
            client.send(b"set outrun 0 0 1000 noreply\r\n%s\r\n" % bytes(1000))
        with contextlib.suppress(OSError, Disconnected):
            client.command("mn")


def values_at(group, i, keys):
    """What a replica's own memcached holds, of these."""
    found, keys = {}, list(keys)
    with group.memcached_backend(i) as backend:
        for first in range(0, len(keys), 100):
            backend.send(b"get " + " ".join(keys[first:first + 100]).encode() + b"\r\n")
            while (line := backend.line()) != b"END":
                _, key, _, size = line.split()
                found[key.decode()] = backend.exactly(int(size) + 2)[:-2]
    return found


def a_follower(group):
    leader = group.wait_leader()
    return random.choice([i for i in group.ids if i != leader])


def test_it_holds_again_what_the_others_hold(group, servers):
    values = store_cold(group)
    special = (b"set flagged 4000000000 0 1\r\nx\r\n" b"set brief 0 1000 1\r\nx\r\n"
               b"ms AAEC 2 b\r\nhi\r\n" b"ms YWJj 2 b T2000 F5\r\nhi\r\n" b"set empty 0 0 0\r\n\r\n"
               b"set stale 0 0 1\r\nx\r\nmd stale I\r\n" b"mg won N1000\r\n"
               b"set large 0 0 900000\r\n" + bytes(900000) + b"\r\n"
               b"set " + b"k" * 250 + b" 0 0 1\r\nx\r\n")
    with group.memcached(group.wait_leader()) as client:
        exchange(client, special)
    outrun(group)
    victim = a_follower(group)
    other = next(i for i in group.ids if i not in (victim, group.wait_leader()))
    servers.empty(victim)
    wait_restored(group, victim)
    assert values_at(group, victim, values) == values
    asked = [b"flagged", b"empty", b"large", b"k" * 250, b"AAEC b", b"YWJj b"]
    with group.memcached_backend(victim) as ours, group.memcached_backend(other) as theirs:
        for key in asked:
            question = b"mg %s f k v\r\n" % key
            assert exchange(ours, question) == exchange(theirs, question) != b"EN\r\n"
        for key in b"brief", b"YWJj b":
            left = [int(exchange(server, b"mg %s t\r\n" % key)[4:]) for server in (ours, theirs)]
            assert left[1] - 3 <= left[0] <= left[1], key  # rounded down
        for key in b"stale", b"won":
            assert exchange(ours, b"mg %s v\r\n" % key) == b"EN\r\n"
        # Its win was taken from nobody.
        assert b" W" in exchange(theirs, b"mg stale v\r\n")
    transfer = transfer_of(group, victim)
    assert transfer["stage"] == "none" and transfer["failures"] == 0
    assert "items were copied" in log_of(group, victim)


def test_it_serves_meanwhile_and_goes_on_elsewhere(group, servers):
    """The donor is stopped midway, then killed: another one gives the rest."""
    values = store_cold(group, 10000, 2000)
    outrun(group)
    leader = group.wait_leader()
    victim, donor = (i for i in group.ids if i != leader)
    servers.empty(victim)
    wait_for(lambda: (transfer_of(group, victim) or {}).get("items"), "the first items")
    group.kill(donor)
    assert group.serves(victim)
    wait_restored(group, victim)
    assert values_at(group, victim, values) == values


def test_a_server_that_dies_midway_is_filled_anew(group, servers):
    values = store_cold(group, 10000, 2000)
    outrun(group)
    victim = a_follower(group)
    servers.empty(victim)
    wait_for(lambda: (transfer_of(group, victim) or {}).get("items"), "the first items")
    servers.empty(victim)
    wait_restored(group, victim)
    assert values_at(group, victim, values) == values


def test_what_is_flushed_does_not_come_back(group, servers):
    """A flush_all that the log brings, one that is to come, and one that was before it."""
    store_cold(group)
    outrun(group)
    with group.memcached(group.wait_leader()) as client:
        assert client.command("flush_all 1000") == b"OK"
        outrun(group)
        victim = a_follower(group)
        servers.empty(victim)
        wait_for(lambda: "it has a flush_all before it" in log_of(group, victim),
                 "the donor to decline")
        assert values_at(group, victim, ["cold:1"]) == {}
        assert client.command("flush_all") == b"OK"
        assert client.set("new", b"x") == b"STORED"
    group.wait_level()
    wait_restored(group, victim)
    assert values_at(group, victim, ["cold:1", "new"]) == {"new": b"x"}


class Hot(threading.Thread):
    """Writes and deletes some keys in turn, and knows what was acknowledged last.

    Of each key step n is: even, its value is n; odd, it is deleted.
    """

    KEYS = 500  # so many that what is wrong is not soon mended by another write

    def __init__(self, group, name):
        super().__init__(daemon=True)
        self.group, self.name_ = group, name
        self.keys = [f"{name}:{n}" for n in range(self.KEYS)]
        self.step = dict.fromkeys(self.keys, 0)
        self.acknowledged = dict.fromkeys(self.keys, 0)
        self.settled = dict.fromkeys(self.keys, True)  # the last step is known to be done
        self.running, self.ended = True, threading.Event()
        self.pause, self.paused = threading.Event(), threading.Event()
        self.writes = 0

    def write(self, client, key):
        self.step[key] += 1
        n = self.step[key]
        self.settled[key] = False
        if n % 2:
            ok = client.command(f"delete {key}") in (b"DELETED", b"NOT_FOUND")
        else:
            ok = client.set(key, str(n).encode()) == b"STORED"
        if ok:
            self.acknowledged[key] = n
            self.settled[key] = True
            self.writes += 1

    def run(self):
        client = None
        while self.running:
            if self.pause.is_set():
                self.paused.set()
                time.sleep(0.01)
                continue
            self.paused.clear()
            try:
                client = client or self.group.memcached(random.choice(self.group.ids))
                self.write(client, random.choice(self.keys))
            except (OSError, Disconnected, ServerError):
                client = None
        self.ended.set()


class Reader(threading.Thread):
    def __init__(self, group, i, writers):
        super().__init__(daemon=True)
        self.group, self.i, self.writers = group, i, writers
        self.running, self.reads, self.wrong = True, 0, []

    def read(self, client, writer):
        key = random.choice(writer.keys)
        before = writer.acknowledged[key]
        value = client.get(key)
        self.reads += 1
        if value is not None and int(value) < before:
            self.wrong.append((key, int(value), before))

    def run(self):
        client = None
        while self.running:
            try:
                client = client or self.group.memcached(self.i)
                self.read(client, random.choice(self.writers))
            except (OSError, Disconnected, ServerError):
                client = None


@contextlib.contextmanager
def pressure(group):
    writers = [Hot(group, f"hot{n}") for n in range(3)]
    readers = [Reader(group, i, writers) for i in group.ids]
    for thread in [*writers, *readers]:
        thread.start()
    try:
        yield writers, readers
    finally:
        for thread in [*writers, *readers]:
            thread.running = False
        for thread in [*writers, *readers]:
            thread.join(60 * PATIENCE)


def compare(group, writers):
    """Nothing that any server holds of settled keys is another than the newest."""
    for writer in writers:
        writer.pause.set()
    for writer in writers:
        assert writer.paused.wait(60 * PATIENCE)
    group.wait_level()
    for i in group.ids:
        for writer in writers:
            for key, value in values_at(group, i, writer.keys).items():
                assert int(value) >= writer.acknowledged[key], (i, key, value)
                assert int(value) <= writer.step[key] and int(value) % 2 == 0
    for writer in writers:
        writer.pause.clear()


def test_nothing_old_is_ever_read(group, servers):
    """Servers come back empty, and lead, again and again; leaders are killed."""
    cold = store_cold(group, 8000, 2000)
    with pressure(group) as (writers, readers):
        for turn in range(4):
            outrun(group)
            victim = a_follower(group)
            servers.empty(victim)
            wait_restored(group, victim)
            compare(group, writers)
            if turn % 2:
                leader = group.wait_leader()
                group.kill(leader)
                group.wait_leader(other_than=leader)
                group.start_replica(leader)
                wait_for(lambda j=leader: group.serves(j), "the killed one to serve again", 60)
            else:
                subprocess.run([MUCTL, "--admin", group.admin(group.wait_leader()),
                                "transfer-leader", str(victim)], check=True, timeout=60,
                               stdout=subprocess.DEVNULL)
            compare(group, writers)
    assert not [reader.wrong for reader in readers if reader.wrong]
    assert all(reader.reads > 100 for reader in readers)
    assert sum(writer.writes for writer in writers) > 100
    group.wait_level()
    for i in group.ids:
        assert values_at(group, i, cold) == cold


def killed_midway(group, servers, victim):
    """Its memcached is emptied, and its proxy killed as it has some items; false: it has all."""
    outrun(group)
    servers.empty(victim)
    wait_for(lambda: (transfer_of(group, victim) or {}).get("items"), "the first items")
    group.kill(victim)
    own = values_at(group, victim, ["__muproxy__:applied"])["__muproxy__:applied"]
    if own.endswith(b" partial"):
        return True
    group.start_replica(victim)
    wait_for(lambda: group.serves(victim), "it to serve again", 60)
    return False


def test_a_proxy_that_ends_midway_has_its_successor_go_on(group, servers):
    """What was copied stays; nothing of it is older than what the log brings meanwhile."""
    values = store_cold(group, 10000, 2000)
    victim = a_follower(group)
    assert any(killed_midway(group, servers, victim) for _ in range(10)), "it was too fast"
    with group.memcached(group.wait_leader(), timeout=60) as client:
        for key in list(values)[:500]:
            values[key] = b"newer"
            assert client.set(key, b"newer") == b"STORED"
    group.start_replica(victim)
    wait_restored(group, victim)
    assert "it was being filled; what it lacks is still to be copied" in log_of(group, victim)
    group.wait_level()
    assert values_at(group, victim, values) == values
    # It is known to be whole.
    group.kill(victim)
    group.start_replica(victim)
    wait_for(lambda: group.serves(victim), "it to serve again", 60)
    assert log_of(group, victim).count("it was being filled") == 1
