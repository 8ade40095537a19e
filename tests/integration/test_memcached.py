"""Memcached through a group: real clients, all three protocols."""

import os
import random
import re
import subprocess
import threading

import pylibmc
import pymemcache.client.base as pymemcache
import pytest

import node_clients
from harness import BUILD, PATIENCE, Disconnected, Group, follower, wait_for
from mc_support import contents, exchange, run_spymemcached


# ------------------------------------------------------------------ clients

def test_memccapable(shared):
    """libmemcached's own check of a server: text and binary, each of its tests."""
    run = subprocess.run(["memccapable", "-h", "127.0.0.1", "-p",
                          str(shared.memcached_port(follower(shared))), "-t", "20"],
                         capture_output=True, text=True, timeout=120 * PATIENCE)
    print(run.stdout, run.stderr)
    assert run.returncode == 0 and "All tests passed" in run.stdout
    assert run.stdout.count("[pass]") >= 50


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("where", ["leader", "follower"])
def test_libmemcached(shared, binary, where):
    i = shared.wait_leader() if where == "leader" else follower(shared)
    client = pylibmc.Client([f"127.0.0.1:{shared.memcached_port(i)}"], binary=binary,
                            behaviors={"cas": True, "tcp_nodelay": True})
    name = f"lm-{binary}-{where}"
    many = {f"{name}:{n}": "x" * n for n in range(100)}
    assert client.set_multi(many) == []
    assert client.get_multi([*many, "none"]) == many
    assert client.set(name, 7) and client.incr(name, 3) == 10 and client.decr(name) == 9
    assert not client.add(name, 1) and client.replace(name, "text")
    value, token = client.gets(name)
    assert value == "text" and 0 < token < 2**53
    assert client.cas(name, "newer", token) and not client.cas(name, "stale", token)
    assert client.append(name, "!") and client.prepend(name, "!")
    assert client.get(name) == "!newer!"
    if binary:
        assert client.touch(name, 100)
    assert client.delete(name) and not client.delete(name) and client.get(name) is None
    client.set("large", b"\0\r\n" * 300000)
    assert client.get("large") == b"\0\r\n" * 300000
    assert client.get_stats()


@pytest.mark.parametrize("protocol", ["text", "binary"])
@pytest.mark.parametrize("where", ["leader", "follower"])
def test_libmemcached_in_c(shared, protocol, where):
    i = shared.wait_leader() if where == "leader" else follower(shared)
    run = subprocess.run([os.path.join(BUILD, "tests", "integration", "libmemcached_client"),
                          "127.0.0.1", str(shared.memcached_port(i)), protocol],
                         capture_output=True, text=True, timeout=60 * PATIENCE)
    assert run.returncode == 0, run.stdout + run.stderr


def test_pymemcache(shared):
    client = pymemcache.Client(("127.0.0.1", shared.memcached_port(follower(shared))), timeout=20)
    many = {f"pm{n}": b"%d" % n for n in range(300)}
    assert client.set_many(many, noreply=False) == []
    assert client.get_many(list(many)) == many
    value, token = client.gets("pm1")
    assert client.cas("pm1", b"x", token) is True and client.cas("pm1", b"y", token) is False
    assert client.cas("pm-none", b"y", token) is None
    assert client.touch("pm1", 0, noreply=False)
    assert client.incr("pm2", 5, noreply=False) == 7
    client.set("pm3", b"quiet", noreply=True)
    assert client.get("pm3") == b"quiet"
    assert b"muproxy" in client.version()
    client.close()


def test_node_clients(shared):
    run = subprocess.run(["node", "memcached_clients.js",
                          f"127.0.0.1:{shared.memcached_port(follower(shared))}"],
                         cwd=node_clients.prepare(), capture_output=True, text=True,
                         timeout=60 * PATIENCE)
    assert run.returncode == 0 and "ok" in run.stdout, run.stdout + run.stderr


