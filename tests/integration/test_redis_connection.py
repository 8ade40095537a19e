"""Handshakes and connection state, beside a plain redis-server's."""

import pytest
import redis

from harness import ServerError, encode, wait_for
from redis_pair import PlainRedis
from test_redis_differential import ask, raw_reply


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        yield server


def masked(request, reply):
    """Without what differs from one connection to the next."""
    if request[0] == "HELLO" and b"$2\r\nid\r\n" in reply:
        head, _, tail = reply.partition(b"$2\r\nid\r\n:")
        return head + tail.partition(b"\r\n")[2]
    return reply


CONVERSATIONS = [
    [("HELLO",), ("HELLO", 3), ("GET", "none"), ("HGETALL", "none"), ("ZSCORE", "none", "x"),
     ("HELLO", 2), ("GET", "none"), ("HELLO", 4), ("HELLO", "x"), ("HELLO", 3, "SETNAME", "me"),
     ("CLIENT", "GETNAME"), ("HELLO",), ("HELLO", 2, "NONSENSE"), ("HELLO", 2, "SETNAME"),
     ("HELLO", 3, "AUTH", "default", "any"), ("HELLO", 3, "AUTH", "other", "any"),
     ("HELLO", 3, "SETNAME", "a b"), ("HELLO", "3", "AUTH", "default", "x", "SETNAME", "n")],
    [("AUTH", "x"), ("AUTH", "default", "x"), ("AUTH", "nobody", "x"), ("AUTH", "a", "b", "c"),
     ("AUTH",)],
    [("CLIENT", "SETNAME", "a"), ("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", ""),
     ("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", "a b"), ("CLIENT", "NO-EVICT", "on"),
     ("CLIENT", "NO-EVICT", "perhaps"), ("CLIENT", "GETREDIR"), ("CLIENT", "UNBLOCK", 12345),
     ("CLIENT", "UNBLOCK", "x"), ("CLIENT", "KILL", "1.2.3.4:5"), ("CLIENT", "KILL", "ID", 999999),
     ("CLIENT", "KILL", "ID", 0), ("CLIENT", "KILL", "ID"), ("CLIENT", "KILL", "TYPE", "x"),
     ("CLIENT", "KILL", "TYPE", "replica"), ("CLIENT", "KILL", "USER", "nobody"),
     ("CLIENT", "LIST", "ID", 999999), ("CLIENT", "LIST", "TYPE", "pubsub"),
     ("CLIENT", "LIST", "TYPE", "x"), ("CLIENT", "LIST", "ID", "x"), ("CLIENT", "LIST", "junk"),
     ("CLIENT", "NONSENSE")],
    [("SELECT", 15), ("SET", "k", 1), ("SELECT", 16), ("SELECT", -1), ("SELECT", "x"), ("GET", "k"),
     ("RESET",), ("GET", "k"), ("SELECT", 15), ("DEL", "k")],
    [("HELLO", 3), ("CLIENT", "SETNAME", "x"), ("MULTI",), ("SET", "k", 1), ("RESET",), ("GET", "k"),
     ("CLIENT", "GETNAME"), ("EXEC",)],
    [("HELLO", 3), ("WATCH", "k"), ("SET", "k", 1), ("MULTI",), ("GET", "k"), ("EXEC",),
     ("MULTI",), ("GET", "none"), ("CLIENT", "GETNAME"), ("CLIENT", "SETNAME", "n"),
     ("CLIENT", "GETNAME"), ("HELLO", "x"), ("EXEC",), ("GET", "none"), ("DEL", "k")],
    [("PING",), ("PING", "x"), ("PING", "x", "y"), ("ECHO", "x"), ("ECHO",), ("COMMAND", "COUNT"),
     ("COMMAND", "GETKEYS", "MSET", "a", 1, "b", 2), ("COMMAND", "INFO", "get", "nonsense"),
     ("CONFIG", "SET", "slowlog-max-len"), ("CONFIG", "SET", "hz", "x"),
     ("CONFIG", "SET", "slowlog-max-len", 77), ("CONFIG", "GET", "slowlog-max-len"),
     ("CONFIG", "RESETSTAT",), ("SLOWLOG", "RESET"), ("SLOWLOG", "LEN"), ("ROLE",),
     ("TIME", "x"), ("LASTSAVE", "x"), ("OBJECT", "HELP"), ("CLIENT", "ID", "x")],
]


@pytest.mark.parametrize("requests", CONVERSATIONS, ids=lambda c: str(c[0][0]) + str(len(c)))
@pytest.mark.parametrize("i", [1, 2])
def test_conversations_are_those_with_a_plain_server(shared, plain, requests, i):
    with shared.redis(i) as ours, plain.client() as theirs:
        for request in requests:
            a, b = ask(theirs, request), ask(ours, request)
            assert masked(request, a) == masked(request, b), request


def test_protocols_do_not_get_mixed_up(shared):
    """Many clients of both versions share one connection to the backend."""
    clients = [shared.redis(i) for i in shared.ids for _ in range(2)]
    for n, client in enumerate(clients):
        if n % 2:
            assert ask(client, ("HELLO", 3)).startswith(b"%7")
    for _ in range(50):
        for client in clients:
            client.send(encode("HSET", "h", "f", "v") + encode("HGETALL", "h") + encode("GET", "none"))
        for n, client in enumerate(clients):
            assert raw_reply(client) in (b":0\r\n", b":1\r\n")
            assert raw_reply(client)[:2] == (b"%1" if n % 2 else b"*2")
            assert raw_reply(client) == (b"_\r\n" if n % 2 else b"$-1\r\n")
    for client in clients:
        client.close()


