"""Random Redis requests, made from the server's own description of its commands.

COMMAND DOCS tells which arguments a command takes. Values come from small
pools, so that requests meet each other's keys, fields and IDs, and from a few
that are wrong. Deadlines are far apart, so that no two servers can see them in
another order because of when a request came.
"""

import time

KEYS = [f"k{n}" for n in range(12)]
WORDS = ["a", "b", "c", "1", "2", "10", "-3", "3.5", "", "long" * 40, "\x00\xff", "k1", "k2"]
# By the name of the argument.
POOLS = {
    "seconds": lambda c: c.randrange(10, 5000) * 10,
    "milliseconds": lambda c: c.randrange(10, 5000) * 10000,
    "unix-time-seconds": lambda c: int(time.time()) + c.randrange(10, 5000) * 10,
    "unix-time-milliseconds": lambda c: int(time.time() * 1000) + c.randrange(10, 5000) * 10000,
    "ttl": lambda c: c.choice([0, c.randrange(10, 5000) * 10000]),
    "cursor": lambda c: 0,
    "id": lambda c: f"{c.randrange(1, 30)}-{c.randrange(5)}",
    "longitude": lambda c: c.uniform(-180, 180), "latitude": lambda c: c.uniform(-85, 85),
    "offset": lambda c: c.randrange(0, 100), "bit": lambda c: c.randrange(2),
    "encoding": lambda c: c.choice(["u8", "i16", "u63", "i64"]),
    "index": lambda c: c.randrange(-5, 5), "min": lambda c: c.choice(["-inf", 0, "(1", "[a", "-"]),
    "max": lambda c: c.choice(["+inf", 5, "(3", "[c", "+"]),
    "count": lambda c: c.randrange(1, 6), "start": lambda c: c.choice([0, 1, -2, "-", "5-0"]),
    "end": lambda c: c.choice([-1, 3, "+", "20-0"]), "stop": lambda c: c.choice([-1, 2]),
    "destination-db": lambda c: c.randrange(0, 4), "db": lambda c: c.randrange(0, 4),
    "numkeys": lambda c: c.randrange(1, 4), "threshold": lambda c: c.choice([3, "5-0"]),
    "pattern": lambda c: c.choice(["*", "k*", "w_*", "h->*", "#"]),
    "group": lambda c: c.choice(["g1", "g2"]), "consumer": lambda c: c.choice(["c1", "c2"]),
}


class Maker:
    """Makes requests; choose is a random.Random."""

    def __init__(self, client, choose, leave_out):
        self.choose = choose
        self.specs = {}
        docs = client.call("COMMAND", "DOCS")
        for name, fields in zip(docs[::2], docs[1::2]):
            self._add(name.decode().lower(), as_dict(fields), leave_out)
        self.names = sorted(self.specs)

    def _add(self, name, fields, leave_out):
        if name.split("|")[0] in leave_out or name in leave_out:
            return
        if b"subcommands" in fields:
            subcommands = fields[b"subcommands"]
            for sub, sub_fields in zip(subcommands[::2], subcommands[1::2]):
                self._add(sub.decode(), as_dict(sub_fields), leave_out)
            return
        self.specs[name] = [as_dict(a) for a in fields.get(b"arguments", [])]

    def request(self, name=None):
        name = name or self.choose.choice(self.names)
        words = name.split("|")
        for argument in self.specs[name]:
            words += self._argument(argument)
        return self._spoil([w if isinstance(w, bytes) else str(w).encode("latin-1")
                            for w in self._count_keys(words)])

    def _argument(self, spec):
        flags = [flag.decode() for flag in spec.get(b"flags", [])]
        if "optional" in flags and self.choose.random() < 0.6:
            return []
        token = [spec[b"token"].decode()] if spec.get(b"token") else []
        times = self.choose.randrange(1, 4) if "multiple" in flags else 1
        out = [] if "multiple_token" in flags else list(token)
        for _ in range(times):
            if "multiple_token" in flags:
                out += token
            out += self._value(spec)
        return out

    def _value(self, spec):
        kind, name = spec[b"type"].decode(), spec[b"name"].decode()
        if kind == "pure-token":
            return []
        if kind == "oneof":
            one = as_dict(self.choose.choice(spec[b"arguments"]))
            token = [one[b"token"].decode()] if one.get(b"token") else []
            return token + self._value(one)
        if kind == "block":
            return [w for inner in spec[b"arguments"] for w in self._argument(as_dict(inner))]
        if kind == "key":
            return [self.choose.choice(KEYS)]
        if name == "numkeys":
            return [NUMKEYS]
        if name in POOLS:
            return [POOLS[name](self.choose)]
        if kind == "integer":
            return [self.choose.randrange(-3, 8)]
        if kind == "double":
            return [self.choose.choice([0, 1, 2.5, -3, "inf"])]
        if kind == "unix-time":
            return [POOLS["unix-time-seconds"](self.choose)]
        return [self.choose.choice(WORDS)]

    def _count_keys(self, words):
        """What says how many keys follow says the truth, most of the time."""
        out = []
        for n, word in enumerate(words):
            if word is NUMKEYS:
                count = 0
                while n + 1 + count < len(words) and words[n + 1 + count] in KEYS:
                    count += 1
                word = count
            out.append(word)
        return out

    def _spoil(self, words):
        """Now and then something is wrong with it."""
        luck = self.choose.random()
        if luck < 0.02 and len(words) > 1:
            words.pop()
        elif luck < 0.04:
            words.append(b"extra")
        elif luck < 0.07 and len(words) > 2:
            words[self.choose.randrange(2, len(words))] = self.choose.choice(
                [b"nonsense", b"9223372036854775807", b"-9223372036854775808", b"0", b"-1", b"1e400"])
        return words


NUMKEYS = object()


def as_dict(flat):
    """A map, as RESP2 has it."""
    return dict(zip(flat[::2], flat[1::2]))
