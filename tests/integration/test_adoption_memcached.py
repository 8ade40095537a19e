"""A group that begins with the data of a memcached that was there before it."""

import contextlib
import contextlib
import re
import socket
import subprocess
import threading
import time

import pytest

from harness import MUCTL, Disconnected, Group, wait_for
from heal import Servers, fill, log_of, transfer_of
from mc_support import PlainMemcached, exchange
from test_adoption import Seed, fails_so, log_says
from test_failures import lose_memory
from test_heal_memcached import Memcacheds, values_at

COUNT = 100000


def store(client, items):
    """Of {key: (flags, deadline, value)}."""
    items = list(items.items())
    for first in range(0, len(items), 500):
        some = items[first:first + 500]
        client.send(b"".join(b"set %s %d %d %d\r\n%s\r\n" % (key.encode(), flags, due, len(value),
                                                            value)
                             for key, (flags, due, value) in some))
        for _ in some:
            assert client.line() == b"STORED"


def many(count, size=0):
    """Values binary, flags, and for some a deadline."""
    due = int(time.time()) + 40000
    return {f"k:{n}": (n * 7919 % 2**32, due + n if n % 3 == 0 else 0,
                       b"%d:\r\n\x00\xff" % n + bytes(size)) for n in range(count)}


def dump(client):
    """{key: deadline} of all that a server holds but for muproxy's own."""
    listing = b"BUSY"
    while listing.startswith(b"BUSY"):  # it looks for what has expired
        client.send(b"lru_crawler metadump hash\r\n")
        listing = client.line()  # all of it
    found = re.findall(rb"^key=(\S+) exp=(-?\d+) ", listing, re.M)
    return {key: int(due) for key, due in found if not key.startswith(b"__muproxy__")}


def flags_and_values(client, keys):
    """Replies to mg, whatever they are."""
    replies, keys = {}, list(keys)
    for first in range(0, len(keys), 100):
        some = keys[first:first + 100]
        client.send(b"".join(b"mg %s u f k v\r\n" % key.encode() for key in some))
        for key in some:
            head = client.line()
            assert head.startswith(b"VA "), (key, head)
            replies[key] = head, client.exactly(int(head.split()[1]) + 2)
    return replies


def equal_to_seed(group, i, listed, keys, expected):
    with group.memcached_backend(i) as backend:
        assert dump(backend) == listed, i
        assert flags_and_values(backend, keys) == expected, i


def wait_filled(group):
    """The other replicas' memcacheds have all that the first one was given."""
    for i in group.ids:
        wait_for(lambda j=i: group.serves(j), f"replica {i} to serve", 60)
        wait_for(lambda j=i: (transfer_of(group, j) or {}).get("stage") == "none",
                 f"replica {i}'s memcached to be filled", 60)


def test_everything_is_everywhere_and_the_seed_is_left_alone():
    """100,000 items, to the byte and the second, at all replicas."""
    items = many(COUNT)
    special = (b"ms AAEC 2 b\r\nhi\r\n" b"ms YWJj 2 b T20000 F5\r\nhi\r\n" b"set empty 0 0 0\r\n\r\n"
               b"set large 3 0 900000\r\n" + bytes(900000) + b"\r\n"
               b"set " + b"k" * 250 + b" 0 0 1\r\nx\r\n")
    with PlainMemcached("-m", "256") as seed, seed.connect(60) as old:
        store(old, items)
        exchange(old, special)
        before = exchange(old, b"mg k:1 u c t f v\r\n")
        listed, expected = dump(old), flags_and_values(old, items)
        assert len(listed) == COUNT + 5
        with Group(memcached_seed=seed.port) as group:
            group.wait_ready()
            adopted = re.search(f"adopted ([0-9]+) items from 127.0.0.1:{seed.port}",
                                log_of(group, 1))
            assert int(adopted.group(1)) == COUNT + 5
            wait_filled(group)
            equal_to_seed(group, 2, listed, items, expected)
            some = dict(list(items.items())[::10])
            for i in 1, 3:
                equal_to_seed(group, i, listed, some, {key: expected[key] for key in some})
            with group.memcached(3, timeout=30) as client:
                assert exchange(client, b"mg k:3 f t v\r\n").startswith(b"VA ")
                assert client.get("k:99999") == b"99999:\r\n\x00\xff"
                assert exchange(client, b"mg AAEC b k v\r\n") == b"VA 2 kAAEC b\r\nhi\r\n"
                assert client.set("ours", b"x") == b"STORED"
                assert client.command("incr ours 1").startswith(b"CLIENT_ERROR")
            with group.redis(2) as client:  # empty, and in order
                assert client.call("DBSIZE") == 0
                client.call("SET", "k", "v")
            assert old.get("ours") is None
            assert exchange(old, b"mg k:1 u c t f v\r\n") == before


def test_together_with_a_redis():
    """Two seeds: the group begins with both."""
    items = many(500)
    with PlainMemcached() as seed, Seed() as redis, seed.connect() as old:
        store(old, items)
        with redis.client() as client:
            fill(client, "r", 500, 100)
        listed, expected = dump(old), flags_and_values(old, items)
        with Group(memcached_seed=seed.port, seed=redis.port) as group:
            group.wait_ready()
            wait_filled(group)
            for i in group.ids:
                equal_to_seed(group, i, listed, items, expected)
                with group.redis(i) as client:
                    assert client.call("DBSIZE") == 500


