"""In front of a newer memcached than Debian 12's: the flags of meta commands that it has added.

It is Debian's next release's; newer_servers.py tells how to name another one.
"""

import re
import shutil

import pytest

from debian_source import NotFetched
from harness import Group
from heal import wait_restored
from mc_requests import NO_TOKEN
from mc_support import PlainMemcached, exchange, items
from newer_servers import newer_server
from test_heal_memcached import Memcacheds, outrun
from test_memcached_meta import ITEMS, KEY_IN_BASE64, beside_a_plain_one, go_through

TOP = 2**64 - 2**48  # E takes less than that
NEWS = {
    "mg": ["E7", "E7 c", "N30 E7 c v", "E0 N0 c", "T90 E7 c t", "R60 E7 v", "Ex", "E", "E-1 v",
           "x v", f"N0 E{TOP - 1} c"],
    "md": ["x", "x q", "x k O1", "x I", "x I T60", "x T-1", "x T90 F5", "x C<token>",
           f"x C{NO_TOKEN}", "x I E7", "x E7", "x E0", "I E7", "I T30 E7 k", "I E0", "E7", "Ex x",
           "C<token> I E7", "C<token> E7 x"],
    "ms": ["E7", "E7 c", "E0 c", "E7 c T60 F3 k q", "s", "s c k", "k s O1 c", "s q", "Ex", "E7 E8",
           f"E{TOP - 1} c", "C<token> E7 c", "C0 E7", f"I C{NO_TOKEN} E5 c", "I C1 E2 c s", "N30",
           "N30 T90 s",
           *(f"M{mode} {rest}" for mode in "EAPRS"
             for rest in ["E7 c", "s", "N30", "N0 F9 E7 c s", "N60 T90 C<token> s", "N-1",
                          f"N30 C{NO_TOKEN} q", "Nx", "C<token> E9 s c"])],
    "ma": ["E7", "E7 c v", "E0 c", "N30 J5 E7 c t", "N0 E7 q", "C<token> E7 c", f"C{NO_TOKEN} E8",
           "MD D9 E7 c",
           "T60 E7 c t", "Ex", f"E{TOP - 1} c"],
}
KINDS = {
    **ITEMS,
    "chosen": ["ms {k} 2{b} E7000000000000000\r\n12", "mg {k}{b} v"],
    "chosen, stale": ["ms {k} 2{b} E5\r\n12", "md {k}{b} I E7000000000000000"],
}


def requests():
    for verb, choices in NEWS.items():
        length, block = (" 2", "\r\n33") if verb == "ms" else ("", "")
        yield from ((verb, length, flags, block) for flags in choices)


@pytest.fixture(scope="module")
def newer():
    """Its path."""
    try:
        return newer_server("memcached")
    except NotFetched as error:
        return pytest.skip(f"NOT RUN: {error}")


@pytest.fixture(scope="module")
def shared(newer):
    """A group of them."""
    with Group(memcached=[newer]) as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.fixture(scope="module")
def pairs(shared, newer):
    with beside_a_plain_one(shared, newer) as pairs:
        yield pairs


@pytest.mark.parametrize("item", KINDS)
def test_every_flag(pairs, item):
    go_through(pairs, KINDS[item], requests())


@pytest.mark.parametrize("item", ["missing", "number"])
def test_every_flag_with_a_key_in_base64(pairs, item):
    go_through(pairs, KINDS[item], requests(), KEY_IN_BASE64.decode(), " b")


def ask(client, *lines):
    """The replies' lines."""
    request = "".join(f"{line}\r\n" for line in lines)
    return exchange(client, request.encode()).decode().split("\r\n")[:-1]


def test_a_key_with_line_ends_keeps_its_mark(shared):
    """memcached itself forgets at md x that it came in base64, as at mg N."""
    with shared.memcached(shared.wait_leader()) as client:
        assert ask(client, "ms b2RkDQprZXk= 1 b\r\n1", "md b2RkDQprZXk= b x I E5",
                   "mg b2RkDQprZXk= b k v c") == ["HD", "HD", "VA 0 kb2RkDQprZXk= b c5 X W", ""]


@pytest.fixture
def group(newer):
    """One to break."""
    with Group(memcached=[newer], ring_size="1M") as group:
        yield group.wait_ready()
        group.print_logs()


CHOOSE = ["ms stored 1 E5 c\r\n1", "ma counted N0 J10 E7 c", f"ma counted E{2**53 + 1} c v",
          f"mg vivified N0 E{TOP - 1} c", "ms tomb 3 F4\r\nabc", "md tomb x E6 F3"]


def chosen_tokens_are_kept(client):
    assert ask(client, "mg stored v c", "mg counted v c", "mg vivified v c", "mg tomb v c f") == [
        "VA 1 c5", "1", f"VA 2 c{2**53 + 1}", "11", f"VA 0 c{TOP - 1} Z", "", "VA 0 c6 f3", ""]


