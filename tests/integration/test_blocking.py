"""Commands that wait for a key: step by step as a plain redis-server serves them, through any replica."""

import contextlib
import re

import pytest

from harness import encode, wait_for
from redis_pair import PlainRedis
from test_redis_differential import raw_reply


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        yield server


class Stage:
    """Clients of one server or group, by name; what they get is the transcript."""

    def __init__(self, connect, protocol=2):
        self.connect, self.protocol = connect, protocol
        self.clients, self.waiting = {}, []
        self.transcript = []
        self.observer = self.open(0)
        self.observer.call("FLUSHALL")

    def open(self, number):
        client = self.connect(number)
        if self.protocol == 3:
            client.send(encode("HELLO", 3))
            raw_reply(client)
        return client

    def client(self, name):
        if name not in self.clients:
            self.clients[name] = self.open(len(self.clients))
        return self.clients[name]

    def blocked(self):
        self.observer.send(encode("INFO", "clients"))
        return int(re.search(rb"blocked_clients:(\d+)", raw_reply(self.observer)).group(1))

    def expect_blocked(self, count):
        wait_for(lambda: self.blocked() == count, f"{count} clients to wait, not {self.blocked()}")

    def wait(self, name, *request):
        """A request that has to wait: it does once this returns."""
        self.client(name).send(encode(*request))
        self.waiting.append(name)
        self.expect_blocked(len(self.waiting))

    def ask(self, name, *requests):
        """Requests in one go, and what they get at once."""
        self.client(name).send(b"".join(encode(*request) for request in requests))
        for request in requests:
            self.transcript.append((name, request, raw_reply(self.client(name))))

    def served(self, *names):
        """These have been served now."""
        for name in names:
            self.transcript.append((name, raw_reply(self.client(name))))
            self.waiting.remove(name)
        self.expect_blocked(len(self.waiting))

    def leave(self, name):
        self.client(name).close()
        del self.clients[name]
        self.waiting.remove(name)
        self.expect_blocked(len(self.waiting))

    def close(self):
        for client in (*self.clients.values(), self.observer):
            client.close()


def every_command(stage):
    for wait, feed in [
            (("BLPOP", "k", 0), ("RPUSH", "k", "a", "b")),
            (("BRPOP", "k", 0), ("RPUSH", "k", "a", "b")),
            (("BLPOP", "other", "k", "more", "0.0"), ("LPUSH", "k", "a")),
            (("BLMOVE", "k", "d", "LEFT", "RIGHT", 0), ("RPUSH", "k", "a", "b")),
            (("BLMOVE", "k", "k", "LEFT", "RIGHT", 0), ("RPUSH", "k", "a", "b")),
            (("BRPOPLPUSH", "k", "d", 0), ("RPUSH", "k", "a", "b")),
            (("BLMPOP", 0, 2, "j", "k", "RIGHT", "COUNT", 2), ("RPUSH", "k", "a", "b", "c")),
            (("BLMPOP", 0, 1, "k", "LEFT"), ("RPUSH", "k", "a", "b", "c")),
            (("BZPOPMIN", "k", 0), ("ZADD", "k", 2, "b", 1, "a", 3, "c")),
            (("BZPOPMAX", "k", "l", 0), ("ZADD", "k", 2, "b", 1, "a", "3.5", "c")),
            (("BZMPOP", 0, 2, "k", "l", "MAX", "COUNT", 2), ("ZADD", "l", 2, "b", 1, "a", 3, "c"))]:
        stage.wait("w", *wait)
        stage.ask("p", feed)
        stage.served("w")
        stage.ask("p", ("LRANGE", "d", 0, -1), ("EXISTS", "k", "l"), ("DEL", "k", "l", "d"))
        stage.ask("p", feed)
        stage.ask("w", wait)  # there is something at once
        stage.ask("p", ("LRANGE", "d", 0, -1), ("EXISTS", "k", "l"), ("DEL", "k", "l", "d"))


