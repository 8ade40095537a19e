"""Scripts and functions: as a plain redis-server answers them, and the same at every replica."""

import hashlib
import os
import random
import threading

import pytest
import redis

from harness import PATIENCE, Disconnected, ServerError, encode, wait_for
from redis_pair import PlainRedis, backends_are_equal
from test_redis_differential import ask, elements


@pytest.fixture(scope="module")
def plain():
    with PlainRedis() as server:
        yield server


def equal_at_last(group):
    """Keys go while one backend after the other is read; what truly differs goes on to."""
    def equal():
        try:
            return backends_are_equal(group)
        except AssertionError as error:
            why.append(error)
            return None
    why = []
    try:
        return wait_for(equal, "equal contents", 15)
    except AssertionError:
        raise why[-1] from None


def sha_of(script):
    return hashlib.sha1(script.encode()).hexdigest()


# What a script says, and what is said of it, to the letter. Each runs on both sides in this order.
SAME = [
    "return 1", "return 'a', 'b'", "return", "return {1, 2, {3, 'x', false, true, nil}, 3.7}",
    "return {err = 'MY error'}", "return {ok = 'fine'}", "return redis.error_reply('x y')",
    "return redis.error_reply('-CODE y')", "return redis.status_reply('S')",
    "return {KEYS[1], KEYS[2], ARGV[1], ARGV[2], #KEYS, #ARGV}",
    # errors: text, and the line where the client's own code made them
    "error('boo')", "\n\nerror('boo')", "error({err = 'My err'})", "error('plain', 0)",
    "\nredis.call('nosuch')", "\n\nreturn redis.call('set', 'a')", "return redis.pcall('set', 'a').err",
    "local ok, e = pcall(redis.call, 'incr', 'string') return e", "x = 1", "return y", "\n\nif", "retur",
    "local function f() error('deep') end\nf()", "local a\n\nreturn a.b", "return 1 end", "while true do",
    "redis.call('set', 'string', 'x')\nlocal f = function()\n  redis.call('incr', 'string')\nend\nf()",
    "return redis.call()", "return redis.call(1)", "return redis.call('get', {})",
    "return redis.call('eval', 'return 1', 0)", "return redis.pcall('blpop', 'a', 0).err",
    "return redis.call('config', 'get', 'x')", "return redis.call('select', 99)",
    "return redis.sha1hex()", "return redis.sha1hex('x')", "return math.nosuch", "return redis.nosuch",
    # shebangs
    "#!lua\nreturn 1", "#!lua", "#!js\nreturn 1", "#!lua name=x\nreturn 1", "#!lua flags=foo\nreturn 1",
    "#!lua flags=no-writes\nreturn redis.call('get', 'string')", "#!lua\n\nerror('x')",
    "#!lua flags=no-writes,allow-stale\nredis.call('set', 'a', 1)",
    # what counts as a loop, and what only looks like one
    "local s = 'do \\' do' local t = [[ do repeat ]] local u = [==[ ]] function() ]==] -- do\n"
    "--[[ while true do\n ]] --[==[ x ]] ]==]\nreturn {s, t, u, \"do \\\\\" .. 'end'}",
    "local n = 0 for i = 1, 10 do for j = 1, 10 do n = n + j end end repeat n = n - 1 until n < 100 "
    "while n > 5 do n = n - 5 end return n",
    "local function f(a, ...) return select('#', ...) + a end return f(1, 2, 3)",
    "return (function(n) if n == 0 then return 0 end return n end)(7)",
    "local t = {} for k in pairs({a = 1, b = 2}) do t[#t + 1] = k end table.sort(t) return t",
    "local t = {} for i, v in ipairs({5, 6}) do t[i] = v end return t", "return next({}) == nil",
    "local f = loadstring('return 1 + ...') return f(2)", "return loadstring('x y') == nil",
    "return _G.redis.call('ping')", "return tostring(nil) .. tostring(1.5)", "return cjson.encode({1, 'x'})",
    "return _G", "return setmetatable({}, {__index = function() error('x') end})",
    "return cjson.encode_keep_buffer(false) == nil",
    "local t = setmetatable({}, {__tostring = function() return 'T' end}) return tostring(t)",
    "return cmsgpack.unpack(cmsgpack.pack({1, 2}))", "local c = redis.call return c('echo', 'x')",
    "return select('#', ...)", "return string.rep('ab', 3)", "return redis.REDIS_VERSION_NUM > 0",
    "return {redis.replicate_commands(), redis.breakpoint()}", "redis.set_repl(redis.REPL_ALL) return 1",
    "redis.log(redis.LOG_DEBUG, 'x')", "return coroutine.wrap(function() coroutine.yield(5) end)()",
    # commands
    "redis.call('hset', 'h', 'a', 1, 'b', 2) return redis.call('hgetall', 'h')",
    "redis.setresp(3) return redis.call('hgetall', 'h')", "return redis.call('hkeys', 'h')",
    "redis.call('sadd', 's', 'c', 'a', 'b') return redis.call('smembers', 's')",
    "redis.setresp(3) return redis.call('smembers', 's')", "return redis.call('smembers', 'h')",
    "redis.call('zadd', 'z', 1, 'a', 2, 'b') return redis.call('zrange', 'z', 0, -1, 'withscores')",
    "return redis.call('xadd', 'x', '1-1', 'f', 'v')", "return redis.call('xadd', 'x', '1-1', 'f', 'v')",
    "return redis.call('xadd', 'x', '5-*', 'f', 'v')", "return redis.call('xrange', 'x', '-', '+')",
    "return redis.call('xadd', 'x', 'bad', 'f', 'v')", "return redis.call('xlen', 'x')",
    "return redis.call('sort', 's', 'alpha', 'desc')", "return redis.call('dbsize')",
    "return redis.call('lpush', 'l', 1, 2, 3)", "return redis.call('lmove', 'l', 'l2', 'left', 'right')",
    "return redis.call('bitfield', 'b', 'incrby', 'u8', 0, 3)", "return redis.call('srandmember', 'none')",
    "return redis.call('srandmember', 'none', 3)", "return redis.call('spop', 'none')",
    "return redis.call('spop', 'h')", "return redis.call('spop', 's', -1)", "return redis.call('spop', 's', 9)",
    "return redis.call('hrandfield', 'none', 2, 'withvalues')", "return redis.call('srandmember', 's', 'x')",
    # deadlines: as given, and as refused
    "return {redis.call('set', 'd', 'v', 'EX', 100), redis.call('ttl', 'd'), redis.call('persist', 'd'), "
    "redis.call('pttl', 'd'), redis.call('ttl', 'none')}",
    "return {redis.call('setex', 'd', 50, 'v'), redis.call('ttl', 'd'), redis.call('expire', 'd', 70, 'GT'), "
    "redis.call('ttl', 'd'), redis.call('expire', 'd', 20, 'GT'), redis.call('ttl', 'd'), "
    "redis.call('pexpire', 'd', 60000, 'LT'), redis.call('ttl', 'd'), redis.call('expire', 'd', 9, 'NX')}",
    "return {redis.call('expireat', 'd', 9000000000), redis.call('expiretime', 'd'), "
    "redis.call('pexpireat', 'd', 9000000000123), redis.call('pexpiretime', 'd'), redis.call('rename', 'd', 'e'), "
    "redis.call('pexpiretime', 'e'), redis.call('copy', 'e', 'f'), redis.call('pexpiretime', 'f')}",
    "return {redis.call('getex', 'e', 'EX', 10), redis.call('ttl', 'e'), redis.call('getex', 'e', 'PERSIST'), "
    "redis.call('ttl', 'e')}",
    "redis.call('set', 'p', 'v', 'PXAT', 5) return redis.call('exists', 'p')",
    "redis.call('set', 'p', 'v') return {redis.call('expire', 'p', -1), redis.call('exists', 'p')}",
    "return redis.call('set', 'd', 'v', 'EX', 'x')", "return redis.call('set', 'd', 'v', 'EX', 0)",
    "return redis.call('set', 'd', 'v', 'EX', 5, 'PX', 5)", "return redis.call('setex', 'd', 0, 'v')",
    "return redis.call('psetex', 'd', 'x', 'v')", "return redis.call('expire', 'd', 1, 'bad')",
    "return redis.call('expire', 'd', '9223372036854775807')", "return redis.call('getex', 'none', 'EX', -1)",
    "return redis.call('set', 'd', 'v', 'PX', '9223372036854775807')", "return redis.call('ttl')",
    "return {redis.call('move', 'f', 3), redis.call('select', 3), redis.call('ttl', 'f') > 1000}",
    "return redis.call('move', 'h', 99)", "return redis.call('copy', 'h', 'i', 'DB', 99)",
    "redis.call('select', 4) redis.call('set', 'four', 1)", "return redis.call('flushall')",
    "return redis.call('dbsize')", "return redis.call('flushdb', 'x')", "return redis.call('flushall', 'x')",
]


