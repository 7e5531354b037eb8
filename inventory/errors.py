"""What this room refuses."""

from uuid import UUID


class InventoryError(Exception):
    """Base of every refusal of this room."""


class LocationNotFound(InventoryError):
    """No location has this id."""

    def __init__(self, location_id: UUID) -> None:
        super().__init__(str(location_id))
        self.location_id = location_id


class LocationCodeTaken(InventoryError):
    """Another location already has this code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class StockTooLow(InventoryError):
    """A correction would leave less on the shelf than is promised to orders."""

    def __init__(self, sku: str, location_id: UUID) -> None:
        super().__init__(f"{sku} at {location_id}")
        self.sku = sku
        self.location_id = location_id


class ReservationSettled(InventoryError):
    """A reservation that should be open was already posted, voided or expired."""

    def __init__(self, reference: UUID) -> None:
        super().__init__(str(reference))
        self.reference = reference


class ClaimRaced(Exception):
    """A hold ended between the look and the claim; nothing was taken, the transaction is to be run again."""
