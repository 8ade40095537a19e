"""Publish/subscribe: beside a plain redis-server's, and once everywhere whatever dies."""

import random
import subprocess
import threading

import pytest
import redis

from harness import PATIENCE, Disconnected, ServerError, encode, rss_bytes, wait_for
from redis_pair import PlainRedis

MB = 1 << 20


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        yield server


# ------------------------------------------------------------- byte for byte

# Each request's replies are read up to the PONG that follows it.
CONVERSATIONS = [
    [("SUBSCRIBE", "a"), ("SUBSCRIBE", "a", "b", "a"), ("PSUBSCRIBE", "p*", "p*"),
     ("SSUBSCRIBE", "s", "t"), ("UNSUBSCRIBE", "none"), ("UNSUBSCRIBE", "a", "a"),
     ("PUNSUBSCRIBE", "p*"), ("SUNSUBSCRIBE", "t"), ("UNSUBSCRIBE",), ("PUNSUBSCRIBE",),
     ("SUNSUBSCRIBE",), ("SUNSUBSCRIBE",), ("UNSUBSCRIBE",), ("GET", "none")],
    [("UNSUBSCRIBE",), ("PUNSUBSCRIBE",), ("SUNSUBSCRIBE",), ("UNSUBSCRIBE", "x", "y"),
     ("SUBSCRIBE",), ("PSUBSCRIBE",), ("SSUBSCRIBE",), ("PUBLISH", "x"), ("SPUBLISH",),
     ("PUBSUB",), ("PUBSUB", "NONSENSE"), ("PUBSUB", "CHANNELS", "a", "b"), ("PUBSUB", "NUMPAT", 1),
     ("PUBLISH", "nobody", "m"), ("SPUBLISH", "nobody", "m")],
    # What a subscribed client may not do in RESP2, and may in RESP3.
    [("SUBSCRIBE", "a"), ("GET", "none"), ("CONFIG", "GET", "none"), ("NONSENSE",), ("GET",),
     ("MULTI",), ("SELECT", 1), ("PING",), ("PING", "x"), ("PING", "x", "y"), ("RESET",),
     ("GET", "none"), ("CLIENT", "GETNAME"), ("PUBSUB", "CHANNELS")],
    [("SSUBSCRIBE", "only"), ("PING",), ("ECHO", "x"), ("SUNSUBSCRIBE", "only"), ("ECHO", "x")],
    [("PSUBSCRIBE", "x*"), ("PING", "m"), ("PUBLISH", "nobody", "m"), ("PUNSUBSCRIBE",), ("PING", "m"),
     ("PUBLISH", "nobody", "m")],
    [("SUBSCRIBE", "", "a b", "\r\n", "k" * 5000), ("UNSUBSCRIBE", "", "\r\n")],
    [("SUBSCRIBE", "q"), ("QUIT",)],
    [("MULTI",), ("PUBLISH", "nobody", "m"), ("SET", "k", "v"), ("SPUBLISH", "nobody", "m"),
     ("PUBSUB", "NUMPAT"), ("PUBSUB", "NUMSUB", "x"), ("EXEC",), ("DEL", "k")],
]


