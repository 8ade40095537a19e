"""Servers that live and do not serve: stalled, full, without room on their disk."""

import pytest

from harness import Group, wait_for
from heal import check, log_of, the
from test_failures import more_work, start_loads

# A leader has to be found out meanwhile, by a backend-timeout of a second.
STALL_S = {"follower": 2, "leader": 6}


@pytest.fixture(scope="module")
def group():
    """One group for all of them: it is whole again after each."""
    with Group(ring_size="64M", redis=["/usr/bin/redis-server", "--enable-debug-command",
                                       "yes"]) as group:
        group.wait_ready()
        for i in group.ids:
            group.restart_with(i, "[timing]\nbackend-timeout = 1s\n")
        yield group
        group.print_logs()


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_a_server_that_stalls(group, who):
    """Nobody waits until it moves again: another one leads, if need be. Then it is as before."""
    victim = the(group, who)
    loads = start_loads(group, label=f"stall-{who}-")
    others = [load for load in loads if load.replica != victim]
    with group.redis_backend(victim, timeout=60) as backend:
        backend.send(b"*3\r\n$5\r\nDEBUG\r\n$5\r\nSLEEP\r\n$1\r\n%d\r\n" % STALL_S[who])
        if who == "leader":
            wait_for(lambda: group.leader(others[0].replica) not in (None, victim), "another leader")
        more_work(others, 50)
        assert backend.reply() == b"OK"
    wait_for(lambda: group.serves(victim), "it to serve again", 60)
    more_work(loads, 20)
    check(group, loads)


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_a_server_that_is_full(group, who):
    """Somebody has given it a limit: what it refuses it has to be brought to hold all the same."""
    victim = the(group, who)
    loads = start_loads(group, label=f"full-{who}-")
    others = [load for load in loads if load.replica != victim]
    with group.redis_backend(victim) as backend:
        assert backend.call("CONFIG", "SET", "maxmemory", 1) == b"OK"
    wait_for(lambda: "OOM" in log_of(group, victim), "the log to tell")
    more_work(others, 50)
    wait_for(lambda: group.serves(victim), "it to serve again", 60)
    more_work(others, 20)
    check(group, loads, [victim] if who == "leader" else ())
