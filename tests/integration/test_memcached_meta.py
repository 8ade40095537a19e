"""Every flag and mode of the meta commands, on every kind of item: as a plain memcached has them.

test_memcached_differential.py draws at random what here is gone through one by one.
"""

import base64
import contextlib
import itertools
import re

import pytest

from mc_requests import NO_TOKEN
from mc_support import PlainMemcached, read_until

JITTER_S = 8  # ages, and times to live, of two servers whose seconds begin at different moments

# What there is when the command comes, and what makes it so.
ITEMS = {
    "missing": [],
    "text": ["ms {k} 4{b} F7\r\ntext"],
    "number": ["ms {k} 2{b} T1000\r\n98"],
    "long number": ["ms {k} 6{b}\r\n99    "],
    "empty": ["ms {k} 0{b}\r\n"],
    "fetched": ["ms {k} 2{b} T1000\r\n10", "mg {k}{b} v"],
    "stale": ["ms {k} 2{b} F3\r\n12", "md {k}{b} I T500"],
    "stale, refreshed": ["ms {k} 2{b}\r\n12", "md {k}{b} I", "mg {k}{b} v"],
    "won": ["ms {k} 2{b} T30\r\n12", "mg {k}{b} R60 v"],
    "vivified": ["mg {k}{b} N300 v"],
    "vivified, then set": ["mg {k}{b} N300 v", "ms {k} 1{b}\r\n5"],
    "stored stale": ["ms {k} 1{b}\r\n1", "ms {k} 1{b} I C1\r\n2"],
}

RETURNED = ["", "s", "t", "c", "f", "h", "l", "k", "v", "u", "O123", "q", "k O9 q", "P1", "L1",
            "s t c f h l k v O-opaque", "k v s t c f h l O-opaque q", "v u h l"]
MG = RETURNED + ["N30", "N0 v", "N30 t v k", "R30", "R60 v t", "R5000 v", "T90", "T0 t", "T90 t v",
                 "t T90", "T-1 v", "N-1 v", "R-1 v", "T90 N30 R60 s v t", "E1", "q N30", "h T20",
                 "l h R60 f s"]
MD = ["", "q", "k", "O1", "k O1 q", "I", "I T30", "T30", "I q", "I k O2", "C<token>", "C0",
      "C<token> I", "C<token> I T60", f"C{NO_TOKEN}", f"C{NO_TOKEN} q k", "c", "x"]
MS = ["", "k", "c", "k c O5", "q", "q k O1", "F8", "T60", "T-1", "F1 T60 k", "I", "S2", "b",
      "C<token>", "C<token> k q", f"C{NO_TOKEN}", f"C{NO_TOKEN} q", "C0", "I C1", "I C1 T20 c k",
      *(f"M{mode}{rest}" for mode in "EAPRSeaprsX"
        for rest in ["", " q", " k c", " C<token>", f" C{NO_TOKEN}", " F9 T100"])]
MA = ["", "v", "c", "t", "v t c k O1", "q", "q v", "N0", "N0 v", "N60 J7 v t", "N60 J7 q v", "J7",
      "D5 v", "D18446744073709551615 v", "D99999999999999999999", "Dx", "Jx", "Nx", "Tx",
      "T60 t v", "t T60", "N30 T60 t", "T60 N30 t", "t N30", "T-1", "C<token> v", f"C{NO_TOKEN} v", f"C{NO_TOKEN} q", "I", "F1",
      *(f"M{mode} v" for mode in ["I", "+", "D", "-", "i", "d", "incr", "X"]), "MD D90 v", "MD D9 v t c"]
ME = ["", "k", "v q"]


def requests():
    """(verb, what stands behind the key, flags, the value's line)"""
    for verb, choices in [("mg", MG), ("md", MD), ("ma", MA), ("me", ME)]:
        yield from ((verb, "", flags, "") for flags in choices)
    yield from (("ms", " 2", flags, "\r\n33") for flags in MS)
    yield "ms", " 5", "c k", "\r\nwords"


class Side:
    """One of the servers, and the token that it gave last."""

    def __init__(self, client):
        self.client = client
        self.token = NO_TOKEN

    def begin(self, request):
        request = request.replace("<token>", str(self.token)).encode()
        self.client.send(request + b"\r\nmg the-end-of-it k\r\n")

    def end(self):
        return read_until(self.client, b"EN kthe-end-of-it\r\n")


KEY, KEY_IN_BASE64 = b"odd key", b"b2RkIGtleQ=="
TIMES = re.compile(rb"( t| l|exp=|la=)(-?\d+)")


def masked(reply):
    """Without tokens and times; the times."""
    # memcached 1.6.18 forgets at ma and at ms MA that a key came in base64, and tells it bare.
    reply = reply.replace(b" k" + KEY, b" k" + KEY_IN_BASE64 + b" b")
    reply = reply.replace(b"ME " + KEY, b"ME " + KEY_IN_BASE64)
    reply = re.sub(rb" c[1-9]\d*(?=[ \r])", b" ctoken", reply)
    reply = re.sub(rb"cas=[1-9]\d*", b"cas=token", reply)
    return TIMES.sub(rb"\1", reply), [int(number) for _, number in TIMES.findall(reply)]