def conversation(client, requests, protocol):
    """All that comes back, request by request."""
    client.send(encode("HELLO", protocol) + encode("ECHO", "begun"))
    while b"begun\r\n" not in client.buffer:
        client._fill()
    client.buffer = b""
    replies = []
    for n, request in enumerate(requests):
        end = f"<end{n}>"  # an EXEC's own reply has those that were queued
        client.send(encode(*request) + encode("PING", end))
        try:
            while not (client.buffer.endswith(end.encode() + b"\r\n") or  # or both are queued
                       client.buffer.endswith(b"+QUEUED\r\n") and client.buffer.count(b"\r\n") > 1):
                client._fill()
        except Disconnected:
            replies.append(client.buffer)
            return replies
        replies.append(client.buffer)
        client.buffer = b""
    return replies


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("n", range(len(CONVERSATIONS)))
def test_replies_are_those_of_a_plain_server(shared, plain, n, protocol):
    with plain.client() as client:
        expected = conversation(client, CONVERSATIONS[n], protocol)
    for i in shared.ids:
        with shared.redis(i) as client:
            got = conversation(client, CONVERSATIONS[n], protocol)
        for request, a, b in zip(CONVERSATIONS[n], expected, got):
            assert a == b, request
        assert len(expected) == len(got)


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_are_those_of_a_plain_server(shared, plain, protocol):
    """The bytes that a subscriber sees, whoever publishes where."""
    def heard(subscriber, publish):
        subscriber.send(encode("HELLO", protocol) + encode("SUBSCRIBE", "c1", "") +
                        encode("PSUBSCRIBE", "c*", "?1") + encode("SSUBSCRIBE", "c1") +
                        encode("PING", "<on>"))
        while not subscriber.buffer.endswith(b"<on>\r\n"):
            subscriber._fill()
        subscriber.buffer = b""
        for command, channel, message in [
                ("PUBLISH", "c1", "one"), ("SPUBLISH", "c1", "two"), ("PUBLISH", "c2", b"\x00\r\n"),
                ("PUBLISH", "", ""), ("PUBLISH", "x1", "x" * 100000), ("PUBLISH", "zz", "unheard"),
                ("PUBLISH", "c9", "<last>")]:
            publish(command, channel, message)
        while not subscriber.buffer.endswith(b"<last>\r\n"):
            subscriber._fill()
        # c1 matches three subscriptions: their order is the server's own.
        return sorted(subscriber.buffer.replace(b">", b"*").split(b"*")), subscriber.buffer[:1]

    with plain.client() as subscriber, plain.client() as publisher:
        expected = heard(subscriber, publisher.call)
    for i in shared.ids:
        for j in shared.ids:
            with shared.redis(i) as subscriber, shared.redis(j) as publisher:
                assert heard(subscriber, publisher.call) == expected, (i, j)


def test_what_there_is_to_ask(shared, plain):
    """PUBSUB and PUBLISH's reply count the clients of the replica that is asked."""
    choose = random.Random(5)
    names = ["".join(choose.choice("ab-]^\\*?") for _ in range(choose.randrange(1, 5)))
             for _ in range(60)]
    patterns = ["".join(choose.choice("ab-]^\\*?[[*") for _ in range(choose.randrange(1, 7)))
                for _ in range(400)]

    def asked(connect):
        with connect() as one, connect() as two, connect() as asks:
            for client, channels in ((one, names), (two, names[:30])):
                client.send(encode("SUBSCRIBE", *channels) + encode("SSUBSCRIBE", *channels[:9]) +
                            encode("PSUBSCRIBE", *patterns[:40]) + encode("PING", "<on>"))
                while not client.buffer.endswith(b"<on>\r\n"):
                    client._fill()
            replies = [sorted(asks.call("PUBSUB", "CHANNELS", pattern)) for pattern in patterns]
            replies += [asks.call("PUBLISH", name, "") for name in names + ["none"]]
            replies += [asks.call("SPUBLISH", name, "") for name in names[:12]]
            replies += [sorted(asks.call("PUBSUB", "SHARDCHANNELS")), asks.call("PUBSUB", "NUMPAT"),
                        asks.call("PUBSUB", "NUMSUB", *names, "none"), asks.call("PUBSUB", "NUMSUB"),
                        asks.call("PUBSUB", "SHARDNUMSUB", *names[:12])]
            assert len(asks.call("CLIENT", "LIST", "TYPE", "pubsub").splitlines()) == 2
        wait_for(lambda: not client_count(connect), "the subscribers to be gone")
        return replies

    def client_count(connect):
        with connect() as asks:
            return asks.call("PUBSUB", "CHANNELS") + asks.call("PUBSUB", "SHARDCHANNELS")

    expected = asked(plain.client)
    for i in shared.ids:
        assert asked(lambda: shared.redis(i)) == expected


