"""A group started by `muproxy dev`, and raw clients that never reconnect.

Used by the tests beside this file and by tests/bench. Nothing here sleeps for
a fixed time to wait for something: it waits for a condition, with a deadline.
"""

import collections
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.abspath(os.environ.get("MUPROXY_BUILD", os.path.join(TOP, "build")))
MUPROXY = os.path.join(BUILD, "muproxy")
MUCTL = os.path.join(BUILD, "muctl")
# A sanitized or busy build is slower: every deadline is multiplied by this.
PATIENCE = float(os.environ.get("MUPROXY_PATIENCE", "1"))
# How the replicas of a group reach each other, where a test does not say.
FABRIC = os.environ.get("MUPROXY_FABRIC", "shm")


def need_build():
    """Ends the program with a word about it if there is nothing to test."""
    if not os.access(MUPROXY, os.X_OK):
        raise SystemExit(f"{MUPROXY} is not there: build first, or name the build directory "
                         "in MUPROXY_BUILD")


class WaitedInVain(AssertionError):
    """What was waited for did not come in time. scripts/test repeats such a test once."""


def wait_for(condition, what, deadline_s=20.0):
    """Wait until condition() is true; returns its value."""
    until = time.monotonic() + deadline_s * PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise WaitedInVain(f"not within {deadline_s * PATIENCE:.0f} s: {what}")
        time.sleep(0.01)


def port_is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


given_ports = collections.deque(maxlen=50)


def free_ports(count):
    """The first of `count` free ports in a row, below those the kernel hands out.

    Tests that run beside each other (pytest -n) have a range of their own each. What was
    given of late may not be listened at yet, and is not given again.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    span = 22000 // workers
    for _ in range(200):
        first = 10000 + worker * span + random.randrange(span - count)
        ports = range(first, first + count)
        if any(ports[0] <= given[-1] and given[0] <= ports[-1] for given in given_ports):
            continue
        if all(port_is_free(port) for port in ports):
            given_ports.append(ports)
            return first
    raise AssertionError("no free ports")


def process_lives(pid):
    """Does it run? A zombie does not, once its other threads have ended, too."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            ended = stat.read().rpartition(")")[2].split()[0] in "ZX"
        return not ended or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def thread_id(pid, name):
    """The id of a process's thread of that name."""
    for tid in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{tid}/comm") as comm:
            if comm.read().strip() == name:
                return int(tid)
    raise AssertionError(f"process {pid} has no thread {name}")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid):
    """Private memory: the log's pages are shared, and are counted nowhere else."""
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


