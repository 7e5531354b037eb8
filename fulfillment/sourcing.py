"""Where goods come from: a pure function from lines and candidate locations to plans, the best first."""

from collections.abc import Mapping, Sequence
from typing import Final
from uuid import UUID

import msgspec

PLANS_MAX: Final = 3


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """Units of one order line."""

    line_id: UUID
    sku: str
    quantity: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A location that may serve, and what it has available of each SKU."""

    location_id: UUID
    available: Mapping[str, int]


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """Units of a line from a location."""

    line_id: UUID
    sku: str
    location_id: UUID
    quantity: int


Plan = tuple[Allocation, ...]


def plan(needs: Sequence[Need], candidates: Sequence[Candidate]) -> list[Plan]:
    """Up to ``PLANS_MAX`` ways to serve all needs, or none.

    A single location beats a split, since every parcel costs. Among those that hold everything the one with most to
    spare comes first, so that a shop keeps its last piece; ties go to the lower id. A split takes as much as it can
    from the location that has most of what is still missing.
    """
    if not needs:
        return [()]
    skus = {need.sku for need in needs}
    ranked = sorted(
        candidates,
        key=lambda candidate: (-sum(candidate.available.get(sku, 0) for sku in skus), candidate.location_id),
    )
    whole = [
        tuple(
            Allocation(line_id=need.line_id, sku=need.sku, location_id=candidate.location_id, quantity=need.quantity)
            for need in needs
        )
        for candidate in ranked
        if _holds_all(candidate, needs)
    ]
    if whole:
        return whole[:PLANS_MAX]
    split = _split(needs, ranked)
    return [split] if split else []


def _holds_all(candidate: Candidate, needs: Sequence[Need]) -> bool:
    wanted: dict[str, int] = {}
    for need in needs:
        wanted[need.sku] = wanted.get(need.sku, 0) + need.quantity
    return all(candidate.available.get(sku, 0) >= quantity for sku, quantity in wanted.items())


def _split(needs: Sequence[Need], ranked: Sequence[Candidate]) -> Plan | None:
    missing = [need.quantity for need in needs]
    left = {candidate.location_id: dict(candidate.available) for candidate in ranked}
    allocations: list[Allocation] = []
    while any(missing):
        best = max(ranked, key=lambda candidate: sum(_most(left[candidate.location_id], needs, missing)), default=None)
        if best is None or not any(given := _most(left[best.location_id], needs, missing)):
            return None
        for position, (need, quantity) in enumerate(zip(needs, given, strict=True)):
            if quantity:
                allocations.append(
                    Allocation(line_id=need.line_id, sku=need.sku, location_id=best.location_id, quantity=quantity)
                )
                missing[position] -= quantity
                left[best.location_id][need.sku] -= quantity
    return tuple(allocations)


def _most(available: Mapping[str, int], needs: Sequence[Need], missing: Sequence[int]) -> list[int]:
    """How much of each need a location could give, lines that share a SKU sharing what is there."""
    left = dict(available)
    given = []
    for need, wanted in zip(needs, missing, strict=True):
        quantity = min(wanted, max(0, left.get(need.sku, 0)))
        left[need.sku] = left.get(need.sku, 0) - quantity
        given.append(quantity)
    return given
