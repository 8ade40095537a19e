"""Leaders that make way, replicas that are drained and restarted, under load."""

import os
import signal
import subprocess
import sys

import ledger_memcached
import ledger_redis
import pytest
from harness import MUCTL, MUPROXY, PATIENCE, TOP, Group, process_lives, wait_for
from ledger import Party
from test_failures import backends_agree

MAKERS = [maker for maker in ledger_redis.MAKERS + ledger_memcached.MAKERS if maker[0] != "big"]


def muctl(group, i, *arguments):
    return subprocess.run([MUCTL, "--admin", group.admin(i), *arguments], capture_output=True,
                          text=True, timeout=30 * PATIENCE, check=False)


def test_leadership_goes_where_it_is_told_to(group):
    """Again and again, among requests: nobody's connection breaks, nobody sees an error."""
    with Party(group, 2, MAKERS) as party:
        party.work()
        for _ in range(2):
            for heir in (3, 2, 1):
                leader = group.wait_leader()
                if leader == heir:
                    continue
                done = muctl(group, leader, "transfer-leader", str(heir))
                assert done.returncode == 0, done.stderr
                assert f"replica {heir} leads" in done.stdout
                assert group.wait_leader(ask=heir) == heir
                party.work()
        party.finish()
        assert not party.errors()
    assert not any(group.status(i)["proxy"]["unknown"] for i in group.ids)
    backends_agree(group)


def test_who_cannot_lead_is_refused(group):
    leader = group.wait_leader()
    group.wait_level()
    one, two = [i for i in group.ids if i != leader]

    def refused(i, *arguments):
        done = muctl(group, i, *arguments)
        assert done.returncode == 1 and done.stdout == "", done
        return done.stderr
    assert f"replica {leader} leads: ask it" in refused(one, "transfer-leader")
    assert "it leads already" in refused(leader, "transfer-leader", str(leader))
    assert "no such member" in refused(leader, "transfer-leader", "5")
    group.kill(one, name="redis.pid")
    wait_for(lambda: not group.serves(one), "it to say so")
    wait_for(lambda: group.status(leader)["replicas"][one - 1]["backend"] == "down", "all to know")
    assert "its backend is not level" in refused(leader, "transfer-leader", str(one))
    group.kill(two)
    wait_for(lambda: not group.status(leader)["replicas"][two - 1]["alive"], "it to be missed")
    assert "it does not answer" in refused(leader, "transfer-leader", str(two))
    assert "no other replica could lead" in refused(leader, "transfer-leader")
    assert "no other replica could lead" in refused(leader, "drain")
    assert muctl(group, leader, "transfer-leader", "x").returncode == 2
    assert muctl(group, leader, "transfer-leader", "1", "2").returncode == 2
    assert group.leader() == leader


def test_a_drained_replica_serves_and_does_not_lead(group):
    leader = group.wait_leader()
    group.wait_level()
    others = [i for i in group.ids if i != leader]
    with group.redis(leader) as client:
        client.call("SET", "k", "v")
        done = muctl(group, leader, "drain")
        assert done.returncode == 0, done.stderr
        assert group.wait_leader(ask=leader) in others
        wait_for(lambda: "draining" in group.http(leader, "/healthz")[1], "/healthz to say so")
        assert client.call("GET", "k") == b"v" and client.call("INCR", "n") == 1
        # Of those that are left only one may lead.
        second = group.wait_leader(ask=leader)
        wait_for(lambda: group.status(second)["replicas"][leader - 1]["backend"] == "down",
                 "all to know that it is drained")
        third = next(i for i in others if i != second)
        done = muctl(group, second, "transfer-leader")
        assert done.returncode == 0 and f"replica {third} leads" in done.stdout, done
        # Rather one that is drained than nobody.
        group.kill(third)
        group.kill(second, name="redis.pid")
        assert wait_for(lambda: group.leader(leader) == leader, "the drained one to lead")
        assert client.call("INCR", "n") == 2
        done = muctl(group, leader, "drain", "--end")
        assert done.returncode == 0
        wait_for(lambda: group.serves(leader), "it to serve again")


def test_a_leader_that_is_asked_to_end_hands_over_first(group):
    with Party(group, 3, MAKERS) as party:
        party.work()
        leader = group.wait_leader()
        party.board.killed = leader
        pid = group.kill(leader, signal.SIGTERM)
        wait_for(lambda: not process_lives(pid), "it to end")
        party.board.away = leader
        party.work()
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "it to serve again", 30)
        party.finish()
        assert not party.errors()
    backends_agree(group)


def rolling_restart(*arguments):
    return subprocess.run(
        [sys.executable, os.path.join(TOP, "scripts", "rolling-restart"), "--muproxy", MUPROXY,
         *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=200 * PATIENCE, check=False)


def test_a_rolling_restart_under_load():
    """Of all replicas: the clients of one that restarts connect to others meanwhile."""
    with Group(ring_size="64M") as group, Party(group.wait_ready(), 4, MAKERS) as party:
        party.work()
        before = {i: group.read_pid(i) for i in group.ids}
        done = rolling_restart("--patience", str(60 * PATIENCE), group.dir)
        print(done.stdout, done.stderr)
        assert done.returncode == 0
        assert all(group.status(i)["pid"] != before[i] for i in group.ids)
        party.work()
        party.finish()
        for client in party.clients:
            # Its own replica's restart, and attempts to reach that; nothing of the others'.
            broken = [what for _, what in client.errors if "Disconnected" in what]
            refused = [what for _, what in client.errors if "ConnectionRefused" in what]
            assert len(broken) <= 1 and len(client.errors) == len(broken) + len(refused), (
                client.name, client.errors)
        backends_agree(group)
        for i in group.ids:  # they are nobody's children any more
            os.kill(group.read_pid(i), signal.SIGTERM)


@pytest.mark.parametrize("arguments,word,code", [
    (["/nonexistent/muproxy.conf"], "No such file", 2),
    (["/tmp"], "no configuration is there", 2),
    (["--restart", "true", "127.0.0.1:1"], "does not answer", 1),
])
def test_a_rolling_restart_that_cannot_begin(arguments, word, code):
    done = rolling_restart(*arguments)
    assert done.returncode == code and word in done.stderr, done
    assert len(done.stderr.splitlines()) == 1


def test_a_rolling_restart_of_half_a_group(shared):
    done = rolling_restart(shared.conf(1), shared.conf(2))
    assert done.returncode == 1 and "[1, 2] are named, but [1, 2, 3]" in done.stderr
