"""Leaders killed among all kinds of requests: each is executed once, and answered once.

For longer: tests/bench/exactly-once.
"""

import ledger_memcached
import ledger_redis
import pytest
from harness import Group
from ledger import UNKNOWN, Board, Client, Party, Wrong
from ledger_redis import Counter, Deque, Pool
from test_failures import backends_agree

KILLS = 4


def test_leaders_killed_among_requests_of_all_kinds():
    # What is written while one is away must fit into the ring: some of the values are large.
    makers = ledger_redis.MAKERS + ledger_memcached.MAKERS
    with Group(ring_size="128M") as group, Party(group.wait_ready(), 1, makers) as party:
        party.work()
        for _ in range(KILLS):
            party.kill_leader()
        requests, settled, at_killed = party.finish()
        print(f"{requests} requests, {settled} times looked up what was in doubt, {at_killed}")
        assert not party.errors()
        backends_agree(group)
        # Those of the killed did connect elsewhere, or nothing was put to the test.
        assert at_killed["disconnected"] >= KILLS


def client_of(*things):
    """One that is connected to nothing: the test says what its server answers."""
    return Client(None, Board(), 1, "nobody", None, things, 1, 1)


def outcomes(make, replies):
    """The states that these replies lead to, each request chosen by the same dice."""
    client = client_of(make)
    for reply in replies:
        op = client.things[0].next(client.choose)
        client.states = client._after(client.states, 0, op, reply)
    return [state[0] for state in client.states]


def test_the_ledger_sees_what_was_done_twice():
    assert outcomes(Counter, [UNKNOWN, UNKNOWN])[0] > 1
    with pytest.raises(Wrong):
        outcomes(Counter, [99])
    with pytest.raises(Wrong):
        outcomes(Deque, [b"nobody pushed this"])
    with pytest.raises(Wrong):
        Pool("k")._popped((frozenset([b"1"]), 0), b"2")


@pytest.mark.parametrize("actual,fits", [(0, True), (1, True), (2, True), (3, False), (-1, False)])
def test_what_is_in_doubt_may_be_done_once_or_not_at_all(actual, fits):
    class One(Counter):
        def next(self, choose):
            return ledger_redis.op(lambda state, reply: state + 1, "INCR", self.key)
    client = client_of(One)
    client.doubtful = [(0, client.things[0].next(client.choose)) for _ in range(2)]
    if fits:
        assert client._resolve([actual]) == [actual]
    else:
        with pytest.raises(Wrong):
            client._resolve([actual])