def nothing_comes_in_between(stage):
    """Whoever asks behind a push in the same packet finds what the waiting have left."""
    stage.wait("w1", "BLPOP", "k", 0)
    stage.wait("w2", "BRPOP", "k", 0)
    stage.ask("p", ("LLEN", "k"), ("RPUSH", "k", "1"), ("LPOP", "k"), ("LLEN", "k"),
              ("RPUSH", "k", "2", "3"), ("LPOP", "k"), ("LPOP", "k"))
    stage.served("w1", "w2")
    stage.wait("z", "BZPOPMIN", "k", 0)
    stage.ask("p", ("ZINCRBY", "k", 5, "m"), ("ZCARD", "k"))
    stage.served("z")


def several_at_once(stage):
    for n in range(5):
        stage.wait(f"w{n}", "BLMPOP", 0, 1, "k", "LEFT", "COUNT", 2)
    stage.ask("p", ("RPUSH", "k", *range(5)), ("EXISTS", "k"))
    stage.served("w0", "w1", "w2")
    stage.ask("p", ("RPUSH", "k", *range(9)), ("LRANGE", "k", 0, -1))
    stage.served("w3", "w4")


def by_way_of_others(stage):
    """All that may put something under a key."""
    for feed in [
            [("RPUSH", "l", "a", "b"), ("RENAME", "l", "k")],
            [("RPUSH", "l", "a", "b"), ("RENAMENX", "l", "k")],
            [("RPUSH", "l", "c", "a", "b"), ("SORT", "l", "ALPHA", "STORE", "k")],
            [("RPUSH", "l", "a", "b"), ("RPOPLPUSH", "l", "k")],
            [("RPUSH", "l", "a", "b"), ("LMOVE", "l", "k", "LEFT", "LEFT")],
            [("RPUSH", "l", "a", "b"), ("COPY", "l", "k")],
            [("SELECT", 1), ("RPUSH", "l", "a", "b"), ("COPY", "l", "k", "DB", 0), ("SELECT", 0)],
            [("SELECT", 1), ("RPUSH", "k", "a"), ("MOVE", "k", 0), ("SELECT", 0)],
            [("SELECT", 1), ("RPUSH", "k", "a"), ("SWAPDB", 0, 1), ("SELECT", 0)],
            [("MULTI",), ("RPUSH", "k", "a"), ("RPUSH", "k", "b"), ("LPOP", "k"), ("EXEC",)],
            [("MULTI",), ("RPUSH", "k", "a"), ("DEL", "k"), ("RPUSH", "k", "b"), ("EXEC",)],
            [("EVAL", "return redis.call('RPUSH', KEYS[1], 'a', 'b')", 1, "k"), ("LLEN", "k")],
            [("EVAL", "return redis.call('RPUSH', 'k', 'a', 'b')", 0)],
            [("MULTI",), ("EVAL", "return redis.call('RPUSH', 'k', 'a', 'b')", 0), ("EXEC",)]]:
        stage.wait("w", "BLPOP", "k", 0)
        stage.ask("p", *feed)
        stage.served("w")
        stage.ask("p", ("LRANGE", "k", 0, -1), ("FLUSHALL",))
    for feed in [
            [("ZADD", "l", 1, "a", 2, "b"), ("ZUNIONSTORE", "k", 1, "l"), ("ZCARD", "k")],
            [("ZADD", "l", 1, "a", 2, "b"), ("ZINTERSTORE", "k", 1, "l")],
            [("ZADD", "l", 1, "a", 2, "b"), ("ZRANGESTORE", "k", "l", 0, -1)],
            [("ZADD", "l", 1, "a", 2, "b"), ("ZDIFFSTORE", "k", 1, "l")],
            [("GEOADD", "k", 1, 2, "here", 3, 4, "there"), ("ZCARD", "k")],
            [("GEOADD", "l", 1, 2, "here"),
             ("GEOSEARCHSTORE", "k", "l", "FROMMEMBER", "here", "BYRADIUS", 1, "km")],
            [("GEOADD", "l", 1, 2, "here"),
             ("GEORADIUS", "l", 1, 2, 10, "km", "STORE", "k")]]:
        stage.wait("w", "BZPOPMAX", "k", 0)
        stage.ask("p", *feed)
        stage.served("w")
        stage.ask("p", ("ZRANGE", "k", 0, -1), ("FLUSHALL",))