# Plain Redis has them in the order of its hash table.
UNORDERED = ["'smembers'", "'hgetall'", "'hkeys'", "'spop', 's', 9"]


@pytest.mark.parametrize("i", [1, 2])
def test_what_scripts_say(shared, plain, i):
    with shared.redis(i) as ours, plain.client() as theirs:
        for client in (ours, theirs):
            client.call("FLUSHALL")
        for protocol in (2, 3):
            assert ask(ours, ("HELLO", protocol))[:1] == ask(theirs, ("HELLO", protocol))[:1]
            for script in SAME:
                requests = [("EVAL", script, 1, "key", "argument"),
                            ("EVALSHA", sha_of(script), 1, "key", "argument")]
                if "'a')" not in script:  # what is wrong with it comes before that it writes
                    requests.append(("EVAL_RO", script, 0))
                for request in requests:
                    expected, got = ask(theirs, request), ask(ours, request)
                    if any(command in script for command in UNORDERED):
                        expected, got = elements(expected), elements(got)
                    assert expected == got, (request[0], script)


def test_requests_about_scripts(shared, plain):
    script, other = "return {KEYS[1], ARGV[1], 'requests'}", "return 'other requests'"
    requests = [
        ("SCRIPT", "FLUSH"), ("EVALSHA", sha_of(script), 0), ("SCRIPT", "EXISTS", sha_of(script), "x"),
        ("SCRIPT", "LOAD", script), ("SCRIPT", "EXISTS", sha_of(script).upper(), sha_of(other)),
        ("EVALSHA", sha_of(script), 1, "k", "a"), ("EVALSHA", sha_of(script).upper(), 1, "k", "a"),
        ("EVALSHA_RO", sha_of(script), 1, "k", "a"), ("EVAL_RO", other, 0), ("EVALSHA", sha_of(other), 0),
        ("MULTI",), ("EVAL", "return redis.call('incr', 'n')", 0), ("SCRIPT", "LOAD", "return 2"),
        ("EVALSHA", sha_of("return 2"), 0), ("EVAL", "error('x')", 0), ("GET", "n"), ("EXEC",),
        ("SCRIPT", "LOAD", "retur"), ("SCRIPT", "LOAD"), ("SCRIPT", "EXISTS"), ("SCRIPT", "NONSENSE"),
        ("SCRIPT", "FLUSH", "SYNC"), ("SCRIPT", "FLUSH", "foo"), ("SCRIPT", "FLUSH", "SYNC", "x"),
        ("EVALSHA", sha_of(script), 0),
        ("EVAL", "return 1", "x"), ("EVAL", "return 1", -1), ("EVAL", "return 1", 2, "a"), ("EVAL", "return 1"),
        ("EVAL_RO", "return redis.call('set', 'a', 1)", 0), ("EVALSHA", "short", 0), ("DEL", "n"),
    ]
    for protocol in (2, 3):
        with shared.redis(3) as ours, plain.client() as theirs:
            assert ask(ours, ("HELLO", protocol))[:1] == ask(theirs, ("HELLO", protocol))[:1]
            for request in requests:
                assert ask(theirs, request) == ask(ours, request), request