def choose_some_tokens(client):
    assert ask(client, *CHOOSE) == ["HD c5", "HD c7", f"VA 2 c{2**53 + 1}", "11",
                                    f"HD c{TOP - 1} W", "HD", "HD"]
    chosen_tokens_are_kept(client)


def test_chosen_tokens_outlive_their_leader(group):
    """...while those that servers number end with it."""
    leader = group.wait_leader()
    other = next(i for i in group.ids if i != leader)
    with group.memcached(other, timeout=20) as client:
        choose_some_tokens(client)
        (own,) = re.findall(r" c(\d+)", ask(client, "ms own 1 c\r\n1")[0])
        group.kill(leader)
        group.wait_leader(other_than=leader, ask=other)
        chosen_tokens_are_kept(client)
        assert ask(client, f"ms own 1 C{own}\r\n2", "ms stored 1 C6\r\n2",
                   "ms stored 1 C5 E8 c\r\n2", f"md counted C{2**53}",
                   f"md counted C{2**53 + 1}", "md tomb C6",
                   f"ms vivified 1 C{TOP - 1} MS\r\n3") == [
            "EX", "EX", "HD c8", "EX", "HD", "HD", "HD"]


def test_a_server_that_is_filled_again_is_told_chosen_tokens(group, newer):
    with group.memcached(group.wait_leader()) as client:
        choose_some_tokens(client)
    outrun(group)
    victim = next(i for i in group.ids if i != group.wait_leader())
    keys = ["stored", "counted", "tomb"]  # of those that are won nothing is copied
    with Memcacheds(group, newer) as servers:
        servers.empty(victim)
        wait_restored(group, victim)
        with group.memcached_backend(victim) as backend:
            assert ask(backend, *(f"mg {key} c f" for key in keys)) == [
                f"HD c{2**48 + 5} f0", f"HD c{2**48 + 2**53 + 1} f0", f"HD c{2**48 + 6} f3"]


def test_servers_are_replaced_one_by_one(newer, tmp_path):
    """One replica's is of 1.6.18 still: it misses what it cannot have, and holds nothing old."""
    mixed = tmp_path / "mixed"
    mixed.write_text(f"""#!/bin/sh
case "$*" in
*/replica-1/*) exec {shutil.which("memcached")} "$@" ;;
*) exec {newer} "$@" ;;
esac
""")
    mixed.chmod(0o755)
    with Group(memcached=[str(mixed)]) as group:
        group.wait_ready()
        with group.memcached(2, timeout=20) as client:
            # (Which tokens are told depends on whose server the leader's is.)
            assert [reply[:2] for reply in ask(client, *CHOOSE)] == [
                "HD", "HD", "VA", "11", "HD", "HD", "HD"]
        with group.memcached(1) as client:
            assert ask(client, "mg a E5", "md a x") == [
                "CLIENT_ERROR invalid flag", "CLIENT_ERROR invalid or duplicate flag"]
        group.wait_level()
        held = []
        for i in group.ids:
            with group.memcached_backend(i) as backend:
                held.append(items(backend, ["stored", "counted", "vivified", "tomb"]))
        assert held[1] == held[2] and set(held[1]) == {"stored", "counted", "vivified", "tomb"}
        del held[1]["tomb"]
        assert held[0] == held[1]


def fill_up(client):
    """Large items, and those of the least size with as long a key, until there is no room for either."""
    stored = [client.set(f"filler{n}", b"f" * 400_000) for n in range(40)]
    assert b"STORED" in stored and stored[-1].startswith(b"SERVER_ERROR out of memory")
    client.send(b"".join(b"set %0250d 0 0 0 noreply\r\n\r\n" % n for n in range(6000)))
    assert client.set("x" * 250, b"").startswith(b"SERVER_ERROR out of memory")


def test_a_tombstone_without_room(newer):
    """md x makes an item; where there is no room for it the old one is gone, and stays so."""
    full = "-m", "8", "-M"
    key, value = "k" * 250, b"v" * 100_000
    with PlainMemcached(*full, program=newer) as plain, Group(memcached=[newer, *full]) as group:
        group.wait_ready()
        leader = group.wait_leader()
        with plain.connect(30) as theirs, group.memcached(leader, timeout=30) as ours:
            for client in theirs, ours:
                assert client.set(key, value) == b"STORED"
                fill_up(client)
            group.wait_level()
            held = []
            for i in group.ids:
                with group.memcached_backend(i) as backend:
                    held.append(items(backend, [key]))
            assert all(held)
            told = theirs.command(f"md {key} x")
            assert told.startswith(b"SERVER_ERROR out of memory")
            assert ours.command(f"md {key} x") == told
            assert ours.get(key) is None
        group.wait_level()
        for i in group.ids:
            with group.memcached_backend(i) as backend:
                assert items(backend, [key]) == {}
