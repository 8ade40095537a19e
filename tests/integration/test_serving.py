"""What a client sees of a group that is well: any replica takes any client."""

import random
import threading

import pymemcache.client.base
import pytest
import redis

from harness import Disconnected, RawRedis, ServerError, encode, wait_for


def test_the_issues_greeting(shared):
    """redis-cli -p 7101 set greeting hello; redis-cli -p 7103 get greeting"""
    with shared.redis(1) as one, shared.redis(3) as three:
        assert one.call("SET", "greeting", "hello") == b"OK"
        assert three.call("GET", "greeting") == b"hello"
    with shared.memcached(1) as one, shared.memcached(3) as three:
        assert one.set("greeting", b"hello") == b"STORED"
        assert three.get("greeting") == b"hello"


def test_redis_py(shared):
    """A usual client library, as an application would use it."""
    clients = [redis.Redis(port=shared.redis_port(i)) for i in shared.ids]
    for client in clients:
        assert client.ping()
    clients[0].set("py", "x", ex=100)
    assert clients[1].get("py") == b"x"
    assert 90 < clients[2].ttl("py") <= 100
    clients[1].hset("hash", mapping={"a": 1, "b": 2})
    assert clients[2].hgetall("hash") == {b"a": b"1", b"b": b"2"}
    clients[2].rpush("list", 1, 2, 3)
    assert clients[0].lrange("list", 0, -1) == [b"1", b"2", b"3"]
    clients[0].zadd("zset", {"m": 1.5})
    assert clients[1].zscore("zset", "m") == 1.5
    pipe = clients[2].pipeline(transaction=False)
    for n in range(100):
        pipe.set(f"pipe:{n}", n)
        pipe.get(f"pipe:{n}")
    assert pipe.execute() == [x for n in range(100) for x in (True, b"%d" % n)]
    assert clients[0].delete("py", "hash", "list", "zset") == 4


def test_pymemcache(shared):
    clients = [pymemcache.client.base.Client(("127.0.0.1", shared.memcached_port(i)))
               for i in shared.ids]
    assert clients[0].set("py", b"1", noreply=False)
    assert clients[1].get("py") == b"1"
    assert clients[2].incr("py", 41) == 42
    assert clients[0].get("py") == b"42"
    assert clients[1].add("py", b"x", noreply=False) is False
    assert clients[1].append("py", b"0", noreply=False)
    value, token = clients[2].gets("py")
    assert value == b"420"
    assert clients[2].cas("py", b"new", token, noreply=False) is True
    assert clients[0].cas("py", b"newer", token, noreply=False) is False
    assert clients[0].get_many(["py", "nothing"]) == {"py": b"new"}
    assert clients[0].delete("py", noreply=False)
    assert clients[2].get("py") is None
    for client in clients:
        client.close()


def test_pipelined_replies_come_in_order(shared):
    for i in shared.ids:
        with shared.redis(i) as client:
            requests = []
            for n in range(2000):
                requests += [("SET", f"order:{i}", n), ("GET", f"order:{i}"), ("PING",)]
            replies = client.pipeline(requests)
            assert replies[0::3] == [b"OK"] * 2000
            assert replies[1::3] == [b"%d" % n for n in range(2000)]
            assert replies[2::3] == [b"PONG"] * 2000


def test_a_read_sees_what_any_other_client_was_told(shared):
    """Linearizable reads: acknowledged at one replica, at once visible at any other."""
    clients = {i: shared.redis(i) for i in shared.ids}
    caches = {i: shared.memcached(i) for i in shared.ids}
    choose = random.Random(1)
    for n in range(600):
        writer, reader = choose.sample(list(shared.ids), 2)
        assert clients[writer].call("SET", "register", n) == b"OK"
        assert int(clients[reader].call("GET", "register")) == n
        assert caches[writer].set("register", b"%d" % n) == b"STORED"
        assert caches[reader].get("register") == b"%d" % n
    for client in [*clients.values(), *caches.values()]:
        client.close()


def test_reads_never_go_back_under_load(shared):
    """A counter only grows: no reader, on whichever replica, may see it shrink."""
    stop = threading.Event()
    failures = []

    def write():
        with shared.redis(2) as client:
            while not stop.is_set():
                client.call("INCR", "monotonic")

    def read(i):
        last = 0
        with shared.redis(i) as client:
            for _ in range(1500):
                value = int(client.call("GET", "monotonic") or 0)
                if value < last:
                    failures.append((i, last, value))
                last = value

    writer = threading.Thread(target=write)
    readers = [threading.Thread(target=read, args=(i,)) for i in shared.ids]
    for thread in [writer, *readers]:
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    writer.join()
    assert not failures


