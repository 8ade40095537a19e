"""The same random requests to a plain memcached and to a group, replies compared byte by byte.

MUPROXY_SEEDS=1000-1199 runs these seeds instead of the few that CI runs.
"""

import os
import random

import pytest

from mc_requests import KEYS, MARKED_KEYS, TOKEN, Side, same_replies, text_request
from mc_support import PlainMemcached, contents, exchange

FIRST, _, LAST = os.environ.get("MUPROXY_SEEDS", "0-3").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)


@pytest.fixture
def plain():
    # Its background threads may hold an item for a moment, which then is treated differently.
    with PlainMemcached("-o", "no_lru_maintainer,no_lru_crawler") as server:
        yield server


def compare(choose, request, sides):
    """Put a request to both sides; one that names a token gets a right one, or a wrong one."""
    if TOKEN not in request:
        same_replies(sides, [request, request])
        return
    key = request.split()[1].decode()
    if key in MARKED_KEYS or choose.randrange(2):
        question = f"gets {key}\r\n".encode()
        for side, reply in zip(sides, same_replies(sides, [question, question])):
            side.note_token(key, reply)
    which = choose.choice(["last", "last", "older", "none"])
    same_replies(sides, [side.fill_in(request, key, which) for side in sides])


@pytest.mark.parametrize("seed", SEEDS)
def test_same_as_a_plain_memcached(shared, plain, seed):
    """Thousands of random commands: replies compared byte by byte, contents afterwards."""
    choose = random.Random(seed)
    follower = next(i for i in shared.ids if i != shared.wait_leader())
    with plain.connect() as theirs, shared.memcached(follower, timeout=30) as ours:
        exchange(ours, b"flush_all\r\n")
        sides = [Side(theirs), Side(ours)]
        for _ in range(500):
            # One by one: memcached's own answers depend on what is still being sent.
            compare(choose, text_request(choose), sides)
        everything = b"".join(f"get {key}\r\n".encode() for key in KEYS)
        same_replies(sides, [everything, everything])
    shared.wait_level()
    held = [contents(shared, i, KEYS) for i in shared.ids]
    assert held[0] == held[1] == held[2]
