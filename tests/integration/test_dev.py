"""`muproxy dev` makes what it says, and leaves nothing behind."""

import os
import signal
import socket
import subprocess

import pytest

from harness import MUPROXY, Group, free_ports, process_lives, wait_for

FILES = {"muproxy.conf", "muproxy.pid", "muproxy.log", "redis.pid", "redis.sock",
         "memcached.pid", "memcached.sock"}


def memory_dir(group):
    with open(group.conf(1)) as conf:
        return next(line.split("=")[1].strip() for line in conf
                    if line.startswith("memory-dir"))


def pids(group):
    return [group.read_pid(i, name) for i in group.ids
            for name in ("muproxy.pid", "redis.pid", "memcached.pid")]


def run_dev(*arguments, env=None):
    """dev that is expected to fail at once."""
    return subprocess.run([MUPROXY, "dev", *arguments], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=60, env=env, check=False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_makes_and_removes(number):
    with Group() as group:
        group.wait_ready()
        for i in group.ids:
            assert FILES <= set(os.listdir(group.path(i, "")))
        memory, running = memory_dir(group), pids(group)
        assert os.path.isdir(memory)
        assert all(process_lives(pid) for pid in running)
        assert group.stop(number) == 0
        assert not any(process_lives(pid) for pid in running)
        assert not os.path.exists(memory)
        for i in group.ids:  # --keep leaves these two, for whoever looks for a fault
            assert set(os.listdir(group.path(i, ""))) == {"muproxy.conf", "muproxy.log"}


def test_without_keep_nothing_is_left(tmp_path):
    first = free_ports(30)
    place = tmp_path / "d"
    with open(tmp_path / "out", "w+") as out:
        dev = subprocess.Popen(
            [MUPROXY, "dev", "--dir", str(place), "--ring-size", "4M", "--redis-port", str(first),
             "--memcached-port", str(first + 10), "--admin-port", str(first + 20)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        text = wait_for(lambda: (lambda t: t if "\nready:" in t else None)(
            (tmp_path / "out").read_text()), "ready", 60)
        assert text.count("\nready:") == 1
        dev.terminate()
        assert dev.wait(25) == 0
    assert not place.exists()


def test_a_directory_that_was_there_stays(tmp_path):
    (tmp_path / "mine").write_text("x")
    os.chmod(tmp_path, 0o700)
    first = free_ports(30)
    with open(tmp_path.parent / "out", "w") as out:
        dev = subprocess.Popen(
            [MUPROXY, "dev", "--dir", str(tmp_path), "--ring-size", "4M",
             "--redis-port", str(first), "--memcached-port", str(first + 10),
             "--admin-port", str(first + 20)], stdout=out, stderr=out)
        wait_for(lambda: "\nready:" in (tmp_path.parent / "out").read_text(), "ready", 60)
        again = run_dev("--dir", str(tmp_path), "--redis-port", str(first + 3),
                        "--memcached-port", str(first + 13), "--admin-port", str(first + 23))
        assert again.returncode == 2
        assert "another muproxy dev runs in it" in again.stderr
        dev.terminate()
        assert dev.wait(25) == 0
    assert os.listdir(tmp_path) == ["mine"]


def test_a_killed_dev_takes_its_children_along(group):
    """kill -9 leaves files, but no processes; the next one starts over them and clears up."""
    running, memory = pids(group), memory_dir(group)
    group.dev.kill()
    group.dev.wait()
    wait_for(lambda: not any(process_lives(pid) for pid in running), "children to end")
    assert os.path.isdir(memory)
    os.utime(memory, (0, 0))  # memory without an owner is left alone while it is young
    with Group(directory=group.dir) as another:
        another.wait_ready()
        assert not os.path.exists(memory)
        with another.redis(1) as client:
            assert client.call("SET", "x", "1") == b"OK"
        assert os.path.isdir(memory_dir(another))


def test_five_replicas():
    with Group(replicas=5) as group:
        group.wait_ready()
        with group.redis(5) as five, group.redis(2) as two:
            assert five.call("SET", "x", "5") == b"OK"
            assert two.call("GET", "x") == b"5"
        for i in (1, 2):
            group.kill(i)
        with group.redis(4) as four:
            assert four.call("SET", "x", "6") == b"OK"
            assert four.call("GET", "x") == b"6"


def test_a_replica_started_by_hand_ends_with_the_group(group):
    group.kill(2)
    wait_for(lambda: "replica 2 " in group.output() and "stays down" in group.output(),
             "dev to report the death")
    process = group.start_replica(2)
    wait_for(lambda: group.serves(2), "replica 2 to serve")
    # A second one with the same configuration is refused.
    second = subprocess.run([MUPROXY, "-c", group.conf(2)], capture_output=True, text=True,
                            timeout=20, check=False)
    assert second.returncode == 2
    assert str(process.pid) in second.stderr and len(second.stderr.splitlines()) == 1
    assert group.stop() == 0
    assert process.wait(5) == 0


def test_ports_in_use(tmp_path):
    first = free_ports(30)
    for offset, option in [(1, "redis"), (11, "memcached"), (22, "admin")]:
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", first + offset))
            taken.listen()
            result = run_dev("--dir", str(tmp_path / "d"), "--redis-port", str(first),
                             "--memcached-port", str(first + 10), "--admin-port",
                             str(first + 20))
        assert result.returncode == 2
        assert str(first + offset) in result.stderr and f"--{option}-port" in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("arguments, words", [
    (["--replicas", "4"], "take 3, 5 or 7"),
    (["--replicas", "0"], "not a number from 3 to 7"),
    (["--redis-port", "x"], "not a number"),
    (["--redis-port", "70000"], "not a number"),
    (["--redis-port", "7101", "--memcached-port", "7102"], "7102"),
    (["--fabric", "carrier-pigeon"], "is not one of: shm"),
    (["--nonsense"], "nonsense"),
    (["stray"], "unknown argument 'stray'"),
    (["--dir", "/nowhere/at/all"], "No such file or directory"),
    (["--dir", "/tmp/" + "x" * 100], "too long"),
])
def test_wrong_usage(arguments, words):
    result = run_dev(*arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not os.path.exists("/tmp/" + "x" * 100)


@pytest.mark.parametrize("missing", ["redis-server", "memcached"])
def test_missing_servers(tmp_path, missing):
    """A PATH with all but one program."""
    for name in {"redis-server", "memcached"} - {missing}:
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    for name in ("sh", "sed", "dirname", "basename", "ls", "cat", "grep", "uname"):
        for place in (f"/usr/bin/{name}", f"/bin/{name}"):
            if os.path.exists(place) and not (tmp_path / name).exists():
                (tmp_path / name).symlink_to(place)
    first = free_ports(30)
    result = run_dev("--redis-port", str(first), "--memcached-port", str(first + 10),
                     "--admin-port", str(first + 20), env={"PATH": str(tmp_path)})
    assert result.returncode == 2
    assert f"{missing} is not in PATH" in result.stderr
