"""What goes wrong while clients are at work: one thing at a time, put right again."""

import contextlib
import ctypes
import os
import signal
import time

from harness import process_lives, thread_id, wait_for
from heal import Servers

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WAIT_ALL = 0x40000000  # __WALL: threads, too


@contextlib.contextmanager
def stopped_thread(tid):
    """One thread stands still while its process runs on: as if it got no processor."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]

    def request(what):
        if ptrace(what, tid, None, None) < 0:
            raise OSError(ctypes.get_errno(), f"ptrace of {tid}")
    request(PTRACE_SEIZE)
    try:
        request(PTRACE_INTERRUPT)
        os.waitpid(tid, WAIT_ALL)
        yield
    finally:
        request(PTRACE_DETACH)


class Nemesis:
    """Each fault is a method that breaks something, waits, and mends it."""

    def __init__(self, group, choose):
        self.group, self.choose = group, choose
        self.done = {}  # fault -> how often
        self.servers = Servers(group)

    def one(self, names=None):
        """A fault of those named, or of all there are here; returns its name."""
        name = self.choose.choice(names or self.names())
        getattr(self, name)()
        self.done[name] = self.done.get(name, 0) + 1
        self.whole()
        return name

    def names(self):
        on_hosts = ["part_leader", "part_any", "deaf_leader", "mute_leader", "lossy"]
        # A server that is started here has no part in the namespaces of hosts.
        here = ["empty_redis", "empty_leaders_redis", "empty_replica"]
        return ["kill_leader", "kill_any", "kill_all", "stop_leader", "stop_any", "stop_two",
                "stop_data", "stop_background", "drain_any", "stop_backend"] + (
                    on_hosts if hasattr(self.group, "cut") else here)

    def whole(self):
        """Wait until the group is itself again."""
        for i in self.group.ids:
            wait_for(lambda j=i: self.group.serves(j), f"replica {i} to serve again", 60)
        self.group.wait_leader()

    def _some_time(self, least_s=0.1, most_s=2.0):
        """Not to wait for something: so long the fault lasts."""
        time.sleep(self.choose.uniform(least_s, most_s))

    def _leader(self):
        return self.group.wait_leader()

    def _any(self):
        return self.choose.choice(list(self.group.ids))

    def _restart(self, *ids):
        for i in ids:
            self.group.start_replica(i)

    def _killed(self, *ids):
        for i in ids:
            self.group.kill(i)
        self._some_time()
        self._restart(*ids)

    def kill_leader(self):
        self._killed(self._leader())

    def kill_any(self):
        self._killed(self._any())

    def kill_all(self):
        self._killed(*self.group.ids)

    def drain_any(self):
        i = self._any()
        pid = self.group.kill(i, signal.SIGTERM)
        if i in self.group.by_hand:
            self.group.by_hand[i].wait(30)
        wait_for(lambda: not process_lives(pid), f"replica {i} to drain", 30)
        self._some_time(0, 0.5)
        self._restart(i)

    @contextlib.contextmanager
    def _stopped(self, *victims):
        """victims: (replica, the name of a file with a process id)"""
        pids = []
        try:
            for i, name in victims:
                pids.append(self.group.kill(i, signal.SIGSTOP, name))
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def _stop(self, *ids, least_s=0.1, most_s=3.0):
        with self._stopped(*((i, "muproxy.pid") for i in ids)):
            self._some_time(least_s, most_s)

    def stop_leader(self):
        self._stop(self._leader())

    def stop_any(self):
        self._stop(self._any())

    def stop_two(self):
        self._stop(*self.choose.sample(list(self.group.ids), 2), most_s=1.0)

    def _stop_thread(self, name, most_s):
        with stopped_thread(thread_id(self.group.read_pid(self._leader()), name)):
            self._some_time(0.1, most_s)

    def stop_data(self):
        """The leader's heart beats, but it does nothing; awake again it is one who was deposed."""
        self._stop_thread("mu-data", 2.0)

    def stop_background(self):
        """The leader does not see that it is deposed until a fence or a write tells it."""
        self._stop_thread("mu-background", 2.0)

    def stop_backend(self):
        server = self.choose.choice(["redis", "memcached"])
        with self._stopped((self._any(), f"{server}.pid")):
            self._some_time()

    # -- servers that come back without what they held

    def empty_redis(self):
        self.servers.empty(self._any())

    def empty_leaders_redis(self):
        self.servers.empty(self._leader())

    def empty_replica(self):
        """Its proxy, too; that finds its log again, but the log may not reach back."""
        i = self._any()
        self.group.kill(i)
        self.servers.kill(i)
        self._some_time()
        self.servers.start_empty(i)
        self._restart(i)

    # -- faults of links, where each replica has a host of its own

    def _break(self, i, how, *arguments, least_s=0.1, most_s=2.0):
        try:
            how(i, *arguments)
            self._some_time(least_s, most_s)
        finally:
            self.group.heal(i)

    def part_leader(self):
        self._break(self._leader(), self.group.cut)

    def part_any(self):
        self._break(self._any(), self.group.cut)

    def deaf_leader(self):
        self._break(self._leader(), self.group.loss, 100, "to")

    def mute_leader(self):
        self._break(self._leader(), self.group.loss, 100, "from")

    def lossy(self):
        self._break(self._any(), self.group.loss, 5, least_s=1, most_s=3)
