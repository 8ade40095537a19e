"""A state transfer whose donor, target or link is lost midway begins again, elsewhere."""

import subprocess

import pytest

from harness import FABRIC, MUCTL, Group, wait_for
from heal import (Servers, a_follower, check, fill_bulk, log_of, outrun, transfer_of,
                  wait_restored)
from test_failures import more_work, start_loads
from test_links import put_wires_in

BULK_MB = 8
MIDWAY_BYTES = 2 << 20

# Links that stand still midway are made of wires, which other fabrics do not have.
pytestmark = pytest.mark.skipif(FABRIC != "shm", reason="the links of fabric = shm")


class Midway:
    """A group of which one server is being restored, and does not get on."""

    def __init__(self, group):
        self.group = group
        self.servers = Servers(group)
        self.wires = put_wires_in(group)
        self.leader, self.victim = group.wait_leader(), a_follower(group)
        fill_bulk(group, BULK_MB)
        outrun(group, self.leader)

    def begin(self):
        """The transfer flows, and then stands. Returns from whom it is."""
        for wire in self._to_victim():
            wire.limit = MIDWAY_BYTES
        self.servers.empty(self.victim)
        wait_for(lambda: any(wire.any_full() for wire in self._to_victim()), "it to flow", 30)
        transfer = wait_for(
            lambda: (lambda t: t and t["bytes"] > 0 and t)(transfer_of(self.group, self.victim)),
            "it to be told of")
        assert transfer["stage"] == "receiving" and 0 < transfer["percent"] < 100, transfer
        self._is_shown()
        return transfer["donor"]

    def _is_shown(self):
        words = "redis is being restored: receiving from replica "
        said = subprocess.run([MUCTL, "--admin", self.group.admin(self.victim), "status"],
                              capture_output=True, text=True, check=True).stdout
        assert words in said and " % of " in said, said
        code, health = self.group.http(self.victim, "/healthz")
        assert code == 503 and "being restored: receiving" in health, health
        metrics = self.group.http(self.victim, "/metrics")[1]
        assert "\nmuproxy_restoring 1\n" in metrics

    def _to_victim(self):
        return [self.wires[self.victim, j] for j in self.group.ids if j != self.victim]

    def go_on(self):
        for wire in self._to_victim():
            wire.limit = None

    def close(self):
        self.servers.close()
        for wire in self.wires.values():
            wire.stopping = True


@pytest.fixture(scope="module")
def midway():
    """One group for all of them: it is whole again after each."""
    with Group(ring_size="1M") as group:
        midway = Midway(group.wait_ready())
        yield midway
        midway.close()
        group.print_logs()


@pytest.mark.parametrize("lost", ["donor", "donor's server", "target", "target's server", "link"])
def test_lost_midway(midway, lost):
    group, victim = midway.group, midway.victim
    leader = group.wait_leader()
    loads = start_loads(group, [leader], lost)
    before = transfer_of(group, victim)
    donor = midway.begin()
    assert donor != victim
    if group.leader() == leader:  # still
        assert donor != leader, "a follower is the better donor"
    if lost == "donor":
        group.kill(donor)
    elif lost == "donor's server":
        midway.servers.kill(donor)
    elif lost == "target":
        group.kill(victim)
        before = {"restores": 0, "failures": 0}
    elif lost == "target's server":
        midway.servers.kill(victim)
    if lost == "link":
        wait_for(lambda: "info  r%d redis: receiving from replica %d" % (victim, donor)
                 in log_of(group, victim), "the log to tell of progress")
    midway.go_on()
    if lost == "link":
        midway.wires[victim, donor].cut_wanted.set()
    if lost == "target's server":
        midway.servers.start_empty(victim)
    if lost == "target":
        group.start_replica(victim)
    wait_restored(group, victim, before["restores"] + 1)
    after = transfer_of(group, victim)
    if lost != "target":
        assert after["failures"] > before["failures"]
        assert f"restoring it from replica {donor} has failed" in log_of(group, victim)
    more_work(loads, 20)
    if lost == "donor":
        group.start_replica(donor)
        wait_for(lambda: group.serves(donor), "the donor to serve again", 30)
    if lost == "donor's server":
        midway.servers.start_empty(donor)
        wait_restored(group, donor)
    check(group, loads)
