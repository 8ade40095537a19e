"""Random requests of Memcached clients, to be put to two servers.

Each server hands out tokens of its own. Where a request has TOKEN in it, every
server gets one that it gave itself for the key (see Side), or NO_TOKEN, which
none of them has ever given: a guess such as 5 may be right by chance.
"""

import re

from mc_support import THE_END, take_replies

TOKEN = b"<token>"
NO_TOKEN = 1 << 60  # ours are below 2^53, and memcached counts from 1
KEYS = [f"d{n}" for n in range(8)]
# Of these alone items are marked stale (md I, ms I): where the leader decides about a stale
# item its token may change, so that one told some requests before is good for nothing.
MARKED_KEYS = KEYS[4:]
VALUES = [b"", b"0", b"7", b"99", b"18446744073709551615", b"text", b"a\r\nb", b"\0\xff" * 20,
          b"x" * 5000]


class Side:
    """One of the servers: a connection to it, and the tokens that it gave last for each key."""

    def __init__(self, client):
        self.client = client
        self.given = {}  # key -> the last one, and the one before

    def note_token(self, key, reply):
        """The reply to gets of that key."""
        if reply == b"END\r\n":
            return
        token = int(reply.partition(b"\r\n")[0].split()[4])
        last, _ = self.given.get(key, (NO_TOKEN, NO_TOKEN))
        if token != last:
            self.given[key] = token, last

    def fill_in(self, request, key, which):
        last, older = self.given.get(key, (NO_TOKEN, NO_TOKEN))
        token = {"last": last, "older": older, "none": NO_TOKEN}[which]
        return request.replace(TOKEN, b"%d" % token)


def same_replies(sides, requests):
    """Put to each side its request, and compare. They work at the same time."""
    for side, request in zip(sides, requests):
        side.client.send(request + THE_END[0])
    replies = [take_replies(side.client) for side in sides]
    assert masked(replies[0]) == masked(replies[1]), requests
    return replies


def masked(reply):
    """A reply, with "some token" in place of tokens."""
    reply = re.sub(rb"(VALUE \S+ \d+ \d+) [1-9]\d*\r", rb"\1 token\r", reply)
    return re.sub(rb" c[1-9]\d*(?=[ \r])", b" ctoken", reply)


def text_request(choose):
    """A request of the text protocol or a meta command."""
    key, marked, value = choose.choice(KEYS), choose.choice(MARKED_KEYS), choose.choice(VALUES)
    n, ttl = choose.randrange(100), choose.choice([0, 0, 1000, 100000])
    flags = choose.choice(["", "", " k", " O%d" % n, " q", " k q Oz", " c", " O%d c k" % n])
    store = choose.choice(["set", "add", "replace", "append", "prepend"])
    line = choose.choice([
        f"{store} {key} {n} {ttl} %d", f"{store} {key} {n} {ttl} %d",
        f"cas {key} {n} {ttl} %d <token>", f"cas {key} {n} {ttl} %d <token>",
        f"ms {key} %d F{n} T{ttl}{flags}", f"ms {key} %d M{choose.choice('EAPRS')}{flags}",
        f"ms {key} %d C<token>{flags}", f"ms {marked} %d I C<token>{flags}",
        f"ms {key} %d C<token> M{choose.choice('EAPRS')}{flags}",
        f"delete {key}", f"md {key}{flags}", f"md {marked} I{flags}", f"md {key} C<token>{flags}",
        f"md {marked} I T{ttl} C<token>{flags}",
        f"incr {key} {n}", f"decr {key} {n}", f"touch {key} {ttl}",
        f"ma {key} D{n} v{flags}", f"ma {key} N0 J{n} v MD{flags}", f"ma {key} T{ttl}{flags}",
        f"ma {key} C<token>{flags}",
        f"get {key}", f"gets {key} d0 d1 none", f"gat {ttl} {key} d2", f"gats {ttl} {key}",
        f"mg {key} v f s{flags}",
        f"mg {key} v T{ttl}{flags}", f"mg {key} N0 v{flags}", f"mg {key} R30 v{flags}",
        "flush_all" if choose.randrange(20) == 0 else f"get {key}",
    ])
    if "%d" not in line:
        return line.encode() + b"\r\n"
    return (line % len(value)).encode() + b"\r\n" + value + b"\r\n"
