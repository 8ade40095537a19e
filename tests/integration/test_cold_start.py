"""The power fails: all logs are gone, and of the servers there is what their disks kept."""

import contextlib
import os
import shutil
import subprocess

import pytest

from harness import Group, wait_for
from heal import Servers, equal_everywhere, log_of
from test_failures import lose_memory

AOF = ("--appendonly", "yes", "--appendfsync", "always")


def keep_aof(group):
    for i in group.ids:
        with group.redis_backend(i) as backend:
            backend.call("CONFIG", "SET", "appendfsync", "always", "appendonly", "yes")
            wait_for(lambda b=backend: all(
                word in b.call("INFO", "persistence")
                for word in (b"aof_rewrite_in_progress:0", b"aof_rewrite_scheduled:0",
                             b"aof_last_bgrewrite_status:ok")), "the AOF to be written")


@contextlib.contextmanager
def empty_caches(group):
    """memcacheds in the place of those that were killed."""
    caches = [subprocess.Popen(["memcached", "-u", "root", "-s", group.path(i, "memcached.sock")])
              for i in group.ids]
    try:
        yield
    finally:
        for cache in caches:
            cache.kill()
            cache.wait()


@pytest.fixture
def fallen():
    """Nothing runs any more. Whose server was away when the last writes were made: replica 3's."""
    with Group() as group, Servers(group) as servers:
        group.wait_ready()
        keep_aof(group)
        with group.redis(1) as client:
            for _ in range(100):
                client.call("INCR", "before")
            group.wait_level()
            servers.kill(3)
        with group.redis(group.wait_leader(other_than=3), timeout=30) as client:
            for _ in range(100):
                client.call("INCR", "after")
        for i in group.ids:
            lose_memory(group, i)
            group.kill(i, name="memcached.pid")
            if i != 3:
                servers.kill(i)
        yield group, servers
        group.print_logs()


def test_begins_again_with_the_server_that_has_most(fallen):
    """Every write was on disk before it was acknowledged: none is lost. Memcacheds are empty."""
    group, servers = fallen
    with empty_caches(group):
        for i in (3, 1):
            servers.start(i, *AOF)
            group.start_replica(i)
        wait_for(lambda: "ready: Redis" in log_of(group, 1)[-2000:], "the first to be there")
        assert not group.serves(1) and not group.serves(3), "never with fewer than all"
        servers.start(2, *AOF)
        group.start_replica(2)
        for i in group.ids:
            wait_for(lambda j=i: group.serves(j), f"replica {i} to serve again", 60)
        equal_everywhere(group)
        with group.redis(3) as client, group.memcached(3) as cache:
            assert client.call("GET", "before") == client.call("GET", "after") == b"100"
            assert client.call("INCR", "after") == 101
            cache.send(b"set k 0 0 1\r\nv\r\nget k\r\n")
            assert cache.line() == b"STORED" and cache.line() == b"VALUE k 0 1"
        assert any("applying the log of era" in line and "behind LSN 0" not in line
                   for line in log_of(group, 1).splitlines()[-30:]), "the log says from where on"


def test_what_no_disk_has_kept_is_told_of():
    """Servers with an fsync now and then: each comes back with what was written by its last one."""
    with Group() as group, Servers(group) as servers:
        group.wait_ready()
        keep_aof(group)
        with group.redis(1) as client:
            for i in group.ids:  # the last one's disk has most
                for _ in range(100):
                    client.call("INCR", "n")
                group.wait_level()
                shutil.copytree(group.path(i, "appendonlydir"), group.path(i, "disk"))
            client.call("SET", "late", "x")
        group.wait_level()
        for i in group.ids:
            lose_memory(group, i)
            group.kill(i, name="memcached.pid")
            servers.kill(i)
            shutil.rmtree(group.path(i, "appendonlydir"))
            os.rename(group.path(i, "disk"), group.path(i, "appendonlydir"))
        with empty_caches(group):
            for i in group.ids:
                servers.start(i, *AOF)
                group.start_replica(i)
            for i in group.ids:
                wait_for(lambda j=i: group.serves(j), f"replica {i} to serve again", 60)
            equal_everywhere(group)
            with group.redis(1) as client:
                assert client.call("GET", "n") == b"300"
                assert client.call("GET", "late") is None
        assert "logs were lost: the group goes on with what its servers have kept, up to LSN " \
            in log_of(group, 3)