class Group:
    """`muproxy dev`, its ports and files."""

    def __init__(self, replicas=3, ring_size="16M", directory=None, fabric=FABRIC,
                 memcached=None, redis=None, seed=None, memcached_seed=None, may_change=False):
        """memcached, redis: the servers' commands, with what is to stand behind dev's options.

        seed, memcached_seed: the port of a Redis, or memcached, of this machine whose data the
        group begins with. may_change: its members meet at ports whatever the fabric is, so that
        others can join.
        """
        need_build()
        self.replicas = replicas
        self.ids = range(1, replicas + 1)
        first = free_ports(40)
        self.redis_port0 = first
        self.memcached_port0 = first + 10
        self.admin_port0 = first + 20
        self._temporary = tempfile.TemporaryDirectory(prefix="muproxy-it-", dir="/tmp")
        self.dir = directory or os.path.join(self._temporary.name, "g")
        self.out_path = os.path.join(self._temporary.name, "dev.out")
        self.by_hand = {}  # replicas started again with -c: id -> Popen
        arguments = [
            MUPROXY, "dev", "--dir", self.dir, "--keep", "--replicas", str(replicas),
            "--redis-port", str(self.redis_port0),
            "--memcached-port", str(self.memcached_port0),
            "--admin-port", str(self.admin_port0),
            "--fabric", fabric,
        ]
        if may_change or fabric != "shm":
            arguments += ["--peer-port", str(first + 30)]
        if ring_size:
            arguments += ["--ring-size", ring_size]
        if seed:
            arguments += ["--seed", f"127.0.0.1:{seed}"]
        if memcached_seed:
            arguments += ["--memcached-seed", f"127.0.0.1:{memcached_seed}"]
        with open(self.out_path, "wb") as out:
            self.dev = subprocess.Popen(
                arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=self._with_servers({"memcached": memcached, "redis-server": redis}))

    def _with_servers(self, commands):
        """An environment in which programs of these names are those, with their arguments."""
        for name, command in commands.items():
            if not command:
                continue
            path = os.path.join(self._temporary.name, name)
            with open(path, "w") as script:
                script.write(f'#!/bin/sh\nexec {command[0]} "$@" {" ".join(command[1:])}\n')
            os.chmod(path, 0o755)
        return {**os.environ, "PATH": f"{self._temporary.name}:{os.environ['PATH']}"}

    # -- life

    def output(self):
        with open(self.out_path, errors="replace") as out:
            return out.read()

    def wait_ready(self, deadline_s=60):
        def ready():
            if self.dev.poll() is not None:
                raise AssertionError(f"dev ended with {self.dev.returncode}:\n{self.output()}")
            return any(line.startswith("ready:") for line in self.output().splitlines())
        try:
            wait_for(ready, "ready: from muproxy dev", deadline_s)
        except WaitedInVain as error:
            raise WaitedInVain(f"{error}\n{self.output()}\n{self.logs()}") from None
        return self

    def stop(self, number=signal.SIGTERM, deadline_s=25):
        """Ends the group; returns the exit code of dev."""
        if self.dev.poll() is None:
            self.dev.send_signal(number)
        try:
            code = self.dev.wait(deadline_s * PATIENCE)
        except subprocess.TimeoutExpired:
            self.dev.kill()
            self.dev.wait()
            raise AssertionError("dev did not stop:\n" + self.output()) from None
        for process in self.by_hand.values():
            process.wait(10)
        return code

    def close(self):
        try:
            if self.dev.poll() is None:
                self.stop()
        finally:
            for process in self.by_hand.values():
                if process.poll() is None:
                    process.kill()
                    process.wait()
            self._temporary.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None:
            self.print_logs()
        self.close()

    # -- replicas

    def path(self, i, name):
        return os.path.join(self.dir, f"replica-{i}", name)

    def conf(self, i):
        return self.path(i, "muproxy.conf")

    def read_pid(self, i, name="muproxy.pid"):
        with open(self.path(i, name)) as file:
            return int(file.read())

    def kill(self, i, number=signal.SIGKILL, name="muproxy.pid"):
        """Signal a process of the group; returns its id."""
        pid = self.read_pid(i, name)
        os.kill(pid, number)
        if number == signal.SIGKILL:
            if i in self.by_hand and name == "muproxy.pid":
                self.by_hand[i].wait(10)
            wait_for(lambda: not process_lives(pid), f"end of process {pid}")
        return pid

    def start_replica(self, i, environment=None, arguments=()):
        """Start a replica that was killed, as a user would."""
        log = open(self.path(i, "muproxy.log"), "ab")
        with log:
            self.by_hand[i] = subprocess.Popen(
                [MUPROXY, "-c", self.conf(i), *arguments], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env=environment)
        return self.by_hand[i]

    def add_to_conf(self, i, text):
        with open(self.conf(i), "a") as file:
            file.write(text)

    def kill_and_restart_all(self, timeout_s=60):
        """kill -9 of all proxies, their servers live; returns when all serve again."""
        for i in self.ids:
            self.kill(i)
        for i in self.ids:
            self.start_replica(i)
        for i in self.ids:
            wait_for(lambda j=i: self.serves(j), f"replica {i} to serve again", timeout_s)

    def restart_with(self, i, text):
        """End a replica, extend its configuration, start it, wait until it serves."""
        pid = self.kill(i, signal.SIGTERM)
        if i in self.by_hand:
            self.by_hand[i].wait(20)
        wait_for(lambda: not process_lives(pid), "drained")
        self.add_to_conf(i, text)
        self.start_replica(i)
        wait_for(lambda: self.serves(i), f"replica {i} to serve again", 30)

    def logs(self, last=40):
        text = ""
        for i in self.ids:
            with contextlib.suppress(OSError):
                with open(self.path(i, "muproxy.log"), errors="replace") as log:
                    lines = log.readlines()
                text += f"--- replica {i}'s log, its last lines\n" + "".join(lines[-last:])
        return text

    def print_logs(self):
        print(self.output())
        print(self.logs())

    # -- ports

    def redis_port(self, i):
        return self.redis_port0 + i - 1

    def memcached_port(self, i):
        return self.memcached_port0 + i - 1

    def admin(self, i):
        return f"127.0.0.1:{self.admin_port0 + i - 1}"

    def http(self, i, path, timeout=3 * PATIENCE):
        """(code, body) of a GET at a replica's admin port; (0, why) if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{self.admin(i)}{path}", timeout=timeout) as r:
                return r.status, r.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def status(self, i):
        code, body = self.http(i, "/status")
        return json.loads(body) if code == 200 else None

    @staticmethod
    def seen(status, i):
        """What a status says of replica i; {} if it is neither a member nor waits to be one."""
        return next((r for r in status["replicas"] if r["id"] == i), {})

    def serves(self, i):
        return self.http(i, "/healthz")[0] == 200

    def leader(self, ask=None):
        """The leader's id as the replica `ask` (or any) sees it, if it is alive; else None."""
        for i in [ask] if ask else self.ids:
            status = self.status(i)
            if status and status["leader"]:
                if self.seen(status, status["leader"]).get("role") == "leader":
                    return status["leader"]
        return None

    def wait_leader(self, other_than=None, ask=None, deadline_s=20):
        return wait_for(
            lambda: (lambda x: x if x and x != other_than else None)(self.leader(ask)),
            "a leader", deadline_s)

    def wait_level(self, ids=None, deadline_s=30):
        """Wait until these replicas serve and have applied all that is committed."""
        ids = list(ids or self.ids)

        def level():
            for i in ids:
                status = self.status(i)
                if not status or not status["serving"]:
                    return False
                if any(self.seen(status, j).get("lag_bytes", 1) for j in ids):
                    return False
            return True
        wait_for(level, f"replicas {ids} to be level", deadline_s)

    # -- clients

    def redis(self, i, timeout=10):
        return RawRedis(("127.0.0.1", self.redis_port(i)), timeout)

    def memcached(self, i, timeout=10):
        return RawMemcached(("127.0.0.1", self.memcached_port(i)), timeout)

    def redis_backend(self, i, timeout=10):
        return RawRedis(self.path(i, "redis.sock"), timeout)

    def memcached_backend(self, i):
        return RawMemcached(self.path(i, "memcached.sock"))

    def redis_contents(self, i, databases=16):
        """Everything in a backend that clients could see: {(db, key): (type, value)}."""
        contents = {}
        with self.redis_backend(i) as backend:
            for db in range(databases):
                assert backend.call("SELECT", str(db)) == b"OK"
                for key in backend.call("KEYS", "*"):
                    contents[db, key] = (
                        backend.call("DUMP", key), backend.call("PEXPIRETIME", key))
        return contents


