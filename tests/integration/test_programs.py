"""muproxy -c and --check-config, muctl, the admin port: output and exit codes."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from harness import MUCTL, MUPROXY, PATIENCE, Group, cpu_seconds, free_ports, process_lives, \
    wait_for


def run(program, *arguments):
    return subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, timeout=60 * PATIENCE, check=False)


# ------------------------------------------------------------- configuration

def changed(group, i, tmp_path, old, new):
    """A copy of a replica's configuration with one text replaced; its path and the line."""
    with open(group.conf(i)) as conf:
        text = conf.read()
    assert old in text
    path = tmp_path / "changed.conf"
    path.write_text(text.replace(old, new, 1))
    line = text[:text.index(old)].count("\n") + 1
    return str(path), line


def test_check_config_says_ok(shared):
    result = run(MUPROXY, "--check-config", shared.conf(1))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{shared.conf(1)}: ok\n"


@pytest.mark.parametrize("old, new, words", [
    ("id = 1", "id = 9", "not between 1 and 7"),
    ("id = 1", "idd = 1", "unknown key 'idd'"),
    ("log-level = info", "log-level = loud", "'loud' is not one of"),
    ("[admin]", "[administration]", "unknown section"),
    ("[member 2]", "[member two]", "members are named"),
    ("ring-size = 16777216", "ring-size = 17M", "not a power of two"),
    ("group = dev", "group dev", "neither a [section] nor"),
])
def test_a_bad_configuration_is_one_line(shared, tmp_path, old, new, words):
    path, line = changed(shared, 1, tmp_path, old, new)
    for arguments in (["--check-config", path], ["-c", path]):
        result = run(MUPROXY, *arguments)
        assert result.returncode == 2
        assert result.stderr.startswith(f"muproxy: {path}:{line}: ")
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""


def test_missing_files(tmp_path):
    for arguments in (["-c", "/nowhere/x.conf"], ["--check-config", "/nowhere/x.conf"]):
        result = run(MUPROXY, *arguments)
        assert result.returncode == 2
        assert result.stderr == "muproxy: /nowhere/x.conf: No such file or directory\n"


def stopped_replica_conf(group, tmp_path):
    """Replica 3's configuration, itself ended; ports of its own, no pid file."""
    pid = group.kill(3, signal.SIGTERM)
    wait_for(lambda: not process_lives(pid), "replica 3 to end")
    with open(group.conf(3)) as conf:
        return conf.read(), str(tmp_path / "c.conf")


@pytest.mark.parametrize("section", ["redis", "memcached", "admin"])
def test_a_port_in_use_names_its_line(group, tmp_path, section):
    text, path = stopped_replica_conf(group, tmp_path)
    head, tail = text.split(f"[{section}]\n")
    address = tail.split("\n")[0].split(" = ")[1]
    with open(path, "w") as conf:
        conf.write(text)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        host, port = address.split(":")
        taken.bind((host, int(port)))
        taken.listen()
        result = run(MUPROXY, "-c", path)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert result.stderr.startswith(f"muproxy: {path}:{head.count(chr(10)) + 2}: "), result.stderr
    assert address in result.stderr and "in use" in result.stderr


def another_key(text):
    """The same with the first digit of the secret changed."""
    digit = re.search("key = (.)", text).group(1)
    return text.replace(f"key = {digit}", f"key = {'1' if digit == '0' else '0'}", 1)


@pytest.mark.parametrize("change", [
    lambda text: text.replace("group = dev", "group = other", 1),
    another_key,
    lambda text: text.replace("ring-size = 16777216", "ring-size = 32M", 1),
], ids=["name", "key", "ring-size"])
def test_memory_of_another_group_is_refused(group, tmp_path, change):
    text, path = stopped_replica_conf(group, tmp_path)
    assert change(text) != text
    with open(path, "w") as conf:
        conf.write(change(text))
    result = run(MUPROXY, "-c", path)
    assert result.returncode == 2, result.stderr
    assert len(result.stderr.splitlines()) == 1, result.stderr
    assert re.match(f"muproxy: {re.escape(path)}:\\d+: ", result.stderr), result.stderr
    # With the right configuration it goes on from the same memory.
    group.start_replica(3)
    wait_for(lambda: group.serves(3), "replica 3 to serve")


