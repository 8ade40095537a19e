"""Redis's own test suite, through a follower: all but what redis-suite.md lists has to pass."""

import shutil

import pytest

from harness import PATIENCE, Group
from redis_suite import FAIL, LEFT_OUT, SERVER_OPTIONS, listed, prepare, run_unit

UNITS = [f"unit/{name}" for name in (
    "keyspace", "info-command", "introspection", "type/incr", "multi", "quit", "pubsub", "slowlog",
    "functions", "bitfield", "bitops", "lazyfree", "type/stream-cgroups")]
LISTED = listed()


@pytest.fixture(scope="module")
def sources(debian_sources):
    return prepare(debian_sources("redis"))


@pytest.fixture(scope="module")
def servers():
    """A group whose servers may be looked into."""
    with Group(redis=[shutil.which("redis-server"), *SERVER_OPTIONS]) as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.mark.parametrize("unit", UNITS)
def test_its_own(servers, sources, unit):
    leader = servers.wait_leader()
    follower = next(i for i in servers.ids if i != leader)
    without = [name for where, name in LISTED[LEFT_OUT] if where == unit]
    cases = run_unit(sources, "127.0.0.1", servers.redis_port(follower), unit,
                     timeout_s=120 * PATIENCE, without=without)
    failed = {case.name: case.why for case in cases if case.outcome == "err"}
    expected = {name for where, name in LISTED[FAIL] if where == unit}
    assert any(case.outcome == "ok" for case in cases), cases
    wrong = {name: why for name, why in failed.items() if name not in expected}
    assert not wrong, "\n".join(f"{name}: {why}" for name, why in wrong.items())
    passed = {case.name for case in cases if case.outcome == "ok"}
    assert not expected & passed, f"not on redis-suite.md's list any more: {expected & passed}"
