"""Groups whose members change: replicas that are started with `join`, and muctl's words."""

import contextlib
import os
import re
import signal
import subprocess

from harness import MUCTL, PATIENCE, Group, process_lives, wait_for
from heal import Processes, Servers, fill_bulk


class Memcacheds(Processes):
    pid_file = "memcached.pid"

    def start(self, i):
        with open(self.group.path(i, "muproxy.log"), "ab") as log:
            return self.started(i, subprocess.Popen(
                ["memcached", "-s", self.group.path(i, "memcached.sock"), "-a", "700", "-U", "0",
                 "-t", "1", "-m", "256", "-R", "1000", *(["-u", "root"] if not os.getuid() else [])],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log))


def address(group, i):
    """Where replica i meets the others."""
    return f"127.0.0.1:{group.redis_port0 + 30 + i - 1}"


def muctl(group, i, *arguments, deadline_s=120):
    return subprocess.run([MUCTL, "--admin", group.admin(i), *arguments], capture_output=True,
                          text=True, timeout=deadline_s * PATIENCE, check=False)


@contextlib.contextmanager
def muctl_begin(group, ids, *arguments):
    """Told where to ask, one or several; and go on while it runs."""
    admins = [word for i in ids for word in ("--admin", group.admin(i))]
    with subprocess.Popen([MUCTL, *admins, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


class Changing(Group):
    """A group whose `ids` are its members' as the test knows them."""

    def __init__(self, **arguments):
        super().__init__(may_change=True, **arguments)
        self.ids = list(self.ids)
        self.began_with = list(self.ids)
        self.redises, self.memcacheds = Servers(self), Memcacheds(self)

    def newcomer(self, i, asks=None, settings=""):
        """Start a replica, and servers for it, that knows no more than the address of one."""
        asks = asks or next(iter(self.ids))
        os.makedirs(self.path(i, ""))
        with open(self.conf(self.began_with[0])) as file:
            text = file.read()
        first = self.began_with[0]
        text = re.sub(r"\[member \d\]\naddress = .*\n", "", text)
        text = text.replace(f"replica-{first}/", f"replica-{i}/")
        text = text.replace(f"\nid = {first}\n", f"\nid = {i}\njoin = {address(self, asks)}\n")
        for port in (self.redis_port, self.memcached_port):
            text = text.replace(f"listen = 127.0.0.1:{port(first)}\n",
                                f"listen = 127.0.0.1:{port(i)}\n")
        text = text.replace(f"listen = {self.admin(first)}\n", f"listen = {self.admin(i)}\n")
        with open(self.conf(i), "w") as file:
            file.write(text + f"\n[member {i}]\naddress = {address(self, i)}\n" + settings)
        self.redises.start(i)
        self.memcacheds.start(i)
        self.start_replica(i)

    def add(self, i, **arguments):
        """Start it, and make it a member; returns what muctl says."""
        self.newcomer(i, **arguments)
        leader = self.wait_waiting(i)
        done = muctl(self, leader, "add", address(self, i))
        assert done.returncode == 0, done
        self.ids.append(i)
        return done.stdout

    def wait_waiting(self, i, deadline_s=60):
        """Wait until whoever leads knows of that replica, and could add it; returns the leader."""
        def leader():
            assert self.by_hand[i].poll() is None, f"replica {i} has ended"
            leader = self.leader()
            status = self.status(leader) if leader else None
            return leader if status and self.seen(status, i).get("alive") else None
        return wait_for(leader, f"replica {i} to be known to the leader", deadline_s)

    def remove(self, i):
        """Take it out of the group; wait for its process to end."""
        leader, pid = self.wait_leader(), self.read_pid(i)
        done = muctl(self, leader, "remove", str(i))
        assert done.returncode == 0, done
        self.ids.remove(i)
        self.wait_gone(i, pid)
        return done.stdout

    def wait_gone(self, i, pid):
        if i in self.by_hand:
            assert self.by_hand[i].wait(30 * PATIENCE) == 0
        wait_for(lambda: not process_lives(pid), f"replica {i} to end", 30)

    def logs(self, last=40):
        """Of those that are no members, too."""
        members, self.ids = self.ids, sorted({*self.began_with, *self.by_hand, *self.ids})
        try:
            return super().logs(last)
        finally:
            self.ids = members

    def members(self, i):
        """The members' ids as replica i sees them; None if it does not answer."""
        status = self.status(i)
        return status and [r["id"] for r in status["replicas"] if r["member"]]

    def wait_members(self):
        wait_for(lambda: all(self.members(i) == sorted(self.ids) for i in self.ids),
                 f"all of {self.ids} to agree who they are", 30)

    def close(self):
        for i, process in self.by_hand.items():
            if i not in self.began_with and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(20 * PATIENCE)
        self.redises.close()
        self.memcacheds.close()
        super().close()


def changing(fabric="tcp"):
    """A group with a ring so small that who joins must be given another one's state."""
    with Changing(ring_size="1M", fabric=fabric) as group:
        group.wait_ready()
        fill_bulk(group, 2)
        for i in group.ids:
            # A server that gives its state waits for others to ask as well: for 5 s, by default.
            with group.redis_backend(i) as backend:
                backend.call("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        yield group
        group.print_logs()
