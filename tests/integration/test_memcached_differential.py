"""The same random requests to a plain memcached and to a group, replies compared byte by byte.

MUPROXY_SEEDS=1000-1199 runs these seeds instead of the few that CI runs.
"""

import contextlib
import os
import random

import pytest

from mc_requests import (KEYS, ODD_KEYS, ODD_KEYS_IN_BASE64, Binary, Side, Text, compare,
                         same_replies)
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
