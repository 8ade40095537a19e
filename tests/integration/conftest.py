"""Fixtures: groups of real replicas with real backends."""

import pytest

from harness import Group, need_build

need_build()


@pytest.fixture(scope="module")
def shared():
    """One group for the tests of a module that leave it as they found it."""
    with Group() as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.fixture
def group():
    """A group of the test's own, to break."""
    with Group() as group:
        yield group.wait_ready()
        group.print_logs()  # pytest shows it if the test failed
