"""Large replies to writes, scripts and EXEC: who takes them slowly gets them whole, from a file.

That they are in a file is seen by what the proxy has open; that they are nowhere else, by its memory.
"""

import os
import stat

import pytest

from harness import Group, encode, wait_for, where

MIB = 1 << 20
ITEMS, ITEM_BYTES = 72, MIB // 2
LARGE_BYTES = ITEMS * ITEM_BYTES
HELD_BYTES = 20 * MIB  # what is on its way, and what allocators keep


def item(n):
    return b"%07d" % n + b"x" * (ITEM_BYTES - 7)


WHOLE = b"".join(item(n) for n in range(ITEMS))

# What the client sends, lines before the items, and whether they come one by one.
WAYS = {
    "GETDEL": (encode("GETDEL", "string"), [b"$%d" % LARGE_BYTES], False),
    "GETSET": (encode("GETSET", "string", "v"), [b"$%d" % LARGE_BYTES], False),
    "LPOP": (encode("LPOP", "list", ITEMS), [b"*%d" % ITEMS], True),
    "EVAL": (encode("EVAL", "return redis.call('LRANGE', KEYS[1], 0, -1)", 1, "list"),
             [b"*%d" % ITEMS], True),
    "EXEC": (encode("MULTI") + encode("ECHO", "e") + encode("GET", "string") + encode("EXEC"),
             [b"+OK", b"+QUEUED", b"+QUEUED", b"*2", b"$1", b"e", b"$%d" % LARGE_BYTES], False),
    "EXEC of items": (encode("MULTI") + encode("LRANGE", "list", 0, -1) + encode("EXEC"),
                      [b"+OK", b"+QUEUED", b"*1", b"*%d" % ITEMS], True),
}


@pytest.fixture(scope="module")
def group():
    # Less than what is asked for: nobody is disconnected for it.
    with Group(ring_size="64M") as group:
        group.wait_ready()
        for i in group.ids:
            group.restart_with(i, "\n[limits]\nclient-output = 8M\n")
        yield group
        group.print_logs()


def fill(client, with_items=False):
    client.call("DEL", "string", "list", "behind")
    for n in range(ITEMS):
        client.call(*(("RPUSH", "list") if with_items else ("APPEND", "string")), item(n))


def spilled_bytes(group, i):
    """What a proxy has put into files without a name."""
    folder = f"/proc/{group.read_pid(i)}/fd"
    total = 0
    for name in os.listdir(folder):
        try:
            link, about = os.readlink(f"{folder}/{name}"), os.stat(f"{folder}/{name}")
        except FileNotFoundError:
            continue
        if link.startswith("/var/tmp/") and stat.S_ISREG(about.st_mode):
            total += about.st_size
    return total


def take(client, before, one_by_one):
    for line in before:
        assert client.line() == line
    if not one_by_one:
        assert client.exactly(LARGE_BYTES + 2) == WHOLE + b"\r\n"
        return
    for n in range(ITEMS):
        assert client.reply() == item(n)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", ["leader", "follower"])
def test_who_takes_it_slowly_gets_it_whole(group, which, way):
    request, before, one_by_one = WAYS[way]
    i = where(group, which)
    with group.redis(i, 60) as slow, group.redis(i, 60) as other:
        fill(other, one_by_one)
        group.wait_level()
        slow.send(request + encode("INCR", "behind"))
        # A part of it is in memory, and on its way.
        wait_for(lambda: spilled_bytes(group, i) > LARGE_BYTES - HELD_BYTES, "a file to be filled")
        assert other.call("PING") == b"PONG"
        take(slow, before, one_by_one)
        assert slow.reply() == 1
        wait_for(lambda: spilled_bytes(group, i) == 0, "the file to go")
        assert slow.call("INCR", "behind") == 2


def peak_bytes(pid, since_now=False):
    """The most memory that a process has had, shared or not."""
    if since_now:
        with open(f"/proc/{pid}/clear_refs", "w") as file:
            file.write("5")
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM"))


@pytest.mark.parametrize("way", ["GETDEL", "EXEC of items"])
@pytest.mark.parametrize("which", ["leader", "follower"])
def test_it_is_in_the_file_alone(group, which, way):
    """At the leader, which sends it on, and at a follower, whose own server answers, too."""
    i = where(group, which)
    request, before, one_by_one = WAYS[way]
    with group.redis(i, 60) as slow, group.redis(i, 60) as other:
        fill(other, one_by_one)
        group.wait_level()
        pids = [group.read_pid(j) for j in group.ids]
        held = [peak_bytes(pid, since_now=True) for pid in pids]
        slow.send(request)
        wait_for(lambda: spilled_bytes(group, i) > LARGE_BYTES - HELD_BYTES, "a file")
        take(slow, before, one_by_one)
        group.wait_level()
        grown = [peak_bytes(pid) - was for pid, was in zip(pids, held)]
        assert max(grown) < HELD_BYTES, grown


@pytest.mark.parametrize("which", ["leader", "follower"])
def test_a_client_that_leaves_midway(group, which):
    i = where(group, which)
    with group.redis(i, 60) as other:
        fill(other)
        with group.redis(i, 60) as slow:
            slow.send(WAYS["GETDEL"][0])
            wait_for(lambda: spilled_bytes(group, i) > 0, "a file")
        wait_for(lambda: spilled_bytes(group, i) == 0, "the file to go")
        assert other.call("PING") == b"PONG"


@pytest.mark.parametrize("bound", ["16M", "0"])
def test_the_files_are_bounded(group, bound):
    """Who comes to the bound is disconnected, and nobody else. 0: memory is what there is."""
    leader = group.wait_leader()
    i = next(i for i in group.ids if i != leader and "max-spill" not in open(group.conf(i)).read())
    group.restart_with(i, f"max-spill = {bound}\n")
    with group.redis(i, 60) as slow, group.redis(i, 60) as other:
        fill(other)
        slow.send(WAYS["GETDEL"][0])
        wait_for(lambda: other.call("EXISTS", "string") == 0, "it to be executed")
        assert len(slow.rest()) < LARGE_BYTES
        assert other.call("PING") == b"PONG"
    wait_for(lambda: spilled_bytes(group, i) == 0, "the file to go")