def test_python_client(shared):
    """redis-py, as applications use it."""
    servers = [redis.Redis(port=shared.redis_port(i), decode_responses=True) for i in shared.ids]
    subscribers = [server.pubsub(ignore_subscribe_messages=True) for server in servers]
    try:
        for subscriber in subscribers:
            subscriber.subscribe("news")
            subscriber.psubscribe("n?ws")
            subscriber.ping()
        for subscriber in subscribers:
            # The answer to PING comes behind the confirmations.
            wait_for(lambda: (subscriber.get_message(timeout=0.1) or {}).get("type") == "pong", "pong")
        with servers[1].pipeline(transaction=True) as pipe:
            pipe.set("k", "v").publish("news", "in a transaction").get("k")
            assert pipe.execute()[::2] == [True, "v"]
        for subscriber in subscribers:
            got = []
            wait_for(lambda: got.append(subscriber.get_message(timeout=0.1)) or
                     sum(m is not None for m in got) == 2, "two messages")
            assert sorted((m["type"], m["data"]) for m in got if m) == [
                ("message", "in a transaction"), ("pmessage", "in a transaction")]
    finally:
        for subscriber in subscribers:
            subscriber.close()


# ------------------------------------------------------------ once and in order


class Listener(threading.Thread):
    """Subscribes, and keeps all messages until it has seen `until`, or is cut off."""

    def __init__(self, client, *requests):
        super().__init__(daemon=True)
        self.client, self.messages, self.ended = client, [], None
        for request in requests:
            client.send(encode(*request))
            for _ in request[1:]:
                assert client.reply()[0] == request[0].lower().encode()

    def run(self):
        try:
            while True:
                message = self.client.reply()
                if message[-1] == b"<until>":
                    self.ended = "until"
                    return
                self.messages.append((message[-2], message[-1]))
        except (Disconnected, OSError) as error:
            self.ended = str(error) or type(error).__name__

    def finish(self):
        self.join(30 * PATIENCE)
        assert not self.is_alive(), f"{len(self.messages)} messages, and no end"


def publish_all(client, name, count, acknowledged):
    """Publishes in batches. What was acknowledged goes into the set."""
    for first in range(0, count, 20):
        messages = [f"{name}:{n}" for n in range(first, min(first + 20, count))]
        for message, reply in zip(messages, client.pipeline(
                [("PUBLISH", "load", message) for message in messages])):
            if not isinstance(reply, ServerError):
                acknowledged.add(message.encode())


