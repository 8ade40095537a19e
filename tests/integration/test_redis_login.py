"""A replica that asks its Redis clients who they are, beside a plain redis-server that does."""

import subprocess

import pytest
import redis

from harness import PATIENCE, ServerError, encode, refuses_users
from redis_pair import PlainRedis
from redis_sessions import replies, transcript

USER, PASSWORD, DEFAULT_PASSWORD = "fred", "pass:word", "geheim"
NOAUTH = b"-NOAUTH Authentication required.\r\n"


@pytest.fixture(scope="module")
def closed(shared):
    """A follower that lets nobody in without a password; the other replicas let everybody in."""
    leader = shared.wait_leader()
    i = next(i for i in shared.ids if i != leader)
    path = shared.path(i, "redis-users")
    with open(path, "w") as file:
        file.write(f"default:{DEFAULT_PASSWORD}\n{USER}:{PASSWORD}\r\n")
    # The section was begun by dev; a second one of that name goes on with it.
    shared.restart_with(i, f"\n[redis]\nauth-file = {path}\n")
    return shared, i


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        with server.client() as client:
            client.call("CONFIG", "SET", "requirepass", DEFAULT_PASSWORD)
            client.call("ACL", "SETUSER", USER, "on", f">{PASSWORD}", "~*", "&*", "+@all")
        yield server


SESSIONS = {
    "strangers": [("PING",), ("GET", "k"), ("SET", "k", 1), ("NONSENSE",), ("GET",), ("SUBSCRIBE", "c"),
                  ("MULTI",), ("EXEC",), ("CLIENT", "ID"), ("COMMAND", "COUNT"), ("INFO",), ("SELECT", 1),
                  ("MONITOR",), ("HELLO",), ("HELLO", 3), ("HELLO", 4), ("HELLO", "x"),
                  ("HELLO", 3, "SETNAME", "me"), b"PING\r\n", b"\r\n", ("RESET",), ("PING",)],
    "wrong": [("AUTH",), ("AUTH", "x"), ("AUTH", ""), ("AUTH", USER, DEFAULT_PASSWORD),
              ("AUTH", "default", PASSWORD), ("AUTH", "nobody", PASSWORD), ("AUTH", "FRED", PASSWORD),
              ("AUTH", USER, PASSWORD, "x"), ("HELLO", 3, "AUTH", USER, "x"), ("HELLO", 3, "AUTH", USER),
              ("PING",), b"AUTH fred x\r\n"],
    "password": [("AUTH", DEFAULT_PASSWORD), ("ACL", "WHOAMI"), ("GET", "none"),
                 ("AUTH", "x"), ("ACL", "WHOAMI"), ("GET", "none"), ("RESET",), ("GET", "none"),
                 ("AUTH", DEFAULT_PASSWORD), ("GET", "none")],
    "user": [("AUTH", USER, PASSWORD), ("ACL", "WHOAMI"), ("AUTH", "default", "x"), ("ACL", "WHOAMI"),
             ("AUTH", "default", DEFAULT_PASSWORD), ("ACL", "WHOAMI"), ("CLIENT", "KILL", "USER", "nobody"),
             ("CLIENT", "KILL", "USER", USER)],
    "hello": [("HELLO", 3, "SETNAME", "x", "AUTH", USER, "no"), ("HELLO", 2, "AUTH", USER, PASSWORD),
              ("ACL", "WHOAMI"), ("CLIENT", "GETNAME"), ("HELLO", 3), ("ACL", "WHOAMI")],
    "queued": [("AUTH", USER, PASSWORD), ("MULTI",), ("AUTH", "default", "x"),
               ("AUTH", "default", DEFAULT_PASSWORD), ("ACL", "WHOAMI"), ("EXEC",), ("ACL", "WHOAMI")],
    "silent": [("CLIENT", "REPLY", "OFF"), ("AUTH", USER, PASSWORD), ("CLIENT", "REPLY", "OFF"),
               ("PING",), ("CLIENT", "REPLY", "ON"), ("PING",)],
    "many words": [b"*10\r\n" + b"$1\r\nx\r\n" * 10, b"*11\r\n" + b"$1\r\nx\r\n" * 11, ("PING",)],
    "long word": [b"*1\r\n$16384\r\n" + b"x" * 16384 + b"\r\n", b"*1\r\n$16385\r\n", ("PING",)],
    "trusted": [("AUTH", USER, PASSWORD), ("MSET", *["k"] * 20), ("SET", "k", "x" * 20000), ("DEL", "k")],
    "distrusted again": [("AUTH", USER, PASSWORD), ("RESET",), ("MSET", *["k"] * 20)],
}