def test_memory_of_another_version_is_refused(group, tmp_path):
    text, path = stopped_replica_conf(group, tmp_path)
    with open(path, "w") as conf:
        conf.write(text)
    directory = re.search("memory-dir = (.*)", text).group(1)
    names = [name for name in os.listdir(directory) if name.endswith("3.mu")]
    assert len(names) == 1, os.listdir(directory)
    with open(os.path.join(directory, names[0]), "r+b") as memory:
        begin = memory.read(12)  # what it is, and of which version
        memory.seek(8)
        memory.write((int.from_bytes(begin[8:], "little") + 1).to_bytes(4, "little"))
        memory.flush()
        result = run(MUPROXY, "-c", path)
        assert result.returncode == 2, result.stderr
        assert len(result.stderr.splitlines()) == 1, result.stderr
        assert f"{names[0]}: was written by another version" in result.stderr, result.stderr
        memory.seek(8)
        memory.write(begin[8:])
    group.start_replica(3)
    wait_for(lambda: group.serves(3), "replica 3 to serve")


def test_a_memory_directory_that_is_not_there(shared, tmp_path):
    with open(shared.conf(1)) as conf:
        memory = next(line for line in conf if line.startswith("memory-dir"))
    path, line = changed(shared, 1, tmp_path, memory, "memory-dir = /nowhere/memory\n")
    with open(path) as conf:
        text = conf.read()
    with open(path, "w") as conf:
        conf.write(re.sub("pid-file = .*\n", "#\n", text))
    result = run(MUPROXY, "-c", path)
    assert result.returncode == 2
    assert result.stderr.startswith(f"muproxy: {path}:{line}: "), result.stderr
    assert "/nowhere/memory" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["-c"], ["--nonsense"], ["-c", "a", "b"], ["a"]])
def test_muproxy_usage_errors(arguments):
    result = run(MUPROXY, *arguments)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


def test_help_and_version():
    for program in (MUPROXY, MUCTL):
        assert run(program, "--help").stdout.startswith("usage: ")
        assert re.fullmatch(r"mu\w+ \d+\.\d+\.\d+\n", run(program, "--version").stdout)
    assert "usage: muproxy dev" in run(MUPROXY, "dev", "--help").stdout


# --------------------------------------------------------------------- muctl

def test_muctl_status_is_a_table(shared):
    result = run(MUCTL, "--admin", shared.admin(2), "status")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    header = next(line for line in lines if line.startswith("ID"))
    assert header.split() == ["ID", "ADDRESS", "ROLE", "BALLOT", "ALIVE", "SCORE", "CONFIRMED",
                              "COMMIT", "APPLIED", "LAG", "BACKEND"]
    rows = [line.split() for line in lines[lines.index(header) + 1:]]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    assert sorted(row[2] for row in rows) == ["follower", "follower", "leader"]
    assert all(row[4] == "yes" and row[-1] == "level" for row in rows)


def test_muctl_status_as_json(shared):
    result = run(MUCTL, "--admin", shared.admin(1), "status", "--json")
    status = json.loads(result.stdout)
    assert status["id"] == 1 and status["serving"] is True
    for replica in status["replicas"]:
        assert set(replica) >= {"id", "address", "role", "ballot", "alive", "score", "confirmed",
                                "commit_lsn", "applied_lsn", "lag_bytes", "backend"}
    assert status["leader"] in (1, 2, 3)


def test_muctl_errors():
    port = free_ports(1)
    result = run(MUCTL, "--admin", f"127.0.0.1:{port}", "status")
    assert result.returncode == 1
    assert result.stderr == f"muctl: 127.0.0.1:{port} does not answer\n"
    for arguments in ([], ["nonsense"], ["status", "more"], ["--admin", "x", "status"],
                      ["--nonsense"]):
        result = run(MUCTL, *arguments)
        assert result.returncode == 2, arguments
        assert len(result.stderr.splitlines()) == 1


def test_muctl_says_when_nobody_like_us_answers(shared):
    """The Redis port is no admin port."""
    result = run(MUCTL, "--admin", f"127.0.0.1:{shared.redis_port(1)}", "status")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1


# ---------------------------------------------------------------- admin port

def test_healthz(shared):
    for i in shared.ids:
        assert shared.http(i, "/healthz") == (200, "ok\n")


def test_metrics(shared):
    with shared.redis(1) as client:
        client.call("SET", "metric", "1")
    code, text = shared.http(1, "/metrics")
    assert code == 200
    values = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            assert re.fullmatch(r'muproxy_[a-z_]+(\{[a-z]+="[^"]*"\})?', name), line
            values[name] = float(value)
    assert values['muproxy_backend_up{backend="redis"}'] == 1
    assert values["muproxy_serving"] == 1
    # Counted as a write where it was proposed, as relayed where it was not.
    assert values["muproxy_writes_total"] + values["muproxy_relayed_total"] >= 1
    assert values['muproxy_replica_alive{replica="3"}'] == 1
    documented = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {name.partition("{")[0] for name in values} == documented


