"""A Redis that the log cannot bring level is given another replica's state."""

import subprocess

import pytest

from harness import MUCTL, Group, wait_for
from heal import (Servers, a_follower, check, equal_everywhere, fill, log_of, outrun,
                  wait_restored)
from test_failures import lose_memory, more_work, start_loads


@pytest.fixture
def group():
    """With a small ring: a backend that is away for a moment is left behind."""
    with Group(ring_size="1M") as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.fixture
def servers(group):
    with Servers(group) as servers:
        yield servers


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_comes_back_empty_under_load(group, servers, who):
    leader = group.wait_leader()
    victim = leader if who == "leader" else a_follower(group)
    outrun(group, leader)
    loads = start_loads(group)
    servers.empty(victim)
    wait_restored(group, victim)
    wait_for(lambda: "ms after the gate" in log_of(group, victim), "it to tell that it is level")
    assert "muproxy_restore_level_milliseconds " in group.http(victim, "/metrics")[1]
    more_work(loads, 50)
    check(group, loads, group.ids if who == "leader" else ())


def test_proxy_and_server_come_back_with_nothing_and_nobody_writes(group, servers):
    """A leader that is idle notices by itself that a follower's memory is another one."""
    leader, victim = group.wait_leader(), a_follower(group)
    outrun(group, leader)
    group.wait_level()
    lose_memory(group, victim)
    servers.empty(victim)
    group.start_replica(victim)
    wait_restored(group, victim)
    assert group.status(leader)["replicas"][victim - 1]["voting"]
    equal_everywhere(group)


@pytest.mark.parametrize("kept", ["rdb", "aof"])
def test_comes_back_with_what_it_had_long_ago(group, servers, kept):
    """Down for longer than the ring is long; what it holds then is no part of the answer."""
    leader, victim = group.wait_leader(), a_follower(group)
    with group.redis(leader) as client, group.redis_backend(victim) as backend:
        fill(client, "old", 300)
        client.call("SET", "deleted", "it is not to be seen again")
        client.call("SADD", "grows", "a", "b")
        group.wait_level()
        if kept == "aof":
            backend.call("CONFIG", "SET", "appendonly", "yes")
            wait_for(lambda: b"aof_rewrite_in_progress:0" in backend.call("INFO", "persistence")
                     and b"aof_last_bgrewrite_status:ok" in backend.call("INFO", "persistence")
                     and b"aof_rewrite_scheduled:0" in backend.call("INFO", "persistence"),
                     "the AOF to be written")
        else:
            backend.call("SAVE")
        servers.kill(victim)
        client.call("DEL", "deleted")
        client.call("SADD", "grows", "c")
        client.call("SET", "old:1", "new")
    outrun(group, leader)
    loads = start_loads(group)
    servers.start(victim, *(["--appendonly", "yes"] if kept == "aof" else []))
    wait_restored(group, victim)
    check(group, loads)
    with group.redis_backend(victim) as backend:
        assert backend.call("EXISTS", "deleted") == 0
        assert sorted(backend.call("SMEMBERS", "grows")) == [b"a", b"b", b"c"]
        assert backend.call("GET", "old:1") == b"new"
        assert b"role:master" in backend.call("INFO", "replication")
        assert backend.call("CONFIG", "GET", "masterauth") == [b"masterauth", b""]


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_proxy_and_backend_are_killed_and_come_back_empty(group, servers, who):
    leader = group.wait_leader()
    victim = leader if who == "leader" else a_follower(group)
    outrun(group, leader)
    loads = start_loads(group, [i for i in group.ids if i != victim])
    group.kill(victim)
    servers.kill(victim)
    more_work(loads, 20)
    servers.start_empty(victim)
    group.start_replica(victim)
    wait_restored(group, victim)
    more_work(loads, 20)
    check(group, loads)


def test_what_it_leads_with_afterwards(group, servers):
    """Deadlines, scripts, functions, every type of value: there when the restored one leads."""
    leader, victim = group.wait_leader(), a_follower(group)
    other = next(i for i in group.ids if i not in (leader, victim))
    with group.redis(leader) as client:
        client.call("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('twice', "
                    "function(keys, args) return redis.call('INCRBY', keys[1], 2) end)")
        sha = client.call("SCRIPT", "LOAD", "return redis.call('INCR', KEYS[1]) * 10")
        client.call("SET", "long", "x", "PX", 3600000)
        long_due = client.call("PEXPIRETIME", "long")
        client.call("SET", "persists", "x", "PX", 1)
        client.call("SET", "persists", "y")
        for n in range(100):
            client.call("SET", f"short:{n}", "x", "PX", 4000 + n)
        client.call("EVAL", "redis.call('SET', KEYS[1], 1, 'PX', 4000)", 1, "short:script")
        client.call("HSET", "hash", "f", "v")
        client.call("ZADD", "zset", "1.5", "a")
        client.call("XADD", "stream", "1-1", "f", "v")
        client.call("XGROUP", "CREATE", "stream", "g", "0")
        client.call("RPUSH", "list", "1", "2")
        client.call("SELECT", 3)
        client.call("SET", "elsewhere", "x")
    outrun(group, leader)
    servers.empty(victim)
    wait_restored(group, victim)
    equal_everywhere(group)
    # It is to lead: the others have no servers, though they still vote.
    for i in (other, leader):
        servers.kill(i)
    wait_for(lambda: group.leader(victim) == victim, "the restored one to lead")
    with group.redis(victim) as client:
        assert client.call("FCALL", "twice", 1, "f") == 2
        assert client.call("EVALSHA", sha, 1, "e") == 10
        assert client.call("PEXPIRETIME", "long") == long_due
        assert client.call("GET", "persists") == b"y"
        wait_for(lambda: not client.call("KEYS", "short:*"), "short ones to expire")
        assert client.call("DBSIZE") > 0 and client.call("EXISTS", "long", "persists") == 2
        assert client.call("XREAD", "STREAMS", "stream", "0")


def test_replaced_at_an_operators_word(group, servers):
    """Data of somebody else's: refused, until he who can tell says that it may go."""
    victim = a_follower(group)
    group.kill(victim)
    with group.redis_backend(victim) as backend:
        backend.call("FLUSHALL")
        backend.call("SET", "foreign", "x")
    group.start_replica(victim)
    with group.redis(group.wait_leader()) as client:
        fill(client, "k", 100)
    wait_for(lambda: "holds data that is not of this group's log" in log_of(group, victim),
             "it to be refused")
    assert not group.serves(victim)

    def muctl(*arguments):
        return subprocess.run([MUCTL, "--admin", group.admin(victim), *arguments],
                              capture_output=True, text=True, check=False)
    assert muctl("restore").returncode == 2
    assert group.http(victim, "/restore?replace")[0] == 400, "a GET changes nothing"
    said = muctl("restore", "--replace")
    assert said.returncode == 0 and said.stdout.startswith("ok"), said
    wait_restored(group, victim)
    equal_everywhere(group)
    with group.redis_backend(victim) as backend:
        assert backend.call("EXISTS", "foreign") == 0
