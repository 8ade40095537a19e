"""A replica that asks its Memcached clients who they are: SASL, and the text protocol's way."""

import os
import subprocess

import pylibmc
import pytest

from harness import BUILD, PATIENCE, refuses_users
from mc_requests import frame, frames
from mc_support import run_spymemcached

USER, PASSWORD = "fred", "pass:word"
SASL_LIST_MECHS, SASL_AUTH, SASL_STEP = 0x20, 0x21, 0x22
GET, NOOP, VERSION = 0x00, 0x0a, 0x0b
AUTH_ERROR = 0x20


@pytest.fixture(scope="module")
def closed(shared):
    """A follower that lets nobody in without a password; the other replicas let everybody in."""
    leader = shared.wait_leader()
    i = next(i for i in shared.ids if i != leader)
    path = shared.path(i, "users")
    with open(path, "w") as file:
        file.write(f"george:geheim\n{USER}:{PASSWORD}\r\n")
    shared.restart_with(i, f"\n[memcached]\nauth-file = {path}\n")
    return shared, i


def ask(client, request):
    """(opcode, status, body) of what a request of the binary protocol is answered."""
    client.send(request)
    header = client.exactly(24)
    (header, _, body), = frames(header + client.exactly(int.from_bytes(header[8:12], "big")))
    return header[1], int.from_bytes(header[6:8], "big"), body


def plain(user, password, for_whom=""):
    return frame(SASL_AUTH, b"PLAIN", value=f"{for_whom}\0{user}\0{password}".encode())


def test_binary(closed):
    group, i = closed
    with group.memcached(i, timeout=20) as client:
        assert ask(client, frame(VERSION))[1] == 0
        assert ask(client, frame(SASL_LIST_MECHS)) == (SASL_LIST_MECHS, 0, b"PLAIN")
        for wrong in [plain(USER, "word"), plain(USER, PASSWORD + "x"), plain(USER, ""),
                      plain("", ""), plain("george", PASSWORD), frame(SASL_AUTH, b"PLAIN"),
                      frame(SASL_AUTH, b"PLAIN", value=f"{USER}\0{PASSWORD}".encode()),
                      frame(SASL_AUTH, b"CRAM-MD5", value=b"\0fred\0pass:word"),
                      frame(SASL_STEP, b"PLAIN", value=f"\0{USER}\0{PASSWORD}".encode())]:
            assert ask(client, wrong)[1:] == (AUTH_ERROR, b"Auth failure."), wrong
        assert ask(client, plain(USER, PASSWORD, "somebody")) == (SASL_AUTH, 0, b"Authenticated")
        assert ask(client, frame(GET, b"nothing"))[1] == 1
        assert ask(client, plain("george", "geheim"))[1] == 0
    with group.memcached(i, timeout=20) as client:
        # What comes behind is not looked at any more.
        client.send(frame(GET, b"k") + plain(USER, PASSWORD) + frame(NOOP))
        header = client.exactly(24)
        assert header[6:8] == AUTH_ERROR.to_bytes(2, "big")
        client.exactly(len(b"Auth failure."))
        assert client.closed_by_server() and client.buffer == b""


def test_text(closed):
    group, i = closed
    right = f"{USER} {PASSWORD}".encode()
    with group.memcached(i, timeout=20) as client:
        for request in ["get k", "version", "mn", "mg k v", "flush_all", "stats muproxy",
                        "delete k", "gat 0 a b"]:
            assert client.command(request) == b"CLIENT_ERROR unauthenticated", request
        assert client.command("add k 0 0 14", right) == b"CLIENT_ERROR unauthenticated"
        assert client.command("ms k 14", right) == b"CLIENT_ERROR unauthenticated"
        assert client.set("k", b"one") == b"CLIENT_ERROR bad authentication token format"
        for wrong in [b"fred geheim", b"fred pass:wor", b"nobody pass:word", b"fred\0 pass:word"]:
            assert client.set("k", wrong) == b"CLIENT_ERROR authentication failure", wrong
        # One that is too large is none; nor is the old value removed for that.
        assert client.set("k", b"x" * (2 << 20)).startswith(b"SERVER_ERROR")
        assert client.set("k", right) == b"STORED"
        assert client.get("k") is None
        assert client.set("k", b"one") == b"STORED" and client.get("k") == b"one"
    with group.memcached(next(j for j in group.ids if j != i)) as client:
        assert client.get("k") == b"one"


def test_clients(closed):
    group, i = closed
    address = f"127.0.0.1:{group.memcached_port(i)}"
    client = pylibmc.Client([address], binary=True, username=USER, password=PASSWORD)
    assert client.set("pylibmc", "value") and client.get("pylibmc") == "value"
    for credentials in [{"username": USER, "password": "wrong"}, {}]:
        with pytest.raises(pylibmc.Error):
            pylibmc.Client([address], binary=True, **credentials).set("pylibmc", "other")
    assert client.get("pylibmc") == "value"
    program = [os.path.join(BUILD, "tests", "integration", "libmemcached_client"), "127.0.0.1",
               str(group.memcached_port(i)), "binary"]
    for credentials, code in [([USER, PASSWORD], 0), ([USER, "wrong"], 1), ([], 1)]:
        run = subprocess.run(program + credentials, capture_output=True, text=True,
                             timeout=60 * PATIENCE)
        assert run.returncode == code, run.stdout + run.stderr


def test_spymemcached(closed):
    group, i = closed
    run_spymemcached(f"127.0.0.1:{group.memcached_port(i)}", "binary", USER, PASSWORD)


def test_others_know_no_sasl(closed):
    group, i = closed
    with group.memcached(next(j for j in group.ids if j != i)) as client:
        for opcode in [SASL_LIST_MECHS, SASL_AUTH, SASL_STEP]:
            key = b"" if opcode == SASL_LIST_MECHS else b"PLAIN"
            assert ask(client, frame(opcode, key))[1] == 0x81


@pytest.mark.parametrize("text,why", [
    ("", "nobody is in it"), ("fred:a\nfred\n", "line 2 is not user:password"),
    (":a\n", "line 1 is not"), ("fred:\n", "line 1 is not"), ("a:b\n\nc:d\n", "line 2 is not"),
    ("a:" + "b" * 70000, "more than 65536 bytes"), (None, "No such file")],
    ids=["empty", "no colon", "no name", "no password", "empty line", "too large", "no file"])
def test_bad_files(closed, tmp_path, text, why):
    refuses_users(*closed, tmp_path, text, why)
