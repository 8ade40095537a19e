"""Changes of members that cannot be, and are refused with the reason."""

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import threading

import pytest
from harness import MUCTL, MUPROXY, PATIENCE, wait_for
from heal import log_of
from newcomers import address, changing, muctl, muctl_begin


@pytest.fixture(scope="module")
def group():
    yield from changing()


def refused(group, i, *arguments, code=1):
    done = muctl(group, i, *arguments)
    assert done.returncode == code and done.stdout == "", done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_what_makes_no_sense_is_refused(group):
    leader = group.wait_leader()
    other = next(i for i in group.ids if i != leader)
    assert f"replica {leader} leads: ask it" in refused(group, other, "add", "127.0.0.1:9")
    assert "no replica 127.0.0.1:9 has been heard of" in refused(group, leader, "add",
                                                                 "127.0.0.1:9")
    assert "no replica [::1]:9 has been heard of" in refused(group, leader, "add", "[::1]:9")
    assert "has been heard of" in refused(group, leader, "add", "6")
    assert "it is a member already" in refused(group, leader, "add", str(other))
    assert "it is a member already" in refused(group, leader, "add", address(group, other))
    assert "no such replica" in refused(group, leader, "remove", "7")
    assert "replica 7 is no member" in refused(group, leader, "replace", "7", "127.0.0.1:9")
    for words in (["add"], ["remove"], ["remove", "x"], ["remove", "1", "2"], ["replace", "1"]):
        refused(group, leader, *words, code=2)
    # Of 3, of whom one is dead, one more may go only if a majority of the rest follows.
    group.kill(other)
    wait_for(lambda: not group.seen(group.status(leader), other)["alive"], "it to be missed")
    third = next(i for i in group.ids if i not in (leader, other))
    assert "of the others no majority follows" in refused(group, leader, "remove", str(third))
    group.start_replica(other)
    wait_for(lambda: group.serves(other), "it to serve again", 60)
    assert group.members(leader) == group.ids


def test_one_change_at_a_time(group):
    group.newcomer(4)
    group.newcomer(5)
    group.wait_waiting(5)
    leader = group.wait_waiting(4)
    assert [group.seen(group.status(leader), i)["role"] for i in (4, 5)] == ["waiting"] * 2
    assert "muctl add" in group.http(4, "/healthz")[1]
    # It runs, but cannot learn: its server stands still.
    os.kill(group.read_pid(4, "redis.pid"), signal.SIGSTOP)
    with muctl_begin(group, [leader], "add", address(group, 4)) as adding:
        wait_for(lambda: "adding replica 4" in group.status(leader)["change"], "it to begin")
        assert "another change of members is under way" in refused(group, leader, "add", "5")
        assert "another change of members is under way" in refused(group, leader, "remove", "2")
        assert "members: adding replica 4: " in muctl(group, leader, "status").stdout
        os.kill(group.read_pid(4, "redis.pid"), signal.SIGCONT)
        assert adding.wait(60 * PATIENCE) == 0
        assert "replica 4 is a member" in adding.stdout.read()
    group.ids.append(4)
    group.wait_members()
    group.remove(4)
    group.wait_members()
    # Not even with nothing that reminds of it.
    os.remove(group.path(4, "members"))
    process = group.start_replica(4)
    assert process.wait(60 * PATIENCE) == 2
    assert "replica 4 was removed from the group" in log_of(group, 4)


def start(group, text, tmp_path):
    path = tmp_path / "changed.conf"
    path.write_text(text)
    return subprocess.run([MUPROXY, "-c", str(path)], capture_output=True, text=True,
                          timeout=60 * PATIENCE, check=False)


def test_who_cannot_join_is_told_why(group, tmp_path):
    with open(group.conf(5)) as file:
        text = file.read().replace("replica-5", "replica-6")
    text = text.replace("\nid = 5\n", "\nid = 6\n").replace("[member 5]", "[member 6]")
    text = re.sub(r"pid-file = .*\n", "", text)
    text = re.sub(r"state-file = .*", f"state-file = {tmp_path}/members", text)
    text = re.sub(r"listen = 127.0.0.1:\d+", "listen = 127.0.0.1:0", text)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{silent.getsockname()[1]}"
        done = start(group, re.sub(r"join = .*", f"join = {nobody}", text), tmp_path)
        assert done.returncode == 2 and "join: " in done.stderr and nobody in done.stderr, done
        done = start(group, re.sub(r"join = .*", f"join = {group.admin(1)}", text), tmp_path)
        assert done.returncode == 2 and "changed.conf:" in done.stderr, done
    done = start(group, re.sub(r"key = .*", "key = " + "ab" * 32, text), tmp_path)
    assert done.returncode == 2 and "another group" in done.stderr, done
    (tmp_path / "members").write_text("muproxy-members 2\n")
    done = start(group, text, tmp_path)
    assert done.returncode == 2 and "another version of its format: 2 there, 1 here" in done.stderr


class Admin(http.server.BaseHTTPRequestHandler):
    status = {}

    def do_GET(self):
        body = json.dumps(self.status).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("told, words", [
    ({"replicas": []}, "of a version before the control protocol had any"),
    ({"replicas": [], "control": 99}, "speaks version 99 of the control protocol"),
    ({"control": 1}, "no muproxy admin port"),
])
def test_another_version_of_the_control_protocol_is_refused(told, words):
    handler = type("Told", (Admin,), {"status": told})
    with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        for command in (["status"], ["add", "4"], ["drain"]):
            done = subprocess.run(
                [MUCTL, "--admin", f"127.0.0.1:{server.server_port}", *command],
                capture_output=True, text=True, timeout=30 * PATIENCE, check=False)
            assert done.returncode == 1 and words in done.stderr, done
        server.shutdown()
        thread.join()
