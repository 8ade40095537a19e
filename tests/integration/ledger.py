"""Clients that know what every reply must be, so that nothing can be done twice, or lost, unseen.

Each has objects of its own (ledger_redis.py, ledger_memcached.py) that nobody else
touches, and a state of them that its next reply must follow from. A request in doubt
(the connection broke, or the answer was an error) leaves several states possible; what
is read next tells which it was, and must be one of them.
"""

import collections
import random
import threading
import time

from harness import PATIENCE, Disconnected, ServerError, WaitedInVain, wait_for

UNKNOWN = object()  # the reply of a request that was executed, or is taken to have been

# What to send, how to read the answer, and what state follows: then(state, reply),
# which raises Wrong if that reply cannot be. mute: there is no reply to it, so that it
# may have failed for all that can be told (a leader was missing for too long).
Op = collections.namedtuple("Op", "wire read then mute", defaults=[False])


class Wrong(Exception):
    """Something was executed twice, or not at all, or answered with what is not so."""


def must(condition, *what):
    if not condition:
        raise Wrong(*what)


class Thing:
    """An object of one client. States are immutable.

    next(choose) -> Op; read(client) -> what is there; resolve(state, actual) -> the
    state if that is what it looks like, else None.
    """

    state = 0
    alone = False  # its requests cannot be pipelined: the next depends on the last reply

    def __init__(self, key):
        self.key = key

    def resolve(self, state, actual):
        return state if state == actual else None


class Board:
    """What all clients have to know of the group."""

    def __init__(self):
        self.killed = None  # connections to it may break
        self.away = None    # no use to connect to it


class Client(threading.Thread):
    """One client at `home`, at another replica while that is away."""

    def __init__(self, group, board, home, label, connect, things, depth, seed):
        super().__init__(daemon=True, name=f"{label} at {home}")
        self.group, self.board, self.home, self.depth = group, board, home, depth
        self.connect = connect
        self.things = [make(f"{label}:{home}:{n}") for n, make in enumerate(things)]
        self.states = [[thing.state for thing in self.things]]  # those that are possible
        self.doubtful = []  # (thing, op) of which no answer has come
        self.choose = random.Random(seed)
        self.requests = 0  # answered
        self.settled = 0   # times that something in doubt was looked up
        self.errors = []   # at a survivor: (replica, what)
        self.errors_at_killed = []
        self.wrong = None
        self.stopping = False

    # -- one client's life

    def _where(self):
        if self.board.away != self.home:
            return self.home
        others = [i for i in self.group.ids if i != self.home]
        return others[hash(self.name) % len(others)]

    def run(self):
        try:
            while not self.stopping:
                replica = self._where()
                try:
                    with self.connect(self.group, replica) as connection:
                        self._use(connection, replica)
                except (Disconnected, OSError) as error:
                    self._failed(replica, repr(error))
                    time.sleep(0.005)  # nobody listens: no need to ask a thousand times a second
        except Wrong as wrong:
            self.wrong = wrong

    def _use(self, connection, replica):
        self._settle(connection)
        while not self.stopping and self._where() == replica:
            self._batch(connection, replica)

    def _failed(self, replica, what):
        at = self.errors_at_killed if replica == self.board.killed else self.errors
        at.append((replica, what))

    def _batch(self, connection, replica):
        self.doubtful = self._choose()
        connection.send(b"".join(op.wire for _, op in self.doubtful))
        while self.doubtful:
            n, op = self.doubtful[0]
            reply = op.read(connection)
            if isinstance(reply, ServerError):
                self._failed(replica, f"{op.wire[:40]!r}: {reply}")
                self.states += self._after(self.states, n, op, UNKNOWN)
            else:
                before = self.states if op.mute else []
                self.states = before + self._after(self.states, n, op, reply)
            self.doubtful.pop(0)
            self.requests += 1

    def _choose(self):
        n = self.choose.randrange(len(self.things))
        if self.things[n].alone:
            return [(n, self.things[n].next(self.choose))]
        able = [m for m, thing in enumerate(self.things) if not thing.alone]
        chosen = self.choose.choices(able, k=self.choose.randint(1, self.depth))
        return [(m, self.things[m].next(self.choose)) for m in chosen]

    def _after(self, states, n, op, reply):
        """The states that such an answer may lead to, from any of these; Wrong if from none."""
        after, wrong = [], None
        for state in states:
            try:
                mine = op.then(state[n], reply)
            except Wrong as w:
                wrong = wrong or w
                continue
            after.append(state[:n] + [mine] + state[n + 1:])
        if not after:
            raise Wrong(self.name, self.things[n].key, op.wire[:80], *wrong.args)
        return after

    # -- what became of what is in doubt

    def _possible(self):
        """A session's requests are executed in order: so many of them, or more, or all."""
        states = possible = self.states
        for n, op in self.doubtful:
            states = self._after(states, n, op, UNKNOWN)
            possible = possible + states
        return possible

    def _settle(self, connection):
        if not self.doubtful and len(self.states) == 1:
            return
        actual = [thing.read(connection) for thing in self.things]
        self.states = [self._resolve(actual)]
        self.doubtful = []
        self.settled += 1

    def _resolve(self, actual):
        possible = self._possible()
        for state in possible:
            resolved = [thing.resolve(state[n], actual[n]) for n, thing in enumerate(self.things)]
            if all(mine is not None for mine in resolved):
                return resolved
        raise Wrong(self.name, "there is", self._differing(possible, actual))

    def _differing(self, possible, actual):
        return [(thing.key, str(actual[n])[:200], "and may be",
                 sorted({str(state[n])[:200] for state in possible}))
                for n, thing in enumerate(self.things)
                if all(thing.resolve(state[n], actual[n]) is None for state in possible)] or \
            "what no single moment explains"

    def check(self, replica):
        """All is there, once, as seen from that replica. After the thread has ended."""
        with self.connect(self.group, replica) as connection:
            actual = [thing.read(connection) for thing in self.things]
        self._resolve(actual)