class Anew:
    """A group whose replicas have forgotten all, and whose servers are empty: it is to begin."""

    def __init__(self, seed_port, *arguments):
        self.group = Group(ring_size="4M").wait_ready()
        self.redis = Servers(self.group)
        self.servers = Memcacheds(self.group)
        for i in self.group.ids:
            lose_memory(self.group, i)
            self.redis.empty(i)
            self.servers.empty(i, *arguments)
        self.seed_is(seed_port)

    def seed_is(self, port):
        with open(self.group.conf(1)) as file:
            lines = [line for line in file if not line.startswith("seed")]
        if port:
            lines += ["[memcached]\n", f"seed = 127.0.0.1:{port}\n"]
        with open(self.group.conf(1), "w") as file:
            file.writelines(lines)

    def begin(self):
        for i in self.group.ids:
            self.group.start_replica(i)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.group.print_logs()
        self.servers.close()
        self.redis.close()
        self.group.close()


class Sluice:
    """Between a memcached and whoever connects: lets so many bytes pass, and the rest when told."""

    def __init__(self, port, size):
        self.target, self.left, self.opened = port, size, threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                for ends in (client, server, False), (server, client, True):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source, sink, is_counted):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if is_counted:
                    self.left -= len(data)
                    if self.left < 0:
                        self.opened.wait()
                sink.sendall(data)
        for end in source, sink:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.opened.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def copied(group, i):
    return (transfer_of(group, i) or {}).get("items", 0)


@pytest.mark.parametrize("lost", ["proxy", "server", "seed"])
def test_lost_midway(lost):
    """The replica that adopts, its server, or the seed: it is begun anew."""
    items = many(10000, 500)
    with PlainMemcached() as seed, seed.connect(60) as old, Sluice(seed.port, 3 << 20) as sluice, \
            Anew(sluice.port) as anew, contextlib.ExitStack() as more:
        group = anew.group
        store(old, items)
        listed, expected = dump(old), flags_and_values(old, items)
        anew.begin()
        wait_for(lambda: copied(group, 1) > 1000, "some items")
        said = subprocess.run([MUCTL, "--admin", group.admin(1), "status"], capture_output=True,
                              text=True, check=True).stdout
        assert "its memcached is being restored: " in said and "from the seed" in said, said
        assert " of 10000 items" in said, said
        assert "\nmuproxy_restoring 1\n" in group.http(1, "/metrics")[1]
        assert not any(group.serves(i) for i in group.ids)
        if lost == "proxy":
            group.kill(1)
            group.start_replica(1)
            wait_for(lambda: values_at(group, 1, ["k:1"]) == {} and copied(group, 1) == 0,
                     "half of it to be thrown away")
        elif lost == "server":
            anew.servers.empty(1)
            log_says(group, 1, "the server here was lost")
        else:
            seed.kill()
            sluice.opened.set()
            log_says(group, 1, "the other end closed it")
            again = more.enter_context(PlainMemcached())
            store(more.enter_context(again.connect(60)), items)
            sluice.target = again.port
        sluice.opened.set()
        wait_filled(group)
        for i in group.ids:
            equal_to_seed(group, i, listed, items, expected)


def test_without_its_seed_half_of_it_does_not_stay():
    """A proxy that died midway, and is told to adopt no more."""
    with PlainMemcached() as seed, seed.connect(60) as old, Sluice(seed.port, 3 << 20) as sluice, \
            Anew(sluice.port) as anew:
        group = anew.group
        store(old, many(10000, 500))
        anew.begin()
        wait_for(lambda: copied(group, 1) > 1000, "some items")
        group.kill(1)
        anew.seed_is(None)
        group.start_replica(1)
        wait_filled(group)
        for i in group.ids:
            with group.memcached_backend(i) as backend:
                assert dump(backend) == {}


def test_leader_killed_while_the_others_are_given_it():
    """The one that has adopted, and leads: it comes back, and the others get the rest."""
    items = many(30000, 500)
    with PlainMemcached("-m", "256") as seed, seed.connect(60) as old, \
            Anew(seed.port, "-m", "256") as anew:
        group = anew.group
        store(old, items)
        listed, expected = dump(old), flags_and_values(old, items)
        anew.begin()
        wait_for(lambda: copied(group, 2) or copied(group, 3), "another one to be given items")
        group.kill(1)
        group.start_replica(1)
        wait_filled(group)
        for i in group.ids:
            equal_to_seed(group, i, listed, items, expected)


def test_ignored_once_there_is_data():
    with PlainMemcached() as seed, seed.connect() as old, Anew(seed.port) as anew:
        group = anew.group
        anew.begin()
        wait_filled(group)
        assert old.set("k", b"older") == b"STORED"
        with group.memcached(1) as client:
            assert client.set("k", b"newer") == b"STORED"
        group.wait_level()
        group.kill(1)
        group.start_replica(1)
        log_says(group, 1, "not used, the group has data")
        wait_for(lambda: group.serves(1), "it to serve")
        with group.memcached(1) as client:
            assert client.get("k") == b"newer"


def test_what_is_refused():
    """Not reachable; a Redis; one that asks for a password; one with a flush_all before it."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        fails_so("Connection refused", memcached_seed=closed.getsockname()[1])
    with Seed() as redis:
        fails_so("it does not tell its statistics: -ERR unknown command", memcached_seed=redis.port)
    with PlainMemcached() as seed, seed.connect() as old:
        assert old.command("flush_all 1000") == b"OK"
        fails_so("it has a flush_all before it", memcached_seed=seed.port)
