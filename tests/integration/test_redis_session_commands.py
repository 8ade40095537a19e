"""Commands about connection and server, line by line beside a plain redis-server's.

The same requests (redis_session_requests.py) go to a plain server and to a group, through its leader and
a follower, in both versions of the protocol. What differs is in DIFFERENT, with the reason, and has to.
"""

import re
import shutil
import subprocess

import pytest

from harness import Group
from redis_pair import PlainRedis
from redis_session_requests import SESSIONS
from redis_sessions import replies, transcript

DEBUG = ("--enable-debug-command", "yes")
NOT_SERVED = rb"-ERR muproxy: \S+ is not served: [^\r\n]+\r\n"
ANY = rb"(?s:.*)"

# Requests (regular expressions) whose replies are others than a plain server's, ours, and why.
DIFFERENT = [
    (r"WAIT (0|-1) (0|10)", rb":1\r\n", "an acknowledged write is on a majority: one replica of two besides"),
    (r"READONLY|READWRITE", rb"\+OK\r\n", "they choose between linearizable and local reads"),
    (r"CLIENT TRACKING on", NOT_SERVED.replace(rb"\S+", rb"CLIENT TRACKING"),
     "no invalidations would be sent"),
    (r"CONFIG SET (x|port|databases|appendonly|requirepass|maxclients|timeout|lua-time-limit) .*"
     r"|CONFIG SET hz 10 nonsense 1|CONFIG REWRITE", NOT_SERVED,
     "what decides about data, or is not known, is the servers' operator's"),
    (r"DEBUG (NONSENSE|nonSense x y|JMAP|DIGEST|CHANGE-REPL-ID|ERROR hello|STRUCTSIZE|POPULATE 0)", NOT_SERVED,
     "DEBUG goes as far as it is harmless for every server"),
    (r"MODULE (LOAD|UNLOAD|LOADEX) .*", NOT_SERVED, "modules are loaded by the servers' operator"),
    (r"ACL (LOG|LOG .*|SETUSER bob|DELUSER bob|DRYRUN .*|LOAD|SAVE)", NOT_SERVED, "there are no ACL rules"),
    (r"FAILOVER.*|REPLCONF x|REPLICAOF NO ONE", NOT_SERVED, "replication is muproxy's own"),
    (r"BGSAVE x|SHUTDOWN.*", NOT_SERVED, "it would concern one server of several"),
    (r"SCRIPT DEBUG (x|NO)", NOT_SERVED, "scripts of the group's are not debugged at one server"),
    (r"FUNCTION LOAD #!lua name=other\nerror.*", rb"-ERR Error registering functions: [^\r\n]*: boo\r\n",
     "error() is there as a library is loaded, too"),
    (r"FUNCTION DUMP", rb"\$\d+\r\n" + ANY, "libraries are not compressed"),
    (r"MEMORY STATS", rb"[*%]\d+\r\n" + ANY, "bytes and keys are counted as they are in a server"),
]


def lines(reply):
    """Where the order is a hash table's."""
    return sorted(reply.split(b"\r\n"))


def without_numbers(reply):
    return re.sub(rb"[\d.]+", b"N", reply)


def client_fields(reply):
    """Of CLIENT INFO the names of fields, and the values of those that say what a client did."""
    said = ("name", "flags", "db", "sub", "psub", "ssub", "multi", "events", "cmd", "user", "redir", "resp")
    fields = [word.split("=", 1) for word in reply.decode().split("\r\n")[1].split()]
    return [(name, value if name in said else None) for name, value in fields]


def info_fields(reply):
    """Names of INFO's sections and fields, in order, but our own, and those that go by what was executed."""
    own = ("# Muproxy", "muproxy_", "cmdstat_", "errorstat_", "latency_percentiles_usec_")
    text = reply.decode().split("\r\n", 1)[1]
    return [line.split(":")[0] for line in text.split("\r\n") if line and not line.startswith(own)]


