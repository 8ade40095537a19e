"""A group on several hosts: scripts/netns-group, seen by the tests as a harness.Group."""

import contextlib
import ctypes
import os
import subprocess
import tempfile
import threading
import urllib.error
import urllib.request

from harness import BUILD, MUPROXY, PATIENCE, TOP, Group, RawMemcached, RawRedis, wait_for

SCRIPT = os.path.join(TOP, "scripts", "netns-group")
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def why_not():
    """Why there can be no namespaces here; None: there can, or must, as in CI."""
    if os.environ.get("NETNS_REQUIRED") == "yes":
        return None
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"mu-probe-{os.getpid()}"  # others may ask at the same time
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode:
        return "ip netns add does not work here"
    subprocess.run(["ip", "netns", "del", probe])
    return None


class Hosts(Group):
    """Replicas at 10.93.0.i; links that can be cut, delayed, made to lose packets."""

    def __init__(self, timing=""):
        self.replicas = 3
        self.ids = range(1, 4)
        self.by_hand = {}
        self.name = f"t{os.getpid() % 1000000}"
        self._temporary = tempfile.TemporaryDirectory(prefix="muproxy-it-", dir="/tmp")
        self.dir = os.path.join(self._temporary.name, "g")
        self.said = ""
        self._script("start")
        if timing:
            for i in self.ids:
                self.restart_with(i, timing)

    def _script(self, *arguments):
        done = subprocess.run(
            [SCRIPT, "--build", BUILD, "--dir", self.dir, "--name", self.name,
             "--join", "switch", *map(str, arguments)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=120 * PATIENCE)
        self.said += done.stdout.decode()
        if done.returncode:
            logs = self.logs()
            if arguments[0] == "start":
                self._script("stop")
            raise AssertionError(f"netns-group {arguments}: {done.stdout.decode()}\n{logs}")

    def output(self):
        return self.said

    def wait_ready(self, deadline_s=60):
        return self

    def close(self):
        try:
            self._script("stop")
            for process in self.by_hand.values():
                process.wait(10)
        finally:
            self._temporary.cleanup()

    def path(self, i, name):
        return os.path.join(self.dir, str(i), name)

    def start_replica(self, i, environment=None, arguments=()):
        with open(self.path(i, "muproxy.log"), "ab") as log:
            self.by_hand[i] = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.name}-{i}", MUPROXY, "-c", self.conf(i),
                 *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        return self.by_hand[i]

    # -- the network

    def cut(self, i):
        self._script("cut", i)

    def heal(self, i):
        self._script("heal", i)

    def delay(self, i, ms, *way):
        self._script("delay", i, ms, *way)

    def loss(self, i, percent, *way):
        self._script("loss", i, percent, *way)

    # -- clients, each on the host of the replica that it talks to

    @contextlib.contextmanager
    def at(self, i):
        """This thread is in replica i's namespace; sockets stay where they were made."""
        home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}-{i}", os.O_RDONLY)
        try:
            if libc.setns(there, CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            yield
        finally:
            libc.setns(home, CLONE_NEWNET)
            os.close(home)
            os.close(there)

    def redis(self, i, timeout=10):
        with self.at(i):
            return RawRedis(("127.0.0.1", 6380), timeout)

    def memcached(self, i, timeout=10):
        with self.at(i):
            return RawMemcached(("127.0.0.1", 11212), timeout)

    def http(self, i, path, timeout=3 * PATIENCE):
        with self.at(i):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:7300{path}", timeout=timeout) as r:
                    return r.status, r.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()
            except OSError as error:
                return 0, str(error)

    def wait_rejoined(self, i, deadline_s=30):
        wait_for(lambda: self.serves(i), f"replica {i} to serve again", deadline_s)
