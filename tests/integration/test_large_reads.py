"""Large replies: no more of them is held than a client takes, at any replica.

Counted in bytes: how much the proxies' private memory has grown when a client takes nothing,
and when it has taken all.
"""

import functools
import signal

import pytest

from harness import Disconnected, Group, ServerError, encode, rss_bytes, wait_for, where

MIB = 1 << 20
STRING_BYTES = 96 * MIB
ITEMS, ITEM_BYTES = 40, MIB + 7
HELD_BYTES = 24 * MIB  # what is on its way, and what allocators keep


def item(n):
    return b"%07d" % n + b"x" * (ITEM_BYTES - 7)


@pytest.fixture(scope="module")
def group():
    # A request can be a quarter of the ring.
    with Group(ring_size="64M") as group:
        group.wait_ready()
        with group.redis(group.wait_leader(), 60) as client:
            client.call("SETRANGE", "string", STRING_BYTES - 1, "e")
            for n in range(ITEMS):
                client.call("RPUSH", "list", item(n))
            client.call("SET", "small", "s")
        group.wait_level()
        yield group
        group.print_logs()


def undisturbed(test):
    """Once more if another replica came to lead meanwhile: who was in the middle of a reply is
    disconnected then, and a read behind which others were executed may be lost."""
    @functools.wraps(test)
    def run(group, **arguments):
        for _ in range(3):
            ballot = group.status(group.wait_leader())["ballot"]
            try:
                return test(group, **arguments)
            except (Disconnected, ServerError, AssertionError, TypeError):
                if group.status(group.wait_leader())["ballot"] == ballot:
                    raise
        raise AssertionError("leaders change and change")
    return run


def proxies(group):
    return {i: rss_bytes(group.read_pid(i)) for i in group.ids}


def grown(group, before):
    return {i: now - before[i] for i, now in proxies(group).items()}


def side_connections(group):
    """Reads with a connection of their own, as the servers see them."""
    count = 0
    for i in group.ids:
        with group.redis_backend(i) as server:
            listing = server.call("CLIENT", "LIST")
            count += sum(b" name= " in line and b" cmd=get " in line
                         for line in listing.splitlines())
    return count


@pytest.mark.parametrize("which", ["leader", "follower", "local"])
@undisturbed
def test_a_string_is_read_as_it_is_taken(group, which):
    i = where(group, which)
    before = proxies(group)
    with group.redis(i, 60) as slow, group.redis(i, 60) as other:
        if which == "local":
            slow.call("READONLY")
        slow.send(encode("GET", "string") + encode("GET", "small"))
        assert slow.line() == b"$%d" % STRING_BYTES
        # Others are served, and what is held for this one stays where it is.
        for _ in range(200):
            assert other.call("GET", "small") == b"s"
        assert side_connections(group) == 1
        assert max(grown(group, before).values()) < HELD_BYTES
        left = STRING_BYTES + 2
        while left > 0:
            left -= len(slow.exactly(min(left, MIB)))
        assert slow.reply() == b"s"
        assert slow.call("GET", "small") == b"s"
        assert max(grown(group, before).values()) < HELD_BYTES
    wait_for(lambda: side_connections(group) == 0, "the connection to be closed")


@pytest.mark.parametrize("which", ["leader", "follower"])
@undisturbed
def test_a_list_is_read_as_it_is_taken(group, which):
    before = proxies(group)
    with group.redis(where(group, which), 60) as client:
        client.send(encode("LRANGE", "list", 0, -1) * 2)
        for _ in range(2):
            assert client.line() == b"*%d" % ITEMS
            assert max(grown(group, before).values()) < HELD_BYTES
            for n in range(ITEMS):
                assert client.reply() == item(n)


@undisturbed
def test_resp3_and_other_databases(group):
    with group.redis(where(group, "follower"), 60) as client:
        client.call("SELECT", 3)
        client.send(encode("HELLO", 3))
        while client.line() != b"*0":
            pass
        client.send(encode("DEL", "hash"))
        client.line()
        for name in b"a", b"b":
            client.send(encode("HSET", "hash", name, item(1) * 5))
            assert client.line() == b":1"
        for _ in range(3):
            client.send(encode("HGETALL", "hash"))
            assert client.line() == b"%2"
            fields = dict((client.reply(), client.reply()) for _ in range(2))
            assert fields == {b"a": item(1) * 5, b"b": item(1) * 5}
            client.send(encode("GET", "string") + encode("DBSIZE"))
            assert client.line() == b"_"
            assert client.line() == b":1"


@pytest.mark.parametrize("which", ["leader", "follower"])
@pytest.mark.parametrize("round", [1, 2])
@undisturbed
def test_order_among_a_clients_own_requests(group, which, round):
    """What it sends behind a large read is not seen by that, known to be large or not."""
    key = f"order:{which}"
    with group.redis(where(group, which), 60) as client:
        client.call("SET", key, b"a" * 9 * MIB)
        for last in b"b", b"a":
            replies = client.pipeline([("GET", key), ("SETRANGE", key, 9 * MIB - 1, last),
                                       ("GETRANGE", key, 9 * MIB - 1, -1), ("GET", key)])
            before = b"a" if last == b"b" else b"b"
            assert replies[0][-1:] == before and replies[2] == last and replies[3][-1:] == last
            assert len(replies[0]) == len(replies[3]) == 9 * MIB
        client.call("DEL", key)


@undisturbed
def test_a_reply_becomes_small_again(group):
    with group.redis(where(group, "leader"), 60) as client:
        for size in 9 * MIB, 9 * MIB, 10, 10, 9 * MIB, 9 * MIB:
            client.call("SET", "changes", b"c" * size)
            assert client.call("GET", "changes") == b"c" * size
        client.call("DEL", "changes")
        assert client.call("GET", "changes") is None
        client.call("LPUSH", "changes", 1)
        client.send(encode("GET", "changes"))
        assert client.line().startswith(b"-WRONGTYPE ")


@pytest.mark.parametrize("which", ["leader", "follower"])
@undisturbed
def test_a_client_that_leaves_midway(group, which):
    with group.redis(where(group, which), 60) as client:
        client.send(encode("GET", "string"))
        client.line()
    wait_for(lambda: side_connections(group) == 0, "the connection to be closed")
    with group.redis(where(group, which)) as client:
        assert client.call("GET", "small") == b"s"


def test_a_server_that_ends_midway(group):
    """Of its client nothing else can become than that it is disconnected; others go on."""
    leader = group.wait_leader()
    i = next(i for i in group.ids if i != leader)
    with group.redis(i, 60) as slow, group.redis(i, 60) as other:
        slow.send(encode("GET", "string"))
        assert slow.line() == b"$%d" % STRING_BYTES
        waiting = group.redis(leader, 60)
        waiting.send(encode("GET", "string"))
        assert waiting.line() == b"$%d" % STRING_BYTES
        group.kill(leader, signal.SIGKILL, name="redis.pid")
        for client in slow, waiting:
            rest = client.rest()
            assert rest is not None and len(rest) < STRING_BYTES
        waiting.close()
        assert other.call("GET", "small") == b"s"
