"""lru_crawler metadump and mgdump: what a client gets is the leader's memcached's listing."""

import re
import urllib.parse

import pytest

from harness import Disconnected, rss_bytes, wait_for
from mc_support import PlainMemcached, exchange

BUSY = b"BUSY"
LAST = (b"END", b"EN", b"ERROR", b"CLIENT_ERROR", b"BADCLASS", b"SERVER_ERROR", BUSY, b"NOTSTARTED")
MANY = 50000  # a listing that no socket's buffers hold: some 300 bytes each
CUT = b"SERVER_ERROR muproxy: the listing ends here, not whole: "


def item_line(client):
    """One line, which may end as items' lines do."""
    while b"\n" not in client.buffer:
        client._fill()
    line, _, client.buffer = client.buffer.partition(b"\n")
    return line.rstrip(b"\r")


def lines(client):
    """A listing's lines, with the last one."""
    found = []
    while True:
        *whole, client.buffer = client.buffer.split(b"\n")
        for n, line in enumerate(whole):
            found.append(line.rstrip(b"\r"))
            if line.startswith(LAST):
                client.buffer = b"\n".join([*whole[n + 1:], client.buffer])
                return found
        client._fill()


def listing(client, what):
    """As lines(); servers that happen to crawl by themselves are asked again."""
    def whole():
        client.send(f"lru_crawler {what}\r\n".encode())
        found = lines(client)
        return None if found[0].startswith(BUSY) else found
    return wait_for(whole, f"the listing {what}")


def facts(line):
    return dict(word.split(b"=", 1) for word in line.split())


def by_key(found):
    """{key: facts} of a whole metadump."""
    assert found[-1] == b"END", found[-1]
    items = [facts(line) for line in found[:-1]]
    return {urllib.parse.unquote_to_bytes(item[b"key"]): item for item in items}


@pytest.fixture(params=["leader", "follower"])
def replica(request, shared):
    leader = shared.wait_leader()
    return next(i for i in shared.ids if (i == leader) == (request.param == "leader"))


SOME = (b"set plain 0 0 3\r\nabc\r\n" b"set flagged 77 0 1\r\nx\r\n" b"set brief 0 3000 1\r\nx\r\n"
        b"set absolute 0 2000000000 1\r\nx\r\n" b"set at%once 0 -1 1\r\nx\r\n"
        b"ms AAEC 2 b\r\nhi\r\n" b"set gone 0 0 1\r\nx\r\ndelete gone\r\n"
        b"set large 0 0 5000\r\n" + bytes(5000) + b"\r\n" + b"set counted 0 0 1\r\n7\r\n"
        b"incr counted 5\r\n" b"set odd:%/\xff 0 0 1\r\nx\r\n" b"get plain\r\n")


def test_it_is_what_a_plain_one_gives(shared, replica):
    with PlainMemcached() as server, server.connect() as theirs, \
            shared.memcached(replica) as ours:
        for client in theirs, ours:
            exchange(client, b"flush_all\r\n")
            exchange(client, SOME)
        for what in "metadump all", "metadump hash":
            expected, got = by_key(listing(theirs, what)), by_key(listing(ours, what))
            assert set(got) == set(expected) == {
                b"plain", b"flagged", b"brief", b"absolute", b"\0\1\2", b"large", b"counted",
                b"odd:%/\xff"}
            for key, item in got.items():
                assert list(item) == list(expected[key])
                for name in b"cls", b"size":
                    assert item[name] == expected[key][name], (key, name)
                for name in b"exp", b"la":
                    assert abs(int(item[name]) - int(expected[key][name])) <= 5, (key, name)
        assert got[b"plain"][b"exp"] == b"-1"


def test_its_tokens_are_those_of_gets(shared, replica):
    with shared.memcached(replica) as client:
        assert client.set("token", b"1") == b"STORED"
        token = by_key(listing(client, "metadump hash"))[b"token"][b"cas"].decode()
        assert client.gets("token") == (b"1", token)
        assert client.command(f"cas token 0 0 1 {token}", b"2") == b"STORED"
        assert client.command(f"cas token 0 0 1 {token}", b"3") == b"EXISTS"


