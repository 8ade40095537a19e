"""maxmemory and maxmemory-policy: the group's, carried out through the log."""

import contextlib
import re

import pytest

from harness import Group, ServerError, wait_for
from redis_sessions import replies, transcript

OOM = "OOM command not allowed when used memory > 'maxmemory'"
VALUE = "x" * 10000


def info(client, section):
    lines = client.call("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def used(group):
    with group.redis_backend(group.wait_leader()) as backend:
        own = re.search(rb"tot-mem=(\d+)", backend.call("CLIENT", "INFO"))
        fields = info(backend, "memory")
        return (int(fields["used_memory"]) - int(fields["mem_not_counted_for_evict"])
                - int(own.group(1)))


@contextlib.contextmanager
def limited(group, client, policy, room):
    """Room for so many more bytes; in the end all is as before."""
    assert client.call("CONFIG", "SET", "maxmemory-policy", policy,
                       "maxmemory", used(group) + room) == b"OK"
    try:
        yield
    finally:
        client.call("CONFIG", "SET", "maxmemory", 0)
        client.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        client.call("FLUSHALL")


def fill(client, keys, prefix="fill", options=()):
    """Errors that were answered."""
    replies = []
    for first in range(0, keys, 50):
        replies += client.pipeline([("SET", f"{prefix}:{n}", VALUE, *options)
                                    for n in range(first, min(first + 50, keys))])
    return [r for r in replies if r != b"OK"]


def until_full(client):
    """Write until it is refused."""
    numbers = iter(range(100000))

    def refused():
        return fill(client, 50, f"more:{next(numbers)}")
    errors = wait_for(refused, "a write to be refused", 60)
    assert all(OOM in str(e) for e in errors), errors[:3]


def same_everywhere(group):
    def contents():
        group.wait_level()
        each = [group.redis_contents(i) for i in group.ids]
        # Something may have been evicted in between.
        return each[0] == each[1] == each[2] and (each[0],)
    return wait_for(contents, "the same contents everywhere")[0]


def settled(group, client):
    """What is there when as much was evicted as had to be."""
    limit = int(client.call("CONFIG", "GET", "maxmemory")[1])
    wait_for(lambda: used(group) <= limit, "memory to be within its limit")
    return same_everywhere(group)


def test_settings_are_the_groups(shared):
    with shared.redis(1) as one, shared.redis(3) as three:
        assert one.call("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy",
                        "allkeys-lfu") == b"OK"
        assert three.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"104857600"]
        three.call("MULTI")
        three.call("CONFIG", "GET", "maxmemory")
        assert three.call("EXEC") == [[b"maxmemory", b"104857600"]]
        assert one.call("CONFIG", "GET", "maxmemory-policy") == [
            b"maxmemory-policy", b"allkeys-lfu"]
        fields = info(three, "memory")
        assert fields["maxmemory"] == "104857600"
        assert fields["maxmemory_human"] == "100.00M"
        assert fields["maxmemory_policy"] == "allkeys-lfu"
        shared.wait_level()
        for i in shared.ids:
            with shared.redis_backend(i) as backend:
                assert backend.call("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]
                wait_for(lambda: backend.call("CONFIG", "GET", "maxmemory-policy")[1]
                         == b"allkeys-lfu", "the server to have the policy")
        for wrong, words in [
            (("maxmemory", "much"), "argument must be a memory value"),
            (("maxmemory-policy", "x"), "must be one of the following: volatile-lru"),
            (("maxmemory", "1gb", "hz", "10"), "without others"),
            (("maxmemory", "1gb", "MaxMemory", "2gb"), "'maxmemory'. - duplicate parameter"),
        ]:
            with pytest.raises(ServerError, match=words):
                one.call("CONFIG", "SET", *wrong)
        assert one.call("CONFIG", "SET", "maxmemory", "0") == b"OK"
        assert one.call("CONFIG", "SET", "maxmemory-policy", "noeviction") == b"OK"
        assert info(one, "memory")["maxmemory_policy"] == "noeviction"


@pytest.mark.parametrize("resp", [2, 3])
def test_each_answer_is_of_its_place_in_the_order(resp):
    """In a group whose policy was never set, whatever protocol its clients speak, at every replica."""
    limits = [10**9, 2 * 10**9, 0]
    session = [("HELLO", resp)]
    for limit in limits:
        session += [("CONFIG", "SET", "maxmemory", limit), ("CONFIG", "GET", "maxmemory"),
                    ("INFO", "memory")]
    with Group() as group:
        group.wait_ready()
        for i in group.ids:
            said = replies(transcript(group.redis_port(i), session))
            assert [int(reply.split(b"\r\n")[4]) for reply in said[2::3]] == limits
            assert [int(re.search(rb"maxmemory:(\d+)", reply).group(1)) for reply in said[3::3]] == limits


def test_a_limit_holds_for_what_comes_behind_it(shared):
    """At once, whoever set it, and where; and so does that there is none any more."""
    with shared.redis(1) as one, shared.redis(3) as three:
        for _ in range(10):
            for client, other in [(one, three), (three, one)]:
                assert client.call("CONFIG", "SET", "maxmemory", 1) == b"OK"
                with pytest.raises(ServerError, match="OOM command not allowed"):
                    other.call("SET", "k", 1)
                assert client.call("CONFIG", "SET", "maxmemory", 0) == b"OK"
                assert other.call("SET", "k", 1) == b"OK"
        one.call("DEL", "k")


def refuses_to_queue(group):
    """As soon as a replica knows: nothing is queued any more, and EXEC fails for that."""
    for i in group.ids:
        with group.redis(i) as client:
            def is_refused():
                replies = client.pipeline([("MULTI",), ("GET", "here")])
                full = isinstance(replies[1], ServerError)
                assert str(replies[1]).startswith(OOM) if full else replies[1] == b"QUEUED"
                if not full:
                    client.call("DISCARD")
                return full
            wait_for(is_refused, f"replica {i} to know that there is no memory")
            with pytest.raises(ServerError, match="OOM"):
                client.call("PING")
            with pytest.raises(ServerError, match="EXECABORT .* because of previous errors"):
                client.call("EXEC")
            client.call("MULTI")
            assert client.call("DISCARD") == b"OK"
            client.call("MULTI")
            assert client.call("RESET") == b"RESET"


def test_a_limit_holds_for_what_is_queued_behind_it(shared, replica):
    """A setting that was acknowledged at a replica counts for the next command there."""
    with shared.redis(replica) as client, shared.redis(replica) as other:
        for _ in range(30):
            assert client.call("MULTI") == b"OK"
            assert client.call("SET", "queued", 1) == b"QUEUED"
            assert other.call("CONFIG", "SET", "maxmemory", 1) == b"OK"
            with pytest.raises(ServerError, match=OOM):
                client.call("LPUSH", "queued", 1)
            assert other.call("CONFIG", "SET", "maxmemory", 0) == b"OK"
            assert client.call("SET", "queued", 2) == b"QUEUED"
            with pytest.raises(ServerError, match="EXECABORT"):
                client.call("EXEC")
        assert client.call("EXISTS", "queued") == 0


def test_full_and_nothing_may_go(shared):
    """noeviction: what may need memory is refused everywhere, the rest is not."""
    with shared.redis(1) as one, shared.redis(2) as two, limited(
            shared, one, "noeviction", 3 << 20), \
            shared.redis(2) as needs_memory, shared.redis(3) as needs_none:
        one.call("SET", "here", "1")
        assert needs_memory.pipeline([("MULTI",), ("GET", "here"), ("SET", "k", "v")])[2] == b"QUEUED"
        assert needs_none.pipeline([("MULTI",), ("GET", "here"), ("DEL", "none")])[2] == b"QUEUED"
        until_full(one)
        for client in (one, two):
            for request in [("SET", "k", "v"), ("LPUSH", "l", "v"), ("XADD", "x", "*", "f", "v"),
                            ("FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', "
                             "function() end)"),
                            ("EVAL", "return redis.call('SET', 'k', 'v')", 0),
                            ("EVAL", "#!lua\nreturn 1", 0)]:
                with pytest.raises(ServerError, match="OOM "):
                    client.call(*request)
            assert client.call("GET", "here") == b"1"
            assert client.call("EVAL", "return redis.call('GET', 'here')", 0) == b"1"
            assert client.call("EVAL", "#!lua flags=no-writes\nreturn 1", 0) == 1
            assert client.call("EVAL", "#!lua flags=allow-oom\nredis.call('SET', 'forced', '1') "
                               "return 2", 0) == 2
            # Once it has written, it goes on: all of it or nothing.
            assert client.call("EVAL", "redis.call('DEL', 'none') "
                               "return redis.call('SET', 'after', '1')", 0) == b"OK"
            assert OOM.encode() in client.call(
                "EVAL", "return redis.pcall('SET', 'k', 'v').err", 0)
            assert client.call("EXISTS", "k") == 0
        refuses_to_queue(shared)
        with pytest.raises(ServerError, match="EXECABORT.*because of: " + OOM):
            needs_memory.call("EXEC")
        assert needs_none.call("EXEC") == [b"1", 0]
        contents = same_everywhere(shared)
        for key in [key for _, key in contents if key.startswith(b"more")][:100]:
            two.call("DEL", key)

        def taken():
            try:
                return two.call("SET", "again", "v") == b"OK"
            except ServerError:
                return False
        wait_for(taken, "room after keys were deleted")


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
def test_any_key_may_go(shared, policy):
    with shared.redis(3) as client, limited(shared, client, policy, 2 << 20):
        before = int(info(client, "stats")["evicted_keys"])
        assert fill(client, 1000) == []
        assert 50 < len(settled(shared, client)) < 400

        def is_told():
            evicted = int(info(client, "stats")["evicted_keys"]) - before
            return evicted == 1000 - len(same_everywhere(shared))
        wait_for(is_told, "evicted_keys to be the keys that are gone")


def test_what_is_used_stays(shared):
    """LRU and LFU: those keys go that nobody asks for."""
    with shared.redis(1) as client, limited(shared, client, "allkeys-lfu", 3 << 20):
        fill(client, 40, "hot")
        fill(client, 100, "cold")
        for _ in range(100):
            client.pipeline([("GET", f"hot:{n}") for n in range(40)])
        fill(client, 500, "new")
        hot = sum(client.pipeline([("EXISTS", f"hot:{n}") for n in range(40)]))
        cold = sum(client.pipeline([("EXISTS", f"cold:{n}") for n in range(100)]))
        assert hot >= 36 and cold < 60, (hot, cold)


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random",
                                    "volatile-ttl"])
