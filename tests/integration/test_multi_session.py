"""In MULTI, what a replica does for a client by itself: done at EXEC, in its place, if at all."""

import re

import pytest

from harness import Disconnected, encode, wait_for
from redis_pair import PlainRedis


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        yield server


# Each is sent in one go: so it is seen, too, that what follows EXEC waits for it.
CONVERSATIONS = [
    ["MULTI", "SUBSCRIBE a b", "GET none", "SSUBSCRIBE c", "PSUBSCRIBE p* q*", "PING", "PING x",
     "UNSUBSCRIBE b", "UNSUBSCRIBE", "PUBLISH nobody m", "PUNSUBSCRIBE p* q*", "SUNSUBSCRIBE", "PING", "EXEC",
     "PING", "GET none", "PUBSUB NUMPAT"],
    ["MULTI", "SUBSCRIBE a", "UNSUBSCRIBE a", "SUBSCRIBE a", "PSUBSCRIBE a", "UNSUBSCRIBE none", "EXEC", "PING",
     "GET none", "UNSUBSCRIBE", "PUNSUBSCRIBE", "GET none"],
    ["MULTI", "UNSUBSCRIBE", "PUNSUBSCRIBE x", "SUNSUBSCRIBE", "SUBSCRIBE", "EXEC", "PING"],
    ["MULTI", "SUBSCRIBE a", "PSUBSCRIBE b", "DISCARD", "PING", "GET none", "PUBSUB CHANNELS"],
    ["MULTI", "CLIENT SETNAME one", "CLIENT GETNAME", "SELECT 3", "SET k v", "CLIENT SETNAME two", "GET k",
     "SELECT 99", "SELECT x", "ECHO e", "UNWATCH", "EXEC", "CLIENT GETNAME", "GET k", "FLUSHALL", "RESET",
     "CLIENT GETNAME"],
    # What was watched has changed: nothing of it happens.
    ["CLIENT SETNAME before", "SET w 1", "WATCH w", "SET w 2", "MULTI", "CLIENT SETNAME after", "SELECT 5",
     "HELLO 3", "CLIENT KILL SKIPME no TYPE normal", "SUBSCRIBE a", "CLIENT REPLY OFF", "EXEC", "CLIENT GETNAME",
     "GET w", "PUBSUB CHANNELS", "DEL w"],
    ["WATCH w", "MULTI", "CLIENT SETNAME after", "EXEC", "CLIENT GETNAME", "WATCH w", "MULTI", "EXEC",
     "WATCH w", "SET w 1", "MULTI", "PING", "EXEC", "DEL w", "RESET"],
    ["MULTI", "SET k v", "GET k", "HELLO 3", "EXEC", "HGETALL none", "MULTI", "HGETALL none", "HELLO 2", "EXEC",
     "HGETALL none", "DEL k"],
    ["MULTI", "CLIENT REPLY OFF", "SET k v", "GET k", "EXEC", "PING", "CLIENT REPLY ON", "GET k"],
    ["MULTI", "CLIENT REPLY SKIP", "SET k v", "GET k", "EXEC", "PING", "GET k", "DEL k"],
    ["CLIENT REPLY OFF", "MULTI", "SET k v", "CLIENT REPLY ON", "GET k", "EXEC", "PING", "DEL k"],
    ["CLIENT REPLY OFF", "MULTI", "SELECT 2", "SET k v", "EXEC", "CLIENT REPLY ON", "GET k", "DEL k", "RESET"],
    ["CLIENT REPLY SKIP", "MULTI", "SELECT 2", "CLIENT REPLY SKIP", "EXEC", "PING", "GET k", "RESET"],
    ["MULTI", "MONITOR", "AUTH x", "AUTH default x", "CLIENT UNBLOCK 999999", "CLIENT KILL ID 999999",
     "SCRIPT KILL", "PUBSUB NUMSUB x", "CLIENT NO-EVICT maybe", "EXEC"],
    ["MULTI", "INCR n", "CLIENT KILL SKIPME no TYPE normal", "EXEC", "PING"],
]


