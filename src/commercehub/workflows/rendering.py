"""How the edge writes its answers: what is stored for a key is what the caller got, whoever finishes the work."""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

import fulfillment
from commercehub.sales.orders import Order


class RenderOrder(Protocol):
    """An order as JSON: with its work, the address that its payer has to go to, and what is left to pay."""

    def __call__(
        self, order: Order, work: Sequence[fulfillment.Fulfillment], next_url: str | None, /, *, due: int = 0
    ) -> str:
        """The page."""


class Render(msgspec.Struct, frozen=True, kw_only=True):
    """The answers that workflows give.

    ``declined``: the payment of a checkout did not come about; ``refused``: that of an order that is placed.
    """

    order: RenderOrder
    declined: Callable[[Order, str | None], str]
    refused: Callable[[Order, str | None], str]
