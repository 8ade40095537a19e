"""MONITOR, CLIENT REPLY, and what clients ask besides."""

import re

import pytest

from harness import ServerError, encode

LINE = re.compile(rb'^(\d+\.\d{6}) \[(\d+) (127\.0\.0\.1:\d+)\] (.*)$')


def shown(monitor):
    """Database and command of the next line."""
    match = LINE.match(monitor.reply())
    return match.group(2), match.group(4)


def test_a_monitor_is_shown_what_clients_send(shared):
    with shared.redis(2) as monitor, shared.redis(2) as client, shared.redis(1) as other:
        assert monitor.call("MONITOR") == b"OK"
        client.call("SET", "k", b'a "b"\\\r\n\x00\xff')
        other.call("SET", "elsewhere", "1")
        client.call("SELECT", 3)
        client.call("GET", "k")
        client.call("CONFIG", "GET", "hz")
        client.call("MULTI")
        client.call("INCR", "n")
        client.call("EXEC")
        client.call("EVAL", "return redis.call('INCR', 'n')", 0)
        client.call("AUTH", "default", "secret")
        client.call("HELLO", 2, "AUTH", "default", "secret")
        client.call("PING")
        assert [shown(monitor) for _ in range(10)] == [
            (b"0", b'"SET" "k" "a \\"b\\"\\\\\\r\\n\\x00\\xff"'),
            (b"0", b'"SELECT" "3"'),
            (b"3", b'"GET" "k"'),
            (b"3", b'"MULTI"'),
            (b"3", b'"INCR" "n"'),
            (b"3", b'"EXEC"'),
            (b"3", b'"EVAL" "return redis.call(\'INCR\', \'n\')" "0"'),
            (b"3", b'"AUTH" "(redacted)" "(redacted)"'),
            (b"3", b'"HELLO" "2" "AUTH" "(redacted)" "(redacted)"'),
            (b"3", b'"PING"'),
        ]
        client.call("DEL", "n")
        assert shown(monitor) == (b"3", b'"DEL" "n"')
        with pytest.raises(ServerError, match="Replica can't interact with the keyspace"):
            monitor.call("GET", "k")
        assert monitor.call("RESET") == b"RESET"
        client.call("PING")
        assert monitor.call("GET", "elsewhere") == b"1"


def test_a_monitor_that_does_not_read_is_left_behind(group):
    """Its output is bounded; it is disconnected, and nobody else."""
    group.restart_with(3, "[limits]\nclient-output = 1M\n")
    with group.redis(3) as monitor, group.redis(3) as client:
        assert monitor.call("MONITOR") == b"OK"
        for _ in range(40):
            client.pipeline([("ECHO", b"\x00" * 10000)] * 20)
        assert monitor.closed_by_server()
        assert client.call("PING") == b"PONG"


def test_replies_that_are_not_wanted(shared):
    for i in shared.ids:
        with shared.redis(i) as client:
            client.send(encode("CLIENT", "REPLY", "OFF") + encode("SET", "quiet", i) +
                        encode("PING") + encode("NONSENSE") + encode("INCR", "quiet") +
                        encode("MULTI") + encode("INCR", "quiet") + encode("EXEC") +
                        encode("CLIENT", "REPLY", "ON"))
            assert client.reply() == b"OK"
            assert client.call("GET", "quiet") == b"%d" % (i + 2)
            client.send(encode("CLIENT", "REPLY", "SKIP") + encode("INCR", "quiet") +
                        encode("GET", "quiet"))
            assert client.reply() == b"%d" % (i + 3)
            client.send(encode("CLIENT", "REPLY", "SKIP") + encode("ECHO", "x") +
                        encode("ECHO", "y"))
            assert client.reply() == b"y"
            with pytest.raises(ServerError, match="syntax"):
                client.call("CLIENT", "REPLY", "MAYBE")
            client.send(encode("CLIENT", "REPLY", "OFF") + encode("RESET"))
            assert client.reply() == b"RESET"


def test_tracking_is_honest(shared):
    with shared.redis(1) as client:
        with pytest.raises(ServerError, match="TRACKING is not served"):
            client.call("CLIENT", "TRACKING", "ON")
        assert client.call("CLIENT", "TRACKING", "OFF") == b"OK"
        assert client.call("CLIENT", "TRACKINGINFO") == [
            b"flags", [b"off"], b"redirect", -1, b"prefixes", []]
        with pytest.raises(ServerError, match="OPTIN or OPTOUT"):
            client.call("CLIENT", "CACHING", "YES")
        assert client.call("MEMORY", "PURGE") == b"OK"


def test_scripts_publish(shared):
    """Every subscriber, wherever he is, hears of it once."""
    listeners = [shared.redis(i) for i in shared.ids]
    for listener in listeners:
        listener.call("SUBSCRIBE", "from-scripts")
    with shared.redis(2) as client:
        assert client.call("EVAL", "return redis.call('PUBLISH', KEYS[1], ARGV[1])", 1,
                           "from-scripts", "one") == 0
        client.call("MULTI")
        client.call("EVAL", "redis.call('PUBLISH', 'from-scripts', 'two')", 0)
        client.call("PUBLISH", "from-scripts", "three")
        client.call("EXEC")
        with pytest.raises(ServerError, match="read-only"):
            client.call("EVAL_RO", "return redis.call('PUBLISH', 'c', 'm')", 0)
        client.call("PUBLISH", "from-scripts", "four")
    for listener in listeners:
        heard = [listener.reply()[2] for _ in range(4)]
        assert heard == [b"one", b"two", b"three", b"four"]
        listener.close()