def test_nothing_to_kill(shared, plain):
    with shared.redis(3) as ours, plain.client() as theirs:
        for request in [("SCRIPT", "KILL"), ("FUNCTION", "KILL")]:
            wait_for(lambda: ask(ours, request) == ask(theirs, request), "this server not to be busy")


LIBRARY = """#!lua name=lib
local kept = 0
local function set(keys, args)
  kept = kept + 1
  redis.call('set', keys[1], args[1])
  return kept
end
redis.register_function('set', set)
redis.register_function{function_name = 'get', flags = {'no-writes'}, description = 'reads',
  callback = function(keys) return redis.call('get', keys[1]) end}
redis.register_function('bad', function() error('oh') end)
redis.register_function{function_name = 'sly', flags = {'no-writes'},
  callback = function(keys) return redis.call('set', keys[1], 'x') end}
"""


def test_functions(shared, plain):
    requests = [("FUNCTION", "FLUSH")] + [("FUNCTION", "LOAD", code) for code in [
        "return 1", "#!lua", "#!lua\nreturn 1", "#!lua name=a b=c\nreturn 1", "#!js name=a\nreturn 1",
        "#!lua name=a-b\nreturn 1", "#!lua name=a\nreturn 1", "#!lua name=a\nre turn",
        "#!lua name=a\nredis.call('get', 'x')", "#!lua name=a\nredis.register_function('f')",
        "#!lua name=a\nredis.register_function('f', 'g')", "#!lua name=a\nx = 1", LIBRARY, LIBRARY,
        "#!lua name=other\nredis.register_function('get', function() end)"]] + [
        ("FUNCTION", "LOAD", "NONSENSE", LIBRARY), ("FUNCTION", "LOAD", "REPLACE", LIBRARY),
        ("FCALL", "get", 1, "fk"), ("FCALL_RO", "get", 1, "fk"), ("FCALL_RO", "set", 1, "fk", "x"),
        ("FCALL", "set", 1, "fk", "v"), ("FCALL", "get", 1, "fk"), ("FCALL", "bad", 0), ("FCALL", "sly", 1, "fk"),
        ("FCALL", "none", 0), ("FCALL", "get", "x"), ("FCALL", "get", 2, "fk"), ("FCALL", "get", -1),
        ("MULTI",), ("FCALL", "get", 1, "fk"), ("FCALL", "bad", 0), ("EXEC",), ("FUNCTION", "LIST", "x"),
        ("FUNCTION", "LIST", "LIBRARYNAME", "no*"), ("FUNCTION", "DELETE", "none"), ("FUNCTION", "DELETE", "lib"),
        ("FCALL", "get", 1, "fk"), ("FUNCTION", "LIST"), ("DEL", "fk"), ("FUNCTION", "FLUSH", "x"),
    ]
    for i in (1, 2):
        with shared.redis(i) as ours, plain.client() as theirs:
            for request in requests:
                assert ask(theirs, request) == ask(ours, request), request
    ours = redis.Redis(port=shared.redis_port(3))
    assert ours.function_load(LIBRARY) == b"lib"
    (listed,) = ours.function_list("li*", withcode=True)
    listed = dict(zip(listed[::2], listed[1::2]))
    assert listed[b"library_name"] == b"lib" and listed[b"library_code"] == LIBRARY.encode()
    functions = [dict(zip(f[::2], f[1::2])) for f in listed[b"functions"]]
    assert {f[b"name"]: (f[b"description"], f[b"flags"]) for f in functions} == {
        b"set": (None, []), b"get": (b"reads", [b"no-writes"]), b"bad": (None, []),
        b"sly": (None, [b"no-writes"])}
    # A counter that a library keeps to itself would not be the same at a server that was restored.
    assert [ours.fcall("set", 1, "fk", "v") for _ in range(3)] == [1, 1, 1]


