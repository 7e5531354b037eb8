"""Stock by SKU and location: what lies there, what is promised, and why the numbers are what they are."""

from inventory.availability import Level, read_levels
from inventory.errors import (
    ClaimRaced,
    InventoryError,
    LocationCodeTaken,
    LocationNotFound,
    ReservationSettled,
    StockTooLow,
)
from inventory.locations import (
    Location,
    Nearby,
    change_location,
    create_location,
    find_by_code,
    read_location,
    read_locations,
    search_locations,
)
from inventory.positions import Change
from inventory.reservations import (
    Claim,
    Claimed,
    Hold,
    Shortage,
    Want,
    claim_stock,
    note_picked,
    post,
    read_holds,
    void,
    void_units,
)
from inventory.returns import Bucket, Returned, take_back
from inventory.stock import Move, Movement, Opening, list_movements, move_stock, open_stock
from inventory.verification import Finding, verify

__all__ = [
    "Bucket",
    "Change",
    "Claim",
    "ClaimRaced",
    "Claimed",
    "Finding",
    "Hold",
    "InventoryError",
    "Level",
    "Location",
    "LocationCodeTaken",
    "LocationNotFound",
    "Move",
    "Movement",
    "Nearby",
    "Opening",
    "ReservationSettled",
    "Returned",
    "Shortage",
    "StockTooLow",
    "Want",
    "change_location",
    "claim_stock",
    "create_location",
    "find_by_code",
    "list_movements",
    "move_stock",
    "note_picked",
    "open_stock",
    "post",
    "read_holds",
    "read_levels",
    "read_location",
    "read_locations",
    "search_locations",
    "take_back",
    "verify",
    "void",
    "void_units",
]