def test_admin_port_takes_nothing_else(shared):
    assert shared.http(1, "/nowhere")[0] == 404
    host, port = shared.admin(1).split(":")
    for garbage in (b"\x00\xff garbage\r\n\r\n", b"POST /status HTTP/1.1\r\n\r\n",
                    b"GET /" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection((host, int(port)), 5) as connection:
            answer = b""
            with contextlib.suppress(OSError):  # it may close at any byte
                connection.sendall(garbage)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(4096)
            assert not answer.startswith(b"HTTP/1.1 200"), answer
    assert shared.http(1, "/healthz")[0] == 200


def test_healthz_tells_what_is_wrong(group):
    group.kill(3, name="redis.pid")
    wait_for(lambda: group.http(3, "/healthz")[0] == 503, "503 without its redis")
    assert "redis" in group.http(3, "/healthz")[1] or "backend" in group.http(3, "/healthz")[1]
    group.kill(1)
    group.kill(2)
    wait_for(lambda: group.http(3, "/healthz")[0] == 503, "503 alone")


def test_healthz_tells_what_is_no_longer_kept(group):
    """One replica is dead, another's server hangs: the log goes on without that one, and says so."""
    leader = group.wait_leader()
    dead, hung = (i for i in group.ids if i != leader)
    group.kill(dead)
    group.kill(hung, signal.SIGSTOP, name="redis.pid")
    try:
        with group.redis(leader, timeout=60 * PATIENCE) as client:
            for n in range(40):  # a ring is 16 MiB long
                assert client.call("SET", f"big{n}", b"x" * 500000) == b"OK"
            wait_for(lambda: "degraded: " in group.http(leader, "/healthz")[1], "a word about it")
            code, text = group.http(leader, "/healthz")
            assert code == 200 and f"replica {hung}'s backend" in text
            assert group.status(leader)["replicas"][hung - 1]["log_only"] is True
            metrics = group.http(leader, "/metrics")[1].splitlines()
            assert f'muproxy_replica_log_only{{replica="{hung}"}} 1' in metrics
            assert client.call("SET", "after", "1") == b"OK"
    finally:
        group.kill(hung, signal.SIGCONT, name="redis.pid")


# -------------------------------------------------------------------- drain

def test_sigterm_drains(group):
    """What was sent before is answered, the process exits with 0, the group goes on."""
    leader = group.wait_leader()
    other = next(i for i in group.ids if i != leader)
    with group.redis(leader) as client, group.redis(other) as survivor:
        client.send(b"".join(b"*2\r\n$4\r\nINCR\r\n$5\r\ndrain\r\n" for _ in range(2000)))
        assert client.reply() == 1
        pid = group.read_pid(leader)
        os.kill(pid, signal.SIGTERM)
        answered = 1
        try:
            while client.reply() is not None:
                answered += 1
        except Exception:
            pass
        wait_for(lambda: not process_lives(pid), "the drained replica to end", 10)
        wait_for(lambda: f"replica {leader} (process {pid}) has ended: exit code 0"
                 in group.output(), "dev to report exit code 0")
        value = int(survivor.call("GET", "drain"))
        assert answered <= value <= 2000
        survivor.call("SET", "after", "drain")
    group.start_replica(leader)
    group.wait_level()


def test_sigterm_with_idle_clients_is_quick():
    with Group() as group:
        group.wait_ready()
        clients = [group.redis(i) for i in group.ids for _ in range(20)]
        for client in clients:
            client.call("PING")
        before = time.monotonic()
        assert group.stop() == 0
        assert time.monotonic() - before < 10 * PATIENCE
        for client in clients:
            client.close()


# ----------------------------------------------------------------- idle cost

def test_an_idle_group_is_cheap(shared):
    """Printed, and asserted only against a runaway: CI machines are shared."""
    pids = {i: shared.read_pid(i) for i in shared.ids}
    seconds = 4
    before = {i: cpu_seconds(pid) for i, pid in pids.items()}
    time.sleep(seconds)  # the measurement itself
    for i, pid in pids.items():
        share = 100 * (cpu_seconds(pid) - before[i]) / seconds
        print(f"replica {i}, idle: {share:.1f} % of one core")
        assert share < 30