def test_a_script_comes_out_the_same_everywhere(shared):
    """What a server would draw, order or read off its clock: written down, and compared."""
    with shared.redis(1) as client:
        client.call("FLUSHALL")
        # Built in another order at each backend, hash tables differ; so do clocks and luck.
        client.call("SADD", "set", *range(600), *(f"m{n}" for n in range(300)))
        client.call("HSET", "hash", *(x for n in range(600) for x in (f"f{n}", n)))
        client.call("ZADD", "zset", *(x for n in range(300) for x in (n, f"z{n}")))
    script = """
        local function put(name, value)
            redis.call('rpush', name, type(value) == 'table' and cjson.encode(value) or tostring(value))
        end
        put('time', redis.call('time'))
        put('random', math.random()) put('random', math.random(1000000)) put('random', math.random(5, 9))
        math.randomseed(7) put('seeded', math.random(1000000))
        put('address', tostring({})) put('address', function() end) put('address', coroutine.create(function() end))
        put('address', tostring(redis.call))
        put('garbage', collectgarbage('count')) put('garbage', gcinfo())
        for _, request in ipairs({{'smembers', 'set'}, {'hgetall', 'hash'}, {'hkeys', 'hash'},
                {'hvals', 'hash'}, {'sunion', 'set'}, {'sdiff', 'set', 'none'}, {'sinter', 'set'},
                {'keys', '*'}, {'scan', 0}, {'sscan', 'set', 0}, {'hscan', 'hash', 0}, {'zscan', 'zset', 0},
                {'srandmember', 'set'}, {'srandmember', 'set', 5}, {'srandmember', 'set', -5},
                {'hrandfield', 'hash', 3, 'withvalues'}, {'zrandmember', 'zset', 4}, {'randomkey'},
                {'spop', 'set'}, {'spop', 'set', 7}, {'xadd', 'stream', '*', 'f', 'v'}, {'time'}}) do
            put('reply:' .. request[1], redis.call(unpack(request)))
        end
        redis.call('set', 'deadline', 'x', 'px', 3600000)
        put('due', redis.call('pexpiretime', 'deadline'))
        return redis.call('lrange', 'random', 0, -1)"""
    with shared.redis(2) as client:
        seen = {tuple(client.call("EVAL", script, 0)) for _ in range(3)}
    assert len(seen) == 3, "the draw is no draw"
    state = backends_are_equal(shared)
    assert len(state) > 25
    with shared.redis(3) as client:
        assert client.call("LRANGE", "seeded", 0, -1) == client.call("LRANGE", "seeded", 0, 0) * 3
        assert client.call("LRANGE", "address", 0, 0)[0].startswith(b"table: 0x")


