#!/usr/bin/python3
"""Counts tests that were run: prints "PASSED FAILED".

tally.py automake BUILD [TEST...]   what `make check` left in *.trs and *.log
tally.py junit FILE                 what pytest wrote

A test program counts as many tests as it says it ran. One that does not say is
one test; one that failed without naming a failed test is one failure more; one
that was to run and left no result has failed.
"""

import os
import re
import sys
import xml.etree.ElementTree as xml


def counts_in_log(text):
    """What the program itself says: cmocka's closing lines, or "N passed, M failed"."""
    passed = sum(int(n) for n in re.findall(r"^\[  PASSED  \] (\d+) test", text, re.M))
    failed = sum(int(n) for n in re.findall(r"^\[  FAILED  \] (\d+) test", text, re.M))
    for p, f in re.findall(r"^(?:\w+: )?(\d+) passed, (\d+) failed", text, re.M):
        passed += int(p)
        failed += int(f)
    return passed, failed


def tests_of(build):
    """The value of TESTS in the Makefile, as make sees it."""
    with os.popen(f"make -s -C '{build}' print-tests") as make:
        return make.read().split()


def automake(build, tests):
    passed = failed = 0
    for test in tests or tests_of(build):
        base = os.path.join(build, test)
        try:
            with open(base + ".trs") as trs:
                result = re.search(r":global-test-result: (\w+)", trs.read()).group(1)
            with open(base + ".log", errors="replace") as log:
                p, f = counts_in_log(log.read())
        except (OSError, AttributeError):
            result, p, f = "MISSING", 0, 0
        if result == "SKIP":
            print(f"{test}: skipped", file=sys.stderr)
            continue
        if result == "PASS":
            p = p or (0 if f else 1)
        else:
            print(f"{test}: {result}", file=sys.stderr)
            f = max(f, 1)
        passed += p
        failed += f
    return passed, failed


def junit(file):
    try:
        root = xml.parse(file).getroot()
    except (OSError, xml.ParseError) as error:
        print(f"no result: {error}", file=sys.stderr)
        return 0, 1
    total = failed = skipped = 0
    for suite in root.iter("testsuite"):
        total += int(suite.get("tests"))
        failed += int(suite.get("failures")) + int(suite.get("errors"))
        skipped += int(suite.get("skipped"))
    # A test that fails and whose fixture then fails, too, is in both counts.
    passed = max(0, total - failed - skipped)
    return (passed, failed) if total else (0, 1)


def main():
    if len(sys.argv) >= 3 and sys.argv[1] == "automake":
        print(*automake(sys.argv[2], sys.argv[3:]))
    elif len(sys.argv) == 3 and sys.argv[1] == "junit":
        print(*junit(sys.argv[2]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
