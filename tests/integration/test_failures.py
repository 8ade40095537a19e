"""Killing and stopping parts of a group under load."""

import os
import re
import signal
import subprocess
import time

import pytest

from harness import MUCTL, Group, Load, ServerError, encode, process_lives, wait_for


def start_loads(group, ids=None, label="", distinct=None):
    loads = [Load(group, i, f"{label}r{i}c{n}", distinct)
             for i in ids or group.ids for n in range(2)]
    for load in loads:
        load.start()
    wait_for(lambda: all(load.sets > 20 for load in loads), "load to flow")
    return loads


def more_work(loads, count=50):
    """Wait until each of them has got `count` more writes acknowledged."""
    goals = [(load, load.sets + count) for load in loads]
    wait_for(lambda: all(load.sets >= goal or load.broken for load, goal in goals),
             "the survivors' clients to go on")


def backends_agree(group, ids=None):
    ids = list(ids or group.ids)
    group.wait_level(ids)
    contents = {i: group.redis_contents(i) for i in ids}
    first = contents[ids[0]]
    for i in ids[1:]:
        differing = {k for k in first.keys() | contents[i].keys()
                     if first.get(k) != contents[i].get(k)}
        assert not differing, f"replicas {ids[0]} and {i} differ in {sorted(differing)[:5]}"
    assert first


def check_loads(group, loads, victim=None):
    reader = next(i for i in group.ids if i != victim)
    for load in loads:
        load.stop()
    with group.redis(reader) as client:
        for load in loads:
            load.check(client)
            if load.replica != victim:
                assert load.broken is None, f"{load.label} lost its connection: {load.broken}"
                assert not load.errors, f"{load.label} got errors: {load.errors[:3]}"
    survivors = [load for load in loads if load.replica != victim]
    gap = max(load.longest_gap for load in survivors)
    print(f"longest gap of a survivor's client: {gap * 1000:.1f} ms")


@pytest.mark.parametrize("victim", [1, 2, 3])
def test_kill_any_replica_under_load(group, victim):
    loads = start_loads(group)
    was_leader = group.wait_leader() == victim
    group.kill(victim)
    print("killed the", "leader" if was_leader else "follower")
    survivors = [load for load in loads if load.replica != victim]
    more_work(survivors, 100)
    # It comes back, finds its log and its backend, and goes level.
    group.start_replica(victim)
    wait_for(lambda: group.serves(victim), f"replica {victim} to serve again", 30)
    more_work(survivors, 50)
    check_loads(group, loads, victim)
    backends_agree(group)


def test_memcached_survives_the_leader(group):
    leader = group.wait_leader()
    others = [i for i in group.ids if i != leader]
    with group.memcached(others[0]) as one, group.memcached(others[1]) as two:
        assert one.set("n", b"0") == b"STORED"
        for n in range(300):
            assert one.command("incr n 1") == b"%d" % (n + 1)
            assert one.set(f"k{n}", b"v%d" % n) == b"STORED"
            if n == 150:
                group.kill(leader)
        assert two.get("n") == b"300"
        for n in range(300):
            assert two.get(f"k{n}") == b"v%d" % n


def test_both_others_down_and_back(group):
    """Without a majority writes wait, and are answered when it is back."""
    leader = group.wait_leader()
    others = [i for i in group.ids if i != leader]
    with group.redis(leader) as client:
        client.call("SET", "before", "1")
        for i in others:
            group.kill(i)
        client.send(b"*3\r\n$3\r\nSET\r\n$6\r\nduring\r\n$1\r\n2\r\n")
        group.start_replica(others[0])
        assert client.reply() == b"OK"
        assert client.call("GET", "during") == b"2"
        group.start_replica(others[1])
        group.wait_level()
    backends_agree(group)