@pytest.mark.parametrize("code", [
    "local t = {} t[1] = t return t", "local t = {} t[1], t[2] = t, 'behind' return t"])
def test_a_table_that_contains_itself(shared, plain, code):
    """Thousands of arrays in each other, which is more than our client can take apart."""
    leader = shared.wait_leader()
    wire = {}
    for name, client in [("ours", shared.redis(3)), ("theirs", plain.client())]:
        with client:
            client.send(encode("EVAL", code, 0) + encode("ECHO", "the end"))
            wire[name] = bytearray()
            while not wire[name].endswith(b"$7\r\nthe end\r\n"):
                wire[name] += client.line() + b"\r\n"
    assert wire["ours"] == wire["theirs"] and len(wire["ours"]) > 10000
    assert shared.wait_leader() == leader, "its server was taken for a broken one"


def test_what_would_outlive_a_script_does_not(shared):
    with shared.redis(2) as client:
        for code in ["cjson.encode_sparse_array(true)", "cjson.encode_number_precision(3)"]:
            with pytest.raises(ServerError, match="muproxy: cjson"):
                client.call("EVAL", code, 0)
        assert client.call("EVAL", "return cjson.encode(1.23456)", 0) == b"1.23456"
        with pytest.raises(ServerError, match="readonly"):
            client.call("EVAL", "redis = nil _G.kept = 1", 0)
        # There is no way round to what a server itself has.
        for escape in ["getmetatable(math)", "getmetatable(_G)", "getmetatable(redis)"]:
            assert client.call("EVAL", f"local m = {escape} return type(m)", 0) == b"boolean"
        assert client.call("EVAL", "return loadstring('return math.random == _G.math.random')()", 0) == 1


