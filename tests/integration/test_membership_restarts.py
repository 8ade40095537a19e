"""All of a group killed between the proposal of a change of members and its commit."""

import contextlib
import signal
import urllib.request

import pytest
from harness import PATIENCE, wait_for
from newcomers import changing
from test_failures import backends_agree, lose_memory

ATTEMPTS = 20


@pytest.fixture
def group():
    yield from changing()


def wish_to_remove(group, leader, i):
    """False if that is refused, as the others are missed already."""
    wish = urllib.request.Request(f"http://{group.admin(leader)}/remove?{i}", data=b"")
    with contextlib.suppress(OSError):
        with urllib.request.urlopen(wish, timeout=10 * PATIENCE) as reply:
            return reply.status == 200
    return False


def propose_in_vain(group):
    """The others stand still: what the leader proposes is in its log alone. The leader, and who
    is to be removed; or None, if it had missed the others before it proposed anything."""
    leader = group.wait_leader()
    others = [i for i in group.ids if i != leader]
    for i in others:
        group.kill(i, signal.SIGSTOP)
    if wish_to_remove(group, leader, others[0]):
        def decided():
            status = group.status(leader)
            in_its_log = others[0] not in group.members(leader)
            return (in_its_log or status["leader"] != leader) and (in_its_log, status)
        in_its_log, status = wait_for(decided, "the proposal, or the end of its leadership")
        if in_its_log:
            assert status["members_epoch"] == 0, "what stood still has confirmed it"
            return leader, others[0]
    for i in others:
        group.kill(i, signal.SIGCONT)
    wait_for(lambda: all(group.serves(i) for i in group.ids), "all to serve again", 60)
    return None


def cut_short(group):
    """Removing one is proposed, and not committed; returns who that is."""
    for _ in range(ATTEMPTS):
        case = propose_in_vain(group)
        if case:
            return case[1]
    raise AssertionError(f"none of {ATTEMPTS} wishes was proposed before the others were missed")


def restart(group):
    for i in group.ids:
        group.start_replica(i)


def count(group, i):
    with group.redis(i, timeout=60 * PATIENCE) as client:
        return client.call("INCR", "count")


def test_all_are_killed_amid_a_change(group):
    """Their logs are there: it is as it was before, or done, and the same for all."""
    assert count(group, 1) == 1
    leaves = cut_short(group)
    for i in group.ids:
        group.kill(i)
    restart(group)
    stay = [i for i in group.ids if i != leaves]
    for i in stay:
        wait_for(lambda j=i: group.serves(j), f"replica {i} to serve again", 60)
    assert count(group, stay[0]) == 2
    members = wait_for(lambda: (lambda of: of[0] == of[1] and of[0])(
        [group.members(i) for i in stay]), "those who stay to agree who the members are", 30)
    assert members in (group.ids, stay)
    if members == stay:
        assert group.by_hand[leaves].wait(60 * PATIENCE) == 0
        group.ids = stay
    else:
        wait_for(lambda: group.serves(leaves), "who was not removed to serve again", 60)
    backends_agree(group)
    assert count(group, stay[1]) == 3


def test_all_lose_their_memory_amid_a_change(group):
    """Nobody but its leader's log knew of it: the group begins again with all that were members."""
    assert count(group, 1) == 1
    cut_short(group)
    for i in group.ids:
        lose_memory(group, i)
    restart(group)
    for i in group.ids:
        wait_for(lambda j=i: group.serves(j), f"replica {i} to serve again", 60)
    group.wait_members()
    assert [count(group, i) for i in group.ids] == [2, 3, 4]
    backends_agree(group)
