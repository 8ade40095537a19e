"""FUNCTION DUMP and RESTORE: of what clients have loaded, also from and to a plain redis-server."""

import pytest

from redis_pair import PlainRedis, backends_are_equal

# Long, and of few different words: a plain server's dump has it compressed.
PADDING = "-- the quick brown fox jumps over the lazy dog\n" * 400


def library(name, function, value, more=""):
    return (f"#!lua name={name}\n{more}redis.register_function('{function}', "
            f"function() return '{value}' end)")


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        yield server


@pytest.fixture
def both(shared, plain):
    with shared.redis(2) as ours, plain.client() as theirs:
        for client in (ours, theirs):
            client.call("FUNCTION", "FLUSH")
        yield ours, theirs
        ours.call("FUNCTION", "FLUSH")


def codes(client):
    return sorted(dict(zip(one[::2], one[1::2]))[b"library_code"]
                  for one in client.call("FUNCTION", "LIST", "WITHCODE"))


@pytest.mark.parametrize("more", ["", PADDING, "-- x" + "y" * 70 + "\n", "--" + "\xe4\x01z" * 8000 + "\n"],
                         ids=["short", "compressed", "run", "long"])
def test_there_and_back(both, more):
    ours, theirs = both
    for name in ("one", "two"):
        theirs.call("FUNCTION", "LOAD", library(name, f"f_{name}", name, more))
    assert ours.call("FUNCTION", "RESTORE", theirs.call("FUNCTION", "DUMP")) == b"OK"
    assert codes(ours) == codes(theirs)
    assert [ours.call("FCALL", f"f_{name}", 0) for name in ("one", "two")] == [b"one", b"two"]
    theirs.call("FUNCTION", "FLUSH")
    assert theirs.call("FUNCTION", "RESTORE", ours.call("FUNCTION", "DUMP")) == b"OK"
    assert codes(ours) == codes(theirs) and theirs.call("FCALL", "f_two", 0) == b"two"


def test_policies_and_errors(both):
    """The same steps with both: whatever the answers, they are the same."""
    ours, theirs = both
    payload = {}
    for name, code in {"a": library("lib", "f", "a"), "b": library("lib", "f", "b"),
                       "c": library("other", "f", "c"), "d": library("other", "g", "d")}.items():
        theirs.call("FUNCTION", "FLUSH")
        theirs.call("FUNCTION", "LOAD", code)
        payload[name] = theirs.call("FUNCTION", "DUMP")
    theirs.call("FUNCTION", "FLUSH")
    payload["none"] = theirs.call("FUNCTION", "DUMP")
    broken = payload["a"][:5] + b"X" + payload["a"][6:]
    theirs.call("SET", "k", "v")
    steps = [("FUNCTION", "RESTORE", payload["a"]), ("FCALL", "f", 0), ("FUNCTION", "RESTORE", payload["b"]),
             ("FUNCTION", "RESTORE", payload["b"], "append"), ("FCALL", "f", 0),
             ("FUNCTION", "RESTORE", payload["b"], "REPLACE"), ("FCALL", "f", 0),
             ("FUNCTION", "RESTORE", payload["c"], "REPLACE"), ("FCALL", "f", 0),
             ("FUNCTION", "RESTORE", payload["d"]), ("FCALL", "g", 0), ("FCALL", "f", 0),
             ("FUNCTION", "RESTORE", payload["c"], "FLUSH"), ("FCALL", "f", 0), ("FCALL", "g", 0),
             ("FUNCTION", "RESTORE", payload["none"]), ("FCALL", "f", 0),
             ("FUNCTION", "RESTORE", broken), ("FUNCTION", "RESTORE", broken, "FLUSH"), ("FCALL", "f", 0),
             ("FUNCTION", "RESTORE", b""), ("FUNCTION", "RESTORE", payload["a"][:-1]),
             ("FUNCTION", "RESTORE", theirs.call("DUMP", "k")), ("FUNCTION", "RESTORE", "x", "BAD"),
             ("FUNCTION", "RESTORE", "x", "FLUSH", "y"), ("FUNCTION", "RESTORE"), ("FCALL", "f", 0),
             ("FUNCTION", "RESTORE", payload["none"], "FLUSH"), ("FCALL", "f", 0),
             ("MULTI",), ("FUNCTION", "RESTORE", payload["d"]), ("FCALL", "g", 0), ("EXEC",)]

    def answer(client, step):
        return str(client.pipeline([step])[0])
    for step in steps:
        assert answer(ours, step) == answer(theirs, step), step
    assert codes(ours) == codes(theirs)


def test_every_replica_has_them(shared, both):
    ours, theirs = both
    theirs.call("FUNCTION", "LOAD", library("lib", "f", "everywhere"))
    ours.call("FUNCTION", "RESTORE", theirs.call("FUNCTION", "DUMP"), "FLUSH")
    shared.wait_level()
    backends_are_equal(shared)
    for i in shared.ids:
        with shared.redis(i) as client:
            assert client.call("FCALL", "f", 0) == b"everywhere"