@pytest.mark.parametrize("code,why", [
    ("for _ in pairs({[{}] = 1}) do end", "order of keys"), ("next({[print or {}] = 1})", "print"),
    ("next({[function() end] = 1})", "order of keys"),
    ("redis.call('pubsub', 'channels')", "pubsub"), ("redis.call('swapdb', 0, 1)", "swapdb"),
    ("redis.call('command', 'list')", "commands"), ("redis.call('lolwut')", "lolwut"),
    ("redis.call('dump', 'x')", "dump"), ("redis.call('object', 'idletime', 'x')", "object"),
    ("redis.call('info')", "info"), ("redis.call('memory', 'usage', 'x')", "memory"),
    ("redis.call('xinfo', 'consumers', 's', 'g')", "xinfo"), ("redis.call('migrate', 'h', 1, 'k', 0, 1)", "migrate"),
    ("redis.call('sort', 's', 'by', 'w_*', 'alpha')", "SORT"), ("redis.call('lastsave')", "lastsave"),
])
def test_what_cannot_be_made_the_same_is_refused(shared, code, why):
    with shared.redis(3) as client, pytest.raises(ServerError, match=why):
        client.call("EVAL", code, 0)


def test_an_error_that_reads_like_a_failed_server(shared):
    """It is the script's own: no replica may take its backend for broken because of it."""
    with shared.redis(2) as client:
        leader = shared.wait_leader()
        for text in ["OOM no memory", "BUSY x", "NOSCRIPT x", "READONLY x", "\\1x y"]:
            expected = text.replace("\\1", "\1")
            for request in [("EVAL", f"return {{err = '{text}'}}", 0),
                            ("EVAL", f"error({{err = '{text}'}})", 0)]:
                with pytest.raises(ServerError) as raised:
                    client.call(*request)
                assert str(raised.value).startswith(expected)
        answers = client.pipeline([("MULTI",), ("EVAL", "return {err = 'OOM x'}", 0), ("EVALSHA", "0" * 40, 0),
                                   ("PING",), ("EXEC",)])[-1]
        assert str(answers[0]) == "OOM x" and str(answers[1]).startswith("NOSCRIPT") and answers[2] == b"PONG"
        assert client.call("PING") == b"PONG" and shared.wait_leader() == leader
    shared.wait_level()


def test_deadlines_that_scripts_set(shared):
    """Nobody can tell them from the log: the index has to learn of them, and what moves after them."""
    def requests(n, command):
        return [("EVAL", f"redis.call('set', KEYS[1], 'x') return {command}", 2, f"sd:{n}", f"sd:{n}:to")]

    with shared.redis(1) as client:
        cases = [
            "redis.call('set', KEYS[1], 'x', 'px', 150)", "redis.call('psetex', KEYS[1], 150, 'x')",
            "redis.call('pexpire', KEYS[1], 150)", "redis.call('getex', KEYS[1], 'px', 150)",
            "redis.call('pexpireat', KEYS[1], redis.call('time')[1] * 1000 + 1100)",
            "redis.call('pexpire', KEYS[1], 150) and redis.call('rename', KEYS[1], KEYS[2])",
            "redis.call('pexpire', KEYS[1], 150) and redis.call('copy', KEYS[1], KEYS[2])",
            "redis.call('pexpire', KEYS[1], 150) and redis.call('move', KEYS[1], 5)",
        ]
        for n, command in enumerate(cases):
            client.call(*requests(n, command)[0])
        # In a transaction, and moved in the very next command, before anybody was asked.
        client.pipeline([("MULTI",), *requests("m", cases[0]), *requests("m2", cases[2]), ("EXEC",)])
        client.pipeline([*requests("r", cases[0]), ("RENAME", "sd:r", "sd:renamed")])
        client.pipeline([("MULTI",), *requests("t", cases[0]), ("RENAME", "sd:t", "sd:trenamed"), ("EXEC",)])
        client.pipeline([*requests("w", cases[0]), ("SWAPDB", 0, 6), ("PING",)])
        client.pipeline([("SWAPDB", 0, 6), ("EVAL", "redis.call('select', 7) redis.call('set', 'sd:7', 'x', 'px', 150)", 0)])
        client.call("FUNCTION", "LOAD", "REPLACE", "#!lua name=d\nredis.register_function('later', function(k) "
                    "return redis.call('set', k[1], 'x', 'px', 150) end)")
        client.call("FCALL", "later", 1, "sd:f")

        def left():
            keys = []
            for database in (0, 5, 6, 7):
                client.call("SELECT", database)
                keys += client.call("KEYS", "sd:*")
            return sorted(keys)
        wait_for(lambda: left() == [], "all of these keys to go")
    backends_are_equal(shared)


