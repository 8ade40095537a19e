"""The newest Redis and Valkey behind a group, beside the same server alone."""

import pytest

from debian_source import NotFetched
from harness import Group, ServerError, encode, wait_for
from heal import Servers, a_follower, agree, equal_everywhere, fill, metric, outrun, wait_restored
from newer_servers import NAMES, newer_server
from redis_pair import PlainRedis, backends_are_equal
from test_redis_differential import Run, ask, compare_contents

# What servers of 7.0 do not have, and is not the same on all servers, or not known to be.
REFUSED = [("HEXPIRE", "h", 10, "FIELDS", 1, "f"), ("HPEXPIREAT", "h", 10, "FIELDS", 1, "f"),
           ("HSETEX", "h", "EX", 10, "FIELDS", 1, "f", "v"), ("HGETEX", "h", "FIELDS", 1, "f"),
           ("VADD", "v", "VALUES", 2, 1, 2, "e"), ("VREM", "v", "e"), ("VSETATTR", "v", "e", "{}"),
           ("WAITAOF", 0, 0, 0), ("SCRIPT", "SHOW", "0" * 40), ("CLUSTER", "SLOT-STATS", "SLOTSRANGE", 0, 1),
           ("CLIENT", "IMPORT-SOURCE", "ON")]
# A command that the server does not have at all is an error of its own; so is all about clusters.
REFUSALS = (b"-ERR muproxy:", b"-ERR unknown", b"-ERR This instance has cluster support disabled")
# Replies are those of the server alone; a command that it does not have is an error of its own.
SERVED = [("HSET", "h", "f", "v", "g", "w", "i", "x"), ("HTTL", "h", "FIELDS", 1, "f"),
          ("HPERSIST", "h", "FIELDS", 1, "f"), ("HGETDEL", "h", "FIELDS", 2, "f", "none"),
          ("HPEXPIRETIME", "none", "FIELDS", 1, "f"), ("HGETALL", "h"),
          ("SET", "k", "v"), ("SET", "k", "w", "IFEQ", "v"), ("SET", "k", "x", "IFEQ", "v"), ("GET", "k"),
          ("SET", "k", "y", "IFEQ", "w", "GET", "EX", 1000), ("TTL", "k"), ("SET", "k", "z", "IFEQ", "px", "PX", 9),
          ("SET", "k", "y", "IFEQ", "w", "IFEQ", "w"), ("SET", "k", "y", "NX", "IFEQ", "w"),
          ("ZADD", "z", 1, "a", 2, "b"), ("ZRANK", "z", "b", "WITHSCORE"), ("ZREVRANK", "z", "b", "WITHSCORE"),
          ("COMMANDLOG", "LEN", "large-reply"), ("COMMANDLOG", "RESET", "large-reply"),
          ("COMMANDLOG", "GET", -1, "large-reply"), ("COMMANDLOG",),
          ("CONFIG", "SET", "commandlog-execution-slower-than", 10000),
          ("VCARD", "v"), ("SMISMEMBER", "h", "x"), ("LCS", "k", "k")]
# Of scripts; "server" is Valkey's own name for "redis".
SCRIPTS = ["return server.call('GET', 'k')", "return server.pcall('NONSENSE')",
           "return redis.call('HGETDEL', 'h', 'FIELDS', 1, 'i')", "return redis.call('HTTL', 'h', 'FIELDS', 1, 'g')",
           "return redis.call('SET', 'k', 'p', 'IFEQ', 'z')", "return redis.call('SET', 'k', 'q', 'IFEQ', 'ex', 'EX', '90')",
           "return redis.call('LPUSH', 'l', 'a', 'b')", "return redis.call('BLPOP', 'l', 0)"]


@pytest.fixture(scope="module", params=NAMES)
def server(request):
    try:
        return newer_server(request.param)
    except NotFetched as error:
        return pytest.skip(f"NOT RUN: {error}")


@pytest.fixture(scope="module")
def group(server):
    with Group(ring_size="1M", redis=[server]) as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.fixture(scope="module")
def plain(server):
    with PlainRedis(program=server) as alone:
        yield alone


@pytest.fixture
def clients(group, plain):
    """One of a follower's, one of the server alone."""
    with group.redis(a_follower(group)) as ours, plain.client() as theirs:
        for client in ours, theirs:
            client.call("FLUSHALL")
        yield ours, theirs


@pytest.mark.parametrize("seed,protocol", [(10, 2), (11, 3)])
def test_random_requests(group, plain, seed, protocol):
    run = Run(group, plain, seed, protocol)
    run.through(group.ids, 900)
    assert run.values > 300 and run.errors > 30, (run.values, run.errors)
    assert compare_contents(group, plain) > 3


def test_what_differs_between_servers_is_refused(group, clients):
    ours, theirs = clients
    ours.call("HSET", "h", "f", "v")
    before = backends_are_equal(group)
    known = 0
    for request in REFUSED:
        reply = ask(ours, request)
        known += b"unknown" not in reply
        assert reply.startswith(REFUSALS), (request, reply)
        reply = ask(ours, ("EVAL", "return redis.call(unpack(ARGV))", 0, *request))
        assert reply.startswith(b"-ERR"), (request, reply)
    assert known >= 3
    assert backends_are_equal(group) == before