def test_everybody_hears_the_same_once(shared):
    """Three publishers, three subscribers, each at another replica; and other writes."""
    acknowledged = set()
    listeners = [Listener(shared.redis(i), ("SUBSCRIBE", "load")) for i in shared.ids]
    for listener in listeners:
        listener.start()
    with shared.redis(1) as writer:
        clients = [shared.redis(i) for i in shared.ids]
        threads = [threading.Thread(target=publish_all, args=(client, f"p{n}", 3400, acknowledged))
                   for n, client in enumerate(clients)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            writer.pipeline([("INCR", "n"), ("SET", "s", 1)] * 10)
        for thread in threads:
            thread.join()
        writer.call("PUBLISH", "load", "<until>")
        for listener in listeners:
            listener.finish()
            assert listener.ended == "until"
        writer.call("DEL", "n", "s")
    assert len(acknowledged) == 10200
    first = [data for _, data in listeners[0].messages]
    assert len(first) == 10200 and set(first) == acknowledged
    for listener in listeners[1:]:
        assert listener.messages == listeners[0].messages
    for n in range(3):
        own = [data for data in first if data.startswith(b"p%d:" % n)]
        assert own == [b"p%d:%d" % (n, k) for k in range(3400)]
    for client in clients + [listener.client for listener in listeners]:
        client.close()


def test_leader_killed(group):
    """Survivors' subscribers: nothing lost that was acknowledged, nothing twice."""
    leader = group.wait_leader()
    others = [i for i in group.ids if i != leader]
    acknowledged = set()
    listeners = [Listener(group.redis(i, timeout=30), ("PSUBSCRIBE", "lo*")) for i in others]
    for listener in listeners:
        listener.start()
    clients = [group.redis(i, timeout=30) for i in others]
    threads = [threading.Thread(target=publish_all, args=(client, f"p{n}", 3000, acknowledged))
               for n, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(acknowledged) > 500, "publishers to be under way")
    assert any(thread.is_alive() for thread in threads)
    group.kill(leader)
    for thread in threads:
        thread.join(60 * PATIENCE)
        assert not thread.is_alive()
    with group.redis(others[0]) as client:
        wait_for(lambda: not isinstance(client.pipeline([("PUBLISH", "load", "<until>")])[0],
                                        ServerError), "a publisher to be heard")
    for listener in listeners:
        listener.finish()
        assert listener.ended == "until"
        heard = [data for _, data in listener.messages]
        assert len(heard) == len(set(heard)), "twice"
        assert acknowledged <= set(heard), f"{len(acknowledged - set(heard))} lost"
    assert listeners[0].messages == listeners[1].messages
    for client in clients + [listener.client for listener in listeners]:
        client.close()


class Backend:
    """A redis-server in the place of one of the group's that was killed."""

    def __init__(self, group, i):
        self.process = subprocess.Popen(
            ["redis-server", "--port", "0", "--unixsocket", group.path(i, "redis.sock"), "--save",
             "", "--appendonly", "no", "--databases", "17", "--dir", group.path(i, "")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def test_backend_restarts_from_an_older_state(group):
    """Entries are executed there again, and their messages are not handed on again."""
    leader = group.wait_leader()
    victim = next(i for i in group.ids if i != leader)
    acknowledged = set()
    with group.redis(leader) as client, group.redis_backend(victim) as backend:
        client.call("CONFIG", "SET", "notify-keyspace-events", "KEA")
        publish_all(client, "before", 100, acknowledged)
        group.wait_level()
        backend.call("CONFIG", "SET", "notify-keyspace-events", "KEA")
        backend.call("SAVE")
        listener = Listener(group.redis(victim, timeout=30),
                            ("SUBSCRIBE", "load"), ("PSUBSCRIBE", "__keyevent@*:incrby"))
        listener.start()
        acknowledged.clear()
        publish_all(client, "heard", 300, acknowledged)
        for _ in range(20):
            client.call("INCR", "n")
        client.pipeline([("MULTI",), ("PUBLISH", "load", "tx:0"), ("INCR", "n"),
                         ("PUBLISH", "load", "tx:1"), ("EXEC",)])
        group.wait_level()
        wait_for(lambda: len(listener.messages) == 323, "messages before the restart")
        group.kill(victim, name="redis.pid")
        publish_all(client, "missed", 300, acknowledged)
        with Backend(group, victim):
            wait_for(lambda: len(listener.messages) >= 623, "messages that were published meanwhile")
            publish_all(client, "after", 100, acknowledged)
            client.call("PUBLISH", "load", "<until>")
            listener.finish()
            with group.redis(victim) as other:
                assert other.call("GET", "n") == b"21"
    assert listener.ended == "until"
    heard = [data for channel, data in listener.messages if channel == b"load"]
    assert len(heard) == len(set(heard)), "twice"
    assert set(heard) == acknowledged | {b"tx:0", b"tx:1"}
    assert sum(channel == b"__keyevent@0__:incrby" for channel, _ in listener.messages) == 21
    listener.client.close()


def test_a_lost_connection_to_the_backend_is_no_silent_gap(shared):
    """Whoever subscribes hears everything, or is disconnected."""
    victim = shared.wait_leader()
    acknowledged, cut = set(), 0
    with shared.redis(victim) as client, shared.redis_backend(victim) as backend:
        for turn in range(8):
            listener = Listener(shared.redis(victim, timeout=30), ("SUBSCRIBE", "load"))
            listener.start()
            acknowledged.clear()
            publisher = threading.Thread(
                target=publish_all, args=(client, f"t{turn}", 400, acknowledged))
            publisher.start()
            wait_for(lambda: len(acknowledged) > 40 or not publisher.is_alive(), "messages")
            assert backend.call("CLIENT", "KILL", "TYPE", "pubsub") == 1
            publisher.join(30 * PATIENCE)
            assert len(acknowledged) == 400
            wait_for(lambda: client.call("PUBLISH", "load", "<until>") == 1 or
                     not listener.is_alive(), "the listener's end")
            listener.finish()
            heard = [data for _, data in listener.messages]
            assert len(heard) == len(set(heard)), "twice"
            if listener.ended == "until":
                assert set(heard) == acknowledged
            else:
                cut += 1
            listener.client.close()
    print(f"cut off in {cut} of 8 turns")


# ------------------------------------------------------------------ other things


def test_keyspace_events(shared):
    """Each replica's subscribers hear of them; nothing of muproxy's own shows."""
    with shared.redis(2) as client:
        client.call("CONFIG", "SET", "notify-keyspace-events", "KEA")
        listeners = [Listener(shared.redis(i), ("PSUBSCRIBE", "__key*"), ("SUBSCRIBE", "end"))
                     for i in shared.ids]
        for listener in listeners:
            listener.start()
        client.pipeline([("SELECT", 3), ("SET", "k", "v"), ("INCR", "n"), ("LPUSH", "l", "a", "b"),
                         ("SET", "n", 1, "PX", 10 ** 7), ("DEL", "k", "l", "n"), ("MULTI",),
                         ("SET", "t", 1), ("DEL", "t"), ("EXEC",), ("PUBLISH", "end", "<until>")])
        for listener in listeners:
            listener.finish()
            assert [(channel, data) for channel, data in listener.messages
                    if channel.startswith(b"__keyevent")] == [
                (b"__keyevent@3__:" + event, key) for event, key in [
                    (b"set", b"k"), (b"incrby", b"n"), (b"lpush", b"l"), (b"set", b"n"),
                    (b"expire", b"n"), (b"del", b"k"), (b"del", b"l"), (b"del", b"n"),
                    (b"set", b"t"), (b"del", b"t")]]
            assert all(b"@3__:" in channel for channel, _ in listener.messages), listener.messages
            listener.client.close()
        client.call("CONFIG", "SET", "notify-keyspace-events", "")


def test_what_expires_is_said_to(shared):
    """Once, at every replica, and also of what was given a deadline that has passed."""
    with shared.redis(3) as client:
        client.call("CONFIG", "SET", "notify-keyspace-events", "KEx")
        listeners = [Listener(shared.redis(i), ("PSUBSCRIBE", "__key*"), ("SUBSCRIBE", "end"))
                     for i in shared.ids]
        for listener in listeners:
            listener.start()
        client.call("SET", "brief", 1, "PX", 20)
        wait_for(lambda: client.call("EXISTS", "brief") == 0, "it to expire")
        client.call("SELECT", 2)
        client.call("SET", "past", 1, "PXAT", 1)
        client.call("SET", "stays", 1, "EX", 1000)
        client.call("DEL", "stays")
        client.call("PUBLISH", "end", "<until>")
        for listener in listeners:
            listener.finish()
            assert listener.messages == [
                (b"__keyspace@0__:brief", b"expired"), (b"__keyevent@0__:expired", b"brief"),
                (b"__keyspace@2__:past", b"expired"), (b"__keyevent@2__:expired", b"past")]
            listener.client.close()
        client.call("CONFIG", "SET", "notify-keyspace-events", "")
        client.call("SET", "silent", 1, "PX", 20)
        wait_for(lambda: client.call("EXISTS", "silent") == 0, "it to expire")


def test_a_session_in_order(shared):
    """In RESP3 messages come between replies, never inside of one."""
    value = "v" * 300000
    with shared.redis(3, timeout=20) as client, shared.redis(1) as publisher:
        publisher.call("SET", "large", value)
        client.send(encode("HELLO", 3) + encode("GET", "large") + encode("SUBSCRIBE", "m") +
                    encode("ECHO", "<on>"))
        while not client.buffer.endswith(b"<on>\r\n"):
            client._fill()
        assert b">3\r\n$9\r\nsubscribe\r\n$1\r\nm\r\n:1\r\n$4\r\n<on>\r\n" in client.buffer
        client.buffer = b""
        client.send(encode("GET", "large") * 40 + encode("ECHO", "<end>"))
        for n in range(200):
            publisher.call("PUBLISH", "m", f"m{n}")
        messages = values = 0
        while True:
            line = client.line()
            if line[:1] == b">":
                assert [client.line() for _ in range(6)][::2] == [b"$7", b"$1", line and
                                                                 b"$%d" % len(f"m{messages}")]
                messages += 1
            elif line == b"$%d" % len(value):
                assert client.exactly(len(value) + 2) == value.encode() + b"\r\n"
                values += 1
            else:
                assert line == b"$5" and client.line() == b"<end>" and values == 40
                break
        client.send(encode("RESET") + encode("PING"))
        publisher.call("DEL", "large")


def test_a_slow_subscriber_is_cut_off(group):
    """It reads nothing: its memory is bounded, it goes, and the others hear everything."""
    group.restart_with(2, "\n[limits]\nclient-output = 2M\n")
    with group.redis(2) as slow, group.redis(1) as publisher:
        slow.call("SUBSCRIBE", "load")
        listener = Listener(group.redis(2, timeout=30), ("SUBSCRIBE", "load"))
        listener.start()
        before, message = rss_bytes(group.read_pid(2)), "x" * 50000
        for n in range(400):
            publisher.call("PUBLISH", "load", f"{n}:{message}")
        publisher.call("PUBLISH", "load", "<until>")
        listener.finish()
        assert listener.ended == "until"
        assert [int(data.partition(b":")[0]) for _, data in listener.messages] == list(range(400))
        assert rss_bytes(group.read_pid(2)) - before < 40 * MB
        assert slow.closed_by_server()
        listener.client.close()


def test_garbage_and_sudden_ends(shared):
    """Clients that leave in the middle, and send nonsense while subscribed."""
    choose = random.Random(7)
    words = ["SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
             "PING", "RESET", "PUBLISH", "MULTI", "EXEC", "HELLO", "PUBSUB", "GET", "DISCARD"]
    arguments = ["a", "b", "*", "[", "", "3", "2", "CHANNELS", "NUMSUB", "\\", "x" * 300]
    for i in shared.ids:
        for _ in range(60):
            with shared.redis(i) as client:
                for _ in range(choose.randrange(1, 25)):
                    client.send(encode(choose.choice(words), *choose.choices(
                        arguments, k=choose.randrange(4))))
                if choose.random() < 0.3:
                    client.send(choose.choice([b"*2\r\n$9\r\nSUBSCR", b"*1\r\n:1\r\n", b"\x00\xff\r\n"]))
        with shared.redis(i) as asks:
            wait_for(lambda: asks.call("PUBSUB", "CHANNELS") == [] and
                     asks.call("PUBSUB", "SHARDCHANNELS") == [] and
                     asks.call("PUBSUB", "NUMPAT") == 0, "nobody to be subscribed any more")
        assert shared.serves(i)