def test_expiry_inside_of_a_script(shared):
    """Time stands still in it; what was due before it is gone, what is not due stays."""
    with shared.redis(2) as client:
        client.call("SET", "short", "x", "PX", 40)
        slow = """
            local seen = redis.call('exists', KEYS[1])
            for i = 1, 300000 do math.floor(i) end
            return {seen, redis.call('exists', KEYS[1]), redis.call('set', KEYS[1], 'y', 'nx') ~= false}"""
        outcomes_seen = set()
        wait_for(lambda: outcomes_seen.add(tuple(x or 0 for x in client.call("EVAL", slow, 1, "short")))
                 or (0, 0, 1) in outcomes_seen, "the key to be due")
        assert outcomes_seen <= {(1, 1, 0), (0, 0, 1)}
    backends_are_equal(shared)


def test_endless_scripts_end_at_the_same_step(group):
    """Later requests are served, and what was done is done everywhere. Then what it is to be patient."""
    with group.redis(1, timeout=60) as client, group.redis(2, timeout=60) as other:
        for script in ["while true do pcall(redis.call, 'incr', 'steps') end",
                       "local __step, __step_ = tostring, tostring repeat pcall(function() repeat until false end) until false"]:
            with pytest.raises(ServerError, match="muproxy"):
                client.call("EVAL", script, 0)
            assert other.call("SET", "after", "x") == b"OK"
        assert int(client.call("GET", "steps")) > 1000
    backends_are_equal(group)

    # No leader is deposed though its backend says nothing for longer than it otherwise may. (On a
    # machine that is busy enough one may be, for another reason, but not each time.)
    for i in group.ids:
        group.restart_with(i, f"\n[timing]\nbackend-timeout = {int(1000 * PATIENCE)}ms\n")
    group.wait_level()

    def leader_stays():
        leader, ballot = group.wait_leader(), group.status(1)["ballot"]
        with group.redis(1, timeout=60) as client, pytest.raises(ServerError, match="muproxy"):
            client.call("EVAL", "local function f() return f() end f()", 0)
        return group.wait_leader() == leader and group.status(1)["ballot"] == ballot
    assert leader_stays() or leader_stays() or leader_stays()


def test_a_script_cannot_be_killed_half_way(shared):
    """The servers would have got to different places: it is said so, and the script ends by itself."""
    with shared.redis(1, timeout=60) as client:
        i = shared.wait_leader()
        client.send(encode("EVAL", "while true do redis.call('incr', 'half') end", 0))

        def answer(*request):
            with shared.redis(i) as other:
                try:
                    return other.call(*request)
                except ServerError as error:
                    return str(error)
        wait_for(lambda: answer("SCRIPT", "KILL").startswith("UNKILLABLE muproxy"), "the script to run")
        assert isinstance(client.reply(), ServerError)
        wait_for(lambda: answer("SCRIPT", "KILL").startswith("NOTBUSY"), "no script to run")
    backends_are_equal(shared)


def test_scripts_stay_known(group):
    """Their bodies are part of the state: whoever comes to lead has them."""
    script = "return {'stays', redis.call('incr', KEYS[1])}"
    with group.redis(1) as client:
        assert client.call("SCRIPT", "LOAD", script) == sha_of(script).encode()
        client.call("FUNCTION", "LOAD", LIBRARY)
    group.wait_level()
    leader = group.wait_leader()
    group.kill(leader)
    group.start_replica(leader)
    for i in group.ids:
        wait_for(lambda: group.serves(i), f"replica {i} to serve", 60)
        with group.redis(i, timeout=60) as client:
            assert client.call("EVALSHA", sha_of(script), 1, "n") == [b"stays", i]
            assert client.call("FCALL", "get", 1, "n") == str(i).encode()
    backends_are_equal(group)


