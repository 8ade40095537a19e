"""Random meta commands for mc_requests.py: any flags together, on few keys, bare and in base64."""

import base64
import re

from mc_requests import KEYS, MARKED_KEYS, NO_TOKEN, VALUES, Side, Text

IN_BASE64 = {key: base64.b64encode(key.encode()).decode() for key in KEYS}
# Nothing expires; R5000 wins what has the shorter one.
TTLS = [0, 1000, 100000]
# Servers' own numbers are between these (see begin()), so that older and newer is the same at both.
CHOSEN = [0, 5, 7, 2**53 + 1, 7 * 10**18, 2**64 - 2**48 - 1]


class Seconds(int):
    """As good as another, if they are close: two servers' seconds begin at different moments."""

    def __eq__(self, other):
        return int(self) == int(other) or (self < 0) == (other < 0) and abs(self - other) <= 8

    __hash__ = None


def bare(reply):
    """memcached forgets at ma and at ms MA that a key came in base64: so it is left out."""
    for key, encoded in IN_BASE64.items():
        reply = reply.replace(f" k{encoded} b".encode(), f" k{key}".encode())
        reply = reply.replace(f"ME {encoded} ".encode(), f"ME {key} ".encode())
    return reply


class Meta(Text):
    """Those that memcached 1.6.18 knows."""

    @staticmethod
    def masked(reply):
        """Without tokens, but for those that clients have chosen; the times."""
        def token(match):
            return match[0] if int(match[2]) in CHOSEN else match[1] + b"token"
        reply = re.sub(rb"(VALUE \S+ \d+ \d+ )(\d+)(?=\r)", token, bare(reply))
        reply = re.sub(rb"( c| cas=)(\d+)(?=[ \r])", token, reply)
        times = re.compile(rb"( t| l|exp=|la=)(-?\d+)")
        return times.sub(rb"\1", reply), [Seconds(n) for _, n in times.findall(reply)]

    RETURNED = "k c s t f v".split()
    OF_ITS_PAST = "h l".split()  # its leader's server alone knows

    @classmethod
    def flags(cls, choose, *groups):
        """Some of each (how often, choices), in any order."""
        chosen = [flag for often, choices in groups for flag in choices if choose.random() < often]
        chosen += choose.choice([[], [], [f"O{choose.randrange(100)}"]])
        chosen += choose.choice([[], [], [], ["q"]])
        return choose.sample(chosen, len(chosen))

    @staticmethod
    def chosen(_choose):
        return []

    @classmethod
    def mg(cls, choose, _key):
        ttl = f"T{choose.choice(TTLS)}"
        return "", cls.flags(choose, (.4, cls.RETURNED), (.2, cls.OF_ITS_PAST), (.2, ["u"]),
                             (.25, [f"N{choose.choice(TTLS)}"]), (.25, [ttl]),
                             (.25, [choose.choice(["R30", "R5000"])]), (.3, cls.chosen(choose)))

    @classmethod
    def compared(cls, choose):
        return [choose.choice(["C<token>", "C<token>", "C<token>", "C0"])]

    @classmethod
    def md(cls, choose, key):
        marks = ["I"] if key in MARKED_KEYS else []
        return "", cls.flags(choose, (.5, marks), (.3, [f"T{choose.choice(TTLS)}"]), (.2, ["k"]),
                             (.3, cls.compared(choose)), (.3, cls.chosen(choose)))

    @classmethod
    def ms(cls, choose, key):
        marks = ["I"] if key in MARKED_KEYS else []
        return None, cls.flags(choose, (.3, marks), (.3, [f"T{choose.choice(TTLS)}"]),
                               (.3, [f"F{choose.randrange(100)}"]), (.3, ["k", "c"]),
                               (.4, cls.compared(choose)), (.4, cls.chosen(choose)),
                               (.5, [f"M{choose.choice('EAPRSAP')}"]))

    @classmethod
    def ma(cls, choose, _key):
        # (Of a number that grows memcached gives the old item the T.)
        steps = choose.choice([["MD", "D3", f"T{choose.choice(TTLS)}"], ["MD"], ["MI"], ["D5"],
                               ["D0", f"T{choose.choice(TTLS)}"], [f"D{2**64 - 1}"], []])
        first = choose.choice([[], [], ["J9"], ["J18446744073709551615"]])
        # (Of a new item memcached tells by a t between N and T what only one of them says.)
        told = ["k", "c", "v"] if any(step[0] == "T" for step in steps) else "kctv"
        keeps_its_length = steps[:1] in (["MD"], ["D0"])  # else memcached takes no E
        return "", cls.flags(choose, (1, steps), (.4, [f"N{choose.choice(TTLS)}"]), (1, first),
                             (.3, told), (.3, cls.compared(choose)),
                             (.3 if keeps_its_length else 0, cls.chosen(choose)))

    @classmethod
    def request(cls, choose):
        key, verb = choose.choice(KEYS), choose.choice(["mg", "mg", "md", "ms", "ms", "ma"])
        value = choose.choice([b"1", b"77", choose.choice(VALUES)])
        length, flags = getattr(cls, verb)(choose, key)
        name = key
        if choose.randrange(4) == 0:
            name = IN_BASE64[key]
            flags.insert(0, "b")
        if length is not None:
            return key, f"{verb} {name} {' '.join(flags)}".encode().strip() + b"\r\n"
        return key, f"ms {name} {len(value)} {' '.join(flags)}".encode() + b"\r\n" + value + b"\r\n"


class NewerMeta(Meta):
    """Those of 1.6.38, too: chosen tokens, tombstones, sizes, appending to what is missing."""

    @staticmethod
    def chosen(choose):
        return [f"E{choose.choice(CHOSEN)}"]

    @classmethod
    def md(cls, choose, key):
        length, flags = super().md(choose, key)
        return length, flags + choose.choice([[], [], ["x"], ["x", f"F{choose.randrange(100)}"]])

    @classmethod
    def ms(cls, choose, key):
        length, flags = super().ms(choose, key)
        return length, flags + choose.choice([[], [], ["s"], [f"N{choose.choice(TTLS)}"],
                                              [f"N{choose.choice(TTLS)}", "s"]])


class Bare(Text):
    """Text, with what meta commands have left to be told."""

    masked = Meta.masked


class MetaSide(Side):
    """With connections for these, too."""

    def __init__(self, connect):
        super().__init__(connect)
        self.client.update(dict.fromkeys([Meta, NewerMeta, Bare], self.client[Text]))

    def begin(self):
        """Nothing is there, and its own numbers are past the small ones of CHOSEN."""
        client = self.client[Text]
        client.send(b"flush_all\r\n" + b"set d0 0 0 1\r\nx\r\n" * 20 + b"flush_all\r\n")
        assert [client.line() for _ in range(22)] == [b"OK"] + [b"STORED"] * 20 + [b"OK"]