def test_only_keys_with_a_deadline_go(shared, policy):
    with shared.redis(2) as client, limited(shared, client, policy, 3 << 20):
        assert fill(client, 100, "stays") == []
        assert fill(client, 500, "limited", ("EX", 10000)) == []
        kept = settled(shared, client)
        assert sum(key.startswith(b"stays") for _, key in kept) == 100
        assert sum(key.startswith(b"limited") for _, key in kept) < 300
        # When they are gone, nothing may go any more.
        until_full(client)
        kept = same_everywhere(shared)
        assert sum(key.startswith(b"limited") for _, key in kept) == 0


def test_the_earliest_deadline_goes_first(shared):
    with shared.redis(2) as client, limited(shared, client, "volatile-ttl", 3 << 20):
        fill(client, 100, "late", ("EX", 20000))
        fill(client, 100, "early", ("EX", 10000))
        fill(client, 150, "last", ("EX", 30000))
        kept = {key for _, key in settled(shared, client)}
        early = sum(key.startswith(b"early") for key in kept)
        late = sum(key.startswith(b"late") for key in kept)
        assert early < 100 and (late == 100 or early == 0), (early, late)


def test_subscribers_hear_of_it(shared):
    with shared.redis(1) as client, shared.redis(3) as listener:
        client.call("CONFIG", "SET", "notify-keyspace-events", "KEe")
        listener.call("SUBSCRIBE", "__keyevent@0__:evicted")
        with limited(shared, client, "allkeys-random", 1 << 20):
            before = int(info(client, "stats")["evicted_keys"])
            fill(client, 300)
            message = listener.reply()
            assert message[:2] == [b"message", b"__keyevent@0__:evicted"]
            assert message[2].startswith(b"fill:")
            assert int(info(client, "stats")["evicted_keys"]) > before
        client.call("CONFIG", "SET", "notify-keyspace-events", "")


def test_settings_outlive_leaders_and_everybody(group):
    with group.redis(1) as client:
        client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory",
                    used(group) + (2 << 20))
    group.wait_level()
    leader = group.wait_leader()
    group.kill(leader)
    group.wait_leader(other_than=leader)
    survivor = next(i for i in group.ids if i != leader)
    with group.redis(survivor, timeout=30) as client:
        limit = int(client.call("CONFIG", "GET", "maxmemory")[1])
        assert limit > 0
        assert client.call("CONFIG", "GET", "maxmemory-policy")[1] == b"allkeys-lru"
        assert fill(client, 600) == []
        assert int(info(client, "stats")["evicted_keys"]) > 300
    group.start_replica(leader)
    group.wait_level()
    group.kill_and_restart_all()
    group.wait_level()
    with group.redis(leader, timeout=30) as client:
        assert int(client.call("CONFIG", "GET", "maxmemory")[1]) == limit
        assert fill(client, 300, "later") == []
        assert len(settled(group, client)) < 400
