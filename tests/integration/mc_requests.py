"""Random requests of Memcached clients, to be put to two servers.

Each server hands out tokens of its own. Where a request is to compare one, every
server gets one that it gave itself for the key (see Side), or NO_TOKEN, which
none of them has ever given: a guess such as 5 may be right by chance.
"""

import base64
import re
import struct

from mc_support import read_until

NO_TOKEN = 1 << 60  # ours are below 2^53, and memcached counts from 1
KEYS = [f"d{n}" for n in range(8)]
# Of these alone items are marked stale (md I, ms I): where the leader decides about a stale
# item its token may change, so that one told some requests before is good for nothing.
MARKED_KEYS = KEYS[4:]
ODD_KEYS = ["odd key", "odd\r\nkey"]  # only the binary protocol can say these
ODD_KEYS_IN_BASE64 = [base64.b64encode(key.encode()).decode() + " b" for key in ODD_KEYS]
VALUES = [b"", b"0", b"7", b"99", b"18446744073709551615", b"text", b"a\r\nb", b"\0\xff" * 20,
          b"x" * 5000]
EXPTIMES = [0, 0, 1000, 100000]


class Text:
    """The text protocol and the meta commands."""

    LAST = b"mg the-end-of-it k\r\n"
    LAST_REPLY = b"EN kthe-end-of-it\r\n"
    TOKEN = b"<token>"

    @staticmethod
    def fill_in(request, token):
        return request.replace(Text.TOKEN, b"%d" % token)

    @staticmethod
    def ask_token(key):
        return f"gets {key}\r\n".encode()

    @staticmethod
    def token_in(reply):
        return None if reply == b"END\r\n" else int(reply.partition(b"\r\n")[0].split()[4])

    @staticmethod
    def masked(reply):
        """With "some token" in place of tokens."""
        reply = re.sub(rb"(VALUE \S+ \d+ \d+) [1-9]\d*\r", rb"\1 token\r", reply)
        return re.sub(rb" c[1-9]\d*(?=[ \r])", b" ctoken", reply)

    @staticmethod
    def request(choose):
        """A key, and a request that names it, perhaps with TOKEN in it."""
        key, marked, value = choose.choice(KEYS), choose.choice(MARKED_KEYS), choose.choice(VALUES)
        n, ttl = choose.randrange(100), choose.choice(EXPTIMES)
        flags = choose.choice(["", "", " k", " O%d" % n, " q", " k q Oz", " c", " O%d c k" % n])
        store = choose.choice(["set", "add", "replace", "append", "prepend"])
        mode = choose.choice("EAPRS")
        line = choose.choice([
            f"{store} {key} {n} {ttl} %d", f"{store} {key} {n} {ttl} %d",
            f"cas {key} {n} {ttl} %d <token>", f"cas {key} {n} {ttl} %d <token>",
            f"ms {key} %d F{n} T{ttl}{flags}", f"ms {key} %d M{mode}{flags}",
            f"ms {key} %d C<token>{flags}", f"ms {marked} %d I C<token>{flags}",
            f"ms {key} %d C<token> M{mode}{flags}",
            f"delete {key}", f"md {key}{flags}", f"md {marked} I{flags}",
            f"md {key} C<token>{flags}", f"md {marked} I T{ttl} C<token>{flags}",
            f"incr {key} {n}", f"decr {key} {n}", f"touch {key} {ttl}",
            f"ma {key} D{n} v{flags}", f"ma {key} N0 J{n} v MD{flags}", f"ma {key} D0 T{ttl}{flags}",
            f"ma {key} C<token>{flags}",
            f"get {key}", f"gets {key} d0 d1 none", f"gat {ttl} {key} d2", f"gats {ttl} {key}",
            f"mg {key} v f s{flags}", f"mg {key} v T{ttl}{flags}", f"mg {key} N0 v{flags}",
            f"mg {key} R30 v{flags}",
            "flush_all" if choose.randrange(20) == 0 else f"get {key}",
        ])
        if "<token>" in line:
            key = line.split()[1]
        if "%d" not in line:
            return key, line.encode() + b"\r\n"
        return key, (line % len(value)).encode() + b"\r\n" + value + b"\r\n"


def frame(opcode, key=b"", extras=b"", value=b"", opaque=0, token=bytes(8), magic=0x80):
    """A request of the binary protocol, or an answer without a status."""
    body = extras + key + value
    return struct.pack(">BBHBBHII", magic, opcode, len(key), len(extras), 0, 0, len(body),
                       opaque) + token + body