def test_a_hash_whose_fields_have_deadlines_is_not_restored(group, clients):
    ours, theirs = clients
    theirs.call("HSET", "h", "f", "v", "g", "w")
    plain_hash = theirs.call("DUMP", "h")
    try:
        theirs.call("HPEXPIRE", "h", 100000, "FIELDS", 1, "f")
    except ServerError as error:
        assert "unknown command" in str(error)
        pytest.skip("this server's fields have no deadlines")
    dumped = theirs.call("DUMP", "h")
    for request in [("RESTORE", "h", 0, dumped), ("RESTORE", "h", 5000, dumped, "REPLACE"),
                    ("EVAL", "return redis.call('RESTORE', 'h', 0, ARGV[1])", 0, dumped)]:
        assert b"deadlines of fields" in ask(ours, request)
    assert ours.call("EXISTS", "h") == 0
    assert ours.call("RESTORE", "h", 0, plain_hash) == b"OK"
    assert ours.call("HGET", "h", "f") == b"v"


def test_what_is_new_is_as_with_the_server_alone(group, clients):
    ours, theirs = clients
    for request in SERVED:
        assert ask(ours, request) == ask(theirs, request), request
    for script in SCRIPTS:
        replies = [ask(client, ("EVAL", script, 0)) for client in clients]
        assert replies[0] == replies[1], (script, replies)
    for hello in ("HELLO",), ("HELLO", 3):
        head = [ask(client, hello).partition(b"$2\r\nid")[0] for client in clients]
        assert head[0] == head[1]
    backends_are_equal(group)


def test_scripts_are_the_same_everywhere(group, clients):
    """By whichever name they call the server."""
    ours, theirs = clients
    names = ["redis"]
    if not ask(theirs, ("EVAL", "return server.call('PING')", 0)).startswith(b"-"):
        names += ["server", "_G.server"]
    for name in names:
        before = ours.call("TIME")[0]
        script = (f"local s = {name} s.call('SET', 'at', table.concat(s.call('TIME'), '.') .. math.random()) "
                  "s.call('SET', 'due', 'x', 'PX', 100000) s.call('XADD', 'x', '*', 'f', 'v') "
                  "s.call('SADD', 'set', 1, 2, 3, 4, 5, 6, 'a', 'b', 'c') return s.call('SPOP', 'set')")
        ours.call("EVAL", script, 0)
        assert 90000 < ours.call("PTTL", "due") <= 100000
        assert int(ours.call("GET", "at").split(b".")[0]) >= int(before)
        backends_are_equal(group)


def test_a_script_that_only_reads_does_not_pop(group, clients):
    """Newer servers have BLPOP in scripts."""
    ours, _ = clients
    ours.call("RPUSH", "l", "a")
    for script in "return redis.call('BLPOP', 'l', 0)", "return redis.call('BRPOPLPUSH', 'l', 'm', 0)":
        assert b"Write commands are not allowed" in ask(ours, ("EVAL_RO", script, 0))
    assert ours.call("LRANGE", "l", 0, -1) == [b"a"]


def expect(client, data):
    assert client.exactly(len(data)) == data


def test_keys_expire_and_clients_wait_and_hear(group, clients):
    ours, _ = clients
    with group.redis(group.wait_leader()) as waits, group.redis(a_follower(group)) as hears:
        hears.send(encode("SUBSCRIBE", "news"))
        expect(hears, b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
        waits.send(encode("BLPOP", "queue", 0))
        wait_for(lambda: b"blocked_clients:1" in ours.call("INFO", "clients"), "a client that waits")
        ours.call("RPUSH", "queue", "for you")
        expect(waits, b"*2\r\n$5\r\nqueue\r\n$7\r\nfor you\r\n")
        ours.call("PUBLISH", "news", "x")
        expect(hears, b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n")
    ours.call("SET", "short", "x", "PX", 50)
    wait_for(lambda: ours.call("EXISTS", "short") == 0, "the key to expire")
    for i in group.ids:
        with group.redis_backend(i) as backend:
            wait_for(lambda b=backend: b.call("EXISTS", "short") == 0, "it to expire there, too")


def test_passwords_towards_other_servers_are_not_told(group, clients):
    """Valkey has another name for masterauth."""
    ours, _ = clients
    for i in group.ids:
        with group.redis_backend(i) as backend:
            backend.call("CONFIG", "SET", "masterauth", "hush")
    assert "hush" not in str(ours.call("CONFIG", "GET", "*"))
    for i in group.ids:
        with group.redis_backend(i) as backend:
            backend.call("CONFIG", "SET", "masterauth", "")


def test_a_server_that_comes_back_empty_is_restored(group, clients, server):
    ours, _ = clients
    victim = a_follower(group)
    ours.call("FUNCTION", "LOAD", "REPLACE", "#!lua name=lib\n"
              "redis.register_function('f', function() return redis.call('INCR', 'n') end)")
    with group.redis(group.wait_leader()) as client:
        client.call("RPUSH", "l", *"abc")
        client.call("SET", "due", "x", "EX", 1000)
        fill(client, "some", 1000)
    outrun(group, group.wait_leader())
    with Servers(group, server) as servers:
        servers.empty(victim)
        wait_restored(group, victim)
        with group.redis(victim) as client:
            assert client.call("FCALL", "f", 0) == 1
        equal_everywhere(group)


def test_digests_are_compared(server):
    with Group(redis=[server]) as group:
        group.wait_ready()
        for i in group.ids:
            group.restart_with(i, "[redis]\ndigest-interval = 200ms\n")
        with group.redis(1) as client:
            client.call("SET", "k", "v")
            client.call("HSET", "h", "f", "v")
            client.call("ZADD", "z", 1, "a")
            client.call("XADD", "x", "*", "f", "v")
        victim = a_follower(group)
        wait_for(lambda: sum(metric(group, i, "digested_keys_total") for i in group.ids) >= 4, "digests")
        assert not sum(metric(group, i, "divergent_keys_total") for i in group.ids)
        with group.redis_backend(victim) as backend:
            backend.call("HSET", "h", "f", "other")
        wait_restored(group, victim)
        agree(group)
