"""Clients that err or mean ill: a clear error or a bounded wait, and nobody else feels it."""

import contextlib
import random
import resource
import socket
import threading
import time

import pytest

from harness import Disconnected, ServerError, encode, rss_bytes, wait_for

MB = 1 << 20


@contextlib.contextmanager
def bystander(group, most_s=2.0):
    """Another client of the same replicas, which must be served all the while."""
    stop = threading.Event()
    failures, longest = [], [0.0]

    def run(i):
        try:
            with group.redis(i) as client, group.memcached(i) as cache:
                n = 0
                while not stop.is_set():
                    n += 1
                    before = time.monotonic()
                    client.call("SET", f"by:{i}", n)
                    assert int(client.call("GET", f"by:{i}")) == n
                    assert cache.set(f"by:{i}", b"%d" % n) == b"STORED"
                    longest[0] = max(longest[0], time.monotonic() - before)
                    stop.wait(0.005)
        except Exception as error:  # told below, in the test's own thread
            failures.append(f"replica {i}: {error!r}")

    threads = [threading.Thread(target=run, args=(i,)) for i in group.ids]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert not failures, failures
    print(f"a bystander's longest round: {longest[0] * 1000:.0f} ms")
    assert longest[0] < most_s * 3


# bytes sent, and what the error reply must begin with
REDIS_GARBAGE = [
    (b"*3\r\n$-5\r\n", "ERR Protocol error: invalid bulk length"),
    (b"*1\r\n$99999999999\r\n", "ERR Protocol error: invalid bulk length"),
    (b"*1\r\n$abc\r\n", "ERR Protocol error: invalid bulk length"),
    (b"*1\r\n$18446744073709551617\r\n", "ERR Protocol error: invalid bulk length"),
    (b"*1\r\nGET\r\n", "ERR Protocol error: expected '$', got 'G'"),
    (b"*9999999999\r\n", "ERR Protocol error: invalid multibulk length"),
    (b"*x\r\n", "ERR Protocol error: invalid multibulk length"),
    (b"SET a 'unbalanced\r\n", "ERR Protocol error: unbalanced quotes in request"),
    (b"*" + b"1" * 70000, "ERR Protocol error: too big mbulk count string"),
    (b"x" * 70000, "ERR Protocol error: too big inline request"),
]


@pytest.mark.parametrize("garbage, words", REDIS_GARBAGE, ids=lambda x: repr(x)[:30])
def test_redis_garbage(shared, garbage, words):
    """Redis's own words, then the end of the connection."""
    with bystander(shared):
        for i in shared.ids:
            with shared.redis(i) as client:
                assert client.call("PING") == b"PONG"
                client.send(encode("SET", "g", "1") + garbage)
                assert client.reply() == b"OK"  # what came before it counts
                reply = client.reply()
                assert isinstance(reply, ServerError) and str(reply).startswith(words), reply
                assert client.closed_by_server()


def test_redis_random_bytes(shared):
    choose = random.Random(7)
    with bystander(shared):
        for _ in range(150):
            with shared.redis(choose.choice(list(shared.ids)), timeout=0.5) as client:
                with contextlib.suppress(Disconnected):
                    client.send(choose.randbytes(choose.randrange(1, 3000)))
                    client.send(b"\r\n*-1\r\n$\r\n" + choose.randbytes(20))
                    client.closed_by_server()
    for i in shared.ids:
        assert shared.serves(i)


@pytest.mark.parametrize("garbage, words", [
    (b"nonsense\r\n", b"ERROR"),
    (b"get\r\n", b"ERROR"),
    (b"set k 0 0\r\n", b"ERROR"),
    (b"set k 0 0 -1\r\n", b"CLIENT_ERROR bad command line format"),
    (b"set k 0 0 x\r\n", b"CLIENT_ERROR bad command line format"),
    (b"set k 0 0 3\r\nabcdef\r\n", b"CLIENT_ERROR bad data chunk"),
    (b"get " + b"k" * 251 + b"\r\n", b"CLIENT_ERROR"),
    (b"incr k notanumber\r\n", b"CLIENT_ERROR invalid numeric delta argument"),
], ids=lambda x: repr(x)[:30])
def test_memcached_garbage(shared, garbage, words):
    with bystander(shared):
        for i in shared.ids:
            with shared.memcached(i) as client:
                client.send(garbage)
                assert client.line().startswith(words)


def test_memcached_goes_on_after_an_error(shared):
    with shared.memcached(2) as client:
        assert client.command("nonsense") == b"ERROR"
        assert client.set("fine", b"1") == b"STORED"
        assert client.get("fine") == b"1"


def test_memcached_values_above_the_limit(shared):
    """Refused as memcached does, the data swallowed; the connection goes on."""
    with bystander(shared):
        for i in shared.ids:
            with shared.memcached(i, timeout=30) as client:
                for size in (MB + 1, 3 * MB, 64 * MB):
                    assert client.set("big", b"x" * size).startswith(
                        b"SERVER_ERROR object too large for cache"), size
                assert client.set("fine", b"1") == b"STORED"
                assert client.get("big") is None