@pytest.mark.parametrize("protocol", ["text", "binary"])
def test_spymemcached(shared, protocol):
    run_spymemcached(f"127.0.0.1:{shared.memcached_port(follower(shared))}", protocol)


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_ketama_over_three_groups(binary):
    """Client-side hashing over three groups; a replica of each is killed, and nothing moves."""
    with Group(ring_size="4M") as one, Group(ring_size="4M") as two, Group(ring_size="4M") as three:
        groups = [one, two, three]
        for group in groups:
            group.wait_ready()
        entries = [(g, follower(g)) for g in groups]
        client = pylibmc.Client([f"127.0.0.1:{g.memcached_port(i)}" for g, i in entries],
                                binary=binary, behaviors={"ketama": True})
        keys = [f"user:{n}" for n in range(300)]
        for key in keys:
            assert client.set(key, key)
        held = []
        for group, i in entries:
            group.wait_level()
            held.append(set(contents(group, i, keys)))
        assert sum(map(len, held)) == len(keys), "each key is in one group"
        assert all(len(part) > 30 for part in held), [len(part) for part in held]
        for group, i in entries:
            # Any but the one that the client named.
            group.kill(next(j for j in group.ids if j != i))
        for group, i in entries:
            group.wait_leader(ask=i)
        for key in keys:
            assert client.get(key) == key
            assert client.set(key, key + "!")
        for (group, i), part in zip(entries, held):
            alive = [j for j in group.ids if group.serves(j)]
            group.wait_level(alive)
            for j in alive:
                assert set(contents(group, j, keys)) == part


# ------------------------------------------------------------------ evictions

class Owner(threading.Thread):
    """One client with keys of its own, which it alone writes: every value tells its number."""

    def __init__(self, group, replica, name, keys=400):
        super().__init__(daemon=True)
        self.group, self.replica, self.label, self.keys = group, replica, name, keys
        self.number = 0
        self.tried = {}         # key -> the last number sent
        self.floor = {}         # key -> no older value may be seen any more
        self.doubtful = set()   # keys with a write of which nobody knows
        self.misses = self.hits = self.writes = 0
        self.wrong = []
        self.stopping = False

    def run(self):
        choose = random.Random(self.label)
        while not self.stopping:
            try:
                with self.group.memcached(self.replica, timeout=20) as client:
                    while not self.stopping:
                        self.step(client, choose)
            except (Disconnected, OSError):
                self.doubtful.update(self.tried)

    def step(self, client, choose):
        key = f"{self.label}:{choose.randrange(self.keys)}"
        if choose.randrange(3) == 0:
            self.check(key, client.get(key))
            return
        self.number += 1
        number = self.tried[key] = self.number
        value = b"%d:" % number + b"v" * choose.choice([500, 8000, 30000])
        verb = choose.choice(["set", "set", "replace", "replace", "add"])
        answer = client.command(f"{verb} {key} 0 0 {len(value)}", value)
        self.writes += 1
        if answer == b"STORED":
            self.floor[key] = number
        elif answer != b"NOT_STORED":
            self.doubtful.add(key)
        elif verb == "replace" and key not in self.doubtful:
            # It was told to be gone: nothing that was there may come back.
            self.floor[key] = number

    def check(self, key, value):
        if value is None:
            self.misses += 1
            return
        self.hits += 1
        number = int(value.partition(b":")[0])
        if number < self.floor.get(key, 0) or number > self.number:
            self.wrong.append((key, number, self.floor.get(key)))

    def stop(self):
        self.stopping = True
        self.join(40 * PATIENCE)
        assert not self.is_alive()


def evictions(group):
    total = 0
    for i in group.ids:
        with group.memcached_backend(i) as backend:
            reply = exchange(backend, b"stats\r\n")
        total += int(re.search(rb"STAT evictions (\d+)", reply).group(1))
    return total


