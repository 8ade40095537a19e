"""What clients see stays linearizable while servers come back empty and are restored."""

import os
import random
import sys
import time

from harness import TOP, Group
from heal import log_of, outrun

sys.path.insert(0, os.path.join(TOP, "tests", "linearizability"))
from run import Run  # noqa: E402

SECONDS = float(os.environ.get("MUPROXY_LINEARIZABILITY_S", "20")) / 2
FAULTS = ["empty_redis", "empty_leaders_redis", "empty_replica"]


def test_while_servers_come_back_empty():
    seed = int(os.environ.get("MUPROXY_SEED", random.randrange(1 << 30)))
    print("MUPROXY_SEED", seed)
    with Group(ring_size="1M") as group:
        outrun(group.wait_ready(), group.wait_leader())
        with Run(group, seed, protocols=["redis"]) as run:
            run.faults(time.monotonic() + SECONDS, FAULTS)
            print(run.finish())
        restored = sum(log_of(group, i).count("redis: restored from replica") for i in group.ids)
        assert restored > 0, "no server was restored"