# What cannot be equal is taken out of both replies.
MASKED = [
    (r"HELLO.*", lambda reply: re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1", reply)),
    (r"TIME|LASTSAVE", without_numbers),
    (r"LOLWUT VERSION [56]", lambda reply: reply[:1] + reply[-40:]),
    (r"COMMAND( INFO| DOCS| LIST.*)?|ACL CAT scripting|CONFIG GET .*", lines),
    (r"FUNCTION (LIST|STATS).*", lines),
    (r"CLIENT INFO", client_fields),
    (r"INFO.*", info_fields),
    (r"OBJECT REFCOUNT ok", without_numbers),  # a request behind it still holds the value
]


def text_of(request):
    return " ".join(map(str, request))


def find(table, request):
    return next((row for row in table if re.fullmatch(row[0], text_of(request), re.DOTALL)), None)


@pytest.fixture(scope="module")
def plain():
    with PlainRedis(*DEBUG) as server:
        yield server


@pytest.fixture(scope="module")
def debugged():
    """A group whose servers allow what the plain one does."""
    with Group(redis=[shutil.which("redis-server"), *DEBUG]) as group:
        yield group.wait_ready()
        group.print_logs()


@pytest.fixture(params=["leader", "follower"])
def port(request, debugged):
    leader = debugged.wait_leader()
    return debugged.redis_port(next(i for i in debugged.ids if (i == leader) == (request.param == "leader")))


def fault(request, theirs, ours):
    """What is wrong with our reply, or None."""
    different = find(DIFFERENT, request)
    if different:
        # A list of reasons that is longer than it has to be hides what will break.
        good = re.fullmatch(different[1], ours) is not None
        return None if good else ("not as listed", request, ours[:400])
    mask = find(MASKED, request)
    if mask:
        theirs, ours = mask[1](theirs), mask[1](ours)
    return None if theirs == ours else (request, theirs[:400], ours[:400])


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("name", SESSIONS)
def test_as_with_a_plain_server(plain, port, name, resp):
    session = [("HELLO", resp)] + SESSIONS[name]
    theirs, ours = (replies(transcript(number, session)) for number in (plain.port, port))
    assert len(theirs) == len(ours), (theirs[-3:], ours[-3:])
    faults = [fault(*each) for each in zip(session + [("QUIT",)], theirs, ours)]
    assert not any(faults), "\n".join(str(one) for one in faults if one)


@pytest.mark.parametrize("row", DIFFERENT, ids=lambda row: row[2])
def test_every_exception_is_needed(plain, row):
    """It is asked for by a request, and a plain server says otherwise, or what varies there, too."""
    requests = [request for session in SESSIONS.values() for request in session
                if find([row], request)]
    if row[0] in ("FUNCTION DUMP", "MEMORY STATS"):
        return  # told apart by what the servers hold
    theirs = replies(transcript(plain.port, requests))
    assert requests and not any(re.fullmatch(row[1], reply) for reply in theirs[:len(requests)])


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("within", ["alone", "transaction"])
def test_memory_of_the_hidden_database_is_not_shown(debugged, resp, within):
    """Its settings and the applied LSN are always there; a client's database is shown, as before."""
    session = [("HELLO", resp), ("SET", "shown", 1)]
    session += [("MEMORY", "STATS")] if within == "alone" else [("MULTI",), ("MEMORY", "STATS"), ("EXEC",)]
    for i in debugged.ids:
        said = replies(transcript(debugged.redis_port(i), session))[-2]
        assert b"db.0\r\n" in said and b"dataset.bytes\r\n" in said and b"fragmentation.bytes\r\n" in said
        assert b"db.16\r\n" not in said


def test_health_checks(debugged):
    """What load balancers ask, in the form in which they do, of every replica."""
    for i in debugged.ids:
        with debugged.redis(i) as client:
            # HAProxy's tcp-check: send-lines and expected strings.
            client.send(b"PING\r\n")
            assert client.line() == b"+PONG"
            client.send(b"info replication\r\n")
            text = client.reply()
            assert b"role:master" in text.split(b"\r\n") and b"connected_slaves:0" in text
            client.send(b"QUIT\r\n")
            assert client.line() == b"+OK" and client.closed_by_server()
        said = subprocess.run(["redis-cli", "-p", str(debugged.redis_port(i)), "ping"], capture_output=True,
                              text=True, check=True, timeout=60)
        assert said.stdout == "PONG\n"