def what_feeds_nobody(stage):
    stage.wait("w", "BLPOP", "k", "l", 0)
    stage.ask("p", ("SET", "k", "x"), ("GET", "k"), ("DEL", "k"), ("ZADD", "k", 1, "a"),
              ("RPUSH", "k", "a"), ("ZADD", "k", 1, "b"), ("SADD", "l", "x"), ("RPUSHX", "m", "x"),
              ("DEL", "k", "l"), ("MULTI",), ("RPUSH", "k", "a"), ("DEL", "k"), ("EXEC",),
              ("SELECT", 2), ("RPUSH", "k", "a"), ("SELECT", 0))
    stage.expect_blocked(1)
    stage.wait("z", "BZPOPMIN", "l", 0)
    stage.ask("p", ("RPUSH", "l", "for w"), ("EXISTS", "l"))
    stage.served("w")
    stage.ask("p", ("ZADD", "l", 1, "for z"), ("EXISTS", "l"))
    stage.served("z")


def first_key_fed(stage):
    """Of several keys that a transaction feeds a client gets the first that was."""
    stage.wait("w", "BLPOP", "k1", "k2", "k3", 0)
    stage.ask("p", ("MULTI",), ("RPUSH", "k3", "c"), ("RPUSH", "k1", "a"), ("EXEC",),
              ("EXISTS", "k1", "k3"))
    stage.served("w")
    stage.ask("p", ("RPUSH", "k3", "d"))
    stage.ask("w", ("BLPOP", "k2", "k3", "k1", 0), ("BLPOP", "k1", "k2", 0))


def chains(stage):
    stage.wait("a", "BLMOVE", "k1", "k2", "LEFT", "LEFT", 0)
    stage.wait("b", "BRPOPLPUSH", "k2", "k3", 0)
    stage.wait("c", "BLPOP", "k3", 0)
    stage.ask("p", ("RPUSH", "k1", "x"), ("EXISTS", "k1", "k2", "k3"))
    stage.served("a", "b", "c")
    stage.wait("a", "BRPOPLPUSH", "k1", "k2", 0)
    stage.wait("b", "BRPOPLPUSH", "k2", "k1", 0)
    stage.ask("p", ("RPUSH", "k1", "round"), ("LRANGE", "k1", 0, -1), ("LRANGE", "k2", 0, -1))
    stage.served("a", "b")
    stage.ask("p", ("DEL", "k1", "k2"))
    stage.wait("a", "BLMOVE", "k1", "text", "LEFT", "LEFT", 0)
    stage.wait("b", "BLPOP", "k1", 0)
    stage.ask("p", ("SET", "text", "x"), ("RPUSH", "k1", "y"))
    stage.served("a", "b")  # the first gets an error, and leaves the element to the other
    stage.wait("a", "BLMOVE", "k1", "k1", "LEFT", "RIGHT", 0)
    stage.ask("p", ("SET", "k1", "x"), ("DEL", "k1"), ("RPUSH", "k1", "y", "z"), ("LRANGE", "k1", 0, -1))
    stage.served("a")