def close(a, b):
    return a == b or (a < 0) == (b < 0) and abs(a - b) <= JITTER_S


def same(sides, request, after=None):
    """Put it to both, which work at the same time; their replies."""
    for side in sides:
        side.begin(request)
    replies = [side.end() for side in sides]
    (one, one_times), (two, two_times) = map(masked, replies)
    assert one == two, (after, request)
    assert all(map(close, one_times, two_times)), (after, request, replies)
    return replies


def go_through(pairs, item, requests, key="key", binary=""):
    """pairs: [sides], which take turns. item: the requests that make it."""
    name = key + binary
    looks = "\r\n".join([f"me {name}", f"mg {name} s t f h v k c", f"mg {name} h l t",
                         f"me {name}"])
    for sides, (verb, length, flags, block) in zip(itertools.cycle(pairs), requests):
        prepare = [f"md {name} q"] + [line.format(k=key, b=binary) for line in item]
        same(sides, "\r\n".join(prepare))
        if "<token>" in flags:
            for side, reply in zip(sides, same(sides, f"me {name}")):
                found = re.search(rb" cas=(\d+) ", reply)
                side.token = int(found.group(1)) if found else NO_TOKEN
        request = f"{verb} {key}{length}{binary} {flags}{block}"
        same(sides, request)
        # What it has become: all that can be seen, twice, for a look changes it.
        same(sides, looks, after=request)


@contextlib.contextmanager
def beside_a_plain_one(group, program="memcached"):
    """[sides]: a plain memcached beside the leader, and beside a follower."""
    leader = group.wait_leader()
    follower = next(i for i in group.ids if i != leader)
    with PlainMemcached("-o", "no_lru_maintainer,no_lru_crawler", program=program) as plain, \
            contextlib.ExitStack() as stack:
        yield [[Side(stack.enter_context(plain.connect(30))),
                Side(stack.enter_context(group.memcached(i, timeout=30)))]
               for i in (leader, follower)]


@pytest.fixture(scope="module")
def pairs(shared):
    with beside_a_plain_one(shared) as pairs:
        yield pairs


@pytest.mark.parametrize("item", ITEMS)
def test_every_flag(pairs, item):
    go_through(pairs, ITEMS[item], requests())


@pytest.mark.parametrize("flags", [
    "b", "b x", "b 1", "b Tx", "Tx b", "x b", "Tx", "Fx", "Fx Tx", "Tx Fx", "Tx Cx", "Cx Tx", "Mxx Tx",
    "Tx Mxx", "M Tx", "Jx Dx", "Dx Jx", "k k", "k x k", "Rx Nx", "\u00e9", "k \u00e9", "!", "! !",
    "O" + "o" * 40, "O" + "o" * 40 + " Tx", "Tx O" + "o" * 40, "O" + "o" * 31, "O" + "o" * 40 + " Fx",
    "T5 T6", "T", "N", "C", "F", "O", "v v", " ".join("PLkstcfvhuqIO1")], ids=str)
def test_what_is_wrong_with_flags(pairs, flags):
    for sides in pairs:
        for command in ["mg !!!", "mg key", "md key", "ma key"]:
            # (Of a number that is there memcached's ma finds some faults when it has counted.)
            same(sides, "md key q")
            same(sides, f"{command} {flags}")
        same(sides, f"ms key 2 {flags}\r\n33")


@pytest.mark.parametrize("item", ["missing", "stale", "number"])
def test_every_flag_with_a_key_in_base64(pairs, item):
    go_through(pairs, ITEMS[item], requests(), KEY_IN_BASE64.decode(), " b")


def test_a_key_with_line_ends_is_always_told_in_base64(pairs):
    """An item that mg's N has made, too: told bare, it would look like two replies."""
    key = base64.b64encode(b"odd\r\nc1 key").decode()
    told = f"k{key} b".encode()
    for side in pairs[0][1], pairs[1][1]:
        side.begin(f"mg {key} b N30 k v s h t q\r\nme {key} b\r\nmg {key} b k T90 t v\r\n"
                   f"md {key} b q\r\nmg {key} b k N0 T60 Oo t\r\nmd {key} b q")
        made, _, debugged, again, _, both, end = side.end().split(b"\r\n")
        assert not end
        assert masked(made)[0] == b"VA 0 " + told + b" s0 h0 t W"
        assert masked(debugged)[0].startswith(b"ME %s exp= la= cas=token " % key.encode())
        assert masked(again)[0] == b"VA 0 " + told + b" t Z"
        reply, (left_s,) = masked(both)
        assert reply == b"HD " + told + b" Oo t W" and close(left_s, 60)


def test_a_number_that_grows_lives_for_as_long_as_it_is_told(shared):
    """memcached 1.6.18 gives the T of ma to the item that it has just replaced; ours is right."""
    with shared.memcached(shared.wait_leader()) as client:
        assert client.command("ms grows 1 T1000", b"9") == b"HD"
        assert client.command("ma grows T60 t") in (b"HD t60", b"HD t59")
        assert 50 <= int(client.command("mg grows t").partition(b"t")[2]) <= 61
