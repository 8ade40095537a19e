"""Memcached: gets of large values by a client that does not read: it is waited for, what it has
not taken is in files but for a few MiB, others are served, and it gets all that a plain one sends.

Counted in bytes: how much the proxies' private memory has grown while the client takes nothing.
"""

import time

import pytest

from harness import Group, rss_bytes, where
from mc_requests import frame, frames
from mc_support import PlainMemcached, read_until

MIB = 1 << 20
KEYS, BYTES = 96, 900_000
HELD_BYTES = 32 * MIB  # of 82: what is on its way, and what allocators keep
NAMES = [b"large%d" % n for n in range(KEYS)]
GETQ, NOOP = 0x09, 0x0a
NOOP_ANSWER = frame(NOOP, magic=0x81)
MN = b"mn\r\n"
HOLD_TIMEOUT_S = 1


def value(n):
    return b"%07d" % n + b"v" * (BYTES - 7)


def fill(client):
    for n, name in enumerate(NAMES):
        client.send(b"set %s %d 0 %d\r\n%s\r\n" % (name, n, BYTES, value(n)))
        assert client.line() == b"STORED"


REQUESTS = {
    "get": b"get " + b" ".join(NAMES) + b" missing\r\n" + MN,
    "gets": b"gets missing " + b" ".join(NAMES) + b"\r\n" + MN,
    "single": b"".join(b"get %s\r\n" % name for name in NAMES) + MN,
    "meta": b"".join(b"mg %s v f k\r\n" % name for name in NAMES) + MN,
    "gat": b"gat 0 " + b" ".join(NAMES) + b"\r\n" + MN,
    "binary": b"".join(frame(GETQ, name) for name in NAMES) + frame(NOOP),
}


@pytest.fixture(scope="module")
def plain():
    with PlainMemcached("-m", "512") as server:
        with server.connect(60) as client:
            fill(client)
        yield server


@pytest.fixture(scope="module")
def group():
    with Group(memcached=["/usr/bin/memcached", "-m", "512"]) as group:
        group.wait_ready()
        for i in group.ids:
            group.restart_with(i, f"\n[timing]\nhold-timeout = {HOLD_TIMEOUT_S}s\n")
        with group.memcached(group.wait_leader(), 60) as client:
            fill(client)
        group.wait_level()
        yield group
        group.print_logs()


def read_all(client, form):
    """What comes up to the answer to the last request."""
    return without_tokens(form, read_until(client, NOOP_ANSWER if form == "binary" else b"MN\r\n"))


def without_tokens(form, replies):
    """The group's tokens are its own."""
    if form == "gets":
        return [line.rsplit(b" ", 1)[0] if line.startswith(b"VALUE") else line
                for line in replies.split(b"\r\n")]
    if form == "binary":
        return [(header, body) for header, _, body in frames(replies)]
    return replies


def sizes(group):
    return {i: rss_bytes(group.read_pid(i)) for i in group.ids}


@pytest.mark.parametrize("form", REQUESTS)
@pytest.mark.parametrize("which", ["leader", "follower"])
def test_it_is_waited_for(group, plain, which, form):
    i = where(group, which)
    before = sizes(group)
    with group.memcached(i, 60) as slow, group.memcached(i, 60) as other:
        slow.send(REQUESTS[form])
        # Its socket is full; others are served, and what is held for it stays where it is.
        for n in range(100):
            assert other.set("small", b"%03d" % n) == b"STORED"
            assert other.get("small") == b"%03d" % n
            grown = {j: now - before[j] for j, now in sizes(group).items()}
            assert max(grown.values()) < HELD_BYTES, grown
        ours = read_all(slow, form)
    with plain.connect(60) as client:
        client.send(REQUESTS[form])
        assert ours == read_all(client, form)


@pytest.mark.parametrize("which", ["leader", "follower"])
def test_no_request_is_given_up_for_it(group, which):
    """What waits until the client reads, and not for a leader, is not told that there is none."""
    with group.memcached(where(group, which), 60) as slow, \
            group.memcached(where(group, which), 60) as other:
        slow.send(REQUESTS["single"] * 2)
        end = time.monotonic() + 1.5 * HOLD_TIMEOUT_S
        while time.monotonic() < end:
            assert other.set("small", b"x") == b"STORED"
        for _ in range(2):
            for n, name in enumerate(NAMES):
                assert slow.line() == b"VALUE %s %d %d" % (name, n, BYTES)
                assert slow.exactly(BYTES + 2) == value(n) + b"\r\n"
                assert slow.line() == b"END"
            assert slow.line() == b"MN"
