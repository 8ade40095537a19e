"""Somebody writes to one server behind the proxies' backs: it is seen, told of, and healed."""

import pytest

from harness import Group, wait_for
from heal import a_follower, agree, digest, fill, log_of, metric
from test_failures import more_work, start_loads

SETTINGS = "[redis]\ndigest-interval = 200ms\ndigest-keys = 1000\n"


@pytest.fixture(scope="module")
def group():
    with Group() as group:
        group.wait_ready()
        for i in group.ids:
            group.restart_with(i, SETTINGS)
        yield group
        group.print_logs()


def check_loads(group, loads):
    for load in loads:
        load.stop()
    with group.redis(group.wait_leader(), timeout=30) as client:
        for load in loads:
            load.check(client)
            assert load.broken is None and not load.errors, (load.broken, load.errors[:3])


def total(group, name):
    return sum(metric(group, i, name) for i in group.ids)


def told(group, words):
    """By whoever led."""
    return any(words in log_of(group, i) for i in group.ids)


def change_string(backend):
    backend.call("SET", "div:string", "other")


def add_key(backend):
    backend.call("SET", "div:added", "x")


def remove_key(backend):
    backend.call("DEL", "div:gone")


def change_deadline(backend):
    backend.call("PERSIST", "div:deadline")


def add_member(backend):
    backend.call("SADD", "div:set", "one more")


def change_group(backend):
    backend.call("XGROUP", "SETID", "div:stream", "g", "1-1")


CHANGES = {"div:string": change_string, "div:added": add_key, "div:gone": remove_key,
           "div:deadline": change_deadline, "div:set": add_member, "div:stream": change_group}


@pytest.mark.parametrize("who,key", [*(("follower", key) for key in CHANGES),
                                     ("leader", "div:string"), ("leader", "div:added")])
def test_seen_and_healed_while_serving(group, who, key):
    leader = group.wait_leader()
    victim = leader if who == "leader" else a_follower(group)
    with group.redis(leader) as client:
        client.call("FLUSHALL")
        fill(client, "k", 300)
        client.call("SET", "div:string", "x")
        client.call("SET", "div:gone", "x")
        client.call("SET", "div:deadline", "x", "PX", 3600000)
        client.call("SADD", "div:set", "a", "b")
        client.call("XADD", "div:stream", "1-1", "f", "v")
        client.call("XGROUP", "CREATE", "div:stream", "g", "0")
    agree(group)
    heals, keys = metric(group, victim, "digest_heals_total"), total(group, "divergent_keys_total")
    marks = {i: len(log_of(group, i)) for i in group.ids}
    # Clients that go on adding keys outrun the search for one that differs.
    loads = start_loads(group, [i for i in group.ids if i != victim], f"{who}-{key}", distinct=200)
    with group.redis_backend(victim) as backend:
        CHANGES[key](backend)
    wait_for(lambda: any(f"servers differ in key '{key}' of database 0:" in log_of(group, i)[at:]
                         for i, at in marks.items()), "the key to be told of", 60)
    wait_for(lambda: metric(group, victim, "digest_heals_total") > heals, "it to be healed", 60)
    assert total(group, "divergent_keys_total") > keys
    wait_for(lambda: group.serves(victim), "it to serve again", 60)
    more_work(loads, 20)
    check_loads(group, loads)
    agree(group)


def test_equal_servers_are_left_alone(group):
    """Everything that may look different in servers that hold the same."""
    before = {i: metric(group, i, "digest_heals_total") for i in group.ids}
    different = total(group, "divergent_keys_total") + total(group, "divergent_counts_total")
    leader = group.wait_leader()
    with group.redis(leader) as client, group.redis(a_follower(group)) as other:
        client.call("FLUSHALL")
        client.call("PFADD", "hll", *range(100))
        for n in range(600):
            client.call("SADD", "set", f"m{(n * 7919) % 600}")
            client.call("HSET", "hash", f"f{(n * 104729) % 600}", n)
            client.call("ZADD", "zset", f"{n / 7}", f"m{n}")
            client.call("RPUSH", "list", n)
            client.call("XADD", "stream", "*", "f", n)
            if n % 50 == 0:
                client.call("PFCOUNT", "hll")  # changes the leader's server alone
                client.call("PFADD", "hll", f"more{n}")
                other.call("GET", "k:1")
        client.call("SPOP", "set", 500)
        client.call("SETRANGE", "large", 300000, "x")
        client.call("SET", "short", "x", "PX", 50)
        client.call("SELECT", 7)
        client.call("SET", "elsewhere", "x")
        compared = total(group, "digested_keys_total")
        wait_for(lambda: total(group, "digested_keys_total") > compared + 60,
                 "all of it to be compared, and again", 60)
        assert client.call("DBSIZE") == 1
    assert {i: metric(group, i, "digest_heals_total") for i in group.ids} == before
    assert total(group, "divergent_keys_total") + total(group, "divergent_counts_total") \
        == different


def test_without_a_majority(group):
    """Two servers that differ, and no third: told, and left as it is."""
    leader = group.wait_leader()
    others = [i for i in group.ids if i != leader]
    with group.redis(leader) as client:
        client.call("SELECT", 7)  # whose keys take their turn
        client.call("SET", "div:elsewhere", "x")
        client.call("SELECT", 0)
        client.call("SET", "div:both", "x")
    agree(group)
    group.kill(others[1])
    heals = total(group, "digest_heals_total")
    with group.redis_backend(others[0]) as backend:
        backend.call("SET", "div:both", "y")
        wait_for(lambda: told(group, "there is no majority, so nothing is done"), "it to be told",
                 60)
        assert metric(group, leader, "digest_heals_total") <= heals
        backend.call("SET", "div:both", "x")
    group.start_replica(others[1])
    wait_for(lambda: group.serves(others[1]), "it to serve again", 60)
    agree(group)