def test_evictions_never_bring_back_old_values(group):
    """Backends that are far too small, leaders that die: a read misses, or sees the last write."""
    # Each evicts something else: what a small leader has lost, the next one may still have.
    for i, megabytes in zip(group.ids, [8, 24, 64]):
        with group.memcached_backend(i) as backend:
            assert backend.command(f"cache_memlimit {megabytes}") == b"OK"
    owners = [Owner(group, i, f"o{i}{n}") for i in group.ids for n in "ab"]
    for owner in owners:
        owner.start()
    for _ in range(3):
        before = evictions(group)
        wait_for(lambda: evictions(group) > before + 300, "evictions", 60)
        leader = group.wait_leader()
        group.kill(leader)
        group.wait_leader(other_than=leader, ask=leader % 3 + 1)
        wrote = [owner.writes for owner in owners]
        wait_for(lambda: sum(owner.writes > was for owner, was in zip(owners, wrote)) >= 4,
                 "clients of the others to go on", 60)
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "the killed replica to serve again", 60)
    for owner in owners:
        owner.stop()
    assert not [owner.wrong[:3] for owner in owners if owner.wrong]
    assert sum(owner.hits for owner in owners) > 100
    assert sum(owner.misses for owner in owners) > 10
    group.wait_level()
    # And so it is whichever replica comes to lead: what it holds is the last value, or nothing.
    for owner in owners:
        for i in group.ids:
            held = contents(group, i, list(owner.tried))
            for key, reply in held.items():
                owner.check(key, reply.partition(b"\r\n")[2])
    assert not [owner.wrong[:3] for owner in owners if owner.wrong]


