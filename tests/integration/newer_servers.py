"""Servers newer than this machine's: Debian's next release's, with the libraries that they need.

They are unpacked into the build directory and started by the C library's own loader from there;
nothing is installed. MUPROXY_NEWER_SERVERS may name a directory with one for each name below
instead, for what Debian does not have.
"""

import fcntl
import glob
import os
import subprocess

from debian_source import NotFetched, apt_with, run, source_line
from harness import BUILD

RELEASE = "trixie"
NAMES = ("redis-server", "valkey-server")  # and memcached
# What they are linked with and this release has not, or not of that version.
LIBRARIES = ("libc6", "libgcc-s1", "libstdc++6", "libatomic1", "libjemalloc2", "liblzf1",
             "libsystemd0", "libcap2", "libssl3t64", "zlib1g", "libzstd1", "libevent-2.1-7t64",
             "libsasl2-2")


def fetch(directory):
    with apt_with(directory, [source_line("deb", "debian", RELEASE)]) as apt:
        run(*apt, "download", "redis-server", "redis-tools", "valkey-server", "valkey-tools",
            "memcached", *LIBRARIES, cwd=directory)
    for package in glob.glob(os.path.join(directory, "*.deb")):
        run("dpkg", "-x", package, os.path.join(directory, "root"))
        os.unlink(package)
    with open(os.path.join(directory, "fetched"), "w"):
        pass


def wrapper(directory, name):
    """A program that runs the unpacked one."""
    root = os.path.join(directory, "root")
    loader = glob.glob(os.path.join(root, "usr/lib/*/ld-linux*.so.*"))[0]
    path = os.path.join(directory, name)
    with open(path + ".new", "w") as script:
        script.write(f'#!/bin/sh\nexec {loader} --library-path {os.path.dirname(loader)} '
                     f'--argv0 {name} {root}/usr/bin/{name} "$@"\n')
    os.chmod(path + ".new", 0o755)
    run(path + ".new", "--version")  # now, rather than by a group that does not start
    os.rename(path + ".new", path)
    return path


def newer_server(name):
    """The path of one of NAMES, or of memcached; NotFetched if it cannot be had."""
    given = os.environ.get("MUPROXY_NEWER_SERVERS")
    directory = given or os.path.join(BUILD, f"servers-{RELEASE}")
    path = os.path.join(directory, name)
    if not given and not os.path.exists(path):
        os.makedirs(directory, exist_ok=True)
        try:
            with open(os.path.join(directory, "lock"), "w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # tests beside each other want different ones
                if not os.path.exists(os.path.join(directory, "fetched")):
                    fetch(directory)
                wrapper(directory, name)
        except (subprocess.SubprocessError, IndexError, OSError) as error:
            said = getattr(error, "stderr", "") or ""
            raise NotFetched(f"{name} of {RELEASE}: {error} {said}") from None
    return path
