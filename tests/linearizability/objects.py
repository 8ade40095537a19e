"""What clients do to the objects under test.

Each kind of object names the protocol and the model (wgl.py) of its keys.
act() does something to a key over a connection, read() reads it; do(name, arguments,
ask) records that the operation `name` was sent, what ask() answered, and when.
"""

import itertools

import wgl
from harness import ServerError
from wgl import NOTHING

fresh = map(str, itertools.count(1))  # no value is written twice: a read tells whose it saw


def text(value):
    return None if value is None else value.decode()


class RedisRegister:
    """A string, with compare-and-set by WATCH and MULTI."""

    protocol, model, reads = "redis", staticmethod(wgl.register), {"get"}

    @classmethod
    def act(cls, choose, do, client, key):
        value = next(fresh)
        what = choose.choices(["get", "set", "add", "delete", "cas"], [6, 3, 1, 1, 3])[0]
        if what == "get":
            cls.read(do, client, key)
        elif what == "set":
            do("set", (value,), lambda: client.call("SET", key, value) and None)
        elif what == "add":
            do("add", (value,), lambda: client.call("SET", key, value, "NX") == b"OK")
        elif what == "delete":
            do("delete", (), lambda: client.call("DEL", key) == 1)
        else:
            client.call("WATCH", key)
            old = cls.read(do, client, key)
            do("cas", (old, value), lambda: cls._execute(client, key, value))

    @staticmethod
    def read(do, client, key):
        return do("get", (), lambda: text(client.call("GET", key)))

    @staticmethod
    def _execute(client, key, value):
        replies = client.pipeline([("MULTI",), ("SET", key, value), ("EXEC",)])
        for reply in replies:
            if isinstance(reply, ServerError):
                raise reply
        return NOTHING if replies[-1] is None else None


class RedisCounter:
    protocol, model, reads = "redis", staticmethod(wgl.counter), {"get"}

    @classmethod
    def act(cls, choose, do, client, key):
        if choose.random() < 0.6:
            do("increment", (), lambda: client.call("INCR", key))
        else:
            cls.read(do, client, key)

    @staticmethod
    def read(do, client, key):
        do("get", (), lambda: int(client.call("GET", key) or 0))


class RedisQueue:
    protocol, model, reads = "redis", staticmethod(wgl.queue), {"all"}

    @classmethod
    def act(cls, choose, do, client, key):
        what = choose.choices(["push", "pop", "all"], [4, 4, 2])[0]
        if what == "push":
            value = next(fresh)
            do("push", (value,), lambda: client.call("RPUSH", key, value))
        elif what == "pop":
            do("pop", (), lambda: text(client.call("LPOP", key)))
        else:
            cls.read(do, client, key)

    @staticmethod
    def read(do, client, key):
        do("all", (), lambda: tuple(map(text, client.call("LRANGE", key, 0, -1))))


def told(client, line, value=None, **answers):
    """The answer's meaning; what none of the expected answers is says that it failed."""
    answer = client.command(line, value).decode()
    if answer not in answers:
        raise ServerError(answer)
    return answers[answer]


class MemcachedRegister:
    protocol, model, reads = "memcached", staticmethod(wgl.register), {"get"}

    @classmethod
    def act(cls, choose, do, client, key):
        value = next(fresh)
        size = len(value)
        what = choose.choices(["get", "set", "add", "delete", "cas"], [6, 3, 1, 1, 3])[0]
        if what == "get":
            cls.read(do, client, key)
        elif what == "set":
            do("set", (value,), lambda: told(client, f"set {key} 0 0 {size}", value.encode(),
                                             STORED=None))
        elif what == "add":
            do("add", (value,), lambda: told(client, f"add {key} 0 0 {size}", value.encode(),
                                             STORED=True, NOT_STORED=False))
        elif what == "delete":
            do("delete", (), lambda: told(client, f"delete {key}", DELETED=True,
                                          NOT_FOUND=False))
        else:
            token = []
            old = do("get", (), lambda: cls._gets(client, key, token))
            if old is not None:
                do("cas", (old, value),
                   lambda: told(client, f"cas {key} 0 0 {size} {token[0]}", value.encode(),
                                STORED=None, EXISTS=NOTHING, NOT_FOUND=NOTHING))

    @staticmethod
    def read(do, client, key):
        do("get", (), lambda: text(client.get(key)))

    @staticmethod
    def _gets(client, key, token):
        value, unique = client.gets(key)
        token.append(unique)
        return text(value)


class MemcachedCounter:
    protocol, model, reads = "memcached", staticmethod(wgl.made_counter), {"get"}

    @classmethod
    def act(cls, choose, do, client, key):
        if choose.random() < 0.4:
            cls.read(do, client, key)
        elif do("increment", (), lambda: cls._increment(client, key)) is None:
            do("create", (), lambda: told(client, f"add {key} 0 0 1", b"0", STORED=True,
                                          NOT_STORED=False))

    @classmethod
    def read(cls, do, client, key):
        do("get", (), lambda: cls._number(client.get(key)))

    @staticmethod
    def _number(value):
        return None if value is None else int(value)

    @staticmethod
    def _increment(client, key):
        answer = client.command(f"incr {key} 1")
        if answer == b"NOT_FOUND":
            return None
        if not answer.isdigit():
            raise ServerError(answer.decode(errors="replace"))
        return int(answer)


KINDS = [RedisRegister, RedisCounter, RedisQueue, MemcachedRegister, MemcachedCounter]
