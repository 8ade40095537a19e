"""Is a history linearizable? Wing and Gong's search, as Lowe improved it.

A history is what concurrent clients saw of one object: for each operation when
it was sent, when it was answered, and the answer. It is linearizable if every
operation can be given one instant between the two at which it took effect, such
that the answers are those of the object used by one client alone. Linearizability
is local: each key is checked by itself.

The search goes through the events in time order. An operation that may come next
(it was sent before any unfinished one was answered) is tried; at the answer of
one that was not tried yet, the last choice was wrong and is taken back. What has
been visited - a set of operations done and the state they led to - is never
visited again (Lowe, "Testing for linearizability", 2017).

An operation of unknown outcome (no answer came, or one that says so) may have
taken effect at any time after it was sent, or never: it has no answer event.
"""

import enum
import math
from collections import namedtuple


class Result(enum.Enum):  # an enumeration stays itself on its way to another process
    UNKNOWN = "unknown"  # nobody has told the outcome of this operation
    NOTHING = "nothing"  # it certainly did nothing, and tells nothing: not to be recorded


UNKNOWN, NOTHING = Result.UNKNOWN, Result.NOTHING

# name: what was done; arguments: a tuple; result: as the model compares it.
# sent_ns, answered_ns: the monotonic clock; answered_ns is infinite if the outcome is unknown.
Operation = namedtuple("Operation", "client name arguments result sent_ns answered_ns")


def unknown(client, name, arguments, sent_ns):
    return Operation(client, name, arguments, UNKNOWN, sent_ns, math.inf)


class _Event:
    """A place in the doubly linked list of what is not linearized yet."""

    __slots__ = ("before", "after", "number", "operation", "answer")

    def __init__(self, number, operation):
        self.before = self.after = None
        self.number = number
        self.operation = operation  # None: this is an answer
        self.answer = None  # of a sent operation: its answer's event

    def lift(self):
        self.before.after = self.after
        if self.after:
            self.after.before = self.before

    def put_back(self):
        self.before.after = self
        if self.after:
            self.after.before = self


def _events(history):
    """The head of the list of events, in time order. What was sent at the very moment of
    another's answer counts as concurrent."""
    timed = []
    for number, operation in enumerate(history):
        sent = _Event(number, operation)
        timed.append((operation.sent_ns, 0, number, sent))
        if operation.result is not UNKNOWN:
            sent.answer = _Event(number, None)
            timed.append((operation.answered_ns, 1, number, sent.answer))
    timed.sort(key=lambda each: each[:3])
    head = last = _Event(-1, None)
    for *_, event in timed:
        last.after, event.before = event, last
        last = event
    return head


def is_linearizable(history, model, initial=None):
    """model(state, operation) -> (whether this can be the answer, the state after it)."""
    head = _events(history)
    missing = sum(operation.result is not UNKNOWN for operation in history)
    visited = set()
    chosen = []  # (event, the state before it)
    done, state = 0, initial
    event = head.after
    while missing:
        if event.operation is not None:
            possible, following = model(state, event.operation)
            place = (done | 1 << event.number, following)
            if possible and place not in visited:
                visited.add(place)
                chosen.append((event, state))
                done, state = place
                if event.answer:
                    missing -= 1
                    event.answer.lift()
                event.lift()
                event = head.after
            else:
                event = event.after
            continue
        if not chosen:
            return False
        event, state = chosen.pop()
        done &= ~(1 << event.number)
        event.put_back()
        if event.answer:
            missing += 1
            event.answer.put_back()
        event = event.after
    return True


def until(history, time_ns):
    """What had been seen of a history by then: answers that come later are unknown yet."""
    return [operation if operation.answered_ns <= time_ns else
            operation._replace(result=UNKNOWN, answered_ns=math.inf)
            for operation in history if operation.sent_ns <= time_ns]


def shortest_failure(history, model):
    """The shortest beginning of a history that is not linearizable.

    Beginnings of a linearizable history are linearizable, so halving finds it.
    """
    times = sorted(operation.answered_ns for operation in history
                   if operation.result is not UNKNOWN)
    least, most = 0, len(times) - 1
    while least < most:
        middle = (least + most) // 2
        if is_linearizable(until(history, times[middle]), model):
            least = middle + 1
        else:
            most = middle
    return sorted(until(history, times[most]), key=lambda operation: operation.sent_ns)


# -- the objects


def register(state, operation):
    """A string, or None. get() -> value; set(value); cas(old, new) that was done;
    add(value) -> whether it was stored; delete() -> whether it was there."""
    name, arguments, result = operation.name, operation.arguments, operation.result
    if name == "get":
        return result is UNKNOWN or result == state, state
    if name == "set":
        return True, arguments[0]
    if name == "cas":
        return state == arguments[0], arguments[1]
    if name == "add":
        stored = state is None
        return result is UNKNOWN or result == stored, arguments[0] if stored else state
    if name == "delete":
        return result is UNKNOWN or result == (state is not None), None
    raise AssertionError(name)


def counter(state, operation):
    """A number; what is not there counts as 0. increment() -> the new one; get() -> it."""
    value = state or 0
    if operation.name == "increment":
        value += 1
    return operation.result is UNKNOWN or operation.result == value, value


def made_counter(state, operation):
    """A number that must be made first. create() -> whether it was made; increment() ->
    the new one, get() -> it: None if it is not there."""
    answer = state
    if operation.name == "create":
        answer = state is None
        state = 0 if answer else state
    elif operation.name == "increment" and state is not None:
        answer = state = state + 1
    return operation.result is UNKNOWN or operation.result == answer, state


def queue(state, operation):
    """A list. push(value) -> its length; pop() -> the first, or None; all() -> all of it."""
    state = state or ()
    if operation.name == "push":
        state = state + operation.arguments
        answer = len(state)
    elif operation.name == "pop":
        answer, state = (state[0], state[1:]) if state else (None, state)
    else:
        answer = state
    return operation.result is UNKNOWN or operation.result == answer, state
