"""stats, all of them, asked for without a pause while leaders die: each answer is whole and is the
one that was asked for, or the client is told that there is none."""

import threading

import pytest

from harness import Disconnected, Group, wait_for

# What is asked for, and how the last line of its answer begins; the others are STATs.
ASKED = {
    b"stats": b"END", b"stats items": b"END", b"stats slabs": b"END", b"stats sizes": b"END",
    b"stats conns": b"END", b"stats settings": b"END", b"stats muproxy": b"END",
    b"stats detail on": b"OK", b"stats detail off": b"OK", b"stats nonsense": b"",
    b"version": b"VERSION 1.",
}
OF_EACH = {b"stats": b"STAT curr_connections ", b"stats settings": b"STAT maxbytes ",
           b"stats muproxy": b"STAT replica "}


class Asker(threading.Thread):
    def __init__(self, group, replica):
        super().__init__(daemon=True)
        self.group, self.replica = group, replica
        self.answered = 0
        self.wrong = []
        self.stopping = False

    def run(self):
        while not self.stopping:
            try:
                # A leader is found in far less: who waits as long has been forgotten.
                with self.group.memcached(self.replica, timeout=20) as client:
                    while not self.stopping:
                        for request, end in ASKED.items():
                            self.ask(client, request, end)
            except TimeoutError as error:
                self.wrong.append((self.replica, "never answered", error))
                return
            except (Disconnected, OSError):
                pass

    def ask(self, client, request, end):
        client.send(request + b"\r\n")
        lines = [client.line()]
        while lines[-1].startswith((b"STAT ", b"ITEM ", b"PREFIX ")):
            lines.append(client.line())
        if lines[-1].startswith(b"SERVER_ERROR muproxy"):
            return
        expected = OF_EACH.get(request, b"")
        if not lines[-1].startswith(end) or \
                not any(line.startswith(expected) for line in lines):
            self.wrong.append((self.replica, request, lines[-3:]))
        self.answered += 1


@pytest.fixture
def group():
    with Group(ring_size="4M") as group:
        yield group.wait_ready()
        group.print_logs()


def test_stats_while_leaders_die(group):
    askers = [Asker(group, i) for i in group.ids]
    for asker in askers:
        asker.start()
    for _ in range(3):
        leader = group.wait_leader()
        group.kill(leader)
        group.wait_leader(other_than=leader, ask=leader % 3 + 1)
        alive = [asker for asker in askers if asker.replica != leader]
        was = [asker.answered for asker in alive]
        wait_for(lambda: all(a.wrong or a.answered > n + 50 for a, n in zip(alive, was)),
                 "the others' clients to be answered", 60)
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "the killed replica to serve again", 60)
    for asker in askers:
        asker.stopping = True
        asker.join(30)
    assert not [asker.wrong[:3] for asker in askers if asker.wrong]