def timeouts(stage):
    for request in [("BLPOP", "k", "l", "0.03"), ("BLMOVE", "k", "l", "LEFT", "LEFT", "0.03"),
                    ("BRPOPLPUSH", "k", "l", "0.0001"), ("BLMPOP", "0.02", 1, "k", "LEFT"),
                    ("BZPOPMIN", "k", "0.01"), ("BZMPOP", "0.01", 1, "k", "MIN"),
                    ("BLPOP", "k", "x"), ("BLPOP", "k", "-1"), ("BLPOP", "k", "1e30"),
                    ("BLPOP", "k", "nan"), ("BLPOP", "k", ""), ("BLPOP", "k", "0x0.1p0"),
                    ("BLMPOP", "x", 0, "k", "LEFT"), ("BLMPOP", "0.01", 0, "k", "LEFT"),
                    ("BLMPOP", "0.01", 2, "k", "LEFT"), ("BLMPOP", "0.01", 1, "k", "UP"),
                    ("BLMPOP", "0.01", 1, "k", "LEFT", "COUNT", 0), ("BZMPOP", 0, "x", "k", "MIN"),
                    ("BLMOVE", "k", "l", "UP", "LEFT", "0.01"), ("BLPOP", "k"), ("BLPOP",)]:
        stage.ask("w", request)
    stage.ask("p", ("SET", "k", "x"))
    stage.ask("w", ("BLPOP", "j", "k", 0), ("BZPOPMIN", "k", 0), ("BLMOVE", "k", "l", "LEFT", "LEFT", 0))
    stage.ask("p", ("RPUSH", "l", "x"))
    stage.ask("w", ("BLMOVE", "l", "k", "LEFT", "LEFT", 0), ("LLEN", "l"))


def order_of_a_connection(stage):
    """What comes behind waits, too."""
    stage.client("w").send(encode("BLPOP", "k", 0) + encode("RPUSH", "mine", "x") +
                           encode("BLPOP", "l", 0) + encode("LLEN", "mine"))
    stage.expect_blocked(1)
    stage.ask("p", ("EXISTS", "mine"), ("RPUSH", "l", "later"), ("RPUSH", "k", "first"))
    for _ in range(4):
        stage.transcript.append(raw_reply(stage.client("w")))


def inside_transactions(stage):
    stage.ask("w", ("MULTI",), ("BLPOP", "k", 0), ("BLMOVE", "k", "l", "LEFT", "LEFT", 0),
              ("RPUSH", "k", "a", "b"), ("BRPOP", "k", 0), ("BRPOPLPUSH", "k", "l", 0),
              ("BZPOPMIN", "k", 0), ("BLMPOP", 0, 1, "l", "LEFT"), ("BLPOP", "k", "x"), ("EXEC",))
    stage.ask("w", ("EVAL", "return redis.pcall('BLPOP', 'k', 0)", 0),
              ("EVAL", "return redis.call('BLMPOP', 0, 1, 'k', 'LEFT')", 1, "k"))
    stage.wait("v", "BLPOP", "k", 0)
    stage.ask("w", ("MULTI",), ("RPUSH", "k", "mine"), ("BLPOP", "k", 0), ("EXEC",))
    stage.ask("w", ("WATCH", "k"))
    stage.ask("p", ("RPUSH", "k", "x"))
    stage.served("v")
    stage.ask("w", ("MULTI",), ("PING",), ("EXEC",))


def leaving(stage):
    stage.wait("gone", "BLPOP", "k", 0)
    stage.wait("stays", "BLPOP", "k", 0)
    stage.leave("gone")
    stage.ask("p", ("RPUSH", "k", "x"), ("LLEN", "k"))
    stage.served("stays")
    stage.wait("gone too", "BLMOVE", "k", "l", "LEFT", "LEFT", 0)
    stage.leave("gone too")
    stage.ask("p", ("RPUSH", "k", "x"), ("LLEN", "k"))