def masked(reply):
    """A client's id is his connection's."""
    head, mark, tail = reply.partition(b"$2\r\nid\r\n:")
    return head + mark + tail.partition(b"\r\n")[2] if mark else reply


@pytest.mark.parametrize("name", SESSIONS)
def test_as_with_a_plain_server(closed, plain, name):
    group, i = closed
    theirs = transcript(plain.port, SESSIONS[name])
    ours = transcript(group.redis_port(i), SESSIONS[name])
    assert list(map(masked, replies(ours))) == list(map(masked, replies(theirs)))


def test_nothing_was_done_for_strangers(closed):
    group, i = closed
    with group.redis(i) as stranger, group.redis(next(j for j in group.ids if j != i)) as other:
        other.call("SET", "safe", 1)
        for request in [("DEL", "safe"), ("FLUSHALL",), ("EVAL", "redis.call('DEL', 'safe')", 0)]:
            stranger.send(encode(*request))
            assert stranger.line() + b"\r\n" == NOAUTH
        # The others ask nobody.
        assert other.call("GET", "safe") == b"1" and other.call("ACL", "WHOAMI") == b"default"


def test_who_is_connected(closed):
    group, i = closed
    with group.redis(i) as fred, group.redis(i) as master:
        fred.call("AUTH", USER, PASSWORD)
        master.call("AUTH", DEFAULT_PASSWORD)
        number = fred.call("CLIENT", "ID")
        line, = (line for line in master.call("CLIENT", "LIST").decode().splitlines()
                 if line.startswith(f"id={number} "))
        assert f" user={USER} " in line
        assert master.call("CLIENT", "KILL", "USER", USER) == 1
        assert fred.closed_by_server() and master.call("PING") == b"PONG"


def test_the_list_of_users_is_nobodys_business(closed):
    group, i = closed
    with group.redis(i) as fred:
        fred.call("AUTH", USER, PASSWORD)
        for request in [("ACL", "USERS"), ("ACL", "LIST"), ("ACL", "GETUSER", USER)]:
            with pytest.raises(ServerError, match="auth-file"):
                fred.call(*request)


def test_clients(closed):
    group, i = closed
    port = group.redis_port(i)
    for credentials in [{"password": DEFAULT_PASSWORD}, {"username": USER, "password": PASSWORD}]:
        client = redis.Redis(port=port, **credentials)
        assert client.set("py", "value") and client.get("py") == b"value"
        client.close()
    with pytest.raises(redis.ResponseError, match="WRONGPASS"):
        redis.Redis(port=port, password="wrong").ping()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=port).ping()
    run = subprocess.run(["redis-cli", "-p", str(port), "--user", USER, "--pass", PASSWORD,
                          "--no-auth-warning", "GET", "py"],
                         capture_output=True, text=True, timeout=60 * PATIENCE)
    assert run.stdout == "value\n", run.stdout + run.stderr


@pytest.mark.parametrize("text,why", [("", "nobody is in it"), ("fred\n", "line 1 is not user:password"),
                                      (None, "No such file")], ids=["empty", "no colon", "no file"])
def test_bad_files(closed, tmp_path, text, why):
    refuses_users(*closed, tmp_path, text, why)


def test_after_a_new_leader_they_are_still_who_they_were(closed):
    group, i = closed
    with group.redis(i) as fred:
        fred.call("AUTH", USER, PASSWORD)
        leader = group.wait_leader()
        group.kill(leader)
        group.wait_leader(other_than=leader)
        assert fred.call("ACL", "WHOAMI") == USER.encode()
        try:
            assert fred.call("SET", "after", 1) == b"OK"
        except ServerError as error:
            assert "unknown" in str(error)
        assert fred.call("EXISTS", "none") == 0
    group.start_replica(leader)
    group.wait_level()