class ServerError(Exception):
    """An error reply: the request was answered, the answer is no."""


class Disconnected(Exception):
    pass


def follower(group):
    """The first replica that does not lead."""
    leader = group.wait_leader()
    return next(i for i in group.ids if i != leader)


def where(group, which):
    """A replica that is what `which` says: "leader" or "follower"."""
    return group.wait_leader() if which == "leader" else follower(group)


class RawClient:
    """One connection, for ever: that it breaks is for the test to see."""

    def __init__(self, address, timeout=10):
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(timeout * PATIENCE)
        self.socket.connect(address)
        if family == socket.AF_INET:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Disconnected(str(error)) from None

    def _fill(self):
        try:
            data = self.socket.recv(1 << 18)
        except ConnectionResetError as error:
            raise Disconnected(str(error)) from None
        if not data:
            raise Disconnected("closed by the server")
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self._fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def exactly(self, count):
        if len(self.buffer) < count:
            parts, have = [self.buffer], len(self.buffer)
            while have < count:
                self.buffer = b""
                self._fill()
                parts.append(self.buffer)
                have += len(self.buffer)
            self.buffer = b"".join(parts)
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def closed_by_server(self):
        """Read to the end; true if the server ends the connection within the timeout."""
        return self.rest() is not None

    def rest(self):
        """All that comes until the server ends the connection; None: it does not in time."""
        parts = [self.buffer]
        try:
            while True:
                self.buffer = b""
                self._fill()
                parts.append(self.buffer)
        except Disconnected:
            return b"".join(parts)
        except socket.timeout:
            return None


