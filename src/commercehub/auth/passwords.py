"""Passwords and PINs: argon2id in a few threads of their own, so that a thousand wrong ones hold nobody else up."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

T = TypeVar("T")

THREADS_MAX: Final = 2
WAITING_MAX: Final = 64
PASSWORD_CHARACTERS_MIN: Final = 8
PASSWORD_CHARACTERS_MAX: Final = 200

# OWASP's floor for argon2id: 19 MiB, two passes, one lane.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
_THREADS: Final = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="argon2")
# What an unknown login is checked against, so that it takes as long as a known one.
_NOBODY: Final = _HASHER.hash("nobody has this password")


class PasswordsBusy(Exception):
    """As many sign-ins wait as may wait. Nothing was looked at; try again."""


# A slot is held from the question to the answer: what waits is bounded too, not only what runs.
_slots = WAITING_MAX


async def hash_password(password: str) -> str:
    """What is stored of a password or a PIN. ``PasswordsBusy`` if too many wait."""
    return await _in_a_thread(_HASHER.hash, password)


async def verify_password(password: str, stored: str | None) -> bool:
    """Whether it is the password; where nothing is stored it is not, after the same time. ``PasswordsBusy`` likewise."""
    return await _in_a_thread(_verify, password, stored)


def needs_rehash(stored: str) -> bool:
    """Whether the hash was made with other costs than today's."""
    return _HASHER.check_needs_rehash(stored)


async def _in_a_thread(work: Callable[..., T], *arguments: object) -> T:
    global _slots  # noqa: PLW0603 - one number for the process, changed by the one thread of its loop
    if _slots == 0:
        raise PasswordsBusy
    _slots -= 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, work, *arguments)
    finally:
        _slots += 1


def _verify(password: str, stored: str | None) -> bool:
    try:
        right = _HASHER.verify(stored or _NOBODY, password)
    except (VerificationError, InvalidHashError):
        return False
    return right and stored is not None
