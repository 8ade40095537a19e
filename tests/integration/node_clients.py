"""Node's clients, as npm has them: installed once, into the build directory."""

import fcntl
import hashlib
import os
import shutil
import subprocess

import pytest

from harness import BUILD

SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node")


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def prepare():
    """The directory in which `node FILE.js` runs. Skips the test if there is no npm."""
    if not shutil.which("npm"):
        assert not os.environ.get("CI"), "npm is not there: CI has to run this"
        pytest.skip("NOT RUN: npm is not there")
    directory = os.path.join(BUILD, "node-clients")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(SOURCES, "package-lock.json"), "rb") as file:
        wanted = hashlib.sha256(file.read()).hexdigest()
    stamp = os.path.join(directory, "installed")
    # Tests run beside each other.
    with open(os.path.join(directory, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name in os.listdir(SOURCES):
            shutil.copy(os.path.join(SOURCES, name), directory)
        if read(stamp) != wanted:
            subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                           cwd=directory, check=True, timeout=300)
            with open(stamp, "w") as file:
                file.write(wanted)
    return directory
