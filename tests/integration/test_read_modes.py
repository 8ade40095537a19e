"""READONLY, READWRITE and read-mode: reads by the server beside the replica."""

import pytest

from harness import Group, ServerError, follower, wait_for

LOCAL = "[redis]\nread-mode = local\n[timing]\nhold-timeout = 300ms\n"


def relayed(group, i):
    return group.status(i)["proxy"]["relayed"]


def test_readonly_reads_are_not_relayed(shared):
    i = follower(shared)
    with shared.redis(i) as client:
        client.call("SET", "near", "x")
        assert client.call("READONLY") == b"OK"
        wait_for(lambda: client.call("GET", "near") == b"x", "the own server to have it")
        shared.wait_level()
        before = relayed(shared, i)
        replies = client.pipeline([("GET", "near"), ("STRLEN", "near"), ("TYPE", "near")] * 100)
        assert replies == [b"x", 1, b"string"] * 100
        assert relayed(shared, i) == before
        assert client.call("READWRITE") == b"OK"
        assert client.call("GET", "near") == b"x"
        assert relayed(shared, i) == before + 1
        client.call("READONLY")
        assert client.call("RESET") == b"RESET"
        client.call("GET", "near")
        assert relayed(shared, i) == before + 2


def test_a_connection_sees_its_own_writes(shared):
    """In order, pipelined or not, at the leader and elsewhere."""
    for i in shared.ids:
        with shared.redis(i) as client:
            client.call("READONLY")
            for n in range(200):
                client.call("SET", f"own:{i}", n)
                assert client.call("GET", f"own:{i}") == b"%d" % n
            requests = [r for n in range(200)
                        for r in (("SET", f"own:{i}", n), ("GET", f"own:{i}"), ("PING",))]
            replies = client.pipeline(requests)
            assert replies[1::3] == [b"%d" % n for n in range(200)]
            assert client.call("MULTI") == b"OK"
            client.call("INCR", f"own:{i}")
            client.call("GET", f"own:{i}")
            assert client.call("EXEC") == [200, b"200"]
            assert client.call("WATCH", f"own:{i}") == b"OK"
            client.call("MULTI")
            client.call("GET", f"own:{i}")
            assert client.call("EXEC") == [b"200"]


def test_what_is_left_of_a_deadline(shared):
    with shared.redis(follower(shared)) as client:
        client.call("READONLY")
        client.call("SET", "limited", "x", "EX", 1000)
        assert 900 < client.call("TTL", "limited") <= 1000
        assert client.call("TTL", "nothing") == -2


@pytest.fixture
def apart():
    """A group whose members need each other: what is killed cannot be written to."""
    with Group(fabric="tcp") as group:
        yield group.wait_ready()


def test_an_old_answer_is_an_answer(apart):
    """A replica that is left alone: what it has is there, if that will do."""
    group = apart
    leader = group.wait_leader()
    i, other = [j for j in group.ids if j != leader]
    with group.redis(leader) as client:
        client.call("SET", "old", "1")
    group.wait_level()
    group.restart_with(i, LOCAL)
    group.wait_level()
    with group.redis(i) as near, group.redis(i) as far:
        assert far.call("READWRITE") == b"OK"
        assert far.call("GET", "old") == b"1"
        for j in (leader, other):
            group.kill(j)
        with pytest.raises(ServerError, match="no leader|not taken"):
            far.call("GET", "old")
        assert near.call("GET", "old") == b"1"
        with pytest.raises(ServerError, match="no leader|not taken|unknown"):
            near.call("SET", "old", "2")
        assert near.call("GET", "old") == b"1"


def test_a_server_that_is_away_is_not_asked(group):
    """Then the leader answers, as it does for everybody else."""
    i = follower(group)
    with group.redis(i) as client:
        client.call("SET", "k", "v")
        client.call("READONLY")
        assert client.call("GET", "k") == b"v"
        before = relayed(group, i)
        group.kill(i, name="redis.pid")
        wait_for(lambda: client.call("GET", "k") == b"v" and relayed(group, i) > before,
                 "a read to be relayed")