def test_a_request_above_the_limit(shared):
    """With rings of 16 MiB a request may have nearly 4: told at once, not after the upload."""
    pids = {i: shared.read_pid(i) for i in shared.ids}
    before = {i: rss_bytes(pid) for i, pid in pids.items()}
    with bystander(shared):
        for i in shared.ids:
            for size in (5 * MB, 64 * MB, 512 * MB, 1 << 40):
                with shared.redis(i) as client:
                    client.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % size)
                    reply = client.reply()
                    assert isinstance(reply, ServerError), reply
                    assert "Protocol error: invalid bulk length" in str(reply), reply
                    assert client.closed_by_server()
            # The same in many small arguments.
            with shared.redis(i) as client:
                with contextlib.suppress(Disconnected):
                    client.send(b"*200\r\n$4\r\nMSET\r\n")
                    for n in range(199):
                        client.send(b"$100000\r\n" + b"z" * 100000 + b"\r\n")
                with contextlib.suppress(Disconnected):
                    assert isinstance(client.reply(), ServerError)
                assert client.closed_by_server()
    for i, pid in pids.items():
        grown = rss_bytes(pid) - before[i]
        print(f"replica {i}: grown by {grown / MB:.1f} MB")
        assert grown < 64 * MB


def test_a_value_of_64_mb():
    """With rings of the usual size it fits; everybody has it afterwards."""
    from harness import Group
    with Group(ring_size="256M") as group:
        group.wait_ready()
        value = random.Random(64).randbytes(1000000) * 64
        with bystander(group, most_s=5):
            with group.redis(1, timeout=60) as one, group.redis(3, timeout=60) as three:
                try:
                    assert one.call("SET", "big", value) == b"OK"
                except ServerError as error:
                    raise AssertionError(f"64 MB are refused: {error}") from None
                assert three.call("GET", "big") == value
                assert three.call("SET", "big", value) == b"OK"
                assert one.call("STRLEN", "big") == len(value)
        group.wait_level()
        for i in group.ids:
            with group.redis_backend(i) as backend:
                assert backend.call("STRLEN", "big") == len(value)
                print(f"replica {i}: {rss_bytes(group.read_pid(i)) / MB:.0f} MB")


def test_room_for_the_files_of_all_clients(group):
    """A table of files that grows while clients connect stops everybody for milliseconds."""
    pid = group.read_pid(1)
    with open(f"/proc/{pid}/limits") as file:
        limit = int(next(line for line in file if line.startswith("Max open files")).split()[3])
    with open(f"/proc/{pid}/status") as file:
        room = int(next(line for line in file if line.startswith("FDSize:")).split()[1])
    assert room >= min(limit, 2 * 10000)


def test_10000_half_open_connections(group):
    """Each sends half a request and then nothing. They are closed in time; others are served."""
    count = 10000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < count + 500:
        pytest.skip(f"only {hard} files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    group.restart_with(2, "\n[timing]\nidle-timeout = 3s\n[limits]\nmax-clients = 12000\n")
    pid = group.read_pid(2)
    before = rss_bytes(pid)
    connections = []
    try:
        with bystander(group):
            for n in range(count):
                connection = socket.create_connection(("127.0.0.1", group.redis_port(2)), 10)
                connection.sendall(b"*2\r\n$3\r\nGET\r\n$100000\r\nhalf")
                connections.append(connection)
                if n == count // 2:
                    # Halfway in a new client still gets in, and is served.
                    with group.redis(2) as client:
                        assert client.call("PING") == b"PONG"
            grown = rss_bytes(pid) - before
            print(f"{count} half-open connections: {grown / MB:.0f} MB")
            assert grown < 500 * MB
            wait_for(lambda: group.status(2)["proxy"]["clients"] < 100,
                     "half-open connections to be closed", 30)
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_clients_than_allowed(group):
    group.restart_with(2, "\n[limits]\nmax-clients = 20\n")
    clients = []
    try:
        refused = None
        for _ in range(40):
            client = group.redis(2)
            clients.append(client)
            try:
                client.call("PING")
            except (ServerError, Disconnected) as error:
                refused = error
                break
        assert isinstance(refused, ServerError), refused
        assert "max number of clients reached" in str(refused)
        assert clients[0].call("PING") == b"PONG"
    finally:
        for client in clients:
            client.close()

    def again():
        try:
            with group.redis(2) as client:
                return client.call("PING") == b"PONG"
        except (ServerError, Disconnected):
            return False
    wait_for(again, "room for a client again")


@pytest.mark.parametrize("protocol", ["redis", "memcached"])
def test_a_client_that_never_reads(group, protocol):
    """It asks for much more than it takes: memory stays bounded, in the end it is cut off."""
    group.restart_with(2, "\n[limits]\nclient-output = 8M\n")
    pid = group.read_pid(2)
    value = b"v" * 500000
    with group.redis(1) as client, group.memcached(1) as cache:
        client.call("SET", "large", value)
        cache.set("large", value)
    before = rss_bytes(pid)
    with bystander(group):
        port = group.redis_port(2) if protocol == "redis" else group.memcached_port(2)
        request = encode("GET", "large") if protocol == "redis" else b"get large\r\n"
        with socket.create_connection(("127.0.0.1", port), 10) as greedy:
            greedy.settimeout(5)
            peak = 0
            cut_off = False
            until = time.monotonic() + 30
            try:
                while time.monotonic() < until:
                    greedy.sendall(request * 20)
                    peak = max(peak, rss_bytes(pid) - before)
            except (BrokenPipeError, ConnectionResetError):
                cut_off = True
            except socket.timeout:
                pass  # no longer read from: that bounds it, too
            peak = max(peak, rss_bytes(pid) - before)
        print(f"{protocol}: cut off: {cut_off}, grown by at most {peak / MB:.0f} MB")
        assert peak < 150 * MB
    wait_for(lambda: group.serves(2), "replica 2 to serve")