def encode(*arguments):
    """A Redis request in wire form."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        if isinstance(argument, str):
            argument = argument.encode()
        elif isinstance(argument, int):
            argument = b"%d" % argument
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


class RawRedis(RawClient):
    def reply(self):
        """The next reply. An error is returned as a ServerError, not raised."""
        line = self.line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind == b"-":
            return ServerError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            if int(rest) < 0:
                return None
            return self.exactly(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if int(rest) < 0 else [self.reply() for _ in range(int(rest))]
        raise AssertionError(f"no RESP2: {line[:80]!r}")

    def call(self, *arguments):
        """One request, its reply; an error reply is raised."""
        self.send(encode(*arguments))
        reply = self.reply()
        if isinstance(reply, ServerError):
            raise reply
        return reply

    def pipeline(self, requests):
        self.send(b"".join(encode(*request) for request in requests))
        return [self.reply() for _ in requests]


class RawMemcached(RawClient):
    def command(self, line, value=None):
        """A command that is answered with one line."""
        data = line.encode() if isinstance(line, str) else line
        self.send(data + b"\r\n" + (value + b"\r\n" if value is not None else b""))
        return self.line()

    def set(self, key, value, flags=0, exptime=0):
        return self.command(f"set {key} {flags} {exptime} {len(value)}", value)

    def _item(self, verb, key):
        """(value, the other words of its line), or (None, [])"""
        self.send(f"{verb} {key}\r\n".encode())
        line = self.line()
        if line == b"END":
            return None, []
        if not line.startswith(b"VALUE "):
            raise ServerError(line.decode(errors="replace"))
        words = line.split()[2:]
        value = self.exactly(int(words[1]) + 2)[:-2]
        assert self.line() == b"END"
        return value, words

    def get(self, key, verb="get"):
        """The value, or None."""
        return self._item(verb, key)[0]

    def gets(self, key):
        """(value, token), or (None, None)"""
        value, words = self._item("gets", key)
        return value, words[2].decode() if words else None


class Load(threading.Thread):
    """One client that writes and waits for each answer, and keeps book.

    Two kinds of writes in turn: INCR of a counter of its own, of which every
    acknowledged one must be there exactly once, and SET of a fresh key, or of one of
    `distinct` in turn.
    """

    def __init__(self, group, replica, name, distinct=None):
        super().__init__(daemon=True)
        self.distinct = distinct
        self.group, self.replica, self.label = group, replica, name
        self.counter = f"counter:{name}"
        self.increments = 0  # acknowledged
        self.last_value = 0
        self.sets = 0  # acknowledged
        self.errors = []  # error replies
        self.in_doubt = 0  # sent, and the connection broke before the answer
        self.broken = None
        self.longest_gap = 0.0  # seconds between two answers
        self.stopping = False

    def key(self, number):
        return f"key:{self.label}:{number % self.distinct if self.distinct else number}"

    def run(self):
        try:
            with self.group.redis(self.replica, timeout=20) as client:
                self._run(client)
        except (Disconnected, OSError) as error:
            self.broken = str(error) or type(error).__name__
            self.in_doubt += 1

    def _run(self, client):
        last = time.monotonic()
        turn = 0
        while not self.stopping:
            turn += 1
            try:
                if turn % 2:
                    value = client.call("INCR", self.counter)
                    self.increments += 1
                    assert value > self.last_value, (value, self.last_value)
                    self.last_value = value
                else:
                    client.call("SET", self.key(self.sets), f"{self.label}:{self.sets}")
                    self.sets += 1
            except ServerError as error:
                self.errors.append(str(error))
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - last)
            last = now

    def stop(self):
        self.stopping = True
        self.join(30 * PATIENCE)
        assert not self.is_alive(), f"{self.label}: a request was never answered"

    def check(self, client):
        """Every acknowledged write is there, and nothing twice. client: any replica's."""
        value = int(client.call("GET", self.counter) or 0)
        slack = self.in_doubt + len(self.errors)
        assert self.increments <= value <= self.increments + slack, (
            f"{self.label}: {self.increments} increments acknowledged, the counter says {value}; "
            f"in doubt {self.in_doubt}, errors {self.errors[:3]}")
        lost = []
        oldest = max(0, self.sets - self.distinct) if self.distinct else 0
        for first in range(oldest, self.sets, 500):
            keys = [self.key(n) for n in range(first, min(first + 500, self.sets))]
            for n, got in enumerate(client.call("MGET", *keys), first):
                # One that is in doubt may have come to pass in the oldest one's place.
                may_be = {n, self.sets} if slack and self.key(n) == self.key(self.sets) else {n}
                if got not in {f"{self.label}:{one}".encode() for one in may_be}:
                    lost.append((self.key(n), got))
        assert not lost, f"{len(lost)} acknowledged writes lost, first: {lost[:3]}"


def refuses_users(group, i, directory, text, why):
    """The configuration of replica i, with an auth-file of this text (None: that is not there)."""
    users, conf = directory / "users", directory / "conf"
    if text is not None:
        users.write_text(text)
    with open(group.conf(i)) as file:
        lines = [line for line in file if not line.startswith("auth-file")]
    conf.write_text("".join(lines) + f"auth-file = {users}\n")
    run = subprocess.run([MUPROXY, "--check-config", conf], capture_output=True, text=True,
                         timeout=20 * PATIENCE, check=False)
    assert run.returncode == 2 and why in run.stderr and run.stderr.count("\n") == 1, run.stderr
    assert f"{conf}:{len(lines) + 1}: auth-file: {users}: " in run.stderr
