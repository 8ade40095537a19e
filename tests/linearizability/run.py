"""A group under faults, clients of all its replicas, and the verdict on what they saw."""

import contextlib
import random
import time

from clients import Book, Client, describe
from harness import thread_id, wait_for
from nemesis import Nemesis, stopped_thread
from objects import KINDS


class Violation(AssertionError):
    pass


class Run:
    """Use as a context: the clients run within it; finish() judges what is left."""

    def __init__(self, group, seed, client_timeout_s=2.0, say=print, only_reads=(),
                 protocols=("redis", "memcached")):
        """only_reads: replicas at which clients change nothing."""
        self.group, self.say = group, say
        self.choose = random.Random(seed)
        self.nemesis = Nemesis(group, self.choose)
        self.book = Book(f"lin:{seed}:")
        self.clients = [
            Client(group, self.book, replica, kind, self.choose.random(), client_timeout_s, think_s,
                   replica in only_reads)
            for replica in group.ids for kind in range(len(KINDS)) for think_s in (0, 1.0)
            if KINDS[kind].protocol in protocols]

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(AssertionError):
            self._stop()
        self.book.close()
        self.nemesis.servers.close()

    def lead_unawares(self, leader):
        """Its background thread stands still while others take over and go on.

        Nobody writes meanwhile: a write would be denied, and tell the leader. Clients
        that only read there may go on all the time: nothing but a fence tells it.
        """
        writers = [client for client in self.clients if not client.only_reads]
        tid = thread_id(self.group.read_pid(leader), "mu-background")
        for client in writers:
            client.go.clear()
        wait_for(lambda: not any(client.busy for client in writers), "writers to pause")
        with stopped_thread(tid):
            asked = next(i for i in self.group.ids if i != leader)
            self.group.wait_leader(other_than=leader, ask=asked)
            goal = self.book.written + 200
            for client in writers:
                client.go.set()
            wait_for(lambda: self.book.written > goal, "writes under the next leader")
            time.sleep(1)  # for reads
        self.nemesis.whole()

    def _stop(self):
        for client in self.clients:
            client.go.set()
            client.stopping = True
        for client in self.clients:
            client.join(60)
            assert not client.is_alive(), f"a {client.name} never ended"

    def faults(self, until_s, names=None, pause_s=0.5):
        """Fault after fault until then (monotonic seconds), with a pause of work between."""
        while time.monotonic() < until_s:
            time.sleep(self.choose.uniform(0, pause_s))
            began = time.monotonic()
            name = self.nemesis.one(names)
            self.say(f"{name}: whole again after {time.monotonic() - began:.1f} s")
            self.judge()

    def judge(self, all_of_it=False):
        self.book.collect(all_of_it)
        if self.book.failures:
            key, failure = self.book.failures[0]
            raise Violation(describe(key, failure))

    def finish(self):
        """Ends the clients, judges all that is left; returns what was seen, in a line."""
        self._stop()
        self.judge(all_of_it=True)
        book = self.book
        return (f"{book.operations} operations on {book.keys} keys, {book.unknown} of them of "
                f"unknown outcome: linearizable; faults: " +
                ", ".join(f"{name} {count}" for name, count in sorted(self.nemesis.done.items())))


def without_fences(group):
    """Restarts all with reads that don't wait for a fence."""
    for i in group.ids:
        group.kill(i)
    for i in group.ids:
        group.start_replica(i, arguments=["--test-unfenced-reads"])
    group.wait_level()
