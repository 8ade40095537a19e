"""Things of Memcached for ledger.py: text, meta commands and the binary protocol."""

import struct

from harness import ServerError
from ledger import UNKNOWN, Op, Thing, must
from ledger_redis import answers

REQUEST, RESPONSE = 0x80, 0x81
GET, SET, INCREMENT, APPEND = 0x00, 0x01, 0x05, 0x0e
HEADER = struct.Struct("!BBHBBHIIQ")
MISSING = 1  # a status of the binary protocol
EXISTS = 2


def connect(group, replica):
    return group.memcached(replica, timeout=30)


def line(client):
    """A line of reply; an error as a ServerError."""
    text = client.line()
    return ServerError(text.decode(errors="replace")) if b"ERROR" in text.split()[:1][0] else text


class Counter(Thing):
    """incr, by text and meta commands, some of them without a reply."""

    # 0: no item; the first one makes it 1.
    def next(self, choose):
        k = self.key.encode()
        kind = choose.choice(["incr", "ma", "noreply", "add"])
        if kind == "incr":
            return Op(b"incr %s 1\r\n" % k, line, self._incremented)
        if kind == "noreply":
            # What follows tells; a second line, for there to be something to read.
            return Op(b"incr %s 1 noreply\r\nmn\r\n" % k, line,
                      lambda state, reply: answers(state and state + 1, reply, b"MN"), mute=True)
        if kind == "add":
            return Op(b"add %s 0 0 1\r\n1\r\n" % k, line, self._added)
        return Op(b"ma %s N0 J1 v\r\n" % k, self._arithmetic, self._incremented_or_made)

    @staticmethod
    def _arithmetic(client):
        head = line(client)
        return head if isinstance(head, ServerError) or head[:2] != b"VA" else client.line()

    @staticmethod
    def _incremented(state, reply):
        if not state:
            return answers(state, reply, b"NOT_FOUND")
        return answers(state + 1, reply, b"%d" % (state + 1))

    @staticmethod
    def _incremented_or_made(state, reply):
        return answers(state + 1, reply, b"%d" % (state + 1))

    @staticmethod
    def _added(state, reply):
        if not state:
            return answers(1, reply, b"STORED")
        return answers(state, reply, b"NOT_STORED")

    def read(self, client):
        return int(client.get(self.key) or 0)


class Text(Thing):
    """append, prepend and set."""

    state = b""

    def next(self, choose):
        k, piece = self.key.encode(), b"%d," % choose.randrange(1000)
        verb = choose.choice([b"set"] + [b"append", b"prepend", b"ms A", b"ms P"] * 4)

        def then(state, reply):
            expected = b"HD" if verb[:2] == b"ms" else b"STORED"
            if verb == b"set":
                return answers(piece, reply, expected)
            if not state:
                return answers(state, reply, b"NS" if verb[:2] == b"ms" else b"NOT_STORED")
            front = verb in (b"prepend", b"ms P")
            return answers(piece + state if front else state + piece, reply, expected)
        if verb[:2] == b"ms":
            wire = b"ms %s %d M%s\r\n" % (k, len(piece), verb[3:])
        else:
            wire = b"%s %s 0 0 %d\r\n" % (verb, k, len(piece))
        return Op(wire + piece + b"\r\n", line, then)

    def read(self, client):
        return client.get(self.key) or b""


