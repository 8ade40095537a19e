"""Commands that go by the server's clock, or by luck: decided once, the same everywhere."""

import time

import pytest

from harness import ServerError
from redis_pair import PlainRedis, backends_are_equal
from test_redis_differential import ask


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        yield server


def test_xadd_with_the_clocks_id(shared):
    with shared.redis(1) as one, shared.redis(2) as two:
        ids = [client.call("XADD", "s", "*", "f", n) for n in range(50) for client in (one, two)]
        parts = [tuple(map(int, i.split(b"-"))) for i in ids]
        assert parts == sorted(set(parts))
        assert abs(parts[-1][0] - time.time() * 1000) < 60000
        assert one.call("XLEN", "s") == 100
        pipelined = one.pipeline([("XADD", "s", "MAXLEN", 10, "*", "f", "v", "g", "w")] * 5)
        assert len(set(pipelined)) == 5 and one.call("XLEN", "s") == 10
        assert one.pipeline([("MULTI",), ("XADD", "s", "*", "f", "v"), ("XLEN", "s"), ("EXEC",)])[-1][1] \
            == 11
    backends_are_equal(shared)


def test_xadd_behind_a_clock_that_was_overtaken(shared):
    """IDs that clients gave are ahead of the clock: plain Redis goes on behind them."""
    far = int(time.time() * 1000) + 10 ** 9
    with shared.redis(2) as client:
        client.call("XADD", "ahead", f"{far}-5", "f", "v")
        assert client.call("XADD", "ahead", "*", "f", "v") == b"%d-6" % far
        client.call("XADD", "ahead", f"{far}-18446744073709551615", "f", "v")
        assert client.call("XADD", "ahead", "*", "f", "v") == b"%d-0" % (far + 1)
        assert client.call("XADD", "ahead", "*", "f", "v") == b"%d-1" % (far + 1)
    backends_are_equal(shared)


def test_errors_are_those_of_a_plain_server(shared, plain):
    requests = [
        ("SET", "string", "x"), ("XADD", "string", "*", "f", "v"), ("XADD", "s2", "*", "f"),
        ("XADD", "s2", "NOMKSTREAM", "*", "f", "v"), ("XADD", "s2", "MAXLEN", "x", "*", "f", "v"),
        ("XADD", "s2", "MAXLEN", "~", 3, "LIMIT", -1, "*", "f", "v"), ("XADD", "s2", "junk", "*", "f"),
        ("EXISTS", "s2"), ("SPOP", "string"), ("SPOP", "string", 2), ("SPOP", "none"),
        ("SPOP", "none", 3), ("SPOP", "none", 0), ("SPOP", "none", -1), ("SPOP", "none", "x"),
        ("SPOP", "none", 1, 2), ("SADD", "one", "m"), ("SPOP", "one", 0), ("SPOP", "one", 5),
        ("EXISTS", "one"), ("SADD", "one", "m"), ("SPOP", "one"), ("EXISTS", "one"),
        ("DEL", "string"),
    ]
    for protocol in (2, 3):
        with shared.redis(3) as ours, plain.client() as theirs:
            assert ask(ours, ("HELLO", protocol))[:1] == ask(theirs, ("HELLO", protocol))[:1]
            for request in requests:
                assert ask(theirs, request) == ask(ours, request), request


@pytest.mark.parametrize("size", [10, 3000])
def test_spop(shared, size):
    """Every member once, none twice; the same ones gone at every replica; not always the same."""
    with shared.redis(1) as one, shared.redis(2) as two:
        one.call("FLUSHALL")
        one.call("SADD", "set", *range(size))
        popped = [client.call("SPOP", "set") for _ in range(size // 4) for client in (one, two)]
        popped += two.call("SPOP", "set", size // 4)
        assert backends_are_equal(shared)
        popped += one.call("SPOP", "set", size * 2)
        assert sorted(map(int, popped)) == list(range(size)) and one.call("EXISTS", "set") == 0
        first = set()
        for _ in range(40):
            one.call("SADD", "set", *range(size))
            first.add(one.call("SPOP", "set"))
        assert len(first) > 4, "the draw is no draw"


def test_what_cannot_be_made_deterministic_is_refused(shared):
    with shared.redis(2) as client:
        for start in range(0, 100001, 5000):
            client.call("SADD", "big", *range(start, start + 5000))
        with pytest.raises(ServerError, match="muproxy"):
            client.call("SPOP", "big")
        assert client.call("SCARD", "big") == 105000
        assert len(client.call("SPOP", "big", 200000)) == 105000
