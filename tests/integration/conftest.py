"""Fixtures: groups of real replicas with real backends."""

import os

import pytest

from debian_source import NotFetched, sources_of
from harness import Group, need_build

need_build()


@pytest.fixture(scope="module")
def shared():
    """One group for the tests of a module that leave it as they found it."""
    with Group() as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.fixture(params=["leader", "follower"])
def replica(request, shared):
    """One of the shared group's: the test is run through both kinds."""
    leader = shared.wait_leader()
    return next(i for i in shared.ids if (i == leader) == (request.param == "leader"))


@pytest.fixture
def group():
    """A group of the test's own, to break."""
    with Group() as group:
        yield group.wait_ready()
        group.print_logs()  # pytest shows it if the test failed


@pytest.fixture(scope="session")
def debian_sources():
    """sources_of(), but tests are skipped where sources cannot be had: in CI that is a failure."""
    def find(package):
        try:
            return sources_of(package)
        except NotFetched as error:
            assert not os.environ.get("CI"), str(error)
            return pytest.skip(f"NOT RUN: {error}")
    return find
