"""Things of Redis for ledger.py: whatever a client asks for, what it must get is known."""

from harness import RawRedis, ServerError, encode
from ledger import UNKNOWN, Op, Thing, must


def connect(group, replica):
    return group.redis(replica, timeout=30)


def op(then, *arguments):
    return Op(encode(*arguments), RawRedis.reply, then)


def answers(state, reply, expected):
    """The state that follows, if that was the reply."""
    must(reply is UNKNOWN or reply == expected, f"answered {str(reply)[:80]}, "
         f"not {str(expected)[:80]}")
    return state


def number(reply):
    return int(reply or 0)


class Counter(Thing):
    def next(self, choose):
        n = choose.choice([1, 1, 1, 7])
        return op(lambda state, reply: answers(state + n, reply, state + n),
                  *(["INCR", self.key] if n == 1 else ["INCRBY", self.key, n]))

    def read(self, client):
        return number(client.call("GET", self.key))


class Register(Thing):
    """SET, also with the old value as its reply, which a follower relays."""

    state = b""  # nothing, too
    size = 1

    def __init__(self, key):
        super().__init__(key)
        self.made = 0

    def _value(self):
        self.made += 1
        return b"%d:" % self.made + b"v" * self.size

    def next(self, choose):
        value = self._value()
        if choose.random() < 0.5:
            return op(lambda state, reply: answers(value, reply, b"OK"), "SET", self.key, value)
        if choose.random() < 0.5:
            return op(lambda state, reply: answers(value, reply, state or None),
                      "SET", self.key, value, "EX", "1000", "GET")
        return op(lambda state, reply: answers(state, reply, state or None), "GET", self.key)

    def read(self, client):
        return client.call("GET", self.key) or b""


class BigRegister(Register):
    size = 1 << 20


class Deque(Thing):
    state = ()

    def __init__(self, key):
        super().__init__(key)
        self.made = 0

    def next(self, choose):
        left, value = choose.random() < 0.5, b"%d" % self.made
        if choose.random() < 0.45:
            def pop(state, reply):
                rest = state[1:] if left else state[:-1]
                return answers(rest, reply, (state[0] if left else state[-1]) if state else None)
            return op(pop, "LPOP" if left else "RPOP", self.key)
        self.made += 1

        def push(state, reply):
            return answers((value, *state) if left else (*state, value), reply, len(state) + 1)
        return op(push, "LPUSH" if left else "RPUSH", self.key, value)

    def read(self, client):
        return tuple(client.call("LRANGE", self.key, 0, -1))


class Transaction(Thing):
    """Two counters and a list that are one."""

    def next(self, choose):
        requests = [("MULTI",), ("INCR", self.key), ("INCR", self.key + ":too"),
                    ("RPUSH", self.key + ":list", "x"), ("EXEC",)]

        def read(client):
            replies = [client.reply() for _ in requests]
            return replies[-1]
        return Op(b"".join(encode(*request) for request in requests), read,
                  lambda state, reply: answers(state + 1, reply, [state + 1] * 3))

    def read(self, client):
        return [number(client.call("GET", self.key)), number(client.call("GET", self.key + ":too")),
                client.call("LLEN", self.key + ":list")]

    def resolve(self, state, actual):
        return state if actual == [state] * 3 else None


class Script(Thing):
    TEXT = "redis.call('APPEND', KEYS[2], 'x') return redis.call('INCR', KEYS[1])"

    def next(self, choose):
        return op(lambda state, reply: answers(state + 1, reply, state + 1),
                  "EVAL", self.TEXT, 2, self.key, self.key + ":too")

    def read(self, client):
        return [number(client.call("GET", self.key)), client.call("STRLEN", self.key + ":too")]

    def resolve(self, state, actual):
        return state if actual == [state] * 2 else None


class Watched(Thing):
    """Compare and set. EXEC may fail after a change of leader; then nothing was done."""

    alone = True

    def next(self, choose):
        def read(client):
            watched, value = client.reply(), client.reply()
            if isinstance(watched, ServerError) or isinstance(value, ServerError):
                client.call("UNWATCH")
                return watched if isinstance(watched, ServerError) else value
            client.send(b"".join(encode(*request) for request in [
                ("MULTI",), ("SET", self.key, number(value) + 1), ("EXEC",)]))
            last = [client.reply() for _ in range(3)][-1]
            return last if isinstance(last, ServerError) else (number(value), last)

        def then(state, reply):
            if reply is UNKNOWN:
                return state + 1
            must(reply and reply[0] == state, f"read {reply}, not {state}")
            must(reply[1] in (None, [b"OK"]), f"EXEC answered {reply[1]}")
            return state + 1 if reply[1] else state
        return Op(encode("WATCH", self.key) + encode("GET", self.key), read, then)

    def read(self, client):
        return number(client.call("GET", self.key))


class Pool(Thing):
    """A set that anything may be popped from: (members, how many of them are gone)."""

    state = (frozenset(), 0)

    def __init__(self, key):
        super().__init__(key)
        self.made = 0

    def next(self, choose):
        if choose.random() < 0.5:
            return op(self._popped, "SPOP", self.key)
        self.made += 1
        member = b"%d" % self.made

        def added(state, reply):
            return answers((state[0] | {member}, state[1]), reply, 1)
        return op(added, "SADD", self.key, member)

    def _popped(self, state, reply):
        members, gone = state
        if reply is UNKNOWN:
            return members, min(gone + 1, len(members))
        if reply is None:
            must(gone == len(members), f"popped nothing from {len(members)} members")
            return state
        must(reply in members, f"popped {reply}, which is not in it (any more)")
        return members - {reply}, gone

    def read(self, client):
        return frozenset(client.call("SMEMBERS", self.key))

    def resolve(self, state, actual):
        members, gone = state
        fits = actual <= members and len(actual) == len(members) - gone
        return (actual, 0) if fits else None


class Stream(Thing):
    """(length, last id, or None if it is not known)"""

    state = (0, (0, 0))

    def next(self, choose):
        def added(state, reply):
            length, last = state
            if reply is UNKNOWN:
                return length + 1, None
            at = tuple(int(part) for part in reply.split(b"-"))
            must(last is None or at > last, f"added {at} behind {last}")
            return length + 1, at
        return op(added, "XADD", self.key, "*", "field", "value")

    def read(self, client):
        return client.call("XLEN", self.key)

    def resolve(self, state, actual):
        return state if state[0] == actual else None


class Text(Thing):
    """APPEND: the length is the reply."""

    state = b""

    def next(self, choose):
        if choose.random() < 0.05:
            return op(lambda state, reply: answers(b"", reply, b"OK"), "SET", self.key, "")
        piece = b"%d," % choose.randrange(1000)
        return op(lambda state, reply: answers(state + piece, reply, len(state + piece)),
                  "APPEND", self.key, piece)

    def read(self, client):
        return client.call("GET", self.key) or b""


MIXED = [Counter, Register, Deque, Transaction, Script, Watched, Pool, Stream, Text]
MAKERS = [
    ("mixed", connect, MIXED, 10),
    ("pipelines", connect, [Counter, Deque, Text, Pool, Transaction], 500),
    ("big", connect, [BigRegister, Counter], 3),
]
