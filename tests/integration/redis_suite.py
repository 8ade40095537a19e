"""Runs Redis's own test suite (tests/ of its sources) against a server that runs already.

The suite talks Tcl; each of its units (files) is run by itself here, so that one that ends
early, or does not end, costs the others nothing. See redis-suite.md.
"""

import collections
import os
import re
import shutil
import signal
import subprocess

from harness import RawRedis, free_ports

# "err": it ran and failed. "skip": it wants a server of its own, by its tags.
Case = collections.namedtuple("Case", "unit name outcome why ms", defaults=(0,))

# Sections of redis-suite.md.
FAIL, LEFT_OUT = "Cases that fail", "Cases that are left out"
# Programs that the suite looks for where they are built.
PROGRAMS = ("redis-server", "redis-cli", "redis-benchmark")
# Many cases look into the server.
SERVER_OPTIONS = ("--enable-debug-command", "yes")
DEFAULTS = [("CLIENT", "UNPAUSE")] + [("CONFIG", "SET", *setting) for setting in (
    ("maxmemory", 0), ("maxmemory-policy", "noeviction"), ("notify-keyspace-events", ""),
    ("slowlog-log-slower-than", 10000), ("slowlog-max-len", 128), ("latency-tracking", "yes"),
    ("latency-monitor-threshold", 0), ("hash-max-listpack-entries", 512),
    ("hash-max-listpack-value", 64))] + [("FLUSHALL",), ("FUNCTION", "FLUSH")]
COLOUR = re.compile(r"\x1b\[[0-9;]*m|\[0(?:;\d+)*m")
# Where the suite gives a server that runs already the settings that a block of cases wants.
SETTING = "        r config set $param $val\n\n"
VERDICT = re.compile(r"^\[(ok|err|ignore|skip|exception|TIMEOUT)\]:? ?(.*)$")


def prepare(top):
    """Makes the sources in a directory ready to run; returns it."""
    for program in PROGRAMS:
        link = os.path.join(top, "src", program)
        if not os.path.lexists(link):
            os.symlink(shutil.which(program), link)
    _go_on_without_settings(os.path.join(top, "tests", "support", "server.tcl"))
    return top


def _go_on_without_settings(path):
    """A setting that is refused would end the unit: so those of its cases that need none run."""
    with open(path) as file:
        text = file.read()
    if SETTING in text:
        setting = SETTING.strip()
        text = text.replace(SETTING, f"        catch {{{setting}}}\n\n")
        text = text.replace(f"        {setting}\n    }}\n\n    set srv",
                            f"        catch {{{setting}}}\n    }}\n\n    set srv")
        with open(path, "w") as file:
            file.write(text)


def units(top):
    """The suite's own list of its units."""
    return subprocess.run(["tclsh", "tests/test_helper.tcl", "--list-tests"], cwd=top, check=True,
                          capture_output=True, text=True, timeout=60).stdout.split()


def listed(path=os.path.join(os.path.dirname(os.path.abspath(__file__)), "redis-suite.md")):
    """{section: [(unit, name), ...]} of the cases that are named there."""
    sections = collections.defaultdict(list)
    with open(path) as file:
        for line in file:
            if line.startswith("## "):
                section = line[3:].strip()
            case = re.match(r"- `((?:unit|integration)/[^`]+)`: (.*)$", line)
            if case:
                sections[section].append(case.groups())
    return sections


def _numbered(cases):
    """The second case of a name is "name (2)": they are told apart by their order."""
    seen = collections.Counter()
    for case in cases:
        seen[case.name] += 1
        number = seen[case.name]
        yield case._replace(name=f"{case.name} ({number})") if number > 1 else case


def parse(unit, text):
    """The cases in what a run of one unit has printed."""
    cases, lines = [], [COLOUR.sub("", line) for line in text.splitlines()]
    at = 0
    while at < len(lines):
        verdict = VERDICT.match(lines[at])
        at += 1
        if not verdict:
            continue
        outcome, name = verdict.groups()
        why, ms = [], 0
        if outcome in ("err", "exception", "TIMEOUT"):
            while at < len(lines) and not re.match(r"^\[|^$|^\s+The End", lines[at]):
                why.append(lines[at])
                at += 1
        if outcome == "ok":
            name, ms = re.fullmatch(r"(.*) \((\d+) ms\)", name).groups()
        elif outcome == "err":
            name, told, _ = name.rpartition(" in tests/")
            if not told:  # not a case of the suite's, but what is around some
                why, name = [lines[at - 1], *why], "(a block ends early)"
        elif outcome == "skip":
            pass  # by --skiptest or --only
        elif outcome == "ignore":
            name, _, reason = name.rpartition(": ")
            outcome, why = "skip", [reason]
            if not name or name == "Tag":
                continue  # a whole block of cases, unnamed
        else:
            # The unit ended early: what came behind it was not run.
            outcome, why, name = "err", [name, *why], "(the unit ends early)"
        cases.append(Case(unit, name, outcome, "\n".join(why), int(ms)))
    return list(_numbered(cases))


def calm(host, port):
    """What a unit that ended early may have left behind would spoil the next one."""
    with RawRedis((host, port)) as client:
        for request in DEFAULTS:
            client.call(*request)


def run_unit(top, host, port, unit, timeout_s=300, only=(), without=()):
    """Run one unit against the server there; returns its cases. without: names to leave out."""
    calm(host, port)
    command = ["tclsh", "tests/test_helper.tcl", "--host", host, "--port", str(port), "--single",
               unit, "--durable", "--baseport", str(free_ports(64) + 32), "--tags", "-needs:repl"]
    for option, names in (("--only", only), ("--skiptest", without)):
        for name in names:
            command += [option, name]
    with subprocess.Popen(command, cwd=top, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace",
                          start_new_session=True, env={**os.environ, "TERM": "dumb"}) as process:
        try:
            output = process.communicate(timeout=timeout_s)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output = process.communicate()[0] + "\n[TIMEOUT]: not ended\n"
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # the client it started, if it has died
            except ProcessLookupError:
                pass
    cases = parse(unit, output)
    if "All tests passed" not in output and not any(case.outcome == "err" for case in cases):
        cases.append(Case(unit, "(the unit ends early)", "err", output[-2000:]))
    return cases