def frames(data):
    """[(header without its token, token, body)]"""
    parts, at = [], 0
    while at < len(data):
        (body_bytes,) = struct.unpack_from(">I", data, at + 8)
        end = at + 24 + body_bytes
        token = int.from_bytes(data[at + 16:at + 24], "big")
        parts.append((data[at:at + 16], token, data[at + 24:end]))
        at = end
    return parts


class Binary:
    """The binary protocol."""

    NOOP, GETK = 0x0a, 0x0c
    LAST = frame(NOOP, opaque=0x656e6421)
    LAST_REPLY = frame(NOOP, opaque=0x656e6421, magic=0x81)
    TOKEN = b"<token8>"

    GETS = [0x00, 0x09, GETK, 0x0d]
    STORES = [0x01, 0x02, 0x03, 0x11, 0x12, 0x13]
    EXTENDS = [0x0e, 0x0f, 0x19, 0x1a]
    DELETES = [0x04, 0x14]
    COUNTS = [0x05, 0x06, 0x15, 0x16]
    TOUCHES = [0x1c, 0x1d, 0x1e, 0x23, 0x24]
    FLUSHES = [0x08, 0x18]

    @staticmethod
    def fill_in(request, token):
        return request.replace(Binary.TOKEN, token.to_bytes(8, "big"))

    @staticmethod
    def ask_token(key):
        return frame(Binary.GETK, key.encode())

    @staticmethod
    def token_in(reply):
        (header, token, _), = frames(reply)
        return token if header[6:8] == b"\0\0" else None

    @staticmethod
    def masked(reply):
        return [(header, token != 0, body) for header, token, body in frames(reply)]

    @staticmethod
    def request(choose):
        """A key, and a request that names it, perhaps with TOKEN in it."""
        key = choose.choice(KEYS + ODD_KEYS)
        flags, exptime = choose.randrange(1 << 32), choose.choice(EXPTIMES)
        keep = choose.randrange(3) == 0  # incr and decr: what is missing stays so
        opcodes, extras, value = choose.choice([
            (Binary.GETS, b"", b""), (Binary.GETS, b"", b""),
            (Binary.STORES, struct.pack(">II", flags, exptime), choose.choice(VALUES)),
            (Binary.STORES, struct.pack(">II", flags, exptime), choose.choice(VALUES)),
            (Binary.EXTENDS, b"", choose.choice(VALUES)), (Binary.DELETES, b"", b""),
            (Binary.COUNTS, struct.pack(">QQI", choose.randrange(100), choose.randrange(1000),
                                        0xffffffff if keep else exptime), b""),
            (Binary.TOUCHES, struct.pack(">I", exptime), b""),
        ])
        if choose.randrange(100) == 0:
            return key, frame(choose.choice(Binary.FLUSHES))
        compares = opcodes not in (Binary.GETS, Binary.TOUCHES) and choose.randrange(3) == 0
        return key, frame(choose.choice(opcodes), key.encode(), extras, value,
                          opaque=choose.randrange(1 << 32),
                          token=Binary.TOKEN if compares else bytes(8))


class Side:
    """One of the servers: connections to it, and the tokens that it gave last for each key."""

    def __init__(self, connect):
        self.client = {Text: connect(), Binary: connect()}
        self.given = {}  # key -> [the one before, the last one]

    def close(self):
        for client in self.client.values():
            client.close()

    def note_token(self, key, token):
        known = self.given.setdefault(key, [])
        if token is not None and token not in known[-1:]:
            self.given[key] = known[-1:] + [token]

    def tokens(self, key):
        """Those that it has given, the last one first."""
        return self.given.get(key, [])[::-1]


def same_replies(dialect, sides, requests):
    """Put to each side its request, and compare. They work at the same time."""
    for side, request in zip(sides, requests):
        side.client[dialect].send(request + dialect.LAST)
    replies = [read_until(side.client[dialect], dialect.LAST_REPLY) for side in sides]
    assert dialect.masked(replies[0]) == dialect.masked(replies[1]), (requests, replies)
    return replies


def compare(dialect, choose, sides):
    """A random request to both; one that compares a token gets a right one, or a wrong one."""
    key, request = dialect.request(choose)
    if dialect.TOKEN not in request:
        same_replies(dialect, sides, [request, request])
        return
    if key in MARKED_KEYS or choose.randrange(2):
        question = dialect.ask_token(key)
        for side, reply in zip(sides, same_replies(dialect, sides, [question, question])):
            side.note_token(key, dialect.token_in(reply))
    pairs = list(zip(*(side.tokens(key) for side in sides))) + [(NO_TOKEN, NO_TOKEN)]
    pair = choose.choice(pairs[:1] + pairs)
    same_replies(dialect, sides, [dialect.fill_in(request, token) for token in pair])