def streams(stage):
    """XREAD takes nothing: all who wait get it."""
    stage.ask("p", ("XADD", "s", "5-0", "f", "old"))
    for name in ("r1", "r2"):
        stage.wait(name, "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    stage.wait("r3", "XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS", "t", "s", "0", "5-1")
    stage.ask("p", ("XADD", "s", "5-1", "f", "1"), ("XLEN", "s"))
    stage.served("r1", "r2")
    stage.ask("p", ("MULTI",), ("XADD", "s", "6-1", "f", "2"), ("XADD", "s", "6-2", "f", "3"), ("EXEC",))
    stage.served("r3")
    stage.ask("r1", ("XREAD", "BLOCK", 0, "STREAMS", "t", "s", "$", "5-1"),
              ("XREAD", "COUNT", 1, "BLOCK", 0, "STREAMS", "s", "0"))
    stage.wait("r1", "XREAD", "BLOCK", 0, "STREAMS", "t", "u", "$", "$")
    stage.ask("p", ("XADD", "u", "1-1", "f", "1"), ("DEL", "u"))
    stage.served("r1")
    stage.wait("r1", "XREAD", "BLOCK", 0, "STREAMS", "s", "t", "$", "$")
    stage.ask("p", ("XADD", "v", "1-1", "f", "v"), ("RENAME", "v", "t"))
    stage.served("r1")
    stage.wait("r1", "XREAD", "BLOCK", 0, "STREAMS", "s", "7-7")
    stage.ask("p", ("XADD", "s", "7-7", "f", "not yet"), ("XADD", "s", "7-8", "f", "now"))
    stage.served("r1")
    stage.wait("r1", "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    stage.wait("r2", "XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    stage.leave("r2")
    stage.ask("p", ("EVAL", "return redis.call('XADD', KEYS[1], '9-9', 'f', 'x')", 1, "s"))
    stage.served("r1")


def streams_without_waiting(stage):
    stage.ask("p", ("XADD", "s", "5-0", "f", "old"), ("SET", "k", "x"))
    stage.ask("w", ("XREAD", "BLOCK", 10, "STREAMS", "s", "$"), ("XREAD", "BLOCK", 1, "STREAMS", "n", "0"),
              ("XREAD", "BLOCK", 10, "COUNT", 1, "STREAMS", "n", "s", "$", "$"),
              ("XREAD", "BLOCK", "x", "STREAMS", "s", "$"), ("XREAD", "BLOCK", -1, "STREAMS", "s", "$"),
              ("XREAD", "BLOCK", "1.5", "STREAMS", "s", "$"), ("XREAD", "BLOCK", 0, "STREAMS", "s", "x"),
              ("XREAD", "BLOCK", 0, "STREAMS", "k", "0"), ("XREAD", "BLOCK", 0, "STREAMS", "k", "$"),
              ("XREAD", "BLOCK", 0, "STREAMS", "s", "k", "$"), ("XREAD", "BLOCK", 0, "NONSENSE", "s", "$"),
              ("XREAD", "BLOCK", 0, "STREAMS"), ("XREAD", "BLOCK", 0, "COUNT", "x", "STREAMS", "s", "$"),
              ("XREAD", "BLOCK", 0, "STREAMS", "s", "x\r\ny"), ("XREAD", "BLOCK", 0, "STREAMS", "s", ">"),
              ("XREAD", "BLOCK", 0, "GROUP", "a", "b", "STREAMS", "s", "0"), ("XREAD", "STREAMS", "s", "$"),
              ("MULTI",), ("XREAD", "BLOCK", 0, "STREAMS", "s", "$"), ("EXEC",))


READ = ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "k", ">")


def consumer_groups(stage):
    def create(*keys, group="g"):
        for key in keys:
            stage.ask("p", ("XGROUP", "CREATE", key, group, "$", "MKSTREAM"))

    def pending():
        stage.ask("p", ("XPENDING", "k", "g"), ("XACK", "k", "g", "1-1", "2-1", "3-1", "4-1", "5-1"))

    create("k", "l")
    stage.wait("w", *READ)
    stage.ask("p", ("XADD", "k", "1-1", "f", "v"), ("XLEN", "k"))
    stage.served("w")
    pending()
    for feed in [
            [("MULTI",), ("XADD", "k", "2-1", "f", "v"), ("XADD", "k", "2-2", "f", "v"), ("EXEC",)],
            [("EVAL", "return redis.call('XADD', KEYS[1], '3-1', 'f', 'v')", 1, "k")],
            [("EVAL", "return redis.call('XADD', 'k', '4-1', 'f', 'v')", 0)],
            [("XADD", "j", "1-1", "f", "v"), ("XADD", "k", "5-1", "f", "v")]]:
        stage.wait("w", "XREADGROUP", "BLOCK", 0, "GROUP", "g", "c", "STREAMS", "l", "k", ">", ">")
        stage.ask("p", *feed)
        stage.served("w")
        pending()
    # What is there is shared among those of a group, and each group gets all.
    create("k", group="h")
    for n in range(3):
        stage.wait(f"g{n}", "XREADGROUP", "GROUP", "g", f"c{n}", "COUNT", 1, "BLOCK", 0, "STREAMS", "k", ">")
        stage.wait(f"h{n}", "XREADGROUP", "GROUP", "h", f"c{n}", "NOACK", "BLOCK", 0, "STREAMS", "k", ">")
    stage.wait("x", "XREAD", "BLOCK", 0, "STREAMS", "k", "$")
    stage.ask("p", ("XADD", "k", "6-1", "f", "v"))
    stage.served("g0", "h0", "x")
    stage.ask("p", ("MULTI",), ("XADD", "k", "6-2", "f", "v"), ("XADD", "k", "6-3", "f", "v"), ("EXEC",))
    stage.served("g1", "g2", "h1")
    stage.ask("p", ("XADD", "k", "6-4", "f", "v"))
    stage.served("h2")
    stage.ask("p", ("XPENDING", "k", "g"), ("XPENDING", "k", "h"), ("XREADGROUP", "GROUP", "g", "c0", "STREAMS", "k", "0"),
              ("XREADGROUP", "GROUP", "g", "c0", "BLOCK", 0, "STREAMS", "k", ">"), ("XINFO", "GROUPS", "k"))
    # Entries that nobody has asked for yet are delivered when the next one comes.
    stage.wait("w", *READ)
    stage.ask("p", ("XGROUP", "SETID", "k", "g", "6-2"), ("XADD", "k", "7-1", "f", "v"))
    stage.served("w")


def consumer_groups_that_go(stage):
    """Who waits on behalf of a group is told that it, or the stream, is gone."""
    for how in [
            [("DEL", "k")], [("UNLINK", "j", "k")], [("SET", "k", "x")], [("RENAME", "k", "j")], [("FLUSHDB",)],
            [("FLUSHALL",)], [("SWAPDB", 0, 1)], [("MOVE", "k", 1)], [("EXPIRE", "k", -1)], [("PEXPIRE", "k", 20)],
            [("XGROUP", "DESTROY", "k", "g")], [("EVAL", "return redis.call('DEL', 'k')", 0)],
            [("RPUSH", "list", 1), ("RENAME", "list", "k")], [("SADD", "set", 1), ("SUNIONSTORE", "k", "set")],
            [("MULTI",), ("DEL", "k"), ("XADD", "k", "9-1", "f", "v"), ("EXEC",)]]:
        stage.ask("p", ("SELECT", 0), ("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM"),
                  ("XGROUP", "CREATE", "other", "g", "$", "MKSTREAM"))
        stage.wait("w", "XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "other", "k", ">", ">")
        stage.wait("v", *READ)
        stage.ask("p", *how)
        stage.served("w", "v")
        stage.ask("p", ("EXISTS", "k"), ("FLUSHALL",))
    stage.ask("p", ("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM"))
    stage.wait("w", *READ)
    stage.ask("p", ("MULTI",), ("DEL", "k"), ("XGROUP", "CREATE", "k", "g", 0, "MKSTREAM"),
              ("XADD", "k", "9-1", "f", "v"), ("EXEC",))
    stage.served("w")


def consumer_groups_without_waiting(stage):
    stage.ask("p", ("XGROUP", "CREATE", "k", "g", "$", "MKSTREAM"), ("SET", "text", "x"))
    for words in [("BLOCK", 10), ("BLOCK", "x"), ("BLOCK", -1), ("BLOCK", "1.5"), ("COUNT", "x", "BLOCK", 0)]:
        stage.ask("w", ("XREADGROUP", "GROUP", "g", "c", *words, "STREAMS", "k", ">"))
    for rest in [("k", "0"), ("k", "$"), ("k", "x"), ("k", "text", ">"), ("k", "text", ">", ">"), ("text", ">"),
                 ("nothing", ">"), ("k", "k", "0", ">"), ("k", "nothing", ">", ">")]:
        stage.ask("w", ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", *rest))
    stage.ask("w", ("XREADGROUP", "BLOCK", 0, "STREAMS", "k", "text", ">", ">"),
              ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "NONSENSE", "k", ">"),
              ("XREADGROUP", "GROUP", "none", "c", "BLOCK", 0, "STREAMS", "k", ">"),
              ("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS"),
              ("MULTI",), READ, ("EXEC",), ("EVAL", "return redis.call(unpack(ARGV))", 0, *READ),
              ("XINFO", "GROUPS", "k"))
    stage.wait("l", *READ)
    stage.leave("l")
    stage.ask("p", ("XADD", "k", "1-1", "f", "v"), ("XPENDING", "k", "g"))


SCENES = [every_command, nothing_comes_in_between, several_at_once, by_way_of_others,
          what_feeds_nobody, first_key_fed, chains, timeouts, order_of_a_connection,
          inside_transactions, leaving, streams, streams_without_waiting, consumer_groups,
          consumer_groups_that_go, consumer_groups_without_waiting]


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("scene", SCENES, ids=[scene.__name__ for scene in SCENES])
def test_as_a_plain_server(shared, plain, scene, protocol):
    """Clients are spread over all replicas."""
    def transcript(connect):
        with contextlib.closing(Stage(connect, protocol)) as stage:
            scene(stage)
        return stage.transcript
    expected = transcript(lambda number: plain.client())
    for first in range(len(shared.ids)):
        got = transcript(lambda number: shared.redis(shared.ids[(first + number) % len(shared.ids)]))
        for ours, theirs in zip(got, expected):
            assert ours == theirs
        assert len(got) == len(expected)


def test_who_waits_longest_is_served_first(shared):
    stage = Stage(lambda number: shared.redis(shared.ids[number % len(shared.ids)]))
    names = [f"w{n}" for n in range(50)]
    for name in names:
        stage.wait(name, "BLPOP", "k", 0)
    stage.ask("p", ("RPUSH", "k", *range(5)), ("RPUSH", "k", 5), ("LLEN", "k"))
    for n in range(6, 50):
        stage.ask("p", ("RPUSH", "k", n))
    stage.transcript.clear()
    stage.served(*names)
    assert [entry[1].split(b"\r\n")[4] for entry in stage.transcript] == \
        [b"%d" % n for n in range(50)]
    stage.close()


@pytest.mark.parametrize("how,answer", [
    ((), b"*-1\r\n"), (("TIMEOUT",), b"*-1\r\n"),
    (("ERROR",), b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n")])
def test_client_unblock(shared, how, answer):
    for i in shared.ids:
        with shared.redis(i) as client, shared.redis(i) as other:
            number = client.call("CLIENT", "ID")
            assert other.call("CLIENT", "UNBLOCK", number) == 0
            client.send(encode("BLPOP", "nobody", "nothing", 0))
            wait_for(lambda: b"flags=b" in other.call("CLIENT", "LIST", "ID", number), "it waits")
            assert other.call("CLIENT", "UNBLOCK", number, *how) == 1
            assert raw_reply(client) == answer
            assert other.call("CLIENT", "UNBLOCK", number) == 0
            assert client.call("RPUSH", "nobody", "x") == 1
            assert client.call("LPOP", "nobody") == b"x"


def test_who_counts_as_waiting_has_looked(shared):
    """What comes then and does not last is got, however soon it comes."""
    with contextlib.closing(Stage(lambda number: shared.redis(shared.ids[number % len(shared.ids)]))) as stage:
        for _ in range(500):
            stage.client("w").send(encode("XREAD", "BLOCK", 0, "STREAMS", "s", "t", "$", "$"))
            while not stage.blocked():  # without a pause: the moment is short
                pass
            stage.ask("p", ("XADD", "t", "1-1", "f", "v"), ("DEL", "t"))
            assert b"1-1" in raw_reply(stage.client("w"))
            while stage.blocked():
                pass
