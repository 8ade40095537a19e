"""MULTI, EXEC, WATCH: as a plain redis-server has them, and whole whoever dies."""

import random
import threading

import pytest
import redis

from harness import Disconnected, ServerError, encode, wait_for
from redis_pair import PlainRedis, backends_are_equal
from test_redis_differential import Run, ask, compare_contents, raw_reply, same


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        yield server


class TransactionRun(Run):
    """Transactions of random requests; what is queued wrongly, too."""

    def ask_both(self, request):
        self.proxied.send(encode(*request))
        self.plain.send(encode(*request))
        proxied, plain = raw_reply(self.proxied), raw_reply(self.plain)
        return plain, proxied

    def transaction(self):
        requests = []
        if self.choose.random() < 0.3:
            key = f"k{self.choose.randrange(12)}"
            assert self.ask_both(("WATCH", key)) == (b"+OK\r\n", b"+OK\r\n")
            if self.choose.random() < 0.5:
                self.touch(key)
        assert self.ask_both(("MULTI",)) == (b"+OK\r\n", b"+OK\r\n")
        for _ in range(self.choose.randrange(0, 8)):
            request = self.maker.request()
            if self.choose.random() < 0.3:
                request = self.choose.choice([
                    ("SELECT", self.choose.randrange(3)), ("SELECT", 99), ("PING",), ("ECHO", "x"),
                    ("FLUSHALL",), ("UNWATCH",)])
            elif self.choose.random() < 0.03:
                request = self.choose.choice(
                    [("GET",), ("MULTI",), ("WATCH", "k1"), ("WATCH",), ("NONSENSE",), ("EXEC", "x")])
            plain, proxied = self.ask_both(request)
            assert plain == proxied, (request, plain, proxied)
            if plain == b"+QUEUED\r\n":
                requests.append(request)
        end = self.choose.choice([("EXEC",)] * 9 + [("DISCARD",)])
        plain, proxied = self.ask_both(end)
        self.compare(requests, plain, proxied)
        self.learn_database()

    def touch(self, key):
        """Another client changes the key that is watched."""
        for client in (self.group.redis(self.replica), self.plain_other()):
            with client:
                client.call("SELECT", self.database)
                client.call("SET", key, "touched")

    def compare(self, requests, plain, proxied):
        self.seen = getattr(self, "seen", set()) | {plain[:2]}
        if plain == proxied:
            return
        theirs, ours = split(plain), split(proxied)
        assert len(theirs) == len(ours) == len(requests), (requests, plain, proxied)
        for request, a, b in zip(requests, theirs, ours):
            assert same(request, a, b), (request, a, b)

    def plain_other(self):
        return self.plain_server.client()

    def learn_database(self):
        """In which database EXEC has left us."""
        for number in range(3):
            ask(self.plain, ("SETEX", "where", 100, "x"))
            with self.plain_other() as other:
                other.call("SELECT", number)
                found = other.call("EXISTS", "where")
            if found:
                self.database = number
        plain, proxied = self.ask_both(("SETEX", "where", 100, "x"))
        assert plain == proxied
        assert self.ask_both(("DEL", "where")) == (b":1\r\n", b":1\r\n")


def split(raw):
    """The elements of an array, each as bytes."""
    class Reader:
        def __init__(self, data):
            self.data = data

        def line(self):
            line, _, self.data = self.data.partition(b"\r\n")
            return line

        def exactly(self, count):
            part, self.data = self.data[:count], self.data[count:]
            return part
    reader = Reader(raw)
    head = reader.line()
    assert head[:1] == b"*", raw
    return [raw_reply(reader) for _ in range(max(0, int(head[1:])))]


def transaction_run(group, plain, seed):
    run = TransactionRun(group, plain, seed, protocol=2 + seed % 2)
    run.plain_server = plain
    return run


@pytest.mark.parametrize("seed", range(3))
def test_transactions_are_those_of_a_plain_server(shared, plain, seed):
    run = transaction_run(shared, plain, seed)
    run.connect(1)
    run.proxied.call("FLUSHALL")
    for n in range(250):
        if n % 25 == 0:
            run.connect(run.choose.choice(shared.ids))
        run.step()
        run.transaction()
    run.close()
    nil = b"*-" if run.protocol == 2 else b"_\r"
    assert {nil, b"-E", b"+O", b"*0"} < run.seen and len(run.seen) > 6, run.seen
    compare_contents(shared, plain)