@pytest.mark.parametrize("what", ["metadump", "metadump 99", "metadump x", "metadump 1-3",
                                  "metadump all noreply", "metadump all 1", "mgdump", "mgdump 99",
                                  "metadump 1", "metadump 1,2,30", "mgdump all", "mgdump hash"])
def test_other_arguments_mean_what_they_mean_there(shared, replica, what):
    with PlainMemcached() as server, server.connect() as theirs, \
            shared.memcached(replica) as ours:
        for client in theirs, ours:
            exchange(client, b"flush_all\r\nset one 0 0 1\r\nx\r\nset two 0 0 1\r\nx\r\n")
        expected, got = listing(theirs, what), listing(ours, what)

        def names(found):
            return sorted(re.sub(rb"(exp|la|cas|fetch|size)=\S+", rb"\1", line)
                          for line in found if b"__muproxy__" not in line)
        assert names(got) == names(expected)
        assert got[-1] == expected[-1]
        # It stands in its place among other requests, and the connection goes on.
        assert ours.get("one") == b"x"


def fill(group, client):
    for n in range(MANY):
        client.send(f"set {n:0>240} 0 0 1 noreply\r\nx\r\n".encode())
    assert client.command("mn") == b"MN"
    wait_for(lambda: client.get(f"{MANY - 1:0>240}") == b"x", "all to be stored")


def slow(group, i):
    """A client that keeps little of what it does not read."""
    client = group.memcached(i, timeout=60)
    return client


def test_a_client_that_does_not_read_holds_up_nobody(group):
    leader = group.wait_leader()
    other = next(i for i in group.ids if i != leader)
    with group.memcached(leader, timeout=60) as client:
        fill(group, client)
        for i in leader, other:
            before = {j: rss_bytes(group.read_pid(j)) for j in (leader, other)}
            with slow(group, i) as reader:
                reader.send(b"lru_crawler metadump hash\r\nmn\r\n")
                first = item_line(reader)
                assert first.startswith(b"key="), first
                for n in range(200):  # others are served meanwhile, and the log goes on
                    assert client.set(f"meanwhile{n}", b"x") == b"STORED"
                client.send(b"lru_crawler metadump hash\r\n")
                assert client.line().startswith(BUSY)
                for j, bytes_before in before.items():
                    assert rss_bytes(group.read_pid(j)) < bytes_before + (10 << 20)
                found = by_key([first, *lines(reader)])
                missing = [n for n in range(MANY) if f"{n:0>240}".encode() not in found]
                assert not missing
                assert not any(key.startswith(b"__muproxy__") for key in found)
                assert reader.line() == b"MN"


def test_a_client_that_leaves_makes_room(group):
    leader = group.wait_leader()
    other = next(i for i in group.ids if i != leader)
    with group.memcached(leader, timeout=60) as client:
        fill(group, client)
        for i in leader, other:
            with slow(group, i) as reader:
                reader.send(b"lru_crawler metadump hash\r\n")
                assert item_line(reader).startswith(b"key=")
            assert listing(client, "metadump hash")[-1] == b"END"


def test_it_says_so_if_its_leader_is_lost(group):
    leader = group.wait_leader()
    other = next(i for i in group.ids if i != leader)
    with group.memcached(leader, timeout=60) as client:
        fill(group, client)
    with slow(group, other) as reader:
        reader.send(b"lru_crawler metadump hash\r\n")
        assert item_line(reader).startswith(b"key=")
        group.kill(leader)
        group.wait_leader(other_than=leader)
        assert lines(reader)[-1] == CUT + b"another replica leads now"
        with pytest.raises(Disconnected):
            reader.line()
    with group.memcached(other, timeout=60) as client:
        assert len(by_key(listing(client, "metadump hash"))) >= MANY


def test_it_says_so_if_the_server_is_lost(group):
    leader = group.wait_leader()
    with group.memcached(leader, timeout=60) as client:
        fill(group, client)
    with slow(group, leader) as reader:
        reader.send(b"lru_crawler metadump hash\r\n")
        assert item_line(reader).startswith(b"key=")
        group.kill(leader, name="memcached.pid")
        assert lines(reader)[-1].startswith(CUT)
        with pytest.raises(Disconnected):
            reader.line()