def start_memcached(group, i):
    """A replica's memcached again, empty."""
    command = ["memcached", "-s", group.path(i, "memcached.sock"), "-a", "700", "-t", "1"]
    if os.geteuid() == 0:
        command += ["-u", "root"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("role", ["leader", "follower"])
def test_a_memcached_that_comes_back_empty(role):
    """The log does not reach back to its beginning any more: it goes on with nothing in it."""
    with Group(ring_size="4M") as group:
        leader = group.wait_ready().wait_leader()
        victim = leader if role == "leader" else follower(group)
        witness = next(i for i in group.ids if i not in (victim, leader))
        keys = [f"k{n}" for n in range(20)]
        with group.memcached(witness, timeout=30) as client:
            for n in range(120):
                assert client.set(keys[n % 20], b"%d:" % n + b"v" * 50000) == b"STORED"
            group.kill(victim, name="memcached.pid")
            wait_for(lambda: not group.serves(victim), "the replica without memcached to say so")
            assert client.set("k0", b"meanwhile") == b"STORED"
            server = start_memcached(group, victim)
            try:
                wait_for(lambda: group.serves(victim), "it to serve again", 30)
                assert client.get("k0") in (b"meanwhile", None)
                assert client.set("new", b"value") == b"STORED"
                group.wait_level()
                new = {"new": b"VA 5 f0\r\nvalue\r\n"}
                assert contents(group, victim, ["new"]) == new
                held = contents(group, witness, keys)
                assert len(held) == 20 and contents(group, victim, keys).items() <= held.items()
            finally:
                server.kill()
                server.wait()


def test_a_store_that_fails_is_gone_everywhere(group):
    """An item too large for the server, though not for its limit on values."""
    leader = group.wait_leader()
    for i in group.ids:
        with group.memcached(i, timeout=20) as client:
            assert client.set("k", b"old") == b"STORED"
            # The value is within -I, the item around it is not.
            assert client.set("k", b"x" * (1 << 20)).startswith(b"SERVER_ERROR")
            assert client.get("k") is None
            client.send(b"ms k 1048576 c\r\n" + b"x" * (1 << 20) + b"\r\n")
            assert client.line().startswith(b"SERVER_ERROR")
            assert client.set("k", b"new") == b"STORED"
    group.wait_level()
    assert group.leader() == leader
    new = {"k": b"VA 3 f0\r\nnew\r\n"}
    assert contents(group, leader, ["k"]) == new
    for i in group.ids:
        # Where a store fails while a newer one is under way, that one may go with it: a miss.
        assert contents(group, i, ["k"]) in (new, {})


def test_a_value_too_large_takes_the_old_one_at_once(shared):
    """As in memcached, which does not wait for the new one: its client may hang up meanwhile."""
    i = follower(shared)
    for request in [b"set k 0 0 9000000", b"ms k 9000000 T0"]:
        with shared.memcached(i) as client, shared.memcached(i) as other:
            assert client.set("k", b"old") == b"STORED"
            client.send(request + b"\r\nand so on")
            wait_for(lambda: other.get("k") is None, "the old value to go")
            assert other.set("k", b"new") == b"STORED"
        with shared.memcached(i) as client:
            assert client.get("k") == b"new"


# ------------------------------------------------------------ tokens and failover

def test_tokens_end_with_their_leader(group):
    leader = group.wait_leader()
    other = next(i for i in group.ids if i != leader)
    with group.memcached(other, timeout=20) as client:
        client.set("t", b"1")
        client.send(b"gets t\r\n")
        token = client.line().split()[4].decode()
        client.line(), client.line()
        assert client.command(f"cas t 0 0 1 {token}", b"2") == b"STORED"
        client.send(b"mg t c\r\n")
        token = client.line().split()[1][1:].decode()
        assert int(token) < 2**53
        group.kill(leader)
        group.wait_leader(other_than=leader, ask=other)
        assert client.command(f"cas t 0 0 1 {token}", b"3") == b"EXISTS"
        assert client.command(f"ms t 1 C{token}", b"3") == b"EX"
        assert client.get("t") == b"2"
        client.send(b"mg t c\r\n")
        token = client.line().split()[1][1:].decode()
        assert client.command(f"ms t 1 C{token}", b"4") == b"HD"


# --------------------------------------------------------------------- the rest

def test_what_concerns_the_group(shared):
    with shared.memcached(follower(shared)) as client:
        assert re.fullmatch(rb"VERSION 1\.[\d.]+ muproxy/[\d.]+", client.command("version"))
        stats = exchange(client, b"stats muproxy\r\n")
        assert b"STAT replica " in stats and stats.endswith(b"END\r\n")
        for sub in ["", " settings", " items", " slabs", " sizes", " conns", " reset"]:
            reply = exchange(client, f"stats{sub}\r\n".encode())
            assert reply.endswith((b"END\r\n", b"RESET\r\n")), sub
        for request in ["shutdown", "misbehave", "watch"]:
            assert client.command(request).startswith(b"CLIENT_ERROR muproxy: it "), request
        assert client.command("verbosity 1") == b"OK"
        assert client.command("flush_all 100") == b"OK"
        assert client.command("flush_all") == b"OK"


def test_values_up_to_the_servers_limit(shared):
    with shared.memcached(follower(shared), timeout=30) as client:
        value = os.urandom((1 << 20) - 200)
        assert client.set("limit", value) == b"STORED"
        assert client.get("limit") == value
        keys = [f"many{n}" + "k" * 200 for n in range(500)]
        for key in keys:
            client.send(f"set {key} 0 0 1 noreply\r\nx\r\n".encode())
        client.send(b"get " + " ".join(keys).encode() + b"\r\n")
        for _ in keys:
            assert client.line().startswith(b"VALUE ") and client.line() == b"x"
        assert client.line() == b"END"


def test_marks_survive_a_failover(group):
    """md I, and who has won the right to refresh: the next leader goes on from there."""
    leader = group.wait_leader()
    other = next(i for i in group.ids if i != leader)
    with group.memcached(other, timeout=30) as client:
        for key in ["stale", "taken"]:
            assert client.command(f"ms {key} 3 T300", b"old") == b"HD"
            assert client.command(f"md {key} I T100") == b"HD"
        assert client.command("mg taken") == b"HD X W"
        assert client.command("ms fading 1 T20", b"x") == b"HD"
        assert client.command("mg fading R30") == b"HD W"
        # What was won is noted in the log after it was answered.
        group.wait_level()
        for i in group.ids:
            with group.memcached_backend(i) as backend:
                wait_for(lambda: b" Z" in exchange(backend, b"mg taken u\r\n"), "the win", 20)
                wait_for(lambda: b" Z" in exchange(backend, b"mg fading u\r\n"), "the win", 20)
        group.kill(leader)
        group.wait_leader(other_than=leader, ask=other)
        # (What a flag tells of itself comes first.)
        assert client.command("mg taken k") == b"HD ktaken Z X"
        assert client.command("mg fading R30") == b"HD Z"
        assert client.command("mg stale") == b"HD X W"
        assert client.command("mg stale") == b"HD Z X"
        assert client.command("ms stale 3", b"new") == b"HD"
        assert client.command("mg stale v") == b"VA 3" and client.line() == b"new"
