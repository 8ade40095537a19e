"""CLIENT PAUSE and UNPAUSE: clients of all replicas are held, and nothing that they sent is lost."""

import re
import threading
import time

import pytest

from harness import PATIENCE, ServerError, encode, wait_for
from redis_pair import PlainRedis
from redis_sessions import replies, transcript

FOREVER = 3600000


def held(client):
    """Has it sent something that is not answered? What is asked through others was answered since."""
    client.socket.settimeout(0)
    try:
        return client.socket.recv(1) == b"" and False
    except BlockingIOError:
        return True
    finally:
        client.socket.settimeout(20 * PATIENCE)


@pytest.fixture
def unpaused(shared):
    """The group, which is not paused afterwards, whatever the test did."""
    yield shared
    with shared.redis(1) as client:
        client.call("CLIENT", "UNPAUSE")
        client.call("FLUSHALL")
    shared.wait_level()


def pause(group, mode):
    with group.redis(2) as client:
        assert client.call("CLIENT", "PAUSE", FOREVER, mode) == b"OK"
    group.wait_level()  # handed on by every replica


@pytest.mark.parametrize("request_", [
    ("SET", "k", 1), ("INCR", "k"), ("EVAL", "return 1", 0), ("PUBLISH", "c", "x"), ("PFCOUNT", "h"),
    ("BLPOP", "none", 1), ("FLUSHALL",)], ids=lambda r: r[0])
def test_writers_wait_at_every_replica(unpaused, request_):
    group = unpaused
    pause(group, "WRITE")
    clients = [group.redis(i, 30) for i in group.ids]
    for client in clients:
        # Behind it, in their order, what need not wait by itself.
        client.send(encode(*request_) + encode("GET", "order") + encode("ECHO", "end"))
    for i in group.ids:
        with group.redis(i) as other:
            assert other.call("GET", "k") is None and other.call("PING") == b"PONG"
            assert other.call("EVAL_RO", "return redis.call('GET', KEYS[1])", 1, "k") is None
            with pytest.raises(ServerError, match="unknown command"):
                other.call("NONSENSE")
    assert all(held(client) for client in clients)
    with group.redis(3) as other:
        assert other.call("CLIENT", "UNPAUSE") == b"OK"
    for client in clients:
        first = client.reply()
        assert not isinstance(first, ServerError), first
        assert client.reply() is None and client.reply() == b"end"
        client.close()


def test_everybody_waits_until_the_time_is_up(unpaused):
    group = unpaused
    with group.redis(1, 30) as client, group.redis(2) as other:
        start = time.monotonic()
        assert other.call("CLIENT", "PAUSE", 300) == b"OK"
        group.wait_level()  # handed on by every replica, if only after the time was up
        assert client.call("PING") == b"PONG" and client.call("SET", "k", 1) == b"OK"
        assert other.call("GET", "k") == b"1"
        assert time.monotonic() - start >= 0.25


def test_transactions(unpaused):
    group = unpaused
    with group.redis(1, 30) as begun, group.redis(2, 30) as reader, group.redis(3) as other:
        begun.pipeline([("MULTI",), ("INCR", "n")])
        pause(group, "WRITE")
        assert reader.pipeline([("MULTI",), ("GET", "n"), ("EXEC",)])[-1] == [None]
        begun.send(encode("EXEC"))
        reader.send(encode("MULTI") + encode("SET", "m", 1))
        assert reader.reply() == b"OK"  # it is held as it is to be queued
        assert other.call("GET", "n") is None and held(begun) and held(reader)
        assert other.pipeline([("MULTI",), ("CLIENT", "UNPAUSE"), ("EXEC",)])[-1] == [b"OK"]
        assert begun.reply() == [1] and reader.reply() == b"QUEUED"


def test_one_on_top_of_another(unpaused):
    group = unpaused
    pause(group, "WRITE")
    with group.redis(1, 30) as client, group.redis(2) as other:
        # Neither shorter nor softer than it was.
        assert other.call("CLIENT", "PAUSE", 1, "WRITE") == b"OK"
        client.send(encode("SET", "k", 1))
        group.wait_level()
        assert other.call("GET", "k") is None and held(client)
        assert other.call("CLIENT", "UNPAUSE") == b"OK"
        assert client.reply() == b"OK"


