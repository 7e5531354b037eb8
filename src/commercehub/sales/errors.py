"""What this room refuses."""

from uuid import UUID


class SalesError(Exception):
    """Base of every refusal of this room."""


class CartNotFound(SalesError):
    """There is no such cart for this caller."""


class CartClosed(SalesError):
    """The cart has made an order, or is making one."""

    def __init__(self, order_id: UUID | None, state: str | None) -> None:
        super().__init__(str(order_id))
        self.order_id = order_id
        self.state = state


class VersionConflict(SalesError):
    """Somebody edited it since the version that the caller has seen."""

    def __init__(self, current: int) -> None:
        super().__init__(str(current))
        self.current = current


class LineNotFound(SalesError):
    """The cart has no such line."""


class VariantNotFound(SalesError):
    """No variant has this SKU or barcode."""

    def __init__(self, wanted: str) -> None:
        super().__init__(wanted)
        self.wanted = wanted


class NoPrice(SalesError):
    """The variant has no price in the cart's currency and price list."""

    def __init__(self, sku: str, currency: str) -> None:
        super().__init__(f"{sku} in {currency}")
        self.sku = sku
        self.currency = currency


class TooManyLines(SalesError):
    """The cart is full."""


class QuantityTooLarge(SalesError):
    """No line holds that many."""


class OrderNotFound(SalesError):
    """There is no such order for this caller."""


class NotCancellable(SalesError):
    """Too late: goods were picked or have left, or the order is over."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self.state = state


class ProductNotFound(SalesError):
    """There is no such product."""


class SkuTaken(SalesError):
    """Another variant has this SKU; they are unique ignoring case."""

    def __init__(self, sku: str) -> None:
        super().__init__(sku)
        self.sku = sku


class BarcodeTaken(SalesError):
    """Another variant has this barcode."""

    def __init__(self, barcode: str) -> None:
        super().__init__(barcode)
        self.barcode = barcode


class HandleTaken(SalesError):
    """Another product has this handle."""

    def __init__(self, handle: str) -> None:
        super().__init__(handle)
        self.handle = handle


class CustomerNotFound(SalesError):
    """There is no such customer."""


class EmailTaken(SalesError):
    """Somebody else has this e-mail address; they are unique ignoring case."""