def test_a_transfer_is_exact_under_contention(shared):
    """INCR from six clients at three replicas: the sum is exact, on every backend."""
    def work(i):
        with shared.redis(i) as client:
            client.pipeline([("INCR", "contended")] * 500)

    threads = [threading.Thread(target=work, args=(i,)) for i in shared.ids for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with shared.redis(1) as client:
        assert int(client.call("GET", "contended")) == 3000
    shared.wait_level()
    for i in shared.ids:
        with shared.redis_backend(i) as backend:
            assert backend.call("GET", "contended") == b"3000"


def test_databases_are_the_sessions_own(shared):
    with shared.redis(1) as one, shared.redis(2) as two:
        assert one.call("SELECT", 3) == b"OK"
        assert one.call("SET", "where", "three") == b"OK"
        assert two.call("GET", "where") is None
        assert two.call("SELECT", 3) == b"OK"
        assert two.call("GET", "where") == b"three"
        with pytest.raises(ServerError, match="out of range"):
            one.call("SELECT", 16)
        assert one.call("GET", "where") == b"three"


def test_errors_are_the_servers_own(shared):
    with shared.redis(1) as client:
        client.call("SET", "text", "abc")
        for request, words in [
            (("INCR", "text"), "ERR value is not an integer or out of range"),
            (("LPUSH", "text", "x"), "WRONGTYPE"),
            (("GET",), "ERR wrong number of arguments for 'get' command"),
            (("NONSENSE", "x"), "ERR unknown command"),
            (("SET", "k", "v", "EX", "0"), "ERR invalid expire time in 'set' command"),
        ]:
            with pytest.raises(ServerError, match=words):
                client.call(*request)
        assert client.call("GET", "text") == b"abc"


def test_what_is_not_served_says_so(shared):
    with shared.redis(2) as client:
        for request in [("WAITAOF", 1, 1, 0), ("CLIENT", "NO-SUCH", 1), ("SCRIPT", "DEBUG", "YES"),
                        ("CONFIG", "SET", "timeout", "1"), ("SHUTDOWN",)]:
            with pytest.raises(ServerError):
                client.call(*request)
        assert client.call("PING") == b"PONG"


def test_relative_deadlines_become_absolute(shared):
    """All backends hold the same deadline to the millisecond."""
    with shared.redis(2) as client:
        client.call("SET", "t1", "x", "EX", 1000)
        client.call("SETEX", "t2", 1000, "x")
        client.call("SET", "t3", "x")
        client.call("PEXPIRE", "t3", 1000000)
    shared.wait_level()
    seen = set()
    for i in shared.ids:
        with shared.redis_backend(i) as backend:
            seen.add(tuple(backend.call("PEXPIRETIME", k) for k in ("t1", "t2", "t3")))
    assert len(seen) == 1
    assert all(deadline > 0 for deadline in seen.pop())


def test_all_backends_hold_the_same(shared):
    choose = random.Random(2)
    with shared.redis(1) as one, shared.redis(3) as three, shared.memcached(2) as cache:
        for n in range(300):
            client = choose.choice([one, three])
            key = f"same:{choose.randrange(50)}"
            try:
                client.call(*choose.choice([
                    ("SET", key, n), ("APPEND", key, "x"), ("INCR", key), ("DEL", key),
                    ("LPUSH", f"l{key}", n), ("SADD", f"s{key}", n), ("ZADD", f"z{key}", n, "m"),
                    ("HSET", f"h{key}", "f", n)]))
            except ServerError as error:
                assert "not an integer" in str(error) or "out of range" in str(error), error
            cache.set(f"same:{choose.randrange(50)}", b"%d" % n)
    shared.wait_level()
    contents = [shared.redis_contents(i) for i in shared.ids]
    assert contents[0] == contents[1] == contents[2]
    assert len(contents[0]) > 50
    for n in range(50):
        values = set()
        for i in shared.ids:
            with shared.memcached_backend(i) as backend:
                values.add(backend.get(f"same:{n}"))
        assert len(values) == 1, (n, values)


def test_inline_commands(shared):
    with shared.redis(3) as client:
        client.send(b"PING\r\nSET inline 'a b'\r\nGET inline\r\n")
        assert [client.reply() for _ in range(3)] == [b"PONG", b"OK", b"a b"]


def test_values_of_many_sizes(shared):
    with shared.redis(1) as one, shared.redis(2) as two:
        for size in [0, 1, 63, 64, 65, 4095, 65535, 65536, 1 << 20, 3 << 20]:
            value = random.Random(size).randbytes(size)
            assert one.call("SET", "sized", value) == b"OK"
            assert two.call("GET", "sized") == value, size
    with shared.memcached(1) as one, shared.memcached(2) as two:
        for size in [0, 1, 63, 64, 65, 4095, 65536, 1000000]:
            value = random.Random(size).randbytes(size)
            assert one.set("sized", value) == b"STORED", size
            assert two.get("sized") == value, size


def test_a_client_that_comes_and_goes(shared):
    """Connections are given back: the count of clients returns to where it was."""
    def clients():
        return shared.status(1)["proxy"]["clients"]
    before = clients()
    for _ in range(200):
        with shared.redis(1) as client:
            client.send(encode("PING") + b"*2\r\n$3\r\nGE")
    wait_for(lambda: clients() <= before, "all clients to be gone")


def test_quit(shared):
    with shared.redis(1) as client:
        assert client.call("QUIT") == b"OK"
        with pytest.raises(Disconnected):
            client.reply()
    with shared.memcached(1) as client:
        client.send(b"quit\r\n")
        assert client.closed_by_server()


def test_sessions_survive_on_raw_connections(shared):
    """CLIENT and other commands that clients send when they connect."""
    with RawRedis(("127.0.0.1", shared.redis_port(2))) as client:
        assert client.call("CLIENT", "SETNAME", "tester") == b"OK"
        assert client.call("CLIENT", "GETNAME") == b"tester"
        assert isinstance(client.call("COMMAND", "COUNT"), int)
        assert b"redis_version" in client.call("INFO", "server")
        assert client.call("ECHO", "x") == b"x"
