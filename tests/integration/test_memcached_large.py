"""Values up to a limit that the backends' -I has raised (8 MiB), and beyond, in all protocols."""

import contextlib
import os

import pytest

from harness import Group
from mc_requests import frame, frames
from mc_support import PlainMemcached, contents, exchange

# A server's background threads may move its memory, and evict an item for that.
ARGUMENTS = ["-I", "8m", "-m", "1024", "-o", "no_lru_maintainer,no_lru_crawler,slab_automove=0"]
LIMIT = 8 << 20
# Beside a value its item holds 60 bytes, and 4 more if it has flags. In turn at both.
CASES = [("leader", 5 << 20), ("follower", LIMIT - 64), ("leader", LIMIT - 60),
         ("follower", LIMIT - 59), ("leader", LIMIT), ("follower", LIMIT + (1 << 20))]
SET, ADD, REPLACE, APPEND, GETK = 0x01, 0x02, 0x03, 0x0e, 0x0c


@pytest.fixture(scope="module")
def large():
    # A request can be a quarter of the ring.
    with Group(ring_size="64M", memcached=["/usr/bin/memcached", *ARGUMENTS]) as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.fixture(scope="module")
def plain():
    with PlainMemcached(*ARGUMENTS) as server:
        yield server


@contextlib.contextmanager
def connected(large, plain, where):
    leader = large.wait_leader()
    i = next(i for i in large.ids if (i == leader) == (where == "leader"))
    with plain.connect(60) as theirs, large.memcached(i, timeout=60) as ours:
        yield theirs, ours


def ask(client, request):
    """An answer of the binary protocol, with "some token" for a token."""
    client.send(request)
    header = client.exactly(24)
    (header, token, body), = frames(
        header + client.exactly(int.from_bytes(header[8:12], "big")))
    return header, token != 0, body


def same(sides, request, put=exchange):
    one, two = (put(side, request) for side in sides)
    assert one == two, (request[:60], one[:100], two[:100])
    return one


def binary(opcode, value=b""):
    return frame(opcode, b"k", bytes(8) if opcode in (SET, ADD, REPLACE) else b"", value)


@pytest.mark.parametrize("where,size", CASES)
def test_text(large, plain, where, size):
    value = os.urandom(16) * (size // 16) + b"v" * (size % 16)
    block = b" 0 0 %d\r\n%s\r\n" % (size, value)
    with connected(large, plain, where) as sides:
        for verb in [b"set", b"replace", b"add"]:
            # What is too large takes the old value with it, or leaves it.
            same(sides, b"delete k\r\n" if verb == b"add" else b"set k 5 0 3\r\nold\r\n")
            stored = same(sides, verb + b" k" + block)
            assert (stored == b"STORED\r\n") == (size <= LIMIT - 60), stored
            same(sides, b"get k\r\n")


@pytest.mark.parametrize("where,size", CASES)
def test_meta(large, plain, where, size):
    block = b"m" * size + b"\r\n"
    with connected(large, plain, where) as sides:
        for flags in [b"", b" k O7 F3", b" MR", b" ME", b" q"]:
            same(sides, b"ms k 3 F5\r\nold\r\n")
            same(sides, b"ms k %d%s\r\n%s" % (size, flags, block))
            same(sides, b"mg k v s f\r\n")


@pytest.mark.parametrize("where,size", CASES)
def test_binary(large, plain, where, size):
    with connected(large, plain, where) as sides:
        for opcode in [SET, REPLACE, ADD, APPEND]:
            same(sides, binary(SET, b"old"), ask)
            same(sides, binary(opcode, b"b" * size), ask)
            same(sides, binary(GETK), ask)


@pytest.mark.parametrize("verb", ["append", "prepend"])
def test_values_that_grow_beyond_it(large, plain, verb):
    part = b"p" * (3 << 20)
    with connected(large, plain, "follower") as sides:
        for n in range(4):
            same(sides, b"%s k 0 0 %d\r\n%s\r\n" % (
                verb.encode() if n else b"set", len(part), part))
            same(sides, b"get k\r\n")


def test_all_replicas_hold_them(large):
    value = os.urandom(64) * (LIMIT // 64 - 10)
    with large.memcached(large.wait_leader(), timeout=60) as client:
        assert client.set("everywhere", value) == b"STORED"
    large.wait_level()
    for i in large.ids:
        assert contents(large, i, ["everywhere"]) == {
            "everywhere": b"VA %d f0\r\n%s\r\n" % (len(value), value)}
