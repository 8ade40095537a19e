"""Node's Redis clients, `redis` and `ioredis`, also while the leader is killed and comes back."""

import subprocess

import pytest

import node_clients
from harness import PATIENCE


@pytest.mark.parametrize("which", ["redis2", "redis3", "ioredis"])
def test_node_clients(shared, which):
    leader = shared.wait_leader()
    follower = next(i for i in shared.ids if i != leader)
    with subprocess.Popen(
            ["node", "redis_clients.js", which, str(shared.redis_port(follower)),
             str(shared.redis_port(leader))], cwd=node_clients.prepare(), text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as node:
        try:
            if node.stdout.readline() == "kill\n":
                shared.kill(leader)
                shared.wait_leader(other_than=leader)
                shared.start_replica(leader)
                node.stdin.write("go on\n")
                node.stdin.flush()
            out, err = node.communicate(timeout=120 * PATIENCE)
        finally:
            node.kill()
    assert node.returncode == 0 and out == "ok\n", out + err
    shared.wait_level()