class RandomScripts:
    """Scripts made of random calls; each of them is its own."""

    CALLS = [
        "redis.call('set', K, V)", "redis.call('set', K, V, 'px', math.random(30, 400))",
        "redis.pcall('incr', K)", "redis.pcall('sadd', S, V, math.random(100), math.random(100))",
        "redis.pcall('spop', S)", "redis.pcall('spop', S, 2)", "redis.pcall('srem', S, redis.pcall('srandmember', S) or '')",
        "redis.pcall('hset', H, V, math.random())", "redis.pcall('rpush', L, unpack(redis.call('smembers', S)))",
        "redis.pcall('rpush', L, cjson.encode(redis.call('hgetall', H)))", "redis.pcall('ltrim', L, -20, -1)",
        "redis.pcall('xadd', X, '*', 'f', V)", "redis.pcall('xtrim', X, 'maxlen', 10)",
        "redis.call('expire', K, math.random(-1, 2))", "redis.pcall('rename', K, K .. 'r')",
        "redis.call('copy', K, K .. 'c', 'replace')", "redis.call('persist', K)", "redis.call('del', K)",
        "redis.pcall('rpush', L, redis.call('time')[1] % 2, redis.call('pttl', K) > 0 and 1 or 0)",
        "redis.pcall('rpush', L, redis.call('randomkey') or '')", "redis.pcall('zadd', Z, math.random(), V)",
        "redis.pcall('rpush', L, cjson.encode(redis.call('zrandmember', Z, 2, 'withscores')))",
        "redis.call('setex', K, 1, V)", "redis.pcall('getex', K, 'px', 50)", "redis.call('select', math.random(0, 2))",
        "for _, k in ipairs(redis.call('keys', 'k*')) do redis.call('append', 'all', k) end "
        "redis.call('setrange', 'all', 5000, '') redis.call('set', 'all', string.sub(redis.call('get', 'all'), 1, 5000))",
    ]

    def __init__(self, seed):
        self.choose = random.Random(seed)

    def __call__(self):
        n = self.choose.randrange
        head = (f"local K, V, S, H, L, X, Z = 'k{n(12)}', 'v{n(1000)}', 's{n(3)}', 'h{n(3)}', 'l{n(3)}', 'x{n(2)}', "
                f"'z{n(2)}'\n")
        calls = [self.choose.choice(self.CALLS) for _ in range(n(1, 9))]
        if n(8) == 0:
            calls.insert(n(len(calls) + 1), "if math.random(2) == 1 then error('by chance') end")
        return head + "\n".join(calls)


@pytest.mark.parametrize("seed", [int(os.environ.get("MUPROXY_SEED", "1"))])
def test_random_scripts_leave_the_same_everywhere(group, seed):
    """From clients of all replicas, in transactions, too, while leaders are killed."""
    print("seed", seed)
    stop, failures, done = threading.Event(), [], [0]

    def run(number):
        scripts, client, loaded = RandomScripts(seed * 10 + number), None, []
        while not stop.is_set() and not failures:
            try:
                client = client or group.redis(number % 3 + 1, timeout=60)
                script = scripts()
                request = ("EVAL", script, 0)
                if scripts.choose.random() < 0.3 and loaded:
                    request = ("EVALSHA", scripts.choose.choice(loaded), 0)
                else:
                    loaded = loaded[-20:] + [sha_of(script)]
                if scripts.choose.random() < 0.2:
                    client.pipeline([("MULTI",), request, ("RENAME", "k1", "k2"), request, ("EXEC",)])
                else:
                    client.pipeline([request])
                done[0] += 1
            except (Disconnected, OSError):
                client = None
            except Exception as error:  # pylint: disable=broad-except
                failures.append(error)

    workers = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    for worker in workers:
        worker.start()
    for _ in range(2):
        before = done[0]
        wait_for(lambda: done[0] > before + 150 or failures, "scripts to run", 60)
        leader = group.wait_leader()
        group.kill(leader)
        group.start_replica(leader)
        wait_for(lambda: group.serves(leader), "it to serve again", 60)
    stop.set()
    for worker in workers:
        worker.join()
    assert not failures, failures[:2]
    equal_at_last(group)
