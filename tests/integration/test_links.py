"""The links between replicas are cut, again and again, under load.

A follower that loses its link to a leader who goes on leading must find out
which of its clients' requests got through; they are neither lost nor executed
twice, and no client sees an error.
"""

import random
import select
import signal
import socket
import threading
import time

import pytest

from harness import FABRIC, process_lives, wait_for
from test_failures import backends_agree, check_loads, start_loads

CUTS = 60

# With other fabrics the relay's links are the peering's, and tests/unit/test_peering cuts those.
pytestmark = pytest.mark.skipif(FABRIC != "shm", reason="the links of fabric = shm")


class Wire(threading.Thread):
    """A unix socket whose connections go on to another one, until they are cut."""

    def __init__(self, path, to):
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(16)
        self.to = to
        self.other_end = {}
        self.cut_wanted = threading.Event()
        self.cuts = 0
        self.limit = None  # bytes that one end may send before it is read no more
        self.sent = {}
        self.stopping = False
        self.start()

    def run(self):
        while not self.stopping:
            if self.cut_wanted.is_set():
                self._cut()
            ends = [end for end in self.other_end if not self.is_full(end)]
            readable, _, _ = select.select([self.listener, *ends], [], [], 0.005)
            for end in readable:
                if end is self.listener:
                    self._accept()
                elif end in self.other_end:
                    self._pass_on(end)
        self._cut()
        self.listener.close()

    def is_full(self, end):
        return self.limit is not None and self.sent.get(end, 0) >= self.limit

    def any_full(self):
        return any(self.is_full(end) for end in list(self.other_end))

    def _accept(self):
        near, _ = self.listener.accept()
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(self.to)
        except OSError:
            near.close()
            far.close()
            return
        self.other_end[near], self.other_end[far] = far, near

    def _pass_on(self, end, most=65536):
        try:
            data = end.recv(most, socket.MSG_DONTWAIT)
            self.other_end[end].sendall(data)
            self.sent[end] = self.sent.get(end, 0) + len(data)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(end)

    def _drop(self, end):
        other = self.other_end.pop(end)
        del self.other_end[other]
        for gone in (end, other):
            self.sent.pop(gone, None)
        end.close()
        other.close()

    def _cut(self):
        """Anywhere: some of what is on its way still arrives, in the middle of a frame too."""
        for end in list(self.other_end):
            if end in self.other_end:
                self._pass_on(end, random.randrange(1, 4096))
        while self.other_end:
            self._drop(next(iter(self.other_end)))
            self.cuts += 1
        self.cut_wanted.clear()


def put_wires_in(group, make=Wire):
    """Every replica reaches the others over wires of its own from now on."""
    wires = {}
    for i in group.ids:
        pid = group.kill(i, signal.SIGTERM)
        wait_for(lambda: not process_lives(pid), "drained")
        with open(group.conf(i)) as file:
            conf = file.read()
        for j in group.ids:
            if i == j:
                continue
            path, to = group.path(i, f"to-{j}.sock"), group.path(j, "peer.sock")
            wires[i, j] = make(path, to)
            assert f"[member {j}]\npeer = unix:{to}\n" in conf
            conf = conf.replace(f"[member {j}]\npeer = unix:{to}\n",
                                f"[member {j}]\npeer = unix:{path}\n")
        with open(group.conf(i), "w") as file:
            file.write(conf)
        group.start_replica(i)
        wait_for(lambda i=i: group.serves(i), f"replica {i} to serve again", 30)
    return wires


def test_cut_links_lose_nothing(group):
    wires = put_wires_in(group)
    loads = start_loads(group)
    try:
        for _ in range(CUTS):
            wanted = [wire for wire in wires.values() if random.random() < 0.5]
            for wire in wanted:
                wire.cut_wanted.set()
            before = [(load, load.sets) for load in loads]
            wait_for(lambda: all(load.sets > sets for load, sets in before),
                     "every client to get on")
            time.sleep(random.random() / 50)
        cuts = sum(wire.cuts for wire in wires.values())
        print(f"{cuts} connections cut")
        assert cuts > CUTS // 2
        check_loads(group, loads)
        backends_agree(group)
    finally:
        for wire in wires.values():
            wire.stopping = True