class Party:
    """All clients of a group, and leaders that are killed among them."""

    def __init__(self, group, seed, makers):
        """makers: (label, connect, things, depth) of a client at every replica."""
        choose = random.Random(seed)
        self.group, self.choose, self.board = group, choose, Board()
        self.clients = [
            Client(group, self.board, home, label, connect, things, depth, choose.random())
            for home in group.ids for label, connect, things, depth in makers]

    def __enter__(self):
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.stopping = True

    def wrong(self):
        return [client.wrong.args for client in self.clients if client.wrong]

    def errors(self):
        """What clients of survivors saw: must be none."""
        return [(client.name, *error) for client in self.clients for error in client.errors]

    def work(self, least=4, deadline_s=30):
        """Wait until everybody has got so many more answers."""
        goals = [(client, client.requests + least) for client in self.clients]

        def done():
            return self.wrong() or all(client.requests >= goal for client, goal in goals)
        try:
            wait_for(done, "every client to be answered", deadline_s)
        except WaitedInVain as error:
            late = [f"{client.name} ({goal - client.requests} short, {len(client.doubtful)} "
                    "under way)" for client, goal in goals if client.requests < goal]
            raise WaitedInVain(f"{error}: {', '.join(late)}") from None
        self.judge()

    def judge(self):
        if self.wrong():
            raise Wrong(*self.wrong())

    def kill_leader(self):
        """Kill -9, among requests; all go on, its own at others; then it comes back."""
        leader = self.group.wait_leader()
        time.sleep(self.choose.uniform(0, 0.05))  # at any moment of what clients are doing
        self.board.killed = leader
        self.group.kill(leader)
        self.board.away = leader
        self.work()
        self.group.start_replica(leader)
        wait_for(lambda: self.group.serves(leader), f"replica {leader} to serve again", 60)
        self.board.away = None
        self.work()
        self.board.killed = None

    def finish(self):
        """Ends all clients, and reads everything at every replica."""
        for client in self.clients:
            client.stopping = True
        for client in self.clients:
            client.join(60 * PATIENCE)
            must(not client.is_alive(), f"{client.name} was never answered")
        self.judge()
        for client in self.clients:
            for replica in self.group.ids:
                client.check(replica)
        requests = sum(client.requests for client in self.clients)
        settled = sum(client.settled for client in self.clients)
        at_killed = collections.Counter(
            what if "ERR" in what else "disconnected"
            for client in self.clients for _, what in client.errors_at_killed)
        return requests, settled, at_killed
