"""What operators ask of a memcached, and set at it: through the leader and a follower."""

import re

import pytest

from harness import wait_for
from mc_requests import frame, frames
from mc_support import PlainMemcached, exchange

STAT = 0x10
STATS = ["", "items", "slabs", "sizes", "conns", "settings", "reset", "detail on", "detail dump",
         "detail off", "detail", "sizes_enable", "sizes", "sizes_disable", "sizes", "cachedump 1 10",
         "cachedump", "cachedump 1 x", "extstore", "proxy", "dump", "nonsense", "items nonsense"]
SETTINGS = [
    "verbosity", "verbosity 0", "verbosity 1", "verbosity x", "verbosity 0 noreply",
    "cache_memlimit", "cache_memlimit 100", "cache_memlimit 0", "cache_memlimit x",
    "cache_memlimit 64 noreply", "cache_memlimit 1",
    "lru", "lru mode flat", "lru mode segmented", "lru mode x", "lru mode",
    "lru tune 10 25 0.1 2.0", "lru tune 90 90 0.1 2.0", "lru tune x", "lru temp_ttl 60",
    "lru temp_ttl -1", "lru nonsense 1",
    "lru_crawler", "lru_crawler disable", "lru_crawler enable", "lru_crawler enable",
    "lru_crawler sleep 100", "lru_crawler sleep 10000000", "lru_crawler sleep x",
    "lru_crawler tocrawl 10", "lru_crawler tocrawl x", "lru_crawler crawl 1",
    "lru_crawler crawl 1000", "lru_crawler nonsense 1", "lru_crawler nonsense noreply",
    "lru_crawler sleep 100 noreply", "lru_crawler enable noreply",
    "slabs", "slabs automove 0", "slabs automove 1", "slabs automove x", "slabs reassign 1 2",
    "slabs reassign 1 1", "slabs reassign 0 0", "slabs reassign", "slabs nonsense 1",
    "slabs automove 0 noreply", "slabs automove x noreply", "slabs automove 1 noreply",
    "slabs reassign 1 2 noreply", "slabs nonsense noreply", "slabs noreply",
    "extstore free_memchunks 1 2", "extstore",
]


@pytest.fixture(scope="module")
def plain():
    with PlainMemcached("-m", "256") as server:
        yield server


def names(reply):
    """Of statistics. What depends on the server's history, and its values, are left out."""
    return re.sub(rb"(STAT|ITEM|PREFIX) (\S+) [^\r]*", rb"\1 \2", reply)


def dependent_on_history(what):
    return what.split()[:1] in (["items"], ["slabs"], ["sizes"], ["conns"], ["cachedump"]) or \
        what == "detail dump"


@pytest.mark.parametrize("what", STATS)
def test_stats(shared, plain, replica, what):
    request = f"stats {what}".rstrip().encode() + b"\r\n"
    with plain.connect() as theirs, shared.memcached(replica, timeout=20) as ours:
        for client in theirs, ours:
            exchange(client, b"set k 0 0 1\r\nx\r\n")
        expected, got = exchange(theirs, request), exchange(ours, request)
        if dependent_on_history(what):
            assert got.endswith(b"END\r\n") == expected.endswith(b"END\r\n")
        else:
            assert names(got) == names(expected)


def test_they_are_those_of_the_leaders_memcached(shared, replica):
    pid = shared.read_pid(shared.wait_leader(), "memcached.pid")
    with shared.memcached(replica, timeout=20) as client:
        assert b"STAT pid %d\r\n" % pid in exchange(client, b"stats\r\n")
        assert b"STAT replica %d\r\n" % replica in exchange(client, b"stats muproxy\r\n")
    # The binary protocol says the same, one by one.
    with shared.memcached(replica, timeout=20) as client:
        client.send(frame(STAT) + frame(STAT, b"settings") + frame(STAT, b"muproxy"))
        for known in ("pid", "item_size_max", "replica"):
            stats = {}
            while True:
                header = client.exactly(24)
                body = client.exactly(int.from_bytes(header[8:12], "big"))
                key_bytes = int.from_bytes(header[2:4], "big")
                if not body:
                    break
                stats[body[:key_bytes].decode()] = body[key_bytes:]
            assert known in stats, stats


def test_they_do_not_tell_of_our_own_item(shared, replica):
    ours = b"__muproxy__"
    leader = shared.wait_leader()
    with shared.memcached(replica, timeout=20) as client, \
            shared.memcached_backend(leader) as backend:
        assert client.command("stats detail on") == b"OK"
        # (It is stored now and then, as the log goes on.)
        wait_for(lambda: exchange(client, b"set some:key 0 0 1\r\nx\r\n") == b"STORED\r\n" and
                 ours in exchange(backend, b"stats detail dump\r\n"), "it to be stored")
        reply = exchange(client, b"stats detail dump\r\n")
        assert b"PREFIX some " in reply and ours not in reply and reply.endswith(b"END\r\n")
        client.command("stats detail off")
        # cachedump knows of no item but those that have come down to the last of the LRUs.
        assert client.command("lru mode flat") == b"OK"
        dumps = [b"stats cachedump %d 100\r\n" % size_class for size_class in range(1, 6)]
        wait_for(lambda: exchange(client, b"set some:key 0 0 1\r\nx\r\n") == b"STORED\r\n" and
                 any(ours in exchange(backend, dump) for dump in dumps), "it to be dumped")
        replies = [exchange(client, dump) for dump in dumps]
        assert all(reply.endswith(b"END\r\n") and ours not in reply for reply in replies)
        assert any(b"ITEM some:key " in reply for reply in replies)
        assert client.command("lru mode segmented") == b"OK"
    with shared.memcached(replica, timeout=20) as client:
        client.send(frame(STAT, b"detail dump") + frame(0x0b))
        header = client.exactly(24)
        (_, _, body), = frames(header + client.exactly(int.from_bytes(header[8:12], "big")))
        assert body.startswith(b"detailedPREFIX ") and body.endswith(b"END\r\n")
        assert b"PREFIX some " in body and ours not in body
        assert client.exactly(24)[:2] == b"\x81\x10"  # the end of statistics
        assert client.exactly(24)[:2] == b"\x81\x0b"


def settings(client):
    """Those that clients can change."""
    stats = dict(re.findall(rb"STAT (\S+) ([^\r]*)", exchange(client, b"stats settings\r\n")))
    changing = (b"maxbytes", b"verbosity", b"lru_segmented", b"lru_crawler", b"slab_automove",
                b"lru_crawler_sleep", b"lru_crawler_tocrawl", b"hot_lru_pct", b"warm_lru_pct",
                b"hot_max_factor", b"warm_max_factor", b"temp_lru", b"temporary_ttl")
    return {name: stats[name] for name in changing}


def test_settings(shared, plain, replica):
    """Each is answered as a plain memcached answers, and made at every replica's memcached."""
    with plain.connect() as theirs, shared.memcached(replica, timeout=20) as ours:
        for request in SETTINGS:
            line = request.encode() + b"\r\n"
            assert exchange(ours, line) == exchange(theirs, line), request
            # (Some of it is done by a thread of memcached's, a little later.)
            for i in shared.ids:
                with shared.memcached_backend(i) as backend:
                    wait_for(lambda: settings(backend) == settings(theirs),
                             f"replica {i} to have done: {request}")
        for request in ["cache_memlimit 256", "lru mode segmented", "slabs automove 1",
                        "verbosity 0"]:
            exchange(ours, request.encode() + b"\r\n")
            exchange(theirs, request.encode() + b"\r\n")
