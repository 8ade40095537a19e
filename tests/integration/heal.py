"""Servers of a group that are killed and come back, and how their replicas are healed."""

import contextlib
import os
import re
import subprocess
import time

from harness import PATIENCE, Disconnected, encode, wait_for
from redis_pair import contents


class Processes:
    """Servers in the place of those of a group that were killed; `pid_file` names theirs."""

    pid_file = None

    def __init__(self, group):
        self.group = group
        self.processes = {}

    def kill(self, i):
        """kill -9, whoever started it."""
        process = self.processes.pop(i, None)
        if process:
            process.kill()
            process.wait()
        else:
            self.group.kill(i, name=self.pid_file)

    def started(self, i, process):
        self.processes[i] = process
        with open(self.group.path(i, self.pid_file), "w") as file:
            file.write(f"{process.pid}\n")
        return process

    def close(self):
        for process in self.processes.values():
            process.kill()
            process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Servers(Processes):
    """redis-servers."""

    pid_file = "redis.pid"

    def __init__(self, group, program="redis-server"):
        super().__init__(group)
        self.program = program

    def start(self, i, *arguments):
        """With what its directory holds: a donor's may hold the snapshot that it gave."""
        with open(self.group.path(i, "muproxy.log"), "ab") as log:
            return self.started(i, subprocess.Popen(
                [self.program, "--port", "0", "--unixsocket", self.group.path(i, "redis.sock"),
                 "--save", "", "--appendonly", "no", "--databases", "17", "--loglevel", "warning",
                 "--dir", self.group.path(i, ""), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, "LC_ALL": "C"}))

    def empty(self, i):
        """It is killed, and comes back without what it held."""
        self.kill(i)
        return self.start_empty(i)

    def start_empty(self, i):
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.group.path(i, "dump.rdb"))
        return self.start(i)


# What the clients of a leader whose server dies may be told: who cannot know says so.
LOST = ("executed, but the backend was lost before it answered",
        "the log that may tell was not read here")


def a_follower(group):
    leader = group.wait_leader()
    return next(i for i in group.ids if i != leader)


def the(group, who):
    return group.wait_leader() if who == "leader" else a_follower(group)


def log_of(group, i):
    with open(group.path(i, "muproxy.log"), errors="replace") as log:
        return log.read()


def transfer_of(group, i):
    status = group.status(i)
    return status["proxy"]["restore"] if status else None


def restores(group, i):
    """How often its server was restored since the process began; 0 if it does not answer."""
    transfer = transfer_of(group, i)
    return transfer["restores"] if transfer else 0


def wait_restored(group, i, count=1, deadline_s=60):
    wait_for(lambda: restores(group, i) >= count, f"replica {i}'s server to be restored",
             deadline_s)
    wait_for(lambda: group.serves(i), f"replica {i} to serve again", deadline_s)


def fill(client, name, count, size=1):
    """So many keys, in pipelines."""
    for first in range(0, count, 500):
        numbers = range(first, min(first + 500, count))
        client.send(b"".join(encode("SET", f"{name}:{n}", f"{n}:" + "x" * size)
                             for n in numbers))
        for _ in numbers:
            assert client.reply() == b"OK"


def fill_bulk(group, megabytes, size=100000):
    """Data that no server makes smaller, so that to move it takes its time."""
    with group.redis(group.wait_leader(), timeout=60) as client:
        for n in range(megabytes * 1000000 // size):
            assert client.call("SET", f"bulk:{n}", os.urandom(size)) == b"OK"
    group.wait_level()


def outrun(group, leader, value_bytes=4096, ring_bytes=1 << 20, times=3):
    """Write so much that the ring has been used again, over and over."""
    value = "o" * value_bytes
    with group.redis(leader) as client:
        for n in range(times * ring_bytes // value_bytes):
            assert client.call("SET", f"outrun:{n % 50}", value) == b"OK"


# All of a database in one number; an order that the server happens to keep does not matter.
DIGEST = """
local whole = ""
local keys = redis.call("KEYS", "*")
table.sort(keys)
local function sorted(flat, step)
    local items = {}
    for n = 1, #flat, step do items[#items + 1] = table.concat(flat, "|", n, n + step - 1) end
    table.sort(items)
    return table.concat(items, ",")
end
local content = {
    string = function(k) return redis.call("GET", k) end,
    list = function(k) return table.concat(redis.call("LRANGE", k, 0, -1), ",") end,
    set = function(k) return sorted(redis.call("SMEMBERS", k), 1) end,
    zset = function(k) return table.concat(redis.call("ZRANGE", k, 0, -1, "WITHSCORES"), ",") end,
    hash = function(k) return sorted(redis.call("HGETALL", k), 2) end,
    stream = function(k) return cjson.encode(redis.call("XRANGE", k, "-", "+")) end,
}
for _, k in ipairs(keys) do
    local kind = redis.call("TYPE", k).ok
    whole = redis.sha1hex(whole .. k .. kind .. string.format("%.0f", redis.call("PEXPIRETIME", k))
                          .. content[kind](k))
end
return whole .. " " .. #keys
"""


def digest(backend, databases=16):
    digests = []
    for database in range(databases):
        backend.call("SELECT", database)
        digests.append(backend.call("EVAL", DIGEST, 0))
    backend.call("SELECT", 0)
    return digests


def equal_everywhere(group, ids=None):
    """The servers hold the same, deadlines included. Whoever lags has some time."""
    ids = list(ids or group.ids)
    until = time.monotonic() + 20 * PATIENCE
    while True:
        group.wait_level(ids)
        # A server that is restored meanwhile disconnects whoever is not its replica.
        with contextlib.suppress(Disconnected), contextlib.ExitStack() as stack:
            backends = [stack.enter_context(group.redis_backend(i, 60)) for i in ids]
            digests = [digest(backend) for backend in backends]
            if all(other == digests[0] for other in digests[1:]):
                return
            if time.monotonic() > until:
                raise AssertionError(differences(ids, [contents(b) for b in backends]))
        assert time.monotonic() < until + 20, "one is restored over and over"


def agree(group):
    """The servers hold the same, though with so many questions they are never level with the log."""
    def same():
        with contextlib.suppress(Disconnected), contextlib.ExitStack() as stack:
            backends = [stack.enter_context(group.redis_backend(i, 60)) for i in group.ids]
            digests = [digest(backend) for backend in backends]
            return all(other == digests[0] for other in digests)
        return False
    wait_for(same, "the servers to hold the same", 60)


def metric(group, i, name):
    found = re.search(rf"^muproxy_{name} ([0-9]+)$", group.http(i, "/metrics")[1], re.M)
    return int(found.group(1)) if found else 0


def differences(ids, all_contents):
    """A few of them in words."""
    first = all_contents[0]
    for i, other in zip(ids[1:], all_contents[1:]):
        keys = [k for k in first.keys() | other.keys() if first.get(k) != other.get(k)]
        if keys:
            sample = [(k, str(first.get(k))[:80], str(other.get(k))[:80]) for k in keys[:3]]
            return f"replicas {ids[0]} and {i} differ in {len(keys)} keys: {sample}"
    return "they were different, and are not any more"


def check(group, loads, clients_of_lost_leader=()):
    """Counters exact, nothing lost, the servers equal."""
    for load in loads:
        load.stop()
    with group.redis(group.wait_leader()) as client:
        for load in loads:
            load.check(client)
            assert load.broken is None, f"{load.label} lost its connection: {load.broken}"
            allowed = load.replica in clients_of_lost_leader
            assert all(allowed and any(lost in error for lost in LOST)
                       for error in load.errors), load.errors[:3]
    equal_everywhere(group)
