"""Random meta commands with any flags, among text and binary requests: as a plain memcached.

What 1.6.18 knows, and what 1.6.38 does. MUPROXY_SEEDS=1000-1199 runs these seeds instead of the
few that CI runs, MUPROXY_REQUESTS says how many requests each has.
"""

import contextlib
import os
import random
import shutil

import pytest

from debian_source import NotFetched
from harness import Group, follower, wait_for
from mc_meta_requests import Bare, Meta, MetaSide, NewerMeta
from mc_requests import KEYS, Binary, Text, compare
from mc_support import PlainMemcached, exchange
from newer_servers import newer_server

FIRST, _, LAST = os.environ.get("MUPROXY_SEEDS", "0-2").partition("-")
SEEDS = range(int(FIRST), int(LAST or FIRST) + 1)
REQUESTS = int(os.environ.get("MUPROXY_REQUESTS", "400"))
QUIETLY = "-o", "no_lru_maintainer,no_lru_crawler"


@pytest.fixture(scope="module", params=["older", "newer"])
def version(request):
    """A memcached's path, and its meta commands."""
    if request.param == "older":
        return shutil.which("memcached"), Meta
    try:
        return newer_server("memcached"), NewerMeta
    except NotFetched as error:
        return pytest.skip(f"NOT RUN: {error}")


@pytest.fixture(scope="module")
def shared(version):
    with Group(memcached=[version[0]]) as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.fixture
def plain(version):
    with PlainMemcached(*QUIETLY, program=version[0]) as server:
        yield server


def remains(client, masked):
    """Of each item all but its past; the marks of stale ones, too."""
    return [masked(exchange(client, f"mg {key} k s t f v\r\n".encode())) for key in KEYS]


def same_contents(group, plain_client, masked):
    expected = remains(plain_client, masked)
    group.wait_level()
    for i in group.ids:
        with group.memcached_backend(i) as backend:
            assert remains(backend, masked) == expected, f"replica {i}'s memcached"


def compare_some(choose, meta, sides, requests):
    for _ in range(requests):
        compare(choose.choice([meta, meta, meta, Bare, Binary]), choose, sides)


@pytest.mark.parametrize("seed", SEEDS)
def test_any_flags(shared, plain, version, seed):
    _, meta = version
    choose = random.Random(seed)
    i = follower(shared) if seed % 2 else shared.wait_leader()
    with contextlib.closing(MetaSide(plain.connect)) as theirs, \
            contextlib.closing(MetaSide(lambda: shared.memcached(i, timeout=30))) as ours:
        theirs.begin()
        ours.begin()
        compare_some(choose, meta, [theirs, ours], REQUESTS)
        same_contents(shared, theirs.client[Text], meta.masked)


def test_any_flags_while_leaders_are_killed(version, plain):
    """All the same, but for servers' own tokens, and what the leader's server knows of the past."""
    program, meta = version

    class Lasting(meta):
        OF_ITS_PAST = []

    choose = random.Random(f"killed {FIRST}")
    with Group(memcached=[program]) as group, \
            contextlib.closing(MetaSide(plain.connect)) as theirs:
        group.wait_ready()
        theirs.begin()
        for stage in range(2):
            leader, i = group.wait_leader(), follower(group)
            with contextlib.closing(
                    MetaSide(lambda i=i: group.memcached(i, timeout=30))) as ours:
                if stage == 0:
                    ours.begin()
                for side in theirs, ours:
                    side.given.clear()
                    side.client[Lasting] = side.client[Text]
                compare_some(choose, Lasting, [theirs, ours], REQUESTS // 4)
                # What was won is noted in the log right after it was answered: before this one.
                compare(Bare, choose, [theirs, ours])
                group.wait_level()
                group.kill(leader)
                theirs.given.clear()
                ours.given.clear()
                compare_some(choose, Lasting, [theirs, ours], REQUESTS // 4)
            group.start_replica(leader)
            wait_for(lambda leader=leader: group.serves(leader), "it to serve again", 60)
        same_contents(group, theirs.client[Text], meta.masked)
