"""A group that begins with the data of a Redis that was there before it."""

import contextlib
import os
import re
import socket
import subprocess
import tempfile
import threading

import pytest

from harness import (MUCTL, Disconnected, Group, RawRedis, ServerError, encode, free_ports, wait_for)
from heal import Servers, equal_everywhere, fill, log_of, restores
from test_failures import lose_memory


class Seed:
    """A redis-server that knows nothing of muproxy."""

    def __init__(self, *arguments, password=None):
        self.port = free_ports(1)
        self.password = password
        self.directory = tempfile.TemporaryDirectory(prefix="muproxy-seed-", dir="/tmp")
        self.arguments = ["--port", str(self.port), "--save", "", "--bind", "127.0.0.1",
                          "--repl-diskless-sync-delay", "0", "--dir", self.directory.name,
                          "--loglevel", "warning", *arguments]
        if password:
            self.arguments += ["--requirepass", password]
        self.process = None
        self.start()

    def start(self):
        self.process = subprocess.Popen(["redis-server", *self.arguments],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_for(self._answers, "the seed to answer")

    def _answers(self):
        try:
            with RawRedis(("127.0.0.1", self.port)) as client:
                return client.call("PING") == b"PONG"
        except ServerError as error:
            return str(error).startswith("NOAUTH")
        except (OSError, Disconnected):
            return False

    def client(self, timeout=30):
        client = RawRedis(("127.0.0.1", self.port), timeout)
        if self.password:
            client.call("AUTH", self.password)
        return client

    def fill(self):
        with self.client() as client:
            fill(client, "k", 500, 1000)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.directory.cleanup()


def fill_all_types(client):
    client.call("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('twice', "
                "function(keys, args) return redis.call('INCRBY', keys[1], 2) end)")
    client.call("SET", "string", b"\x00\xff binary")
    client.call("RPUSH", "list", *range(300))
    client.call("SADD", "ints", *range(300))
    client.call("SADD", "set", *(f"m{n}" for n in range(300)))
    client.call("HSET", "hash", "f", "v", "g", "w" * 100)
    client.call("ZADD", "zset", "1.5", "a", "-inf", "b", "0.1", "c")
    client.call("PFADD", "hll", "a", "b")
    client.call("XADD", "stream", "1-1", "f", "v")
    client.call("XADD", "stream", "2-1", "f", "v")
    client.call("XGROUP", "CREATE", "stream", "g", "0")
    client.call("XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "STREAMS", "stream", ">")
    client.call("SELECT", 3)
    client.call("SET", "elsewhere", "x", "PX", 3600000)
    client.call("SELECT", 15)
    client.call("SET", "last", "x")
    client.call("SELECT", 0)


class Anew:
    """A group whose replicas have forgotten all, and whose servers are empty: it is to begin.

    Unlike one that `muproxy dev` is about to start, it may lose processes.
    """

    def __init__(self, seed_port):
        self.group = Group().wait_ready()
        self.servers = Servers(self.group)
        for i in self.group.ids:
            lose_memory(self.group, i)
            self.servers.empty(i)
        self.seed_is(seed_port)
        for i in self.group.ids:
            self.group.start_replica(i)

    def seed_is(self, port, more=""):
        with open(self.group.conf(1)) as file:
            lines = [line for line in file if not line.startswith("seed")]
        with open(self.group.conf(1), "w") as file:
            file.writelines([*lines, f"[redis]\nseed = 127.0.0.1:{port}\n", more])

    def wait_serving(self):
        for i in self.group.ids:
            wait_for(lambda j=i: self.group.serves(j), f"replica {i} to serve", 60)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.group.print_logs()
        self.servers.close()
        self.group.close()


def log_says(group, i, words):
    wait_for(lambda: words in log_of(group, i), f"replica {i}'s log to say: {words}")


def fails_so(words, **seed):
    """A group that begins with that seed does not begin, and says why."""
    with Group(**seed) as group:
        wait_for(lambda: os.path.exists(group.path(1, "muproxy.log")), "a log")
        log_says(group, 1, words)
        assert not group.serves(1)


def test_everything_is_there_and_the_seed_is_left_alone():
    with Seed() as seed, seed.client() as old:
        fill_all_types(old)
        fill(old, "many", 100000)
        old.call("SET", "long", "x", "PX", 3600000)
        long_due = old.call("PEXPIRETIME", "long")
        old.call("SET", "very long", "x", "PXAT", 5000000000000)
        for n in range(2000):
            old.call("SET", f"short:{n}", "x", "PX", 12000 + n % 100)
        kept = old.call("DBSIZE") - 2000
        with Group(seed=seed.port) as group:
            group.wait_ready()
            adopted = re.search(f"adopted ([0-9]+) keys from 127.0.0.1:{seed.port}",
                                log_of(group, 1))
            assert kept + 2 <= int(adopted.group(1)) <= kept + 2002
            old.call("SET", "afterwards", "only there")
            with group.redis(2, timeout=30) as client:
                assert client.call("DBSIZE") >= kept
                assert client.call("GET", "many:99999") == b"99999:x"
                assert client.call("GET", "string") == b"\x00\xff binary"
                assert client.call("LRANGE", "list", 298, -1) == [b"298", b"299"]
                assert client.call("SCARD", "ints") == client.call("SCARD", "set") == 300
                assert client.call("ZRANGE", "zset", 0, -1) == [b"b", b"c", b"a"]
                assert client.call("PFCOUNT", "hll") == 2
                assert client.call("XPENDING", "stream", "g")[0] == 1
                assert client.call("FCALL", "twice", 1, "counter") == 2
                assert client.call("PEXPIRETIME", "long") == long_due
                assert client.call("PEXPIRETIME", "very long") == 5000000000000
                assert client.call("PEXPIRETIME", "string") == -1
                assert client.call("EXISTS", "afterwards") == 0
                client.call("SET", "ours", "x")
                client.call("SELECT", 3)
                assert 0 < client.call("PTTL", "elsewhere") <= 3600000
                client.call("SELECT", 15)
                assert client.call("GET", "last") == b"x"
            group.wait_level()
            for i in group.ids:
                with group.redis_backend(i) as backend:
                    assert b"role:master" in backend.call("INFO", "replication")
                    assert backend.call("CONFIG", "GET", "masterauth") == [b"masterauth", b""]
            assert b"connected_slaves:0" in old.call("INFO", "replication")
            assert old.call("EXISTS", "ours") == 0
            # They go by the log's time now, at every replica.
            with group.redis(3, timeout=30) as client:
                wait_for(lambda: client.call("DBSIZE") == kept + 2, "the short ones to expire", 60)
            equal_everywhere(group)


def test_written_to_meanwhile():
    """What the seed had acknowledged when the copy was level is there; what came is a beginning."""
    with Seed() as seed, seed.client() as old:
        fill(old, "k", 20000, 100)
        stop, sent = threading.Event(), [0]

        def write():
            with seed.client() as client:
                while not stop.is_set():
                    client.send(b"".join(encode("RPUSH", "order", sent[0] + n)
                                         for n in range(100)))
                    for _ in range(100):
                        client.reply()
                    sent[0] += 100
        writer = threading.Thread(target=write)
        writer.start()
        try:
            with Group(seed=seed.port) as group:
                group.wait_ready()
                stop.set()
                writer.join()
                equal_everywhere(group)
                with group.redis(1, timeout=30) as client:
                    order = client.call("LRANGE", "order", 0, -1)
                    assert order and order == [b"%d" % n for n in range(len(order))]
                    assert len(order) <= sent[0] and client.call("EXISTS", "k:19999") == 1
        finally:
            stop.set()
            writer.join()


def test_with_a_user_and_password():
    users = ("--user default off --user copies on >secret +psync +replconf +ping +info "
             "--user test on nopass ~* &* +@all")
    with Seed(*users.split()) as seed:
        with RawRedis(("127.0.0.1", seed.port)) as old:
            old.call("AUTH", "test", "any")
            old.call("SET", "k", "v")
        with Anew(seed.port) as anew:
            log_says(anew.group, 1, "it says: REPLCONF: NOAUTH")
            anew.group.kill(1)
            anew.seed_is(seed.port, "seed-user = copies\nseed-password = secret\n")
            anew.group.start_replica(1)
            anew.wait_serving()
            with anew.group.redis(3) as client:
                assert client.call("GET", "k") == b"v"
            with anew.group.redis_backend(1) as backend:
                assert backend.call("CONFIG", "GET", "masteruser") == [b"masteruser", b""]


class SlowSeed(Seed):
    """Its snapshots take their time."""

    def __init__(self):
        super().__init__("--rdb-key-save-delay", "2000", "--repl-diskless-sync", "no")
        self.fill()

    def hurry(self):
        with self.client() as old:
            old.call("CONFIG", "SET", "rdb-key-save-delay", "0")


@pytest.mark.parametrize("lost", ["proxy", "server", "seed"])
def test_lost_midway(lost):
    """The replica that adopts, its server, or the seed: it is begun anew."""
    with SlowSeed() as seed, Anew(seed.port) as anew:
        group = anew.group

        def is_under_way():
            with contextlib.suppress(OSError, Disconnected):
                with group.redis_backend(1) as backend:
                    return b"master_sync_in_progress:1" in backend.call("INFO", "replication")
            return False
        wait_for(is_under_way, "the server to be the seed's replica")
        said = subprocess.run([MUCTL, "--admin", group.admin(1), "status"], capture_output=True,
                              text=True, check=True).stdout
        assert "its redis is being restored: " in said and "from the seed" in said, said
        assert "\nmuproxy_restoring 1\n" in group.http(1, "/metrics")[1]
        assert not any(group.serves(i) for i in group.ids)
        if lost == "proxy":
            group.kill(1)
            seed.hurry()
            group.start_replica(1)
        elif lost == "server":
            anew.servers.kill(1)
            log_says(group, 1, "the server here: ")
            seed.hurry()
            anew.servers.start_empty(1)
        else:
            seed.kill()
            log_says(group, 1, f"seed 127.0.0.1:{seed.port}: Connection refused")
            seed.start()
            seed.hurry()
            seed.fill()
        check_adopted(anew)


def check_adopted(anew):
    anew.wait_serving()
    equal_everywhere(anew.group)
    with anew.group.redis(2) as client:
        assert client.call("DBSIZE") == 500
        assert client.call("GET", "k:499") == b"499:" + b"x" * 1000
        client.call("SET", "k", "v")


def test_cut_and_not_named():
    """A proxy that died between the cut and the end: what is there has a mark, and is begun anew."""
    with Seed() as seed, Anew(free_ports(1)) as anew:
        seed.fill()
        log_says(anew.group, 1, "Connection refused")
        anew.group.kill(1)
        with anew.group.redis_backend(1) as backend:
            backend.call("FLUSHALL")
            backend.call("SET", "half", "of it")
            backend.call("SELECT", 16)
            backend.call("SET", "muproxy:applied", "muproxy: adopting")
        anew.seed_is(seed.port)
        anew.group.start_replica(1)
        check_adopted(anew)


def test_ignored_once_there_is_data():
    """By a replica that has its log, and by one that has lost that and its server's data."""
    with Seed() as seed, seed.client() as old, Anew(seed.port) as anew:
        group = anew.group
        old.call("SET", "k", "older")
        anew.wait_serving()
        with group.redis(1) as client:
            client.call("SET", "k", "newer")
        group.wait_level()
        group.kill(1)
        group.start_replica(1)
        log_says(group, 1, "not used, the group has data")
        wait_for(lambda: group.serves(1), "it to serve")
        lose_memory(group, 1)
        anew.servers.empty(1)
        group.start_replica(1)
        with group.redis(2) as client:
            wait_for(lambda: client.call("INCR", "n") and restores(group, 1), "it to be restored")
        wait_for(lambda: group.serves(1), "it to serve")
        equal_everywhere(group)
        with group.redis(1) as client:
            assert client.call("GET", "k") == b"newer"


def test_what_is_refused():
    """Not reachable; a newer one; databases that the server here does not have, or needs itself."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        fails_so("Connection refused", seed=closed.getsockname()[1])
    with NewerSeed() as newer:
        fails_so("it is Redis 99.1, and the server here, ", seed=newer.port)
    for database in (16, 30):
        with Seed("--databases", "32") as seed, seed.client() as old:
            old.call("SELECT", database)
            old.call("SET", "k", "v")
            fails_so(f"it has data in database {database}, the server here has 17",
                     seed=seed.port)
    with Seed(password="secret") as seed:
        fails_so("it says: REPLCONF: NOAUTH", seed=seed.port)


class NewerSeed:
    """Answers as a Redis of the future would."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self):
        info = b"# Server\r\nredis_version:99.1.2\r\nrun_id:" + b"0" * 40 + b"\r\n"
        with contextlib.suppress(OSError):
            while True:
                connection = self.listener.accept()[0]
                with connection, contextlib.suppress(OSError):
                    while connection.recv(4096):
                        connection.sendall(b"+OK\r\n" + 2 * (b"$%d\r\n%s\r\n" % (len(info), info)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


def test_a_server_that_is_not_empty():
    """What it holds may be anybody's: it stays, and is named in the log."""
    with Seed() as seed, Anew(free_ports(1)) as anew:
        seed.fill()
        log_says(anew.group, 1, "Connection refused")
        anew.group.kill(1)
        with anew.group.redis_backend(1) as backend:
            backend.call("FLUSHALL")
            backend.call("SET", "foreign", "x")
            anew.seed_is(seed.port)
            anew.group.start_replica(1)
            log_says(anew.group, 1, "the server here is not empty")
            assert backend.call("GET", "foreign") == b"x"
            backend.call("FLUSHALL")
        check_adopted(anew)
