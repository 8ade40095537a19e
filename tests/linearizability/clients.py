"""Concurrent clients, and the histories of the keys that they use."""

import concurrent.futures
import itertools
import multiprocessing
import random
import threading
import time

import wgl
from harness import Disconnected, ServerError
from objects import KINDS
from wgl import NOTHING, UNKNOWN, Operation

KEYS = 3  # of each kind at a time: few, so that clients meet
# A key is left for a fresh one then: the search takes longer with either.
MOST_OPERATIONS, MOST_UNKNOWN = 300, 7
numbers = itertools.count(1)
FAILURES = (ServerError, Disconnected, OSError)


class History:
    """What was seen of one key."""

    def __init__(self, kind, key):
        self.kind, self.key = kind, key
        self.lock = threading.Lock()
        self.operations = []
        self.unknown = 0
        self.users = 0  # clients that are at it

    def add(self, operation):
        with self.lock:
            self.operations.append(operation)
            self.unknown += operation.result is UNKNOWN


def judge(kind, key, operations):
    """(key, None), or the shortest failure. In a process of its own: the search is busy."""
    model = KINDS[kind].model
    if wgl.is_linearizable(operations, model):
        return key, None
    return key, wgl.shortest_failure(operations, model)


class Book:
    """All histories: those being made, and those handed to the judge."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.lock = threading.Lock()
        self.made = 0
        self.current = {kind: [self._fresh(kind) for _ in range(KEYS)]
                        for kind in range(len(KINDS))}
        self.leaving = []  # full, but somebody may still be at it
        self.operations = self.unknown = self.keys = 0
        self.written = 0  # roughly
        # Not forked: there are threads here that hold locks.
        self.judges = concurrent.futures.ProcessPoolExecutor(
            1, multiprocessing.get_context("spawn"))
        self.verdicts = []
        self.failures = []  # (key, its shortest failure)

    def _fresh(self, kind):
        self.made += 1
        return History(kind, f"{self.prefix}{self.made}")

    def take(self, kind, choose):
        """A key to do something to; to be given back."""
        with self.lock:
            place = choose.randrange(KEYS)
            history = self.current[kind][place]
            if len(history.operations) >= MOST_OPERATIONS or history.unknown >= MOST_UNKNOWN:
                self.leaving.append(history)
                history = self.current[kind][place] = self._fresh(kind)
            history.users += 1
            return history

    def give_back(self, history):
        with self.lock:
            history.users -= 1

    def collect(self, all_of_it=False):
        """Hands over to the judge what is complete, and takes its verdicts."""
        with self.lock:
            if all_of_it:
                self.leaving += [h for place in self.current.values() for h in place]
                self.current = None
            ready = [history for history in self.leaving if not history.users]
            self.leaving = [history for history in self.leaving if history.users]
        for history in ready:
            self.keys += 1
            self.operations += len(history.operations)
            self.unknown += history.unknown
            self.verdicts.append(self.judges.submit(
                judge, history.kind, history.key, history.operations))
        waiting = []
        for verdict in self.verdicts:
            if not all_of_it and not verdict.done():
                waiting.append(verdict)
                continue
            key, failure = verdict.result()
            if failure:
                self.failures.append((key, failure))
        self.verdicts = waiting

    def close(self):
        self.judges.shutdown(cancel_futures=True)


class Client(threading.Thread):
    """One client at one replica: one operation after the other; after a failure, a new connection.

    One who thinks for a while between two of them may ask, over a connection that it
    has, a leader that was stopped meanwhile, and deposed: nobody else does.
    """

    def __init__(self, group, book, replica, kind, seed, timeout_s, think_s=0.0,
                 only_reads=False):
        super().__init__(daemon=True, name=f"replica {replica}'s {next(numbers)}")
        self.think_s, self.only_reads = think_s, only_reads
        self.group, self.book, self.replica, self.kind = group, book, replica, kind
        self.choose = random.Random(seed)
        self.timeout_s = timeout_s
        self.connections = 0
        self.stopping = False
        self.go = threading.Event()  # cleared: it pauses, once it is no longer busy
        self.go.set()
        self.busy = False

    def run(self):
        connect = getattr(self.group, KINDS[self.kind].protocol)
        while not self.stopping:
            try:
                with connect(self.replica, timeout=self.timeout_s) as connection:
                    self.connections += 1
                    while not self.stopping:
                        if self.think_s:
                            time.sleep(self.choose.uniform(0, self.think_s))
                        self.busy = True
                        if self.go.is_set():
                            self._one(connection)
                        self.busy = False
                        self.go.wait()
            except FAILURES:
                self.busy = False
                time.sleep(0.02)  # nobody listens: no need to ask a thousand times a second

    def _one(self, connection):
        history = self.book.take(self.kind, self.choose)
        kind = KINDS[self.kind]

        def do(name, arguments, ask):
            sent_ns = time.monotonic_ns()
            try:
                result = ask()
            except FAILURES:
                if name not in kind.reads:
                    history.add(wgl.unknown(self.name, name, arguments, sent_ns))
                raise
            if result is not NOTHING:
                history.add(Operation(self.name, name, arguments, result, sent_ns,
                                      time.monotonic_ns()))
            self.book.written += name not in kind.reads
            return result

        try:
            if self.only_reads:
                kind.read(do, connection, history.key)
            else:
                kind.act(self.choose, do, connection, history.key)
        finally:
            self.book.give_back(history)


def describe(key, failure):
    """A history for people to read: times in microseconds since its beginning."""
    first = min(operation.sent_ns for operation in failure)

    def at(ns):
        return f"{(ns - first) / 1000:12.0f}" if ns != float("inf") else "           ?"
    lines = [f"{key}: no order explains these {len(failure)} operations, the last ones of which are"]
    for o in failure[-40:]:
        arguments = ", ".join(map(str, o.arguments))
        result = "?" if o.result is UNKNOWN else o.result
        lines.append(f"  {at(o.sent_ns)} {at(o.answered_ns)} us  {o.client:>16}  "
                     f"{o.name}({arguments}) -> {result}")
    return "\n".join(lines)
