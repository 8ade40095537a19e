"""A server whose disk is full refuses what it is given. It is out of service until there is room."""

import os
import re
import subprocess

import pytest

from harness import MUPROXY, PATIENCE, Group, wait_for
from heal import Servers, a_follower, check, log_of
from newcomers import Changing, muctl
from test_failures import more_work, start_loads

DISK_BYTES = 8 << 20


@pytest.fixture
def disk(tmp_path):
    """A small disk of its own; made full by a file."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", tmp_path],
                   check=True)
    yield tmp_path
    subprocess.run(["umount", "--lazy", tmp_path], check=True)


def fill_up(disk):
    """To the last byte."""
    with open(disk / "ballast", "wb", buffering=0) as file:
        for size in (4096, 1):
            try:
                while True:
                    file.write(b"b" * size)
            except OSError:
                pass


def lead_with(group, i):
    """Who leads may not know yet that its server is level."""
    wait_for(lambda: muctl(group, group.wait_leader(), "transfer-leader", str(i)).returncode == 0,
             f"replica {i} to be given the lead")
    wait_for(lambda: group.leader() == i, f"replica {i} to lead")


@pytest.mark.parametrize("who", ["follower", "leader"])
def test_the_disk_of_a_server_is_full(disk, who):
    """Others go on meanwhile, one of them as the leader; with room again, it is as before."""
    with Group(ring_size="64M") as group, Servers(group) as servers:
        group.wait_ready()
        victim = a_follower(group)
        servers.kill(victim)
        servers.start(victim, "--dir", disk, "--appendonly", "yes")
        wait_for(lambda: group.serves(victim), "it to serve again", 60)
        if who == "leader":
            lead_with(group, victim)
        loads = start_loads(group)
        others = [load for load in loads if load.replica != victim]
        fill_up(disk)
        wait_for(lambda: "MISCONF" in log_of(group, victim), "the log to tell")
        more_work(others)
        assert group.leader(others[0].replica) != victim
        assert not group.serves(victim)
        os.remove(disk / "ballast")
        wait_for(lambda: group.serves(victim), "it to serve again", 60)
        more_work(others, 20)
        check(group, loads, [victim] if who == "leader" else ())


def set_in_conf(group, i, key, value):
    with open(group.conf(i)) as file:
        text = file.read()
    text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
    assert count == 1
    with open(group.conf(i), "w") as file:
        file.write(text)


def test_no_room_for_the_memory_of_a_replica(group, disk):
    """Told at once, in one line; with room it starts. What it left behind is in nobody's way."""
    victim = a_follower(group)
    group.kill(victim)
    set_in_conf(group, victim, "memory-dir", disk)
    run = subprocess.run([MUPROXY, "-c", group.conf(victim)], stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
    told = [line for line in run.stderr.splitlines() if "no room for" in line]
    assert run.returncode != 0 and len(told) == 1, run
    assert "No space left on device" in told[0]
    assert not [name for name in os.listdir(disk) if os.path.getsize(disk / name)]


def test_the_disk_of_a_state_file_is_full(disk):
    """Members change all the same; it is told once, and the file is written when there is room."""
    with Changing() as group:
        group.wait_ready()
        leader = group.wait_leader()
        victim = next(i for i in (2, 3) if i != leader)  # a newcomer's settings are 1's
        group.kill(victim)
        state = disk / "members"
        set_in_conf(group, victim, "state-file", state)
        group.start_replica(victim)
        wait_for(lambda: group.serves(victim), "it to serve again", 60)
        wait_for(lambda: len(re.findall(r"replica \d \d{13} ", state.read_text())) == 3,
                 "nothing more to be written")
        before = state.read_text()
        fill_up(disk)
        group.add(4)
        group.wait_members()
        wait_for(lambda: f"state-file: {state}: No space left" in log_of(group, victim),
                 "the log to tell")
        assert state.read_text() == before
        os.remove(disk / "ballast")
        wait_for(lambda: "replica 4 " in state.read_text(), "the file to be written")
        assert log_of(group, victim).count("state-file: ") == 1
