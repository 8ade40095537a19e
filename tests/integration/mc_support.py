"""A plain memcached, and what compares it with a group."""

import os
import shutil
import subprocess
import tempfile
import zlib

import pytest

from harness import BUILD, PATIENCE, RawMemcached, free_ports, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
SPYMEMCACHED = "/usr/share/java/spymemcached.jar"  # Debian's libspymemcached-java


class PlainMemcached:
    """A memcached as people run it."""

    def __init__(self, *arguments, program="memcached"):
        self.directory = tempfile.TemporaryDirectory(prefix="muproxy-mc-", dir="/tmp")
        self.port = free_ports(1)
        self.command = [program, "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-t", "1",
                        *arguments]
        if os.geteuid() == 0:
            self.command += ["-u", "root"]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.answers, "memcached")

    def answers(self):
        try:
            with self.connect() as client:
                return client.command("mn") == b"MN"
        except OSError:
            return False

    def connect(self, timeout=10):
        return RawMemcached(("127.0.0.1", self.port), timeout)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        self.directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def read_until(client, end):
    """What has come up to that reply."""
    parts = []
    while not client.buffer.endswith(end):
        # Little of it is copied with every piece that comes.
        if len(client.buffer) > 1 << 20:
            parts.append(client.buffer[:-len(end)])
            client.buffer = client.buffer[-len(end):]
        client._fill()
    parts.append(client.buffer[:-len(end)])
    client.buffer = b""
    return b"".join(parts)


def exchange(client, request):
    """Whatever a server answers to these bytes, which are whole requests."""
    client.send(request + b"mg the-end-of-it k\r\n")
    return read_until(client, b"EN kthe-end-of-it\r\n")


def items(server, keys):
    """What a memcached holds for these keys: {key: flags and value}."""
    replies = {key: exchange(server, f"mg {key} f v\r\n".encode()) for key in keys}
    return {key: reply for key, reply in replies.items() if reply != b"EN\r\n"}


def contents(group, i, keys):
    """What a replica's own memcached holds for these keys."""
    with group.memcached_backend(i) as backend:
        return items(backend, keys)


def run_spymemcached(*arguments):
    """java/Spymemcached.java, which says what its arguments are."""
    if not os.path.exists(SPYMEMCACHED):
        assert not os.environ.get("CI"), f"{SPYMEMCACHED} is not there: CI has to run this"
        pytest.skip(f"NOT RUN: {SPYMEMCACHED} is not there")
    source = os.path.join(HERE, "java", "Spymemcached.java")
    with open(source, "rb") as file:
        classes = os.path.join(BUILD, f"java-{zlib.crc32(file.read()):x}")
    if not os.path.isdir(classes):
        compiled = tempfile.mkdtemp(dir=BUILD)
        subprocess.run(["javac", "-cp", SPYMEMCACHED, "-d", compiled, source], check=True,
                       timeout=120 * PATIENCE)
        try:
            os.rename(compiled, classes)
        except OSError:  # somebody else has been faster
            shutil.rmtree(compiled)
    run = subprocess.run(["java", "-cp", f"{SPYMEMCACHED}:{classes}", "Spymemcached", *arguments],
                         capture_output=True, text=True, timeout=120 * PATIENCE)
    assert run.returncode == 0 and run.stdout.endswith("ok\n"), run.stdout + run.stderr