class Compared(Thing):
    """gets and cas. A token may be refused after a change of leader; then nothing was done."""

    alone = True

    def next(self, choose):
        k = self.key.encode()

        def read(client):
            head = line(client)
            if isinstance(head, ServerError):
                return head
            if head == b"END":
                client.send(b"add %s 0 0 1\r\n1\r\n" % k)
                added = line(client)
                return added if isinstance(added, ServerError) else (0, added)
            words = head.split()
            value = int(client.exactly(int(words[3]) + 2))
            must(client.line() == b"END", "no end of gets")
            data = b"%d" % (value + 1)
            client.send(b"cas %s 0 0 %d %s\r\n%s\r\n" % (k, len(data), words[4], data))
            stored = line(client)
            return stored if isinstance(stored, ServerError) else (value, stored)

        def then(state, reply):
            if reply is UNKNOWN:
                return state + 1
            must(reply[0] == state, f"read {reply[0]}, not {state}")
            must(reply[1] in (b"STORED", b"EXISTS"), f"cas answered {reply[1]}")
            return state + 1 if reply[1] == b"STORED" else state
        return Op(b"gets %s\r\n" % k, read, then)

    def read(self, client):
        return int(client.get(self.key) or 0)


# ------------------------------------------------------------ binary protocol


def packet(opcode, key, extras=b"", value=b"", cas=0):
    return HEADER.pack(REQUEST, opcode, len(key), len(extras), 0, 0,
                       len(extras) + len(key) + len(value), 0, cas) + extras + key + value


def response(client):
    """(status, value, token)"""
    magic, _, key, extras, _, status, body, _, cas = HEADER.unpack(client.exactly(HEADER.size))
    must(magic == RESPONSE, "no reply of the binary protocol")
    data = client.exactly(body)[extras + key:]
    if status not in (0, MISSING, EXISTS, 5):
        return ServerError(f"status {status}: {data[:80]!r}")
    return status, data, cas


def ask(client, key):
    """A value, or None, asked for in the binary protocol."""
    client.send(packet(GET, key))
    reply = response(client)
    if isinstance(reply, ServerError):
        raise reply
    return reply[1] if reply[0] == 0 else None


class BinaryCounter(Thing):
    def next(self, choose):
        def then(state, reply):
            if reply is not UNKNOWN:
                after = struct.pack("!Q", state + 1)
                must(reply[:2] == (0, after), f"answered {reply}, not {state + 1}")
            return state + 1
        # Made with 1, if there is none: what the first increment is to answer.
        return Op(packet(INCREMENT, self.key.encode(), struct.pack("!QQI", 1, 1, 0)), response,
                  then)

    def read(self, client):
        return int(ask(client, self.key.encode()) or 0)


class BinaryText(Thing):
    """append, and set, at times with a token."""

    state = b""

    def next(self, choose):
        key, piece = self.key.encode(), b"%d," % choose.randrange(1000)
        is_set = choose.random() < 0.1

        def then(state, reply):
            if not is_set and not state:
                must(reply is UNKNOWN or reply[0] == 5, f"append to nothing answered {reply}")
                return state
            must(reply is UNKNOWN or reply[0] == 0, f"answered {reply}")
            return piece if is_set else state + piece
        wire = packet(SET, key, bytes(8), piece) if is_set else packet(APPEND, key, b"", piece)
        return Op(wire, response, then)

    def read(self, client):
        return ask(client, self.key.encode()) or b""


class BinaryCompared(Thing):
    alone = True

    def next(self, choose):
        key = self.key.encode()

        def read(client):
            found = response(client)
            if isinstance(found, ServerError):
                return found
            value, token = (int(found[1]), found[2]) if found[0] == 0 else (0, 0)
            client.send(packet(SET, key, bytes(8), b"%d" % (value + 1), token))
            stored = response(client)
            return stored if isinstance(stored, ServerError) else (value, stored[0])

        def then(state, reply):
            if reply is UNKNOWN:
                return state + 1
            must(reply[0] == state, f"read {reply[0]}, not {state}")
            must(reply[1] in (0, EXISTS), f"set with a token answered {reply[1]}")
            return state + 1 if reply[1] == 0 else state
        return Op(packet(GET, key), read, then)

    def read(self, client):
        return int(ask(client, self.key.encode()) or 0)


MAKERS = [
    ("text", connect, [Counter, Text, Compared], 20),
    ("binary", connect, [BinaryCounter, BinaryText, BinaryCompared], 20),
]
