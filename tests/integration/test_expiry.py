"""Keys that expire: when the log says so, at the same place of it on every replica."""

import os
import random
import shutil
import stat
import subprocess
import threading
import time

import pytest

from harness import Disconnected, Group, ServerError, wait_for
from redis_pair import PAD_MS, backends_are_equal


def now_ms():
    return int(time.time() * 1000)


def gone(client, key, deadline_s=10):
    wait_for(lambda: client.call("EXISTS", key) == 0, f"{key} to be gone", deadline_s)


def test_no_backend_expires_by_itself(shared):
    """What makes the rest possible: to a backend every deadline is more than a century away."""
    with shared.redis(2) as client:
        client.call("SET", "padded", "x", "PX", 50000)
        client.call("SET", "padded2", "x", "EXAT", now_ms() // 1000 + 60)
        for command in [("EXPIRE", 60), ("PEXPIRE", 60000), ("EXPIREAT", now_ms() // 1000 + 60),
                        ("PEXPIREAT", now_ms() + 60000)]:
            client.call("SET", f"padded:{command[0]}", "x")
            client.call(command[0], f"padded:{command[0]}", command[1])
    shared.wait_level()
    for i in shared.ids:
        with shared.redis_backend(i) as backend:
            for key in backend.call("KEYS", "padded*"):
                assert 40000 < backend.call("PTTL", key) - PAD_MS < 61000, key


@pytest.mark.parametrize("i", [1, 2, 3])
def test_keys_go_when_they_are_due(shared, i):
    with shared.redis(i) as client:
        for key, command in [
            ("go:px", lambda: ("SET", "go:px", "x", "PX", 80)),
            ("go:psetex", lambda: ("PSETEX", "go:psetex", 80, "x")),
            ("go:pxat", lambda: ("SET", "go:pxat", "x", "PXAT", now_ms() + 80)),
        ]:
            before = time.monotonic()
            client.call(*command())
            assert client.call("GET", key) == b"x" or time.monotonic() - before > 0.07
            gone(client, key)
            assert time.monotonic() - before > 0.07, f"{key} went too early"
        # And all by themselves, while nobody asks.
        client.call("SET", "go:alone", "x", "PX", 30)
    for j in shared.ids:
        with shared.redis_backend(j) as backend:
            wait_for(lambda: backend.call("EXISTS", "go:alone") == 0, "it to be deleted there")


def test_a_deadline_in_the_past(shared):
    with shared.redis(3) as client:
        assert client.pipeline([
            ("SET", "past", "x", "PXAT", 1000), ("GET", "past"), ("EXISTS", "past"),
            ("SET", "past", "y"), ("SET", "past", "z", "NX", "PXAT", 1000), ("GET", "past"),
            ("EXPIRE", "past", -1, "XX"), ("GET", "past"), ("EXPIRE", "past", -1), ("GET", "past"),
            ("SET", "past", "v"), ("GETEX", "past", "PXAT", 1000), ("GET", "past"),
            ("SET", "past", "w", "EX", 100), ("SET", "past", "x", "GET", "PXAT", 5), ("GET", "past"),
        ]) == [b"OK", None, 0, b"OK", None, b"y", 0, b"y", 1, None, b"OK", b"v", None,
               b"OK", b"w", None]


def test_a_flush_that_is_refused_forgets_no_deadline(shared):
    with shared.redis(2) as client:
        client.call("SET", "kept", "x", "PX", 300)
        for request in [("FLUSHDB", "foo"), ("FLUSHDB", "ASYNC", "x")]:
            with pytest.raises(ServerError, match="syntax error"):
                client.call(*request)
        client.call("MULTI")
        client.call("FLUSHDB", "foo")
        assert str(client.call("EXEC")[0]) == "ERR syntax error"
        gone(client, "kept")


def test_deadlines_move_with_keys(shared):
    """RENAME, COPY, MOVE, SWAPDB, RESTORE: the leader learns of deadlines that nobody named."""
    with shared.redis(1) as client:
        for n, requests in enumerate([
            [("RENAME", "from", "to")], [("RENAMENX", "from", "to")], [("COPY", "from", "to")],
            [("COPY", "from", "to", "DB", 3), ("SELECT", 3)], [("RENAME", "from", "mid"),
             ("MOVE", "mid", 4), ("SELECT", 4), ("RENAME", "mid", "to")],
            [("RENAME", "from", "to"), ("SWAPDB", 0, 5), ("SELECT", 5)],
        ]):
            client.call("SET", "from", n, "PX", 150)
            for request in requests:
                client.call(*request)
            assert 0 < client.call("PTTL", "to") <= 150, requests
            gone(client, "to")
            client.call("SELECT", 0)
            client.call("FLUSHALL")
        client.call("SET", "plain", "x")
        client.call("SET", "from", "y", "PX", 100)
        client.call("RENAME", "plain", "from")
        assert client.call("TTL", "from") == -1
        payload = client.call("DUMP", "from")
        client.call("RESTORE", "restored", 100, payload)
        gone(client, "restored")
        assert client.call("GET", "from") == b"x", "what has no deadline any more was expired"


@pytest.mark.parametrize("move, database, to", [
    (("RENAME", "from", "to"), 0, "to"), (("RENAMENX", "from", "to"), 0, "to"),
    (("COPY", "from", "to"), 0, "to"), (("MOVE", "from", 1), 1, "from"),
    # The index knows the new name already, with a deadline that is just that bound.
    (("RENAME", "from", "old"), 0, "old"), (("COPY", "from", "old", "REPLACE"), 0, "old"),
])
def test_a_bound_moves_as_a_bound(shared, move, database, to):
    """Of the two deadlines that a key may have the index holds the earlier; it moves with the later."""
    with shared.redis(1) as client:
        client.call("FLUSHALL")
        due = now_ms() + 500
        client.pipeline([("SET", "old", "y", "PXAT", due), ("SET", "from", "x", "PXAT", due),
                         ("PEXPIREAT", "from", due + 200, "GT"), move, ("SELECT", database)])
        assert client.call("PEXPIRETIME", to) in (due + 200, -2)
        gone(client, to)


def test_what_loses_its_deadline_stays(shared):
    with shared.redis(2) as client:
        for n, request in enumerate([("PERSIST",), ("SET", "x"), ("GETSET", "x"), ("GETEX", "PERSIST"),
                                     ("EXPIRE", 1000), ("SET", "x", "EX", 1000)]):
            key = f"stays:{n}"
            client.call("SET", key, "v", "PX", 120)
            client.call(request[0], key, *request[1:])
        client.call("SET", "stays:nx", "v", "PX", 120)
        client.call("SET", "stays:nx", "w", "NX", "PX", 100000)
        client.call("SET", "stays:canary", "v", "PX", 200)
        gone(client, "stays:canary")
        assert [client.call("EXISTS", f"stays:{n}") for n in range(6)] == [1] * 6
        assert client.call("EXISTS", "stays:nx") == 0, "a failed SET NX has kept it alive"


def test_many_keys_at_once(shared):
    """More than one entry holds, all due in the same millisecond; nobody sees a part of them."""
    due = now_ms() + 1500
    with shared.redis(1) as one, shared.redis(3) as three:
        one.call("FLUSHALL")
        for start in range(0, 20000, 1000):
            one.pipeline([("SET", f"many:{n}", "x", "PXAT", due) for n in range(start, start + 1000)])
        seen = set()
        while three.call("EXISTS", "many:0"):
            seen.add(three.call("DBSIZE"))
        seen.add(three.call("DBSIZE"))
        assert seen <= {20000, 0}, seen
        assert one.call("DBSIZE") == 0


def test_expiry_precedes_what_comes_after(shared):
    """A key that was seen gone, or whose TTL was used up, is not seen again at any replica."""
    stop = threading.Event()
    wrong = []

    def look(i):
        with shared.redis(i) as client:
            while not stop.is_set():
                n, alive = client.call("MGET", "clock", "ticking")
                if n is not None and alive is None and client.call("GET", "clock") == n and \
                        client.call("GET", "ticking") is not None and \
                        client.call("GET", "clock") == n:
                    wrong.append(n)
    lookers = [threading.Thread(target=look, args=(i,)) for i in shared.ids]
    with shared.redis(2) as client:
        for looker in lookers:
            looker.start()
        for n in range(40):
            client.pipeline([("SET", "ticking", n, "PX", 20), ("SET", "clock", n)])
            gone(client, "ticking")
    stop.set()
    for looker in lookers:
        looker.join()
    assert not wrong


def with_deadlines(client, pattern):
    """[(key, deadline)] of those that have one."""
    keys = client.call("KEYS", pattern)
    deadlines = client.pipeline([("PEXPIRETIME", key) for key in keys]) if keys else []
    return [(key, deadline) for key, deadline in zip(keys, deadlines) if deadline >= 0]


def write_with_deadlines(group, i, label, stop, acknowledged):
    """Short deadlines of every kind; what is acknowledged is noted, with when it was sent."""
    choose = random.Random(label)
    n = 0
    try:
        with group.redis(i, timeout=20) as client:
            while not stop.is_set():
                n += 1
                key = f"{label}:{choose.randrange(50)}"
                try:
                    client.call(*choose.choice([
                        ("SET", key, n, "PX", choose.randrange(1, 120)),
                        ("SET", key, n, "NX", "PX", choose.randrange(1, 120)),
                        ("PEXPIRE", key, choose.randrange(1, 200), choose.choice(["GT", "LT", "NX"])),
                        ("INCR", key), ("APPEND", key, "1"),
                        ("RENAME", key, f"{label}:{choose.randrange(50)}"),
                        ("COPY", key, f"{label}:{choose.randrange(50)}", "REPLACE"),
                        ("GETEX", key, "PX", choose.randrange(1, 100)), ("PERSIST", key),
                        ("GETDEL", key), ("DEL", key), ("RPUSH", "l" + key, n)]))
                    acknowledged[0] += 1
                except ServerError:
                    pass
    except (Disconnected, OSError):
        pass


def kill_around_deadlines(group, kills):
    stop, count = threading.Event(), [0]
    writers = [threading.Thread(target=write_with_deadlines,
                                args=(group, i, f"w{i}{n}", stop, count))
               for i in group.ids for n in range(2)]
    for writer in writers:
        writer.start()
    for _ in range(kills):
        before = count[0]
        wait_for(lambda: count[0] > before + 500, "writes to flow")
        victim = group.wait_leader()
        group.kill(victim)
        group.wait_leader(other_than=victim)
        group.start_replica(victim)
        wait_for(lambda: group.serves(victim), "the killed one to serve again")
    stop.set()
    for writer in writers:
        writer.join()


def test_replicas_agree_when_leaders_die_around_deadlines(group):
    """Conditional commands on keys that expire meanwhile decide alike everywhere."""
    with group.redis(1) as client:
        for n in range(3000):
            client.call("SET", f"old:{n}", "x", "PX", 100000 + n)
    kill_around_deadlines(group, kills=3)
    with group.redis(1) as client:
        for n in range(0, 3000, 3):
            client.call("PEXPIRE", f"old:{n}", 1)
        # A process that was killed has learnt of these from its backend alone.
        gone(client, "old:2997")
        # The writers' deadlines were all but at hand: each has to come.
        overdue = []

        def all_have_come():
            overdue[:] = with_deadlines(client, "w*")
            return not overdue
        wait_for(all_have_come, overdue)
    state = backends_are_equal(group)
    assert len([key for key in state if key[1].startswith(b"old:")]) == 2000
    assert not [key for key, (_, _, deadline) in state.items()
                if deadline != -1 and not key[1].startswith(b"old:")]


def test_a_restarted_leader_knows_deadlines(group):
    """Every process is killed in turn: deadlines live in the backends alone."""
    with group.redis(1) as client:
        client.call("SELECT", 7)
        for n in range(2500):
            client.call("SET", f"known:{n}", "x")
        client.call("SET", "due", "x", "PX", 2500)
        due = time.monotonic() + 2.5
    for i in group.ids:
        group.kill(i)
        group.start_replica(i)
        wait_for(lambda: group.serves(i), "it to serve again")
    with group.redis(3) as client:
        client.call("SELECT", 7)
        gone(client, "due")
        assert time.monotonic() > due - 0.01
        assert client.call("DBSIZE") == 2500


def shifted(library, seconds):
    """The environment of a program whose wall clock is that far off."""
    return dict(os.environ, LD_PRELOAD=library, CLOCK_OFFSET_S=str(seconds))


def fake_servers(directory, library, offsets):
    """A redis-server for PATH that lives in another time, by replica."""
    os.makedirs(directory)
    real = shutil.which("redis-server")
    cases = "\n".join(f"*replica-{i}*) export LD_PRELOAD={library} CLOCK_OFFSET_S={offset} ;;"
                      for i, offset in offsets.items())
    path = os.path.join(directory, "redis-server")
    with open(path, "w") as file:
        file.write(f"#!/bin/sh\ncase \"$PWD $*\" in\n{cases}\nesac\nexec {real} \"$@\"\n")
    os.chmod(path, os.stat(path).st_mode | stat.S_IXUSR)


def backend_clock_s(group, i):
    with group.redis_backend(i) as backend:
        return int(backend.call("TIME")[0])


def test_clocks_that_differ(tmp_path, monkeypatch):
    """Backends a year off, and a replica an hour behind, do not make deadlines come or go."""
    library = str(tmp_path / "clock_offset.so")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock_offset.c")
    subprocess.run(["cc", "-O2", "-fPIC", "-shared", "-o", library, source], check=True)
    year_s = 365 * 86400
    fake_servers(tmp_path / "bin", library, {1: year_s, 2: -year_s})
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with Group() as group:
        group.wait_ready()
        clocks = [backend_clock_s(group, i) - time.time() for i in group.ids]
        assert clocks[0] > 3e7 and clocks[1] < -3e7 and abs(clocks[2]) < 100, clocks
        leader = group.wait_leader()
        follower = next(i for i in group.ids if i != leader)
        pid = group.kill(follower)
        assert pid
        group.start_replica(follower, shifted(library, -3600))
        wait_for(lambda: group.serves(follower), "the one in the past to serve")
        third = next(i for i in group.ids if i not in (leader, follower))
        with group.redis(follower) as client:
            client.call("SET", "long", "x", "EX", 10000)
            client.call("SET", "short", "x", "PX", 1500)
            before = time.monotonic()
            # The one that lives an hour ago has to lead: the third cannot, its backend hangs.
            group.kill(third, number=19, name="redis.pid")
            try:
                wait_for(lambda: not group.serves(third), "the third to be unfit")
                group.kill(leader)
                wait_for(lambda: group.leader(follower) == follower, "the one in the past to lead", 30)
            finally:
                group.kill(third, number=18, name="redis.pid")
            gone(client, "short")
            assert time.monotonic() - before < 30, "the log's clock stood still"
            assert 9900 < client.call("TTL", "long") <= 10000
            client.call("SET", "fresh", "x", "PX", 300)
            before = time.monotonic()
            assert client.call("PTTL", "fresh") > 200
            gone(client, "fresh")
            assert 0.2 < time.monotonic() - before < 10
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "the first leader to serve again")
        state = backends_are_equal(group)
        assert {key for _, key in state} == {b"long"}
