"""Taking goods from the shelf: what was scanned against what the list asks for."""

from collections.abc import Mapping
from uuid import UUID

from fulfillment.errors import NotOnThisList, UnaccountedUnits
from fulfillment.fulfillments import Fulfillment


def account_for(fulfillment: Fulfillment, counted: Mapping[str, int]) -> dict[UUID, int]:
    """Spread units counted by SKU over the fulfillment's lines, every unit exactly once.

    ``NotOnThisList`` for a SKU that the list has not; ``UnaccountedUnits`` if a unit is missing or too many.
    """
    wanted: dict[str, int] = {}
    for line in fulfillment.lines:
        wanted[line.sku] = wanted.get(line.sku, 0) + line.quantity
    for sku in counted:
        if sku not in wanted:
            raise NotOnThisList(sku)
    for sku, expected in wanted.items():
        if counted.get(sku, 0) != expected:
            raise UnaccountedUnits(sku, expected, counted.get(sku, 0))
    return {line.line_id: line.quantity for line in fulfillment.lines}
