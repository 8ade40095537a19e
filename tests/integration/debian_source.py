"""Upstream sources of an installed Debian package, for tests that use the package's own ones."""

import contextlib
import glob
import os
import shutil
import subprocess

from harness import BUILD


class NotFetched(Exception):
    """They cannot be had."""


def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300,
                          **options).stdout


def source_line(kind, base, name):
    """A line of sources.list."""
    return (f"{kind} [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
            f"http://deb.debian.org/{base} {name} main\n")


@contextlib.contextmanager
def apt_with(directory, lines):
    """An apt-get that knows these sources alone, and keeps what it knows of them there."""
    lists = os.path.join(directory, "lists")
    os.makedirs(os.path.join(lists, "partial"), exist_ok=True)
    sources = os.path.join(directory, "sources.list")
    with open(sources, "w") as file:
        file.writelines(lines)
    apt = ["apt-get", "-q", "-o", f"Dir::Etc::SourceList={sources}", "-o",
           "Dir::Etc::SourceParts=-", "-o", f"Dir::State::Lists={lists}", "-o",
           "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "-o",
           "Acquire::Languages=none", "-o", "Acquire::Retries=3"]
    run(*apt, "update")
    yield apt
    shutil.rmtree(lists)


def fetch(package, directory):
    """Download them into a directory, of the version that apt would install, and unpack them."""
    suite = run("sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME").strip()
    places = ("debian", suite), ("debian", suite + "-updates"), ("debian-security", suite + "-security")
    with apt_with(directory, [source_line("deb-src", *place) for place in places]) as apt:
        run(*apt, "source", "--download-only", package, cwd=directory)
    archive = glob.glob(os.path.join(directory, f"{package}_*.orig.tar.*"))[0]
    run("tar", "xf", archive, "-C", directory, "--exclude=*/.git*")


def sources_of(package):
    """Their top directory: in the build directory, fetched the first time."""
    directory = os.path.join(BUILD, f"{package}-source")
    os.makedirs(directory, exist_ok=True)
    pattern = os.path.join(directory, f"{package}-*", "")
    if not glob.glob(pattern):
        try:
            fetch(package, directory)
        except (subprocess.CalledProcessError, IndexError, OSError) as error:
            raise NotFetched(f"{package}'s sources: {error}") from None
    return glob.glob(pattern)[0].rstrip("/")