def test_all_replicas_killed_and_started(group):
    """The logs survive their processes: what was acknowledged is still there."""
    with group.redis(1) as client:
        for n in range(200):
            client.call("SET", f"all:{n}", n)
        client.call("INCR", "all")
    group.kill_and_restart_all()
    with group.redis(2) as client:
        assert [int(v) for v in client.call("MGET", *[f"all:{n}" for n in range(200)])] == \
            list(range(200))
        assert client.call("GET", "all") == b"1"
    backends_agree(group)


@pytest.mark.parametrize("server", ["redis", "memcached"])
@pytest.mark.parametrize("role", ["leader", "follower"])
def test_kill_a_backend_under_load(group, role, server):
    """Its replica goes out of service; the others go on, and nothing is lost."""
    leader = group.wait_leader()
    victim = leader if role == "leader" else next(i for i in group.ids if i != leader)
    others = [i for i in group.ids if i != victim]
    loads = start_loads(group, others)
    group.kill(victim, name=f"{server}.pid")
    wait_for(lambda: not group.serves(victim), f"the replica without its {server} to say so")
    wait_for(lambda: group.leader(others[0]) in others, "a leader with a backend")
    more_work(loads, 100)
    check_loads(group, loads, victim)
    backends_agree(group, others)


def test_a_redis_that_comes_back_empty_is_not_served_from(group):
    """The log no longer begins at its beginning, or does: never may it answer with old data."""
    leader = group.wait_leader()
    victim = next(i for i in group.ids if i != leader)
    with group.redis(leader) as client:
        for n in range(100):
            client.call("SET", f"empty:{n}", n)
    group.wait_level()
    group.kill(victim, name="redis.pid")
    sock = group.path(victim, "redis.sock")
    server = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", sock, "--save", "", "--appendonly", "no",
         "--databases", "17", "--dir", group.path(victim, "")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        with group.redis(victim, timeout=20) as client:
            # Whoever answers must know all of it.
            assert [int(v) for v in client.call("MGET", *[f"empty:{n}" for n in range(100)])] == \
                list(range(100))
        with group.redis(leader) as client:
            assert client.call("SET", "empty:after", "1") == b"OK"
    finally:
        server.kill()
        server.wait()


STOPPED_S = 10


def test_a_stopped_leader():
    """SIGSTOP: another leads meanwhile; awake again, it does no harm, and answers no stale read."""
    with Group(ring_size="256M") as group:  # what is written meanwhile must fit
        stop_the_leader(group.wait_ready())


def asked_while_stopped(group, stopped, writer, number):
    """A client of the one that is stopped asks for what others have just been told is written."""
    reader = group.redis(stopped, timeout=60)
    assert writer.call("SET", "number", number) == b"OK"
    reader.send(encode("GET", "number"))
    return reader, number


def stop_the_leader(group):
    leader = group.wait_leader()
    others = [i for i in group.ids if i != leader]
    loads = start_loads(group, distinct=500)
    survivors = [load for load in loads if load.replica != leader]
    questions = []
    pid = group.kill(leader, signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        wait_for(lambda: group.leader(others[0]) in others, "another leader")
        print(f"another leader after {(time.monotonic() - stopped) * 1000:.0f} ms")
        more_work(survivors, 100)
        with group.redis(others[1], timeout=30) as writer:
            while time.monotonic() - stopped < STOPPED_S:
                questions.append(asked_while_stopped(group, leader, writer, len(questions)))
                more_work(survivors, 20)
    finally:
        os.kill(pid, signal.SIGCONT)
    for reader, number in questions:
        with reader:
            value = reader.reply()
            assert isinstance(value, ServerError) or int(value) >= number, (value, number)
    wait_for(lambda: group.serves(leader), "the stopped one to serve again", 30)
    more_work(loads, 20)
    for load in loads:
        load.stop()
    with group.redis(others[0]) as client:
        for load in loads:
            load.check(client)
            if load.replica != leader:
                assert load.broken is None and not load.errors, (load.broken, load.errors[:3])
    backends_agree(group)


def test_a_stopped_follower_holds_nobody_up(group):
    leader = group.wait_leader()
    victim = next(i for i in group.ids if i != leader)
    loads = start_loads(group, [i for i in group.ids if i != victim])
    pid = group.kill(victim, signal.SIGSTOP)
    try:
        more_work(loads, 200)
        gap = max(load.longest_gap for load in loads)
        print(f"longest gap of another's client: {gap * 1000:.1f} ms")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: group.serves(victim), "the stopped one to serve again", 30)
    check_loads(group, loads)
    backends_agree(group)