def test_transactions_while_leaders_die(group, plain):
    run = transaction_run(group, plain, 9)
    for _ in range(2):
        leader = group.wait_leader()
        run.connect(leader % len(group.ids) + 1)
        run.transaction()
        group.kill(leader)
        for _ in range(60):
            # A watch does not outlive the leader that it was told to: see below.
            run.step()
            if group.leader(run.replica):
                run.transaction()
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "the killed one to serve again")
    run.close()
    compare_contents(group, plain)


def test_a_watch_ends_with_its_leader(group):
    """Who knows what happened to the key under another leader? The client has to try again."""
    leader = group.wait_leader()
    with group.redis(leader % 3 + 1) as client:
        assert client.call("WATCH", "w") == b"OK"
        group.kill(leader)
        assert client.call("SET", "other", 1) == b"OK"
        assert client.pipeline([("MULTI",), ("SET", "w", 1), ("EXEC",)]) == [b"OK", b"QUEUED", None]
        assert client.pipeline([("WATCH", "w"), ("MULTI",), ("SET", "w", 1), ("EXEC",)]) == \
            [b"OK", b"OK", b"QUEUED", [b"OK"]]


def test_watched_keys(shared):
    """What touches a key, and what does not."""
    with shared.redis(1) as one, shared.redis(2) as two:
        def exec_after(*requests):
            one.call("SET", "w", 1)
            one.call("WATCH", "w")
            for request in requests:
                two.call(*request)
            return one.pipeline([("MULTI",), ("GET", "w"), ("EXEC",)])[-1] is not None
        assert exec_after()
        assert exec_after(("SET", "unrelated", 2), ("GET", "w"), ("TTL", "w"))
        assert exec_after(("SELECT", 1), ("SET", "w", 3), ("SELECT", 0))
        assert exec_after(("PUBLISH", "c", "w"), ("CONFIG", "SET", "hz", 10), ("SLOWLOG", "RESET"))
        for request in [("SET", "w", 1), ("DEL", "w"), ("EXPIRE", "w", 100), ("RENAME", "w", "v"),
                        ("MSET", "a", 1, "w", 2), ("FLUSHALL",), ("COPY", "unrelated", "w", "REPLACE"),
                        ("BITOP", "NOT", "w", "unrelated")]:
            assert not exec_after(("SET", "unrelated", 1), request), request
        one.call("SET", "w", 1, "PX", 100)
        one.call("WATCH", "w")
        wait_for(lambda: two.call("EXISTS", "w") == 0, "it to expire")
        assert one.pipeline([("MULTI",), ("EXEC",)])[-1] is None, "an expired key was not noticed"
        one.call("WATCH", "w")
        two.call("SET", "w", 2)
        assert one.pipeline([("UNWATCH",), ("MULTI",), ("PING",), ("EXEC",)])[-1] == [b"PONG"]


def test_a_watched_key_in_another_database_or_only_read(shared):
    """Each answer is a plain server's: see there what SWAPDB, FLUSHDB, MOVE, COPY and *STORE change."""
    with PlainRedis() as plain:
        servers = [(plain.client(), plain.client()), (shared.redis(1), shared.redis(2))]
        for database, request in [
                (0, ("FLUSHDB",)), (3, ("FLUSHDB",)), (0, ("SWAPDB", 2, 3)), (0, ("SWAPDB", 0, 3)),
                (0, ("SWAPDB", 3, 0)), (0, ("MOVE", "w", 6)), (0, ("MOVE", "x", 5)), (5, ("MOVE", "x", 0)),
                (5, ("MOVE", "w", 6)), (5, ("MOVE", "w", 99)), (0, ("COPY", "w", "copy")),
                (0, ("COPY", "x", "w", "REPLACE")), (0, ("COPY", "x", "w", "DB", 4, "REPLACE")),
                (5, ("COPY", "x", "w", "REPLACE", "DB", 0)), (5, ("COPY", "x", "y", "DB", 0)),
                (0, ("BITOP", "NOT", "not", "w")), (0, ("BITOP", "NOT", "w", "x")),
                (0, ("PFMERGE", "merged", "x")), (0, ("SUNIONSTORE", "union", "s", "w2")),
                (0, ("SUNIONSTORE", "w2", "s")), (0, ("ZUNIONSTORE", "sorted", 2, "s", "w2")),
                (0, ("EVAL", "redis.call('select', 0) redis.call('set', 'w', 2)", 0)), (0, ("FLUSHALL",))]:
            outcomes = []
            for one, two in servers:
                two.call("FLUSHALL")
                one.pipeline([("SELECT", 5), ("SET", "x", 5), ("SET", "w", 5), ("SELECT", 0), ("SET", "x", 1),
                              ("SET", "w", 1), ("SADD", "w2", "a"), ("SADD", "s", "b"), ("WATCH", "w", "w2")])
                two.pipeline([("SELECT", database), request, ("SELECT", 0)])
                outcomes.append(one.pipeline([("MULTI",), ("PING",), ("EXEC",)])[-1])
            assert outcomes[0] == outcomes[1], (database, request, outcomes)


