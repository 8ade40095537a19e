"""What must come back by itself, with every counter exact: clients know each of their replies."""

import pytest

import ledger_memcached
import ledger_redis
from harness import Group, wait_for
from heal import the
from ledger import Party
from test_failures import backends_agree, lose_memory

MAKERS = [maker for maker in ledger_redis.MAKERS + ledger_memcached.MAKERS if maker[0] != "big"]


def everybody_reconnects(party):
    """Errors are expected: each client looks up then what became of what was in doubt."""
    party.work(deadline_s=60)
    party.finish()


def test_all_proxies_killed_in_the_middle_of_it(group):
    """Their servers live: what they had begun to execute is not executed again."""
    with Party(group, 5, MAKERS) as party:
        for _ in range(2):
            party.work()
            group.kill_and_restart_all()
        everybody_reconnects(party)
    backends_agree(group)


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_a_log_is_deleted(who):
    """It is blank, gets its log from the others, and is readmitted; nobody else notices."""
    with Group(ring_size="64M") as group, Party(group.wait_ready(), 6, MAKERS) as party:
        party.work()
        victim = the(group, who)
        lose_memory(group, victim)
        party.board.away = victim
        party.work()
        group.start_replica(victim)
        wait_for(lambda: group.status(group.wait_leader())["replicas"][victim - 1]["voting"],
                 "it to be readmitted", 60)
        wait_for(lambda: group.serves(victim), "it to serve again", 60)
        party.board.away = None
        everybody_reconnects(party)
        assert not [error for error in party.errors() if error[1] != victim]
        backends_agree(group)
