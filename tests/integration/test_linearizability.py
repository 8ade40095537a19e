"""What clients of all replicas saw while things went wrong has an order that explains it."""

import os
import random
import sys
import time

import pytest

from harness import TOP, Group
from hosts import Hosts, why_not

sys.path.insert(0, os.path.join(TOP, "tests", "linearizability"))
import wgl  # noqa: E402
from run import Run, Violation, without_fences  # noqa: E402
from wgl import Operation, unknown  # noqa: E402

# A few seconds a run here; tests/linearizability/soak runs for as long as one likes.
REASON = why_not()
SECONDS = float(os.environ.get("MUPROXY_LINEARIZABILITY_S", "20"))


def op(name, *arguments, result=None, sent, answered, client="c"):
    return Operation(client, name, arguments, result, sent, answered)


SET_1 = op("set", 1, sent=0, answered=10)
SET_2 = op("set", 2, sent=20, answered=30)
REGISTERS = [
    ("a read of what was written", True, [SET_1, op("get", result=1, sent=11, answered=12)]),
    ("a read of the past", False, [SET_1, SET_2, op("get", result=1, sent=31, answered=32)]),
    ("a read beside a write sees either", True,
     [SET_1, SET_2, op("get", result=1, sent=25, answered=40),
      op("get", result=2, sent=25, answered=40)]),
    ("but not the new, and then the old", False,
     [SET_1, op("set", 2, sent=20, answered=90), op("get", result=2, sent=25, answered=40),
      op("get", result=1, sent=50, answered=60)]),
    ("what nobody wrote", False, [SET_1, op("get", result=3, sent=11, answered=12)]),
    ("a write of unknown outcome seen late", True,
     [unknown("c", "set", (1,), 0), SET_2, op("get", result=2, sent=31, answered=32),
      op("get", result=1, sent=33, answered=34)]),
    ("...but it is done once", False,
     [unknown("c", "set", (1,), 0), SET_2, op("get", result=1, sent=31, answered=32),
      op("set", 3, sent=33, answered=34), op("get", result=1, sent=35, answered=36)]),
    ("a compare-and-set of what was not there", False,
     [SET_1, SET_2, op("cas", 1, 3, sent=31, answered=32)]),
    ("two compare-and-sets of one value", False,
     [SET_1, op("cas", 1, 2, sent=11, answered=20), op("cas", 1, 3, sent=11, answered=20)]),
]


@pytest.mark.parametrize("possible,history", [r[1:] for r in REGISTERS],
                         ids=[r[0] for r in REGISTERS])
def test_the_checker(possible, history):
    for _ in range(5):  # the order in which operations are given must not matter
        assert wgl.is_linearizable(history, wgl.register) == possible
        random.Random(len(history)).shuffle(history)
    if not possible:
        shortest = wgl.shortest_failure(history, wgl.register)
        assert not wgl.is_linearizable(shortest, wgl.register)


def by_brute_force(history, model, state=None):
    """The definition itself: any order that time allows, unknown ones done or not."""
    left = [o for o in history if o.result is not wgl.UNKNOWN]
    if not left:
        return True
    first_answer = min(o.answered_ns for o in left)
    for place, operation in enumerate(history):
        if operation.sent_ns <= first_answer:
            possible, following = model(state, operation)
            if possible and by_brute_force(history[:place] + history[place + 1:], model, following):
                return True
    return False


@pytest.mark.parametrize("model", [wgl.register, wgl.counter, wgl.made_counter, wgl.queue],
                         ids=lambda model: model.__name__)
def test_the_checker_against_the_definition(model):
    """Random short histories, right ones and such with one wrong answer."""
    names = {wgl.register: ["get", "set", "cas", "add", "delete"],
             wgl.counter: ["get", "increment"], wgl.made_counter: ["get", "increment", "create"],
             wgl.queue: ["push", "pop", "all"]}[model]
    verdicts = {True: 0, False: 0}
    for seed in range(400):
        choose = random.Random(seed)
        history = []
        for n in range(choose.randrange(2, 7)):
            name = choose.choice(names)
            arguments = {"set": (n,), "add": (n,), "push": (n,),
                         "cas": (choose.choice([None, 0, 1, 2]), n)}.get(name, ())
            result = choose.choice({
                "get": [None, 0, 1, 2, 3], "all": [(), (0,), (0, 1), (1,)],
                "pop": [None, 0, 1, 2], "push": [1, 2, 3], "increment": [None, 1, 2, 3],
                "set": [None], "cas": [None]}.get(name, [True, False]))
            sent = choose.randrange(20)
            history.append(
                unknown(n, name, arguments, sent) if choose.random() < 0.2 else
                Operation(n, name, arguments, result, sent, sent + choose.randrange(1, 12)))
        verdict = by_brute_force(history, model)
        verdicts[verdict] += 1
        assert wgl.is_linearizable(history, model) == verdict, (seed, history)
    assert min(verdicts.values()) > 20, verdicts


def under_faults(group):
    seed = int(os.environ.get("MUPROXY_SEED", random.randrange(1 << 30)))
    print("MUPROXY_SEED", seed)
    with group, Run(group.wait_ready(), seed) as run:
        run.faults(time.monotonic() + SECONDS)
        print(run.finish())
        # Something was judged; how much depends on the machine.
        assert run.book.operations > 100 and run.book.keys > 2
        assert all(client.connections for client in run.clients)


def test_under_faults():
    under_faults(Group(ring_size="256M"))


@pytest.mark.skipif(REASON is not None, reason=REASON or "")
def test_under_faults_of_links():
    under_faults(Hosts())


@pytest.mark.parametrize("fenced", [True, False], ids=["fenced", "unfenced"])
def test_reads_of_a_deposed_leader(fenced):
    """Its background thread stands still, so only a fence tells it that others lead."""
    with Group(ring_size="256M") as group:
        group.wait_ready()
        if not fenced:
            without_fences(group)
        leader = group.wait_leader()
        with Run(group, 1, only_reads=[leader]) as run:
            run.lead_unawares(leader)
            if fenced:
                print(run.finish())
                return
            with pytest.raises(Violation) as violation:
                run.finish()
            print(violation.value)
