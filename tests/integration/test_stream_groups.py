"""Streams' consumer groups: replies as a plain redis-server's, and the same state on every replica.

Idle times and times of delivery are compared with a tolerance, for two servers are asked one
after the other. What decides about a claim is chosen so that it does not depend on that: entries
are made old by IDLE and TIME. test_blocking has reads that wait.
"""

import random
import time

import pytest

from harness import wait_for
from redis_pair import PlainRedis, backends_are_equal
from test_redis_differential import ask, compare_contents

STREAMS, GROUPS, CONSUMERS = ["s1", "s2", "s3"], ["g1", "g2"], ["c1", "c2", "c3"]
TOLERANCE_MS = 60000
OLD_MS = 10 ** 7


class Choose(random.Random):
    """Luck, and where the streams are by now."""

    last = 1


def entry_id(choose):
    """One of late."""
    number = max(choose.last - choose.randrange(30), 0)
    return choose.choice([f"{number}-0", f"{number}", f"{number}-{choose.randrange(3)}"])


def read(choose):
    words = ["GROUP", choose.choice(GROUPS), choose.choice(CONSUMERS)]
    if choose.random() < 0.5:
        words += ["COUNT", choose.choice([1, 2, 5, 0, -1])]
    if choose.random() < 0.1:
        words += ["BLOCK", choose.choice([1, 2, -1, "x"])]
    if choose.random() < 0.15:
        words += ["NOACK"]
    streams = choose.choices(STREAMS, k=choose.choice([1, 1, 1, 2, 3]))
    ids = [choose.choice([">"] * 6 + ["0", "0-0", entry_id(choose), "$" if choose.random() < 0.1 else ">"])
           for _ in streams]
    return ("XREADGROUP", *words, "STREAMS", *streams, *ids)


