"""The folders of one hub: where it keeps its data, its sockets and its logs, and to whom they belong."""

import fcntl
import hashlib
import os
import pwd
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from commercehub.embedded.errors import AlreadyRunning, NotOurs

MARKER = "commercehub-home"  # only a folder with this file in it is ever emptied
DATABASE_FOLDER = "postgres"

# Where root keeps what an unprivileged account must reach. The second is for a read-only /var/lib.
SHARED_FOLDERS = (Path("/var/lib/commercehub"), Path("/var/tmp/commercehub"))  # noqa: S108 - owner checked in own_folder

SOCKET_FOLDER_BYTES_MAX = 80  # a socket's whole path has 104 bytes on macOS and 108 on Linux
# Outside of these characters libpq, asyncpg, redis-py and arq each unquote a URL in their own way.
SOCKET_FOLDER_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")

REMOVE_SECONDS_MAX = 5.0
REMOVE_PAUSE_SECONDS = 0.1


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A user of this machine, who need not have a name."""

    uid: int
    gid: int


class Home(msgspec.Struct, frozen=True, kw_only=True):
    """The folders of one hub, all made and all with their right owner."""

    folder: Path  # HUB_HOME: what people look at
    state: Path  # the database files: the same folder, unless `account` cannot reach it
    run: Path  # the sockets, closed to everybody else
    logs: Path
    account: Account | None  # whom PostgreSQL and Valkey run as; None: as we do

    @property
    def database(self) -> Path:
        """PostgreSQL's own folder."""
        return self.state / DATABASE_FOLDER


STRANGER = Account(uid=-1, gid=-1)  # owns nothing


def home_folder(environ: Mapping[str, str], checkout: Path) -> Path:
    """Where this hub lives: ``HUB_HOME``, else ``.hub`` in the checkout."""
    return Path(environ.get("HUB_HOME") or checkout / ".hub").absolute()


def open_home(folder: Path) -> Home:
    """Make whatever is missing of this hub's folders.

    Raises ``NotOurs`` for a folder that holds other things, or may not be written.
    """
    try:
        folder = folder.resolve()
        _adopt(folder)
        # Root in somebody's own folder (`sudo ./hub demo`) does as that person would, who may come back without sudo.
        holder = Account(uid=folder.stat().st_uid, gid=folder.stat().st_gid)
        account = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root, and is right
            account = holder if holder.uid != 0 else _nobody()
        state = _state_folder(folder, account)
        run = state / "run"
        if len(os.fsencode(run)) > SOCKET_FOLDER_BYTES_MAX or not SOCKET_FOLDER_PLAIN.fullmatch(str(run)):
            run = Path("/tmp") / f"commercehub-{_digest(state)}"  # noqa: S108 - owner checked in own_folder
        own_folder(run, mode=0o700, owner=account)
        own_folder(folder / "logs", mode=0o700, owner=holder)
    except PermissionError as error:
        raise NotOurs(
            f"{error.filename or folder} cannot be written. Set HUB_HOME to a folder of yours, or run as its owner."
        ) from error
    return Home(folder=folder, state=state, run=run, logs=folder / "logs", account=account)


@contextmanager
def temporary_home() -> Iterator[Home]:
    """A home for a test session, gone afterwards. In /tmp itself, so that paths are short and root needs no other."""
    folder = Path(tempfile.mkdtemp(prefix="commercehub-test-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield open_home(folder)
    finally:
        reset(folder)


def reset(folder: Path) -> None:
    """Remove all data of this hub, wherever it lies; the folder can be opened anew.

    Raises ``NotOurs`` for a folder that the hub did not make, ``AlreadyRunning`` while a supervisor holds it.
    """
    home = open_home(folder)
    lock = lock_folder(home.logs)
    try:
        for part in {home.run, home.state, home.folder}:
            _empty(part)
    finally:
        os.close(lock)


def lock_folder(folder: Path) -> int:
    """Hold ``folder`` until the returned descriptor is closed or we die, or raise ``AlreadyRunning``."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AlreadyRunning(
            f"A hub is already running from {folder.parent}. Stop it first, or set HUB_HOME to another folder."
        ) from error
    return descriptor


def own_folder(folder: Path, *, mode: int, owner: Account | None = None) -> None:
    """Make ``folder`` with this mode for this owner (None: us). Raises ``NotOurs`` if another's lies there."""
    owner = owner or Account(uid=os.geteuid(), gid=os.getegid())
    try:
        folder.mkdir()
    except FileExistsError as error:
        # /tmp is everybody's: a link, or a folder put there by another user, must not get our sockets.
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {owner.uid, os.geteuid()}:
            raise NotOurs(f"{folder} belongs to another user. Remove it, or set HUB_HOME to another folder.") from error
    os.chown(folder, owner.uid, owner.gid)
    folder.chmod(mode)  # by itself, since mkdir's mode is cut by the umask


def shared_folder() -> Path:
    """The folder of root's that every account can reach, made if need be."""
    for folder in SHARED_FOLDERS:
        try:
            own_folder(folder, mode=0o755)
        except (OSError, NotOurs):
            continue
        if _reachable(folder, STRANGER):
            return folder
    raise NotOurs("Neither /var/lib nor /var/tmp can hold a folder that an unprivileged account can read.")


def _adopt(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    names = {entry.name for entry in folder.iterdir()}
    if MARKER in names:
        return
    if names:
        raise NotOurs(f"{folder} holds files that are not the hub's. Set HUB_HOME to a new or an empty folder.")
    (folder / MARKER).write_text("The data of a commercehub. `./hub demo --reset` empties this folder.\n")


def _state_folder(folder: Path, account: Account | None) -> Path:
    # What was once decided stays, or a chmod of some parent would look like the loss of all data.
    if account is None or (folder / DATABASE_FOLDER).exists():
        return folder
    outside = shared_folder() / _digest(folder)
    if not outside.exists() and _reachable(folder, account):
        return folder
    # We never open a parent that somebody closed: the data goes where the account can reach it.
    own_folder(outside, mode=0o711)
    (outside / MARKER).write_text(f"The data of the commercehub in {folder}.\n")
    return outside


def _reachable(folder: Path, account: Account) -> bool:
    for step in (folder, *folder.parents):
        found = step.stat()
        bit = stat.S_IXOTH
        if found.st_uid == account.uid:
            bit = stat.S_IXUSR
        elif found.st_gid == account.gid:
            bit = stat.S_IXGRP
        if not found.st_mode & bit:
            return False
    return True


def _nobody() -> Account:
    # initdb wants an account with a name. Whose it is matters little: all its files lie in folders of mode 0700.
    entries = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
    if not entries:
        raise NotOurs("PostgreSQL does not run as root, and this machine has no other account.")
    entry = next((entry for entry in entries if entry.pw_name == "nobody"), entries[0])
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def _digest(folder: Path) -> str:
    return hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]


def _empty(folder: Path) -> None:
    # A server whose hub was killed a moment ago may still be writing its last file.
    give_up_at = time.monotonic() + REMOVE_SECONDS_MAX
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists() or not any(folder.iterdir()):  # a mount point stays, empty
            return
        if time.monotonic() > give_up_at:
            raise NotOurs(f"{folder} could not be emptied.")
        time.sleep(REMOVE_PAUSE_SECONDS)
