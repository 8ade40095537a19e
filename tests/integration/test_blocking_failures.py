"""Waiting for a key while leaders die: nothing that was pushed is lost, or served twice."""

import threading

import pytest

from harness import Disconnected, ServerError, encode, wait_for
from redis_pair import backends_are_equal
from test_blocking import Stage


class Popper(threading.Thread):
    """Waits for one element after the other until it gets the last one."""

    def __init__(self, group, replica, request):
        super().__init__(daemon=True)
        self.client, self.request = group.redis(replica, timeout=60), request
        self.got, self.failure = [], None
        self.start()

    def run(self):
        try:
            while not self.got or self.got[-1] != b"end":
                self.got.append(self.take())
        except (ServerError, Disconnected, OSError, TypeError, ValueError, AssertionError) as error:
            self.failure = repr(error)

    def take(self):
        reply = self.client.call(*self.request)
        return reply[1] if isinstance(reply, list) else reply


def push(client, key, value, doubtful):
    """True: it was acknowledged."""
    try:
        client.call("RPUSH", key, value)
        return True
    except ServerError as error:
        doubtful.append((value, str(error)))
        return False


@pytest.mark.parametrize("request_, result", [
    (("BLPOP", "a", "b", 0), ()), (("BLMOVE", "a", "done", "LEFT", "RIGHT", 0), ("done",))],
    ids=["blpop", "blmove"])
def test_every_element_is_delivered_once(group, request_, result):
    """Clients of followers do not notice that two leaders are killed in the middle."""
    for _ in range(2):
        leader = group.wait_leader()
        others = [i for i in group.ids if i != leader]
        poppers = [Popper(group, others[n % 2], request_) for n in range(6)]
        pushed, doubtful = [], []
        with group.redis(others[0], 30) as client:
            for n in range(300):
                if push(client, "a" if result or n % 3 else "b", f"{n}", doubtful):
                    pushed.append(b"%d" % n)
                if n == 150:
                    group.kill(leader)
            for _ in poppers:
                client.call("RPUSH", "a", "end")
            for popper in poppers:
                popper.join(30)
                assert not popper.is_alive() and not popper.failure, popper.failure
                popper.client.close()
            got = [value for popper in poppers for value in popper.got if value != b"end"]
            assert len(got) == len(set(got)), "delivered twice"
            missing = set(pushed) - set(got)
            assert not missing, (missing, doubtful)
            assert set(got) <= set(pushed) | {value.encode() for value, _ in doubtful}
            assert client.call("EXISTS", "a", "b") == 0
            if result:
                assert sorted(client.call("LRANGE", "done", 0, -1)) == sorted(got + [b"end"] * 6)
                client.call("DEL", "done")
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "the killed one to serve again")
    backends_are_equal(group)


def test_who_waits_goes_on_waiting_under_the_next_leader(group):
    """In the same order, for what is left of the time; of the killed one's clients nothing is left."""
    leader = group.wait_leader()
    follower = leader % 3 + 1
    stage = Stage(lambda number: group.redis(follower, 30))
    names = [f"w{n}" for n in range(20)]
    for name in names:
        stage.wait(name, "BRPOP", "k", 30)
    with group.redis(leader) as doomed:
        doomed.send(encode("BLPOP", "k", 0))
        stage.expect_blocked(21)
        stage.client("late").send(encode("BLPOP", "k", "0.2"))
        group.kill(leader)
        group.wait_leader(other_than=leader)
    assert stage.client("late").reply() is None
    stage.expect_blocked(20)
    stage.ask("p", ("RPUSH", "k", "0"), ("LLEN", "k"))
    stage.ask("p", *(("RPUSH", "k", n) for n in range(1, 20)), ("LLEN", "k"))
    stage.transcript.clear()
    stage.served(*names)
    assert [entry[1].split(b"\r\n")[4] for entry in stage.transcript] == \
        [b"%d" % n for n in range(20)]
    stage.close()


def test_a_replica_that_ends_lets_its_clients_go(group):
    """SIGTERM: they are told; the others wait on, whoever it is that ends."""
    for is_leader in (False, True):
        leader = group.wait_leader()
        ending = leader if is_leader else leader % 3 + 1
        staying = next(i for i in group.ids if i not in (leader, ending))
        with group.redis(ending) as told, group.redis(staying) as waits:
            told.send(encode("BLPOP", "k", 0))
            waits.send(encode("BLPOP", "l", 0))
            stage = Stage(lambda number: group.redis(staying))
            stage.expect_blocked(2)
            group.restart_with(ending, "")
            assert "UNBLOCKED" in str(told.reply())
            stage.expect_blocked(1)
            stage.ask("p", ("RPUSH", "l", "x"))
            assert waits.reply() == [b"l", b"x"]
            stage.close()
