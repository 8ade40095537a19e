"""Streams' consumer groups while leaders die: every entry is delivered, and who has what is the same everywhere."""

import redis

from harness import ServerError, wait_for
from redis_pair import backends_are_equal
from test_blocking import Stage
from test_blocking_failures import Popper

ENTRIES = 300


class Worker(Popper):
    """Reads entry after entry on behalf of the group and acknowledges each, until it gets the last."""

    def __init__(self, group, replica, name):
        super().__init__(group, replica, ("XREADGROUP", "GROUP", "g", name, "COUNT", 1, "BLOCK", 0,
                                          "STREAMS", "s", ">"))

    def take(self):
        (_, [[number, [_, value]]]), = self.client.call(*self.request)
        if value != b"end":
            assert self.client.call("XACK", "s", "g", number) == 1
        return value


def test_every_entry_is_delivered_once(group):
    """To one of the group, though two leaders are killed in the middle. (Workers are clients of followers.)"""
    for _ in range(2):
        leader = group.wait_leader()
        others = [i for i in group.ids if i != leader]
        added, doubtful = [], []
        with group.redis(others[0], 30) as client:
            client.call("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
            workers = [Worker(group, others[n % 2], f"c{n}") for n in range(6)]
            for n in range(ENTRIES):
                try:
                    client.call("XADD", "s", "*", "f", n)
                    added.append(b"%d" % n)
                except ServerError as error:
                    doubtful.append((b"%d" % n, str(error)))
                if n == ENTRIES // 2:
                    group.kill(leader)
            for _ in workers:
                client.call("XADD", "s", "*", "f", "end")
            for worker in workers:
                worker.join(60)
                assert not worker.is_alive() and not worker.failure, worker.failure
                worker.client.close()
            got = [value for worker in workers for value in worker.got if value != b"end"]
            assert len(got) == len(set(got)), "delivered twice"
            assert set(added) <= set(got) <= set(added) | {value for value, _ in doubtful}
            assert client.call("XPENDING", "s", "g")[0] == len(workers)
            group.start_replica(leader)
            wait_for(lambda: group.serves(leader), "the killed one to serve again")
            backends_are_equal(group)
            client.call("DEL", "s")


def test_idle_times_outlast_their_leader(group):
    """What the next leader hands on is what the last one had seen grow old."""
    leader = group.wait_leader()
    with group.redis(leader % 3 + 1, 30) as client:
        client.call("XGROUP", "CREATE", "s", "g", 0, "MKSTREAM")
        for n in range(1, 7):
            client.call("XADD", "s", f"{n}-1", "f", "v")
        client.call("XREADGROUP", "GROUP", "g", "dead", "STREAMS", "s", ">")
        client.call("XCLAIM", "s", "g", "dead", 0, "2-1", "4-1", "5-1", "IDLE", 3600000, "JUSTID")
        client.call("XDEL", "s", "4-1")
        group.kill(leader)
        group.wait_leader(other_than=leader)
        assert client.call("XAUTOCLAIM", "s", "g", "heir", 1800000, "-", "JUSTID") == \
            [b"0-0", [b"2-1", b"5-1"], [b"4-1"]]
        assert client.call("XAUTOCLAIM", "s", "g", "heir", 1800000, "-") == [b"0-0", [], []]
        assert [entry[0] for entry in client.call("XPENDING", "s", "g", "IDLE", 600000, "-", "+", 10)] == []
        wait_for(lambda: client.call("XPENDING", "s", "g", "IDLE", 300, "-", "+", 10), "time to pass")
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "the killed one to serve again")
    backends_are_equal(group)


def test_who_waits_goes_on_waiting_under_the_next_leader(group):
    """On behalf of the group, in the same order; and hears of its end from whoever leads."""
    leader = group.wait_leader()
    follower = leader % 3 + 1
    stage = Stage(lambda number: group.redis(follower, 30))
    stage.ask("p", ("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM"))
    names = [f"w{n}" for n in range(10)]
    for name in names:
        stage.wait(name, "XREADGROUP", "GROUP", "g", name, "COUNT", 1, "BLOCK", 0, "STREAMS", "s", ">")
    group.kill(leader)
    group.wait_leader(other_than=leader)
    stage.expect_blocked(10)
    for n in range(1, 6):
        stage.ask("p", ("XADD", "s", f"{n}-1", "f", "v"))
    stage.transcript.clear()
    stage.served(*names[:5])
    for n, entry in enumerate(stage.transcript):
        assert b"%d-1" % (n + 1) in entry[1]
    stage.ask("p", ("DEL", "s"))
    stage.transcript.clear()
    stage.served(*names[5:])
    assert {entry[1] for entry in stage.transcript} == {b"-UNBLOCKED the stream key no longer exists\r\n"}
    stage.close()


def test_with_redis_py(shared):
    """As its users do it, over all replicas."""
    one, two, three = (redis.Redis(port=shared.redis_port(i), decode_responses=True) for i in shared.ids)
    one.delete("s")
    one.xgroup_create("s", "g", id="0", mkstream=True)
    ids = [two.xadd("s", {"n": n}) for n in range(5)]
    assert three.xreadgroup("g", "alice", {"s": ">"}, count=3) == [["s", [(i, {"n": str(n)}) for n, i in enumerate(ids[:3])]]]
    assert one.xreadgroup("g", "bob", {"s": ">"}, block=10) == [["s", [(i, {"n": str(n + 3)}) for n, i in enumerate(ids[3:])]]]
    assert two.xreadgroup("g", "bob", {"s": ">"}, block=10) == []
    assert three.xack("s", "g", ids[0]) == 1
    assert one.xpending("s", "g")["pending"] == 4
    assert [e["message_id"] for e in two.xpending_range("s", "g", "-", "+", 10, consumername="alice")] == ids[1:3]
    assert [e[0] for e in three.xclaim("s", "g", "bob", 0, ids[1:2])] == ids[1:2]
    assert one.xautoclaim("s", "g", "carol", 0, start_id="0-0", count=2, justid=True) == ids[1:3]
    assert two.xinfo_groups("s")[0]["pending"] == 4
    assert {c["name"] for c in three.xinfo_consumers("s", "g")} == {"alice", "bob", "carol"}
    assert one.xinfo_stream("s", full=True)["length"] == 5
    assert two.xgroup_destroy("s", "g") == 1