def claim(choose):
    words = [entry_id(choose) for _ in range(choose.randrange(1, 6))]
    if choose.random() < 0.4:
        words += choose.choice([("IDLE", OLD_MS), ("IDLE", 0), ("TIME", 123456), ("TIME", int(time.time() * 1000) - OLD_MS),
                                ("TIME", 10 ** 15), ("TIME", -1), ("IDLE", "x"), ("IDLE", -5), ("TIME", 2 ** 63)])
    for word in [("FORCE",), ("JUSTID",), ("RETRYCOUNT", choose.randrange(9)), ("LASTID", entry_id(choose)),
                 ("NONSENSE",)]:
        if choose.random() < (0.02 if word == ("NONSENSE",) else 0.25):
            words += word
    least = choose.choice([0, 0, OLD_MS // 2, OLD_MS // 2, 10 ** 14, -1, "x" if choose.random() < 0.1 else 0])
    return ("XCLAIM", choose.choice(STREAMS), choose.choice(GROUPS), choose.choice(CONSUMERS), least, *words)


def autoclaim(choose):
    words = []
    if choose.random() < 0.6:
        words += ["COUNT", choose.choice([1, 2, 3, 10, 0, "x"])]
    if choose.random() < 0.3:
        words += ["JUSTID"]
    start = choose.choice(["0", "-", "0-0", entry_id(choose), "(" + entry_id(choose), "x" if choose.random() < 0.1 else "-"])
    least = choose.choice([0, OLD_MS // 2, OLD_MS // 2, OLD_MS // 2, 10 ** 14])
    return ("XAUTOCLAIM", choose.choice(STREAMS), choose.choice(GROUPS), choose.choice(CONSUMERS), least, start, *words)


def pending(choose):
    words = []
    if choose.random() < 0.8:
        if choose.random() < 0.4:
            words += ["IDLE", choose.choice([0, OLD_MS // 2, 10 ** 14])]
        words += choose.choice([("-", "+"), (entry_id(choose), "+"), ("(" + entry_id(choose), entry_id(choose)), ("-", entry_id(choose))])
        words += [choose.choice([0, 1, 2, 10, 1000, -1])]
        if choose.random() < 0.4:
            words += [choose.choice(CONSUMERS)]
    return ("XPENDING", choose.choice(STREAMS), choose.choice(GROUPS), *words)


def other(choose):
    stream, group, consumer = choose.choice(STREAMS), choose.choice(GROUPS), choose.choice(CONSUMERS)
    return choose.choice([
        ("XGROUP", "CREATE", stream, group, choose.choice(["0", "$", entry_id(choose)]), "MKSTREAM"),
        ("XGROUP", "CREATE", stream, group, "0", "MKSTREAM"), ("XGROUP", "CREATE", stream, group, "0"),
        ("XGROUP", "CREATECONSUMER", stream, group, consumer),
        ("XGROUP", "SETID", stream, group, choose.choice(["0", "$", entry_id(choose)])),
        ("XACK", stream, group, entry_id(choose), entry_id(choose)), ("XDEL", stream, entry_id(choose)),
        ("XACK", stream, group, *range(max(choose.last - 20, 0), choose.last)), ("XINFO", "GROUPS", stream), ("XINFO", "CONSUMERS", stream, group),
        ("XINFO", "STREAM", stream, "FULL"), ("XINFO", "STREAM", stream, "FULL", "COUNT", 2), ("XINFO", "STREAM", stream)]
        + [choose.choice([("XGROUP", "DELCONSUMER", stream, group, consumer), ("XGROUP", "DESTROY", stream, group),
                          ("DEL", stream), ("SET", stream, "text"), ("XTRIM", stream, "MAXLEN", 3),
                          ("RENAME", stream, choose.choice(STREAMS)), ("COPY", stream, choose.choice(STREAMS), "REPLACE")])])


class Requests:
    """Random ones, with state of streams that are worth it."""

    def __init__(self, seed):
        self.choose = Choose(seed)

    def one(self):
        choose = self.choose
        make = choose.choices([read, claim, autoclaim, pending, other, None], [6, 3, 3, 2, 3, 6])[0]
        if make:
            return make(choose)
        choose.last += choose.randrange(3)
        return ("XADD", choose.choice(STREAMS), f"{choose.last}-*", "field", f"value\r\n{choose.last}", "x", "")

    def several(self):
        """Requests that go together: one, a transaction, or a script."""
        luck = self.choose.random()
        if luck < 0.1:
            return [("MULTI",), *(self.one() for _ in range(self.choose.randrange(1, 5))), ("EXEC",)]
        request = self.one()
        while luck < 0.25 and request[0] == "XINFO" and request[1:2] != ("GROUPS",):
            request = self.one()
        if luck < 0.25:
            return [("EVAL", "return redis.pcall(unpack(ARGV))", 0, *request)]
        return [request]


def parsed(raw):
    """A reply as nested tuples of what is on its lines."""
    line, _, rest = raw.partition(b"\r\n")
    kind = line[:1]
    if kind in b"$" and line != b"$-1":
        size = int(line[1:])
        return rest[:size], rest[size + 2:]
    if kind in b"*%" and line != b"*-1":
        items = [kind]
        for _ in range(int(line[1:]) * (2 if kind == b"%" else 1)):
            item, rest = parsed(rest)
            items.append(item)
        return tuple(items), rest
    return (int(line[1:]) if kind == b":" else line), rest


def alike(plain, ours):
    """All equal but for times: numbers that are far greater than any count here."""
    if isinstance(plain, tuple) and isinstance(ours, tuple):
        return len(plain) == len(ours) and all(map(alike, plain, ours))
    if isinstance(plain, int) and isinstance(ours, int) and plain != ours:
        return plain > OLD_MS // 10 and abs(plain - ours) < TOLERANCE_MS
    return plain == ours


def without_idle(request, reply):
    """What has been idle for a moment is 0 to who asks at once."""
    name = request[0] if request[0] != "EVAL" else request[3]
    if name == "XPENDING" and len(request) > 3 and isinstance(reply, tuple):
        return tuple((*one[:3], one[3] if one[3] >= TOLERANCE_MS else 0, *one[4:])
                     if isinstance(one, tuple) and len(one) == 5 and isinstance(one[3], int) else one for one in reply)
    if request[:2] == ("XINFO", "CONSUMERS") and isinstance(reply, tuple):
        return tuple(tuple("idle" if i > 0 and one[i - 1] == b"idle" else item for i, item in enumerate(one))
                     if isinstance(one, tuple) else one for one in reply)
    return reply


def compare(requests, plain, ours):
    for request, theirs, mine in zip(requests, plain, ours):
        pairs = [(request, parsed(theirs)[0], parsed(mine)[0])]
        if request == ("EXEC",) and theirs[:1] == b"*" == mine[:1]:
            assert len(pairs[0][1]) == len(pairs[0][2])
            pairs = list(zip(requests[1:-1], pairs[0][1][1:], pairs[0][2][1:]))
        for one, a, b in pairs:
            assert alike(without_idle(one, a), without_idle(one, b)), \
                f"{one} of {requests}:\n  plain:   {theirs[:900]}\n  muproxy: {mine[:900]}"


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        yield server


class Run:
    def __init__(self, group, plain, seed, protocol):
        self.group, self.protocol, self.requests = group, protocol, Requests(seed)
        self.plain, self.proxied = plain.client(30), None
        self.plain.call("FLUSHALL")
        if protocol == 3:
            ask(self.plain, ("HELLO", 3))
        self.served = {}

    def connect(self, i):
        if self.proxied:
            self.proxied.close()
        self.proxied = self.group.redis(i, timeout=30)
        if self.protocol == 3:
            ask(self.proxied, ("HELLO", 3))

    def step(self):
        requests = self.requests.several()
        ours = [ask(self.proxied, request) for request in requests]
        plain = [ask(self.plain, request) for request in requests]
        compare(requests, plain, ours)
        for request, reply in zip(requests, plain):
            good = reply[:1] in b"*%" and reply not in (b"*0\r\n", b"*-1\r\n")
            self.served[request[0]] = self.served.get(request[0], 0) + good

    def close(self):
        self.plain.close()
        self.proxied.close()


@pytest.mark.parametrize("seed,protocol", [(0, 2), (1, 3), (2, 2), (3, 3)])
def test_replies_are_those_of_a_plain_server(shared, plain, seed, protocol):
    run = Run(shared, plain, seed, protocol)
    run.connect(1)
    run.proxied.call("FLUSHALL")
    for n in range(2000):
        if n % 100 == 0:
            run.connect(run.requests.choose.choice(shared.ids))
        run.step()
    run.close()
    for name in ["XREADGROUP", "XCLAIM", "XAUTOCLAIM", "XPENDING", "XINFO", "EXEC", "EVAL"]:
        assert run.served[name] > 8, dict(run.served)
    compare_contents(shared, plain)
