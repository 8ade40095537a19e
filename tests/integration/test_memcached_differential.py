"""The same random requests to a plain memcached and to a group, replies compared byte by byte.

MUPROXY_SEEDS=1000-1199 runs these seeds instead of the few that CI runs.
"""

import contextlib
import os
import random
import struct

import pytest

from mc_requests import (KEYS, NO_TOKEN, ODD_KEYS, ODD_KEYS_IN_BASE64, Binary, Side, Text, compare,
                         frame, same_replies)
from mc_support import PlainMemcached, contents, exchange, items

FIRST, _, LAST = os.environ.get("MUPROXY_SEEDS", "0-3").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)


@pytest.fixture
def plain():
    # Its background threads may hold an item for a moment, which then is treated differently.
    with PlainMemcached("-o", "no_lru_maintainer,no_lru_crawler") as server:
        yield server


@pytest.mark.parametrize("seed", SEEDS)
def test_same_as_a_plain_memcached(shared, plain, seed):
    """Random requests in all three protocols: the replies, and the contents afterwards."""
    choose = random.Random(seed)
    follower = next(i for i in shared.ids if i != shared.wait_leader())
    with contextlib.closing(Side(plain.connect)) as theirs, \
            contextlib.closing(Side(lambda: shared.memcached(follower, timeout=30))) as ours:
        exchange(ours.client[Text], b"flush_all\r\n")
        for _ in range(600):
            # One by one: memcached's own answers depend on what is still being sent.
            compare(choose.choice([Text, Binary]), choose, [theirs, ours])
        everything = b"".join(map(Binary.ask_token, KEYS + ODD_KEYS))
        same_replies(Binary, [theirs, ours], [everything, everything])
        keys = KEYS + ODD_KEYS_IN_BASE64
        held = items(theirs.client[Text], keys)
        shared.wait_level()
        for i in shared.ids:
            assert contents(shared, i, keys) == held, f"replica {i}'s memcached"


@contextlib.contextmanager
def both_sides(shared, plain, i):
    with contextlib.closing(Side(plain.connect)) as theirs, \
            contextlib.closing(Side(lambda: shared.memcached(i, timeout=30))) as ours:
        exchange(ours.client[Text], b"flush_all\r\n")
        yield theirs, ours


def request_of_a_batch(dialect, choose):
    """One whose reply does not depend on what is still being sent: no counter, no token."""
    while True:
        _, request = dialect.request(choose)
        if dialect is Text:
            verb = request.split(b" ")[0]
            if verb not in (b"incr", b"decr", b"ma") and Text.TOKEN not in request:
                return request
        elif request[1] not in Binary.COUNTS and Binary.TOKEN not in request:
            return request


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dialect", [Text, Binary], ids=["text", "binary"])
def test_batches(shared, plain, dialect, seed):
    """Many requests in one go, quiet ones and NOOPs among them: answered in their order."""
    choose = random.Random(seed)
    leader = shared.wait_leader()
    i = next(i for i in shared.ids if (i == leader) == bool(seed % 2))
    noop = frame(Binary.NOOP, opaque=77) if dialect is Binary else b"mn\r\n"
    with both_sides(shared, plain, i) as sides:
        for _ in range(20):
            batch = b"".join(noop if choose.randrange(6) == 0 else
                             request_of_a_batch(dialect, choose) for _ in range(40))
            same_replies(dialect, sides, [batch, batch])


def requests_with(key):
    for line in [f"set {key} 1 0 1\r\nx", f"get {key}", f"gets {key} other", f"gat 0 {key}",
                 f"add {key} 0 0 1\r\ny", f"append {key} 0 0 1\r\nz",
                 f"cas {key} 0 0 1 {NO_TOKEN}\r\nz", f"incr {key} 1", f"touch {key} 0",
                 f"delete {key} noreply", f"delete {key}",
                 f"ms {key} 2 k\r\n10", f"mg {key} k v", f"ma {key} k v", f"md {key} k",
                 f"me {key}"]:
        yield Text, line.encode() + b"\r\n"
    for opcode, extras, value in [(0x01, bytes(8), b"x"), (0x00, b"", b""), (0x0c, b"", b""),
                                  (0x0e, b"", b"y"), (0x1c, bytes(4), b""), (0x04, b"", b""),
                                  (0x05, struct.pack(">QQI", 1, 5, 0), b"")]:
        yield Binary, frame(opcode, key.encode(), extras, value)


@pytest.mark.parametrize("where", ["leader", "follower"])
def test_keys_of_any_length(shared, plain, where):
    """Up to 250 bytes, and what is said to longer ones."""
    leader = shared.wait_leader()
    i = next(i for i in shared.ids if (i == leader) == (where == "leader"))
    with both_sides(shared, plain, i) as sides:
        for length in [1, 249, 250, 251, 300]:
            for dialect, request in requests_with("k" * length):
                # (At longer ones the binary protocol hangs up: tests/unit/test_mc_dialects.)
                if dialect is Text or length <= 250:
                    same_replies(dialect, sides, [request, request])
