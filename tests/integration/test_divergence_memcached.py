"""Somebody writes to one memcached behind the proxies' backs: it is told, counted, and healed."""

import contextlib
import os

import pytest

from harness import Disconnected, Group, wait_for
from heal import a_follower, log_of
from mc_support import exchange
from test_divergence import metric, total
from test_heal_memcached import pressure, values_at

SETTINGS = "[memcached]\ndigest-interval = 100ms\ndigest-keys = 500\n"


@pytest.fixture(scope="module")
def group():
    with Group() as group:
        group.wait_ready()
        for i in group.ids:
            group.restart_with(i, SETTINGS)
        yield group
        group.print_logs()


def store(group, count):
    with group.memcached(group.wait_leader(), timeout=60) as client:
        client.send(b"".join(b"set k:%d 5 40000 9\r\nvalue-%03d\r\n" % (n, n % 1000)
                             for n in range(count)))
        for _ in range(count):
            assert client.line() == b"STORED"
        assert exchange(client, b"set div 5 40000 1\r\nx\r\n") == b"STORED\r\n"
        last = os.urandom(8).hex().encode()
        assert client.set("last", last) == b"STORED"
    # With so many questions they are never level with the log.
    for i in group.ids:
        wait_for(lambda j=i: values_at(group, j, ["last"]) == {"last": last}, "it to be there", 60)


def compared(group, count):
    """So many more items are looked at."""
    before = total(group, "memcached_digested_keys_total")
    wait_for(lambda: total(group, "memcached_digested_keys_total") >= before + count,
             "items to be compared", 60)


def at(group, i, key=b"div"):
    with group.memcached_backend(i) as backend:
        return exchange(backend, b"mg %s u f v\r\n" % key)


CHANGES = {"value": b"set div 5 40000 1\r\ny\r\n", "flags": b"set div 6 40000 1\r\nx\r\n",
           "deadline": b"touch div 50000\r\n", "no deadline": b"set div 5 0 1\r\nx\r\n"}


@pytest.mark.parametrize("who,change", [*(("follower", change) for change in CHANGES),
                                        ("leader", "value")])
def test_told_and_healed(group, who, change):
    leader = group.wait_leader()
    victim = leader if who == "leader" else a_follower(group)
    store(group, 300)
    keys = total(group, "memcached_divergent_keys_total")
    heals = metric(group, victim, "memcached_digest_heals_total")
    marks = {i: len(log_of(group, i)) for i in group.ids}
    with group.memcached_backend(victim) as backend:
        exchange(backend, CHANGES[change])
    wait_for(lambda: metric(group, victim, "memcached_digest_heals_total") > heals,
             "it to be healed", 60)
    wait_for(lambda: at(group, victim) == b"EN\r\n", "it to be dropped")
    assert any("servers differ in key 'div':" in log_of(group, i)[mark:]
               for i, mark in marks.items())
    assert total(group, "memcached_divergent_keys_total") > keys
    for i in group.ids:
        assert i == victim or at(group, i) == b"VA 1 f5\r\nx\r\n"
        assert len(values_at(group, i, [f"k:{n}" for n in range(300)])) == 300


def test_many_at_once(group):
    """All that a server holds is wrong."""
    store(group, 3000)
    victim = a_follower(group)
    keys = [f"k:{n}" for n in range(3000)]
    with group.memcached_backend(victim) as backend:
        exchange(backend, b"".join(b"set %s 0 0 1\r\n!\r\n" % key.encode() for key in keys))
    wait_for(lambda: values_at(group, victim, keys) == {}, "all of it to be dropped", 60)
    assert "more keys" in log_of(group, group.wait_leader())


def test_without_a_majority(group):
    """Two differ, the third has evicted it: both drop it."""
    store(group, 10)
    one, two, three = group.ids
    with group.memcached_backend(one) as first, group.memcached_backend(two) as second:
        assert exchange(second, b"delete div\r\n") == b"DELETED\r\n"
        exchange(first, CHANGES["value"])
    wait_for(lambda: at(group, one) == at(group, three) == b"EN\r\n", "both to drop it", 60)
    assert any("there is no majority, so all drop it" in log_of(group, i) for i in group.ids)


def test_what_is_missing_is_no_difference(group):
    store(group, 2000)
    before = total(group, "memcached_divergent_keys_total")
    for i in group.ids:
        with group.memcached_backend(i) as backend:
            for n in range(i, 2000, 5):
                backend.send(b"delete k:%d\r\n" % n)
                assert backend.line() in (b"DELETED", b"NOT_FOUND")
    compared(group, 8000)
    assert total(group, "memcached_divergent_keys_total") == before
    with group.memcached_backend(1) as backend:
        assert backend.get("k:2") == b"value-002"


def test_equal_servers_are_left_alone(group):
    """While all sorts of commands are under way, and somebody lists the items."""
    compared(group, 100)  # with what earlier tests may have left
    before = {name: total(group, name) for name in ("memcached_divergent_keys_total",
                                                    "memcached_digest_heals_total")}
    with group.memcached(group.wait_leader(), timeout=60) as client, pressure(group) as (writers, _):
        assert client.command("flush_all") == b"OK"
        exchange(client, b"set n 0 0 1\r\n1\r\nset text 0 100 1\r\na\r\nset stale 0 0 1\r\nx\r\n"
                 b"md stale I\r\nmg won N1000\r\nms AAEC 2 b\r\nhi\r\nset brief 0 2 1\r\nx\r\n")
        until = total(group, "memcached_digested_keys_total") + 6000
        while total(group, "memcached_digested_keys_total") < until:
            with contextlib.suppress(Disconnected):
                exchange(client, b"incr n 1\r\nappend text 0 0 1\r\na\r\ntouch text 100\r\n"
                         b"gat 200 n\r\nma n N0 D2\r\nset brief 0 1 1\r\nx\r\n")
        # Its win was taken from nobody, though it may be held back for a moment.
        wait_for(lambda: b" W" in exchange(client, b"mg stale v\r\n"), "its win")
        assert sum(writer.writes for writer in writers) > 100
    assert {name: total(group, name) for name in before} == before