def test_no_increment_is_lost(shared):
    """Optimistic locking by redis-py, at all replicas at once."""
    done = []

    def work(i):
        client = redis.Redis(port=shared.redis_port(i), socket_timeout=30)
        for _ in range(30):
            client.transaction(
                lambda pipe: (lambda n: (pipe.multi(), pipe.set("counter", n + 1)))(
                    int(pipe.get("counter") or 0)), "counter")
            done.append(i)
    with shared.redis(1) as client:
        client.call("DEL", "counter")
    workers = [threading.Thread(target=work, args=(i,)) for i in shared.ids for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    with shared.redis(3) as client:
        assert int(client.call("GET", "counter")) == len(done) == 180


def test_transfers_are_whole_when_leaders_die(group):
    """The sum of all accounts is what it was, to every reader and at the end."""
    stop, wrong, count = threading.Event(), [], [0]
    accounts = [f"account:{n}" for n in range(10)]
    with group.redis(1) as client:
        client.call("MSET", *(word for name in accounts for word in (name, 100)))

    def transfer(i):
        choose = random.Random(i)
        try:
            with group.redis(i, timeout=30) as client:
                while not stop.is_set():
                    a, b = choose.sample(accounts, 2)
                    reply = client.pipeline([("MULTI",), ("DECRBY", a, 7), ("INCRBY", b, 7),
                                             ("MGET", *accounts), ("EXEC",)])[-1]
                    if isinstance(reply, ServerError):
                        continue
                    if sum(int(n) for n in reply[2]) != 1000:
                        wrong.append(reply)
                    count[0] += 1
        except (Disconnected, OSError):
            pass
    workers = [threading.Thread(target=transfer, args=(i,)) for i in group.ids]
    for worker in workers:
        worker.start()
    for _ in range(2):
        before = count[0]
        wait_for(lambda: count[0] > before + 300, "transfers")
        leader = group.wait_leader()
        group.kill(leader)
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "it to serve again")
    stop.set()
    for worker in workers:
        worker.join()
    assert not wrong, wrong[:2]
    state = backends_are_equal(group)
    assert sum(int(value) for _, value, _ in state.values()) == 1000


def test_large_transactions(shared):
    with shared.redis(2) as client:
        count = 3000
        replies = client.pipeline([("MULTI",)] + [("RPUSH", "long", n) for n in range(count)] +
                                  [("SET", "big", b"x" * 3000000), ("GET", "big"), ("EXEC",)])
        assert replies[-1] == list(range(1, count + 1)) + [b"OK", b"x" * 3000000]
    backends_are_equal(shared)


def test_watching_a_key_again_costs_nothing(shared):
    """A hundred megabytes of it would be more than a request takes."""
    key = "k" * 200000
    with shared.redis(2) as client:
        for _ in range(0, 500, 50):
            client.pipeline([("WATCH", key)] * 50)
        assert client.pipeline([("MULTI",), ("PING",), ("EXEC",)])[-1] == [b"PONG"]


def test_a_transaction_that_becomes_too_large(shared):
    """Each FLUSHALL becomes some thirty commands: a megabyte of them would become dozens."""
    with shared.redis(2) as client:
        client.call("SET", "kept", "x")
        replies = client.pipeline([("MULTI",)] + [("FLUSHALL",)] * 20000 + [("EXEC",), ("GET", "kept"), ("DEL", "kept")])
        assert "larger than the log takes" in str(replies[-3]) and replies[-2] == b"x"