def whole(client, protocol, requests):
    """All that comes back, but for the client's number."""
    requests = [f"HELLO {protocol}", *requests, "PING <end>"]
    client.send(b"".join(encode(*request.split()) for request in requests))
    try:
        while not client.buffer.endswith(b"<end>\r\n"):
            client._fill()
    except (ConnectionError, Disconnected):
        client.buffer += b"<closed>"
    return re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1:0", client.buffer)


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("n", range(len(CONVERSATIONS)))
def test_replies_are_those_of_a_plain_server(shared, plain, n, protocol):
    for i in shared.ids:
        for server in (plain, shared):
            with (plain.client() if server is plain else shared.redis(i)) as client:
                client.call("FLUSHALL")
        with plain.client() as client:
            expected = whole(client, protocol, CONVERSATIONS[n])
        with shared.redis(i) as client:
            assert whole(client, protocol, CONVERSATIONS[n]) == expected, i


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_come_from_exec_on(shared, protocol):
    """And only if it was carried out."""
    for i in shared.ids:
        with shared.redis(i) as client, shared.redis(i % 3 + 1) as other:
            assert client.call("WATCH", "w") == b"OK"
            other.call("INCR", "w")
            assert client.pipeline([("MULTI",), ("SUBSCRIBE", "news"), ("EXEC",)])[-1] is None
            other.call("PUBLISH", "news", "unheard")
            client.send(encode("HELLO", protocol) + encode("MULTI") + encode("SUBSCRIBE", "news") + encode("PSUBSCRIBE", "n*") +
                        encode("UNSUBSCRIBE", "news") + encode("EXEC"))
            while not client.buffer.endswith(b"unsubscribe\r\n$4\r\nnews\r\n:1\r\n"):
                client._fill()
            assert b"unheard" not in client.buffer
            client.buffer = b""
            other.call("PUBLISH", "news", "<heard>")
            while not client.buffer.endswith(b"<heard>\r\n"):
                client._fill()
            assert client.buffer.count(b"<heard>") == 1 and b"pmessage" in client.buffer


def test_publish_counts_who_listens_here(shared):
    """As outside of MULTI: those of the replica that is asked."""
    with shared.redis(1) as listener, shared.redis(1) as near, shared.redis(2) as far:
        listener.call("SUBSCRIBE", "c")
        for client, count in ((near, 1), (far, 0)):
            assert client.call("PUBLISH", "c", "m") == count
            assert client.pipeline([("MULTI",), ("PUBLISH", "c", "m"), ("PING",), ("EXEC",)])[-1] == \
                [count, b"PONG"]


def test_an_exec_that_the_leader_takes_with_it(group):
    """It is done once, or the client is told that nobody knows: never a part of it."""
    leader = group.wait_leader()
    with group.redis(leader % 3 + 1) as client:
        assert client.call("SET", "n", 0) == b"OK"
        group.kill(leader)
        client.send(encode("MULTI") + encode("CLIENT", "SETNAME", "me") + encode("INCR", "n") +
                    encode("SELECT", 2) + encode("EXEC") + encode("CLIENT", "GETNAME") + encode("GET", "n"))
        replies = [client.reply() for _ in range(7)]
        assert replies[4] == [b"OK", 1, b"OK"], replies
        assert replies[5:] == [b"me", None]
    wait_for(lambda: group.leader(leader % 3 + 1), "another leader")


def test_a_reply_that_grows_beyond_all_bounds(group):
    """A short transaction may ask for more than is kept for a client that does not read."""
    group.restart_with(2, "\n[limits]\nclient-output = 2M\n")
    with group.redis(2) as client, group.redis(2) as other:
        client.call("CLIENT", "SETNAME", "n" * (1 << 16))
        for count in (10, 20):
            assert len(client.pipeline([("MULTI",)] + [("CLIENT", "GETNAME")] * count + [("EXEC",)])[-1]) == count
        with pytest.raises(Disconnected):
            client.pipeline([("MULTI",)] + [("CLIENT", "GETNAME")] * 100 + [("EXEC",)])
        assert other.call("PING") == b"PONG"
