"""What no client library sends, and requests cut anywhere: answered as a plain memcached does.

MUPROXY_SEEDS=1000-1199 runs these seeds of odd lines instead of the few that CI runs.
"""

import os
import random
import re
import struct

import pytest

from mc_odd_lines import BEGIN, odd_line
from mc_requests import NO_TOKEN, Binary, Text, frame, frames
from mc_support import PlainMemcached, exchange, read_until

FIRST, _, LAST = os.environ.get("MUPROXY_SEEDS", "0-5").partition("-")
LINES_A_SEED = 60
FILL = b"mn\r\n" * 300  # what a block that was announced, but is not there, takes instead
LONG = "k" * 250

TEXT = f"""flush_all
set a 1 0 2
10
set b 0 0 4 noreply
a
b
gets a b c
incr a 5
ms b2RkIGtleQ== 2 b k c Oq
hi
mg b2RkIGtleQ== b k v f s t
gat 100 a b
append a 0 0 1 noreply
7
mg a v q k
mg none v q
mn
set c 0 0 5
abcdefg
set {LONG} 3 0 1
x
get {LONG} a
delete a noreply
delete a
ma n N0 J5 v q
ma n v
cas b 0 0 1 {NO_TOKEN} noreply
z
cas b 0 0 1 {NO_TOKEN}
z
nonsense noreply
touch b 0
md b I q
mg b v
mg b v
set c 0 0 -1
set c 0 0 x noreply
get c
flush_all noreply
me b
""".replace("\n", "\r\n").encode()
BINARY = b"".join([
    frame(0x08), frame(0x01, b"a", bytes(8), b"10"), frame(0x11, b"b", bytes(8), b"x" * 50),
    frame(0x09, b"none"), frame(0x0d, b"a", opaque=3),
    frame(0x05, b"a", struct.pack(">QQI", 5, 0, 0)), frame(0x1d, b"a", bytes(4)), frame(0x0a),
    frame(0x19, b"b", b"", b"tail"), frame(0x0c, b"b"), frame(0x14, b"none"), frame(0x04, b"none"),
    frame(0x12, b"a", bytes(8), b"z"), frame(0x02, b"a", bytes(8), b"z"), frame(0x10, b"nonsense"),
    frame(0x01, b"odd key", bytes(8), b"o"), frame(0x00, b"odd key"), frame(0x18),
    frame(0x00, b"a")])


def masked(reply):
    """Without tokens and times."""
    reply = re.sub(rb"cas=[1-9]\d*", b"cas=token", Text.masked(reply))
    return re.sub(rb"( t| l|exp=|la=)(-?\d+)", rb"\1", reply)


@pytest.fixture(scope="module")
def plain():
    with PlainMemcached("-o", "no_lru_maintainer,no_lru_crawler") as server:
        yield server


@pytest.mark.parametrize("seed", range(int(FIRST), int(LAST or FIRST) + 1))
def test_odd_lines(shared, plain, seed):
    choose = random.Random(seed)
    leader = shared.wait_leader()
    i = next(i for i in shared.ids if (i == leader) == bool(seed % 2))
    with plain.connect() as theirs, shared.memcached(i, timeout=20) as ours:
        exchange(theirs, BEGIN)
        exchange(ours, BEGIN)
        for _ in range(LINES_A_SEED):
            line = odd_line(choose)
            # (One by one: memcached forgets earlier answers at a get with a key that is too long.)
            assert masked(exchange(ours, line + FILL)) == masked(exchange(theirs, line + FILL)), line


def answers(connect, pieces):
    """Sent with a pause after each, as long as it takes somebody else to be answered."""
    with connect() as client, connect() as other:
        for piece in pieces[:-1]:
            client.send(piece)
            other.command("mn")
        client.send(pieces[-1])
        return read_until(client, Text.LAST_REPLY if pieces[0][:1] != b"\x80" else
                          Binary.LAST_REPLY)


@pytest.mark.parametrize("dialect", [Text, Binary], ids=["text", "binary"])
def test_cut_anywhere(shared, plain, replica, dialect):
    choose = random.Random(dialect.__name__)
    whole = (TEXT if dialect is Text else BINARY) + dialect.LAST

    def compared(reply):
        return masked(reply) if dialect is Text else [
            (header, token != 0, body) for header, token, body in frames(reply)]

    def ours():
        return shared.memcached(replica, timeout=20)

    # (memcached itself is asked in one go: what it answers to pieces may lack something.)
    expected = compared(answers(plain.connect, [whole]))
    for at in choose.sample(range(1, len(whole)), 60):
        assert compared(answers(ours, [whole[:at], whole[at:]])) == expected, at
    single = [whole[n:n + 1] for n in range(len(whole))]
    assert compared(answers(ours, single)) == expected


@pytest.mark.parametrize("verb", ["get", "gets", "gat 100", "gats 100"])
def test_hundreds_of_keys(shared, plain, replica, verb):
    """With 250 bytes each; gat's line may have 16 KiB."""
    keys = [f"{n:04}" + "k" * (246 if verb.startswith("get") else 30) for n in range(400)]
    stores = "".join(f"set {key} 3 0 4 noreply\r\n{key[:4]}\r\n"
                     for n, key in enumerate(keys) if n % 3)
    request = f"{verb} {' '.join(keys)}\r\n".encode()
    with plain.connect() as theirs, shared.memcached(replica, timeout=20) as ours:
        for client in theirs, ours:
            exchange(client, b"flush_all\r\n" + stores.encode())
        expected = masked(exchange(theirs, request))
        assert expected.count(b"VALUE") == 266
        assert masked(exchange(ours, request)) == expected
