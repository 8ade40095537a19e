#!/usr/bin/python3
"""Line and branch coverage of consensus/, as the counters in a build directory have it.

coverage.py SOURCE BUILD [--lines PERCENT] [--branches PERCENT] [--missing]

Prints a table and fails if the sum is below what is demanded. A source file is
compiled several times (into the library, the simulator, tests): a line or
branch is covered if any of them ran it. Left out, and no more: branches of
lines that are an assert (the side that fails is the end of the process), and
files that cannot run where their hardware is missing, which are listed apart.
"""

import argparse
import collections
import json
import os
import re
import subprocess
import sys

ASSERT = re.compile(r"^\s*(static_)?assert\(")
APART = {"consensus/fabric/verbs": "needs an RDMA device"}


def counters(build):
    for folder, _, names in os.walk(build):
        yield from (os.path.join(folder, n) for n in names if n.endswith(".gcda"))


def reports(build):
    """gcov's reports of all object files of consensus/."""
    for path in counters(build):
        if "/consensus/" not in path:
            continue
        out = subprocess.run(
            ["gcov", "--json-format", "--stdout", "--branch-probabilities", path],
            cwd=build, check=True, capture_output=True, text=True).stdout
        for line in out.splitlines():
            yield json.loads(line)


class File:
    def __init__(self):
        self.lines = collections.Counter()
        self.branches = {}  # (line, how many) -> counts; inlined differently, counted apart

    def add(self, line):
        number = line["line_number"]
        self.lines[number] += line["count"]
        counts = [b["count"] for b in line["branches"] if not b["throw"]]
        if counts:
            known = self.branches.setdefault((number, len(counts)), [0] * len(counts))
            for i, count in enumerate(counts):
                known[i] += count

    def settle(self, text):
        """Of shapes of one line's branches keep the one that is covered best."""
        best = {}
        for (number, _), counts in self.branches.items():
            if ASSERT.match(text[number - 1]):
                continue
            share = sum(1 for c in counts if c) / len(counts)
            if number not in best or share > best[number][0]:
                best[number] = (share, counts)
        self.branches = {number: counts for number, (_, counts) in best.items()}


def collect(source, build):
    files = collections.defaultdict(File)
    for report in reports(build):
        for entry in report["files"]:
            path = os.path.join(report["current_working_directory"], entry["file"])
            name = os.path.relpath(os.path.realpath(path), os.path.realpath(source))
            if name.startswith("consensus/"):
                for line in entry["lines"]:
                    files[name].add(line)
    for name, file in files.items():
        with open(os.path.join(source, name)) as text:
            file.settle(text.read().splitlines())
    return files


def percent(some, all_of_them):
    return 100.0 * some / all_of_them if all_of_them else 100.0


def apart(name):
    return next((why for prefix, why in APART.items() if name.startswith(prefix)), None)


def table(files, missing):
    sums = [0, 0, 0, 0]
    print(f"{'file':38} {'lines':>14} {'branches':>16}")
    for name in sorted(files):
        file = files[name]
        run = [sum(1 for c in file.lines.values() if c), len(file.lines),
               sum(1 for b in file.branches.values() for c in b if c),
               sum(len(b) for b in file.branches.values())]
        why = apart(name)
        print(f"{name:38} {run[0]:5}/{run[1]:<5}{percent(run[0], run[1]):5.1f}% "
              f"{run[2]:5}/{run[3]:<5}{percent(run[2], run[3]):5.1f}%"
              f"{'  not counted: ' + why if why else ''}")
        if missing:
            print("      lines never run:", *sorted(n for n, c in file.lines.items() if not c))
            print("      branches never taken:",
                  *(f"{n}({sum(1 for c in b if not c)})" for n, b in sorted(file.branches.items())
                    if not all(b)))
        if not why:
            sums = [a + b for a, b in zip(sums, run)]
    return percent(*sums[:2]), percent(*sums[2:])


def not_run(source, files):
    """Sources of consensus/ that no test is linked with: each needs a reason."""
    unknown = []
    for folder, _, names in sorted(os.walk(os.path.join(source, "consensus"))):
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), source)
            if not path.endswith(".c") or path in files:
                continue
            why = apart(path)
            print(f"{path:38} {'':31}  not counted: {why or 'NOT RUN AT ALL'}")
            if not why:
                unknown.append(path)
    return unknown


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("build")
    parser.add_argument("--lines", type=float, default=0, help="fail below so many percent")
    parser.add_argument("--branches", type=float, default=0, help="the same, of branches")
    parser.add_argument("--missing", action="store_true", help="name what is not covered")
    options = parser.parse_args()
    files = collect(options.source, os.path.abspath(options.build))
    if not files:
        sys.exit(f"coverage.py: no counters in {options.build}: was it built with "
                 "--enable-coverage, and has anything run?")
    lines, branches = table(files, options.missing)
    unknown = not_run(options.source, files)
    print(f"coverage of consensus/: {lines:.1f} % of lines, {branches:.1f} % of branches")
    if unknown:
        sys.exit("coverage.py: no counters of " + ", ".join(unknown))
    if lines < options.lines or branches < options.branches:
        sys.exit(f"coverage.py: below {options.lines} % of lines or {options.branches} % "
                 "of branches")


main()