def test_config_set_is_for_every_replica(shared):
    with shared.redis(2) as client:
        assert client.call("CONFIG", "SET", "hz", 33, "save", "3600 1") == b"OK"
        with pytest.raises(ServerError, match="operator"):
            client.call("CONFIG", "SET", "hz", 10, "maxclients", 1000000)
        with pytest.raises(ServerError, match="operator"):
            client.call("CONFIG", "SET", "stream-node-max-entries", 1)
    shared.wait_level()
    for i in shared.ids:
        with shared.redis_backend(i) as backend:
            assert backend.call("CONFIG", "GET", "hz") == [b"hz", b"33"]
            assert backend.call("CONFIG", "GET", "save") == [b"save", b"3600 1"]
    with shared.redis(2) as client:
        client.call("CONFIG", "SET", "save", "")


def test_info(shared):
    with shared.redis(3) as client:
        client.call("FLUSHALL")
        client.call("SET", "a", 1, "EX", 1000)
        info = client.call("INFO").decode()
        assert "role:master" in info and "# Muproxy" in info and "muproxy_leader:" in info
        keyspace = client.call("INFO", "keyspace").decode()
        assert keyspace.startswith("# Keyspace\r\ndb0:keys=1,expires=1,avg_ttl="), keyspace
        assert len(keyspace.splitlines()) == 2, "the hidden database is shown"
        assert 0 <= int(keyspace.strip().rpartition("=")[2]) <= 1000000
        assert b"muproxy_ballot" in client.call("INFO", "muproxy")
    parsed = redis.Redis(port=shared.redis_port(2), protocol=2).info() \
        if redis.VERSION[0] >= 5 else redis.Redis(port=shared.redis_port(2)).info()
    assert parsed["db0"]["keys"] == 1 and "db16" not in parsed


def test_client_list_and_kill(shared):
    with shared.redis(1) as one, shared.redis(1) as two, shared.redis(1) as three:
        two.call("CLIENT", "SETNAME", "victim")
        two.call("SELECT", 3)
        lines = one.call("CLIENT", "LIST").decode().splitlines()
        fields = [dict(word.split("=", 1) for word in line.split()) for line in lines]
        victim = next(f for f in fields if f["name"] == "victim")
        assert victim["db"] == "3" and victim["user"] == "default" and victim["flags"] == "N"
        assert victim["id"] == str(two.call("CLIENT", "ID"))
        assert b"name=victim" in two.call("CLIENT", "INFO")
        host, port = two.socket.getsockname()
        assert victim["addr"] == f"{host}:{port}"
        assert one.call("CLIENT", "KILL", "ID", victim["id"]) == 1
        assert two.closed_by_server()
        host, port = three.socket.getsockname()
        assert one.call("CLIENT", "KILL", f"{host}:{port}") == b"OK"
        assert three.closed_by_server()
        assert one.call("CLIENT", "KILL", "ID", one.call("CLIENT", "ID"), "SKIPME", "no") == 1
        assert one.closed_by_server()
    with shared.redis(2) as client:
        wait_for(lambda: client.call("PING") == b"PONG", "the replica to be well")


def test_secrets_of_a_backend_stay_secret(shared):
    for i in shared.ids:
        with shared.redis_backend(i) as backend:
            backend.call("CONFIG", "SET", "masterauth", "hush")
    with shared.redis(2) as client:
        question = ("CONFIG", "GET", "masterauth", "databases", "maxmemory")
        answers = [client.call(*question),
                   client.pipeline([("MULTI",), question, ("EXEC",)])[-1][0]]
        for answer in answers:
            assert dict(zip(answer[::2], answer[1::2])) == {
                b"masterauth": b"", b"databases": b"16", b"maxmemory": b"0"}
        assert "hush" not in str(client.call("CONFIG", "GET", "*"))
        client.send(encode("HELLO", 3) + encode(*question))
        assert b"hush" not in raw_reply(client) + raw_reply(client)


@pytest.mark.parametrize("i", [1, 2, 3])
def test_replies_and_transactions_that_are_larger_than_a_frame(shared, i):
    """Of the three at least two are followers: a link that ends takes all their clients along."""
    with shared.redis(i) as client, shared.redis(i) as other:
        if i == 1:
            client.call("SET", "big", b"x" * (3 << 20))
        get = ("GET", "big")
        answer = client.pipeline([("MULTI",)] + [get] * 4 + [("EXEC",)])[-1]
        assert [len(part) for part in answer] == [3 << 20] * 4
        if i == 3:
            client.call("DEL", "big")
        # What a session answers by itself does not travel, but is joined to what does.
        client.call("CLIENT", "SETNAME", "n" * (1 << 20))
        answer = client.pipeline([("MULTI",)] + [("CLIENT", "GETNAME")] * 10 + [("EXEC",)])[-1]
        assert answer == [b"n" * (1 << 20)] * 10
        assert client.call("PING") == b"PONG" and other.call("EXISTS", "nothing") == 0


def test_xadd_of_very_many_arguments(shared):
    """Plain Redis takes it; whatever becomes of it, the group goes on."""
    with shared.redis(2) as client:
        with pytest.raises(ServerError, match="muproxy: XADD"):
            client.call("XADD", "s", "*", *["x"] * 8000)
        client.call("SET", "after", "x", "PX", 50)
        wait_for(lambda: client.call("EXISTS", "after") == 0, "the key to go")
