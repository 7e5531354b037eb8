"""How much one caller may ask: a token bucket per caller, in this process."""

import time
from collections import OrderedDict
from typing import Final

import msgspec

BUCKETS_MAX: Final = 20_000


class Allowance(msgspec.Struct, frozen=True, kw_only=True):
    """What is left to a caller after a request."""

    granted: bool
    remaining: int
    reset_seconds: int


class Limiter:
    """Token buckets that refill ``per_second`` and hold ``burst``."""

    def __init__(self, *, per_second: int, burst: int) -> None:
        self._per_second = per_second
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self.policy = f'"default";q={burst};w={max(1, burst // per_second)}'

    def take(self, caller: str) -> Allowance:
        """Take one request out of a caller's bucket."""
        now = time.monotonic()
        left, at = self._buckets.pop(caller, (float(self._burst), now))
        left = min(self._burst, left + (now - at) * self._per_second)
        granted = left >= 1
        left -= granted
        self._buckets[caller] = (left, now)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        return Allowance(
            granted=granted,
            remaining=int(left),
            reset_seconds=max(1, int((1 - left) / self._per_second + 1)) if left < 1 else 0,
        )