def test_held_clients_may_leave_and_be_killed(unpaused):
    group = unpaused
    pause(group, "WRITE")
    clients = [group.redis(1) for _ in range(3)]
    numbers = [client.call("CLIENT", "ID") for client in clients]
    for n, client in enumerate(clients):
        client.send(encode("SET", f"left-{n}", "x" * (1 << 20 if n == 2 else 1)))
    clients[0].close()
    with group.redis(1) as other:
        assert other.call("CLIENT", "KILL", "ID", numbers[1]) == 1
        assert clients[1].closed_by_server()
        assert other.call("CLIENT", "UNPAUSE") == b"OK"
        assert clients[2].reply() == b"OK" and other.call("STRLEN", "left-2") == 1 << 20
        assert other.call("EXISTS", "left-1") == 0


def test_a_new_leader_holds_them_too(unpaused):
    group = unpaused
    pause(group, "WRITE")
    leader = group.wait_leader()
    i = next(i for i in group.ids if i != leader)
    with group.redis(i, 60) as client:
        client.send(encode("SET", "k", 1))
        group.kill(leader)
        group.wait_leader(other_than=leader)
        with group.redis(i) as other:
            assert other.call("GET", "k") is None and held(client)
            assert other.call("CLIENT", "UNPAUSE") == b"OK"
        assert client.reply() == b"OK"
    group.start_replica(leader)
    wait_for(lambda: group.serves(leader), "the replica to serve again", 30)


def test_words_are_those_of_a_plain_server(unpaused):
    session = [("CLIENT", "PAUSE"), ("CLIENT", "PAUSE", "x"), ("CLIENT", "PAUSE", -1), ("CLIENT", "PAUSE", 10, "BAD"),
               ("CLIENT", "PAUSE", "x", "BAD"), ("CLIENT", "PAUSE", 10, "WRITE", "x"),
               ("CLIENT", "PAUSE", 1, "write"), ("CLIENT", "UNPAUSE"), ("CLIENT", "UNPAUSE", "x"),
               ("CLIENT", "PAUSE", "99999999999999999999", "ALL"), ("CLIENT", "PAUSE", 0, "all"),
               ("MULTI",), ("CLIENT", "PAUSE", "x"), ("CLIENT", "PAUSE", 1, "WRITE"), ("CLIENT", "UNPAUSE"),
               ("EXEC",)]
    with PlainRedis() as plain:
        theirs = transcript(plain.port, session)
    for i in unpaused.ids:
        assert replies(transcript(unpaused.redis_port(i), session)) == replies(theirs)


def test_who_is_held_counts_as_blocked(unpaused):
    """At whichever replica it is, whichever is asked."""
    group = unpaused

    def blocked():
        counts = []
        for i in group.ids:
            with group.redis(i) as client:
                reply = client.call("INFO", "clients")
                counts.append(int(re.search(rb"blocked_clients:(\d+)", reply).group(1)))
        return counts

    pause(group, "WRITE")
    clients = [group.redis(i, 30) for i in group.ids for _ in "ab"]
    for client in clients:
        client.send(encode("INCR", "n"))
    wait_for(lambda: blocked() == [6, 6, 6], "all to be counted")
    with group.redis(2) as client:
        assert client.call("CLIENT", "UNPAUSE") == b"OK"
    assert sorted(client.reply() for client in clients) == [1, 2, 3, 4, 5, 6]
    wait_for(lambda: blocked() == [0, 0, 0], "nobody to be counted")


def test_many_writers_lose_nothing(unpaused):
    """Pauses come and go while clients count: each answer is the next number."""
    group = unpaused
    ends, wrong = threading.Event(), []

    def count(i, key):
        with group.redis(i, 30) as client:
            n = 0
            while not ends.is_set():
                answers = client.pipeline([("INCR", key)] * 10)
                if answers != list(range(n + 1, n + 11)):
                    wrong.append((key, n, answers))
                    return
                n += 10

    threads = [threading.Thread(target=count, args=(i, f"count-{i}-{j}"))
               for i in group.ids for j in range(2)]
    for thread in threads:
        thread.start()
    with group.redis(1, 30) as client:
        for mode in ["WRITE", "ALL"] * 5:
            assert client.call("CLIENT", "PAUSE", 30, mode) == b"OK"
            assert client.call("SET", "between", mode) == b"OK"
    ends.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:3]
