"""Whole sessions with a Redis server, byte by byte.

A session is a list of steps: a tuple is a request, bytes are sent as they are. All of it is sent
in one go with a QUIT behind it, and what the server says until it closes is the transcript: so
that a reply that is missing, or is one too many, shows as well as one that is another.
"""

from harness import Disconnected, RawRedis, encode


def wire(step):
    return step if isinstance(step, bytes) else encode(*step)


def transcript(port, steps, timeout=30):
    with RawRedis(("127.0.0.1", port), timeout) as client:
        try:
            client.send(b"".join(map(wire, steps)) + encode("QUIT"))
        except Disconnected:
            pass  # it has closed early, after having said why
        said = client.rest()
        assert said is not None, "the server does not end the session"
        return said


def next_reply(text, at):
    """Where the reply at `at` ends."""
    end = text.index(b"\r\n", at) + 2
    kind, rest = text[at:at + 1], text[at + 1:end - 2]
    if kind in b"$=!" and int(rest) >= 0:
        return end + int(rest) + 2
    if kind in b"*~>%|" and int(rest) > 0:
        for _ in range(int(rest) * (2 if kind in b"%|" else 1)):
            end = next_reply(text, end)
    return next_reply(text, end) if kind == b"|" else end  # attributes are the next one's


def replies(text):
    """A transcript taken apart."""
    out, at = [], 0
    while at < len(text):
        end = next_reply(text, at)
        out.append(text[at:end])
        at = end
    return out
