"""Replicas that are added, removed and replaced, among requests."""

import os
import signal

import ledger_memcached
import ledger_redis
import pytest
from harness import PATIENCE, wait_for
from heal import log_of, restores
from ledger import Party
from newcomers import address, changing, muctl, muctl_begin
from test_failures import backends_agree

MAKERS = [maker for maker in ledger_redis.MAKERS + ledger_memcached.MAKERS if maker[0] != "big"]


@pytest.fixture
def group(request):
    yield from changing(getattr(request, "param", "tcp"))


def remove(group, party, i):
    party.board.killed = i  # its clients have to go elsewhere
    said = group.remove(i)
    assert f"replica {i} is no member any more" in said
    party.board.away = i


@pytest.mark.parametrize("group", ["shm"], indirect=True)
def test_a_group_grows_and_shrinks_among_requests(group):
    """3 to 5, and to 3 again, the leader and a dead one among those that go; all begin anew."""
    with Party(group, 1, MAKERS) as party:
        party.work()
        for i in (4, 5):
            assert f"replica {i} is a member" in group.add(i)
            assert restores(group, i) > 0
            party.work()
        group.wait_members()
        leader = group.wait_leader()
        remove(group, party, leader)
        party.work()
        second = next(i for i in group.ids if i != group.wait_leader())
        group.wait_members()
        party.finish()
        assert not party.errors()
    group.kill(second)
    group.remove(second)
    group.wait_members()
    backends_agree(group)
    with group.redis(group.ids[0]) as client:
        assert client.call("INCR", "once") == 1
    group.kill_and_restart_all()
    group.wait_members()
    with group.redis(group.ids[0]) as client:
        assert client.call("INCR", "once") == 2
    backends_agree(group)


@pytest.mark.parametrize("group", ["tcp", "shm"], indirect=True)
def test_a_dead_replica_is_replaced_among_requests(group):
    with Party(group, 2, MAKERS) as party:
        party.work()
        dead = next(i for i in group.ids if i != group.wait_leader())
        party.board.killed = dead
        group.kill(dead)
        party.board.away = dead
        party.work()
        group.newcomer(4, asks=next(i for i in group.ids if i != dead))
        leader = group.wait_waiting(4)
        done = muctl(group, leader, "replace", str(dead), address(group, 4))
        assert done.returncode == 0, done
        group.ids = [i for i in group.ids if i != dead] + [4]
        party.work()
        group.wait_members()
        party.finish()
        assert not party.errors()
    backends_agree(group)
    # It never comes back: not with its memory, nor without.
    process = group.start_replica(dead)
    process.wait(60)
    assert process.returncode == 0 and "was removed from the group" in log_of(group, dead)
    process = group.start_replica(dead)
    process.wait(60)
    assert process.returncode == 2 and "needs an id that never was" in log_of(group, dead)


def test_the_leader_dies_in_the_middle_of_a_change(group):
    """The wish goes with him, and nothing is lost; the next leader is told the same by a muctl that
    knows where he is, and can be by another."""
    with Party(group, 3, MAKERS) as party:
        party.work()
        group.newcomer(4)
        leader = group.wait_waiting(4)
        os.kill(group.read_pid(4, "redis.pid"), signal.SIGSTOP)
        with muctl_begin(group, [leader], "add", "4") as adding, \
                muctl_begin(group, group.ids, "add", address(group, 4)) as going_on:
            wait_for(lambda: "adding replica 4" in group.status(leader)["change"], "it to begin")
            party.board.killed = leader
            group.kill(leader)
            party.board.away = leader
            assert adding.wait(60) == 1
            assert "does not answer any more" in adding.stderr.read()
            heir = group.wait_leader(other_than=leader,
                                     ask=next(i for i in group.ids if i != leader))
            assert group.members(heir) == group.ids
            party.work()
            os.kill(group.read_pid(4, "redis.pid"), signal.SIGCONT)
            assert going_on.wait(120 * PATIENCE) == 0, going_on.stderr.read()
            assert "replica 4 is a member" in going_on.stdout.read()
        group.ids.append(4)
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "who was killed to serve again", 60)
        party.board.away = None
        party.work()
        group.wait_members()
        party.finish()
        assert not party.errors()
    backends_agree(group)
