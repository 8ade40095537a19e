"""SCAN, SSCAN, HSCAN and ZSCAN, while leaders die: what is there throughout is returned."""

import pytest

from harness import ServerError

COUNT = 2000
NAMES = {b"member:%d" % n for n in range(COUNT)}
SCANS = {"SCAN": (), "SSCAN": ("set",), "HSCAN": ("hash",), "ZSCAN": ("zset",)}


def fill(client):
    for n in range(0, COUNT, 100):
        names = [f"member:{k}" for k in range(n, n + 100)]
        client.call("MSET", *[word for name in names for word in (name, "1")])
        client.call("SADD", "set", *names)
        client.call("HSET", "hash", *[word for name in names for word in (name, "1")])
        client.call("ZADD", "zset", *[word for name in names for word in ("1", name)])


def step(client, name, cursor, found, transaction=False):
    """One more piece; returns the next cursor."""
    request = (name, *SCANS[name], cursor, "COUNT", 100)
    if transaction:
        client.call("MULTI")
        client.call(*request)
        (cursor, items), = client.call("EXEC")
    else:
        cursor, items = client.call(*request)
    assert 0 <= int(cursor) < 1 << 63
    found.update(items if name in ("SCAN", "SSCAN") else items[::2])
    return cursor


def to_the_end(client, name, cursor, found, **how):
    for _ in range(20 * COUNT // 100):
        if cursor == b"0":
            return
        cursor = step(client, name, cursor, found, **how)
    raise AssertionError(f"{name} does not end")


@pytest.mark.parametrize("transaction", [False, True])
def test_a_scan_through_every_replica(shared, transaction):
    """As in one server: it comes to an end, and has seen everything."""
    clients = [shared.redis(i) for i in shared.ids]
    fill(clients[0])
    for name in SCANS:
        found, cursor, steps = set(), b"", 0
        while cursor != b"0":
            cursor = step(clients[steps % 3], name, cursor or b"0", found, transaction)
            steps += 1
            assert steps < 3 * COUNT // 100
        assert NAMES <= found
        assert COUNT // 200 < steps
    for client in clients:
        client.close()


def test_bad_cursors(shared):
    with shared.redis(2) as client:
        client.call("SADD", "small", "a", "b")
        for name, words in SCANS.items():
            with pytest.raises(ServerError, match="ERR invalid cursor"):
                client.call(name, *words, "x")
        # Nobody's: a scan from the beginning.
        assert sorted(client.call("SSCAN", "small", 77 << 36 | 5)[1]) == [b"a", b"b"]
        assert client.call("SSCAN", "nothing", "0") == [b"0", []]
        with pytest.raises(ServerError, match="syntax"):
            client.call("SCAN", "0", "COUNT")


def test_leaders_die_in_the_middle(group):
    """The connections stay: to the replicas that live, of which one comes to lead."""
    first = group.wait_leader()
    clients = {i: group.redis(i, timeout=30) for i in group.ids}
    fill(clients[first])
    cursors, found = {}, {}
    survivors = [i for i in group.ids if i != first]
    for i in survivors:
        for name in SCANS:
            key = (i, name)
            found[key] = set()
            cursors[key] = b"0"
            for _ in range(6):
                cursors[key] = step(clients[i], name, cursors[key], found[key],
                                    transaction=name == "SSCAN")
            assert cursors[key] != b"0" and not NAMES <= found[key]
    group.kill(first)
    for i, name in cursors:
        to_the_end(clients[i], name, cursors[i, name], found[i, name])
        assert NAMES <= found[i, name], (name, len(found[i, name]))
    # And back: a scan that one began whom the first one follows.
    second = group.wait_leader(other_than=first)
    last = next(i for i in survivors if i != second)
    found, cursors = {}, {}
    for name in SCANS:
        found[name] = set()
        cursors[name] = step(clients[last], name, b"0", found[name])
        cursors[name] = step(clients[last], name, cursors[name], found[name])
    group.start_replica(first)
    group.wait_level()
    group.kill(second)
    for name, cursor in cursors.items():
        to_the_end(clients[last], name, cursor, found[name], transaction=name == "HSCAN")
        assert NAMES <= found[name], (name, len(found[name]))
    for client in clients.values():
        client.close()
