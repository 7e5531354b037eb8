"""What this room refuses."""

from collections.abc import Sequence
from datetime import datetime
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


class CartMerged(SalesError):
    """All of the cart is in another one of the customer's by now."""

    def __init__(self, merged_into: UUID) -> None:
        super().__init__(str(merged_into))
        self.merged_into = merged_into


class UnknownPromotion(SalesError):
    """No promotion has this code, or it was ended."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class TooManyPromotions(SalesError):
    """The cart takes no further code."""


class PromotionNotFound(SalesError):
    """The cart has no such promotion."""


class TooManyGiftCards(SalesError):
    """The cart takes no further gift card."""


class GiftCardNotFound(SalesError):
    """The cart has no such gift card."""


class ListNotFound(SalesError):
    """There is no such wishlist for this caller."""


class ItemNotFound(SalesError):
    """The wishlist has no such item."""


class ListFull(SalesError):
    """There are as many wishlists, or items on one, as there may be."""


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


class ReturnNotFound(SalesError):
    """There is no such return for this caller."""


class NotReturnable(SalesError):
    """More than was fulfilled and not yet returned; ``lines`` are (line, requested, returnable)."""

    def __init__(self, lines: Sequence[tuple[UUID, int, int]]) -> None:
        super().__init__(str(lines))
        self.lines = lines


class ReturnWindowClosed(SalesError):
    """A line was delivered or handed over too long ago."""

    def __init__(self, line_id: UUID, until: datetime) -> None:
        super().__init__(f"{line_id} until {until}")
        self.line_id = line_id
        self.until = until


class ReturnNotInTurn(SalesError):
    """The return is in no state from which this may be asked of it."""

    def __init__(self, state: str, wanted: str, allowed: Sequence[str]) -> None:
        super().__init__(f"{state} -> {wanted}")
        self.state = state
        self.wanted = wanted
        self.allowed = allowed


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
    """Another product, or another category, has this handle."""

    def __init__(self, handle: str) -> None:
        super().__init__(handle)
        self.handle = handle


class TooManyVariants(SalesError):
    """The product is full."""


class CategoryNotFound(SalesError):
    """There is no such category."""


class CategoryCycle(SalesError):
    """A category would stand below itself."""


class CategoryTooDeep(SalesError):
    """A category would stand below too many others."""


class CategoryNotEmpty(SalesError):
    """Other categories stand below it."""


class TooManyCategories(SalesError):
    """There are as many categories as there may be."""


class CustomerNotFound(SalesError):
    """There is no such customer."""


class EmailTaken(SalesError):
    """Somebody else has this e-mail address; they are unique ignoring case."""