def test_a_follower_goes_level_after_a_long_absence(group):
    """More than half of the 16 MiB ring is written while it is away."""
    leader = group.wait_leader()
    victim = next(i for i in group.ids if i != leader)
    group.kill(victim)
    value = b"x" * 50000
    with group.redis(leader) as client:
        for n in range(180):
            assert client.call("SET", f"away:{n % 20}", value + b"%d" % n) == b"OK"
    group.start_replica(victim)
    wait_for(lambda: group.serves(victim), "it to serve again", 30)
    backends_agree(group)


def test_a_ring_that_wraps_many_times(group):
    """200 MB through rings of 16 MiB: space is reclaimed behind the backends."""
    value = b"y" * 500000
    with group.redis(1) as one, group.redis(2) as two:
        for n in range(400):
            client = one if n % 2 else two
            assert client.call("SET", f"wrap:{n % 7}", value + b"%d" % n) == b"OK"
        assert one.call("GET", "wrap:0").endswith(b"399")
    assert all(process_lives(group.read_pid(i)) for i in group.ids)
    backends_agree(group)


def run(program, *arguments):
    return subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60, check=False)


def lose_memory(group, i):
    """Kill a replica and remove its log, as if its machine had gone."""
    with open(group.conf(i)) as conf:
        directory = re.search(r"^memory-dir\s*=\s*(\S+)", conf.read(), re.M).group(1)
    group.kill(i)
    names = [name for name in os.listdir(directory) if name.startswith(f"replica-{i}")]
    assert names
    for name in names:
        os.unlink(os.path.join(directory, name))


def test_go_on_by_the_operators_word():
    """Two of three memories are gone: nobody leads until that is accepted."""
    with Group() as group:
        leader = group.wait_leader()
        with group.redis(leader) as redis:
            redis.call("set", "greeting", "hello")
        group.wait_level()
        refused = run(MUCTL, "--admin", group.admin(1), "recover", "--accept-loss")
        assert refused.returncode == 1 and "nothing needs to be given up" in refused.stderr
        # Replica 1 goes too: as a leader that lives on it may take one of the two back
        # with the other's old memory, which over shm it can write until the new one is there.
        group.kill(1)
        for i in (2, 3):
            lose_memory(group, i)
        for i in group.ids:
            group.start_replica(i)
        wait_for(lambda: group.status(1), "replica 1 to tell")
        wait_for(lambda: all(group.status(1)["replicas"][i - 1]["alive"]
                             and group.status(1)["replicas"][i - 1]["role"] == "blank"
                             for i in (2, 3)), "the blank replicas")
        assert group.status(1)["leader"] == 0
        refused = run(MUCTL, "--admin", group.admin(2), "recover", "--accept-loss")
        assert refused.returncode == 1 and "has lost its memory itself" in refused.stderr
        assert run(MUCTL, "--admin", group.admin(1), "recover").returncode == 2
        wait_for(lambda: run(MUCTL, "--admin", group.admin(1), "recover",
                             "--accept-loss").returncode == 0, "replica 1 to forget")
        group.wait_leader()
        group.wait_level()
        for i in group.ids:
            with group.redis(i) as redis:
                assert redis.call("get", "greeting") == b"hello"
                redis.call("set", "greeted", i)
        backends_agree(group)
