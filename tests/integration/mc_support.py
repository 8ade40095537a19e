"""A plain memcached, and what compares it with a group."""

import os
import subprocess
import tempfile

from harness import RawMemcached, free_ports, wait_for


class PlainMemcached:
    """A memcached as people run it."""

    def __init__(self, *arguments):
        self.directory = tempfile.TemporaryDirectory(prefix="muproxy-mc-", dir="/tmp")
        self.port = free_ports(1)
        command = ["memcached", "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-t", "1",
                   *arguments]
        if os.geteuid() == 0:
            command += ["-u", "root"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
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

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


THE_END = b"mg the-end-of-it k\r\n", b"EN kthe-end-of-it\r\n"


def take_replies(client, end=THE_END[1]):
    """What has come up to the reply that ends it."""
    while not client.buffer.endswith(end):
        client._fill()
    reply, client.buffer = client.buffer[:-len(end)], b""
    return reply


def exchange(client, request):
    """Whatever a server answers to these bytes, which are whole requests."""
    client.send(request + THE_END[0])
    return take_replies(client)


def contents(group, i, keys):
    """What a replica's own memcached holds for these keys: {key: (flags, value)}."""
    held = {}
    with group.memcached_backend(i) as backend:
        for key in keys:
            reply = exchange(backend, f"mg {key} f v\r\n".encode())
            if reply != b"EN\r\n":
                held[key] = reply
    return held
