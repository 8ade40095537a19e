#!/usr/bin/python3
"""Counts tests that were run: prints "PASSED FAILED", and on standard error what failed.

tally.py automake BUILD [TEST...]   what `make check` left in *.trs and *.log
tally.py junit FILE                 what pytest wrote
tally.py waited FILE                nothing; it succeeds if all that failed, of what pytest
                                    wrote, waited for something in vain, and that is little

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


def failed_in_log(text):
    """The names of the tests that failed, as cmocka prints them, with its errors."""
    return re.findall(r"^(?:\[  FAILED  \] (?!\d)|ERROR: |\[  ERROR   \] --- )(.*)", text, re.M)


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
                text = log.read()
            p, f = counts_in_log(text)
        except (OSError, AttributeError):
            result, p, f, text = "MISSING", 0, 0, ""
        if result == "SKIP":
            continue  # make check has said so
        if result == "PASS":
            p = p or (0 if f else 1)
        else:
            for what in [result, *failed_in_log(text)][:10]:
                print(f"{test}: {what[:200]}", file=sys.stderr)
            f = max(f, 1)
        passed += p
        failed += f
    return passed, failed


def failures(root):
    """(test, what it said) of each that failed."""
    for case in root.iter("testcase"):
        for kind in ("failure", "error"):
            for failure in case.iter(kind):
                yield f"{case.get('classname')}::{case.get('name')}", failure.get("message", "")


# Exceptions that say that something did not come in time, and not that it was wrong.
WAITED = re.compile(r"^([\w.]+\.)?(WaitedInVain|TimeoutError|TimeoutExpired|timeout)\b")


def waited(file):
    found = [message for _, message in failures(xml.parse(file).getroot())]
    return 0 < len(found) <= 3 and all(WAITED.match(message) for message in found)


def junit(file):
    try:
        root = xml.parse(file).getroot()
    except (OSError, xml.ParseError) as error:
        print(f"no result: {error}", file=sys.stderr)
        return 0, 1
    for test, message in failures(root):
        print(f"{test}: {message.strip()[:300]!r}", file=sys.stderr)
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
    elif len(sys.argv) == 3 and sys.argv[1] == "waited":
        sys.exit(0 if waited(sys.argv[2]) else 1)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
