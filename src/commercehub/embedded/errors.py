"""What can go wrong before the hub runs. Each message is one screen that says what to do."""

from collections.abc import Sequence
from pathlib import Path


class EmbeddedError(Exception):
    """The parts the hub stands on could not be had; the message is for the person at the keyboard."""


class NotFound(EmbeddedError):
    """No PostgreSQL that is new enough, neither of ours nor of this machine."""


class NotOurs(EmbeddedError):
    """A folder that the hub did not make, or may not write."""


class AlreadyRunning(EmbeddedError):
    """Another supervisor holds this folder."""


class StartFailed(EmbeddedError):
    """A child ended or did not become ready; the message ends with the last lines of its log."""

    def __init__(self, name: str, reason: str, log: Path, last_lines: Sequence[str] = ()) -> None:
        super().__init__("\n".join([f"{name} {reason}. Its log is {log}", *last_lines]))
        self.name = name
        self.log = log
