"""A shop that charges and then writes, with a fresh key at every try. A control for the kills: it has to fail."""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from litestar import Litestar

from commercehub import app, ids
from commercehub.api.errors import Problem
from commercehub.database import Database
from commercehub.idempotency import Stored
from commercehub.sales import carts
from commercehub.workflows import checkout
from commercehub.workflows.planning import Checkout
from payments import processors

MAKE_TABLE = "CREATE TABLE naive_orders (id uuid PRIMARY KEY, cart_id uuid NOT NULL, total bigint NOT NULL)"
WRITE = "INSERT INTO naive_orders (id, cart_id, total) VALUES ($1, $2, $3)"


async def buy(
    database: Database, processor_by_name: Mapping[str, processors.Processor], asked: Checkout, **_: Any
) -> tuple[Stored, bool]:
    """What many a tutorial shows."""
    async with database.connection() as db:
        cart = await carts.read_cart(db, cart_id=asked.cart_id, owner=asked.owner)
    order_id = uuid.uuid4()
    outcome = await processor_by_name["sandbox"].authorize(
        processors.Operation(
            id=order_id,
            key=str(uuid.uuid4()),
            reference=str(order_id),
            amount_minor=cart.prices.total,
            currency=cart.currency,
            payment_method=asked.tenders[0].payment_method,
        )
    )
    if isinstance(outcome, processors.Declined):
        return Stored(402, json.dumps({"code": "payment_declined"})), False
    if not isinstance(outcome, processors.Succeeded):
        raise Problem("busy", "Please try again.")
    async with database.connection() as db:
        await db.execute(WRITE, order_id, asked.cart_id, cart.prices.total)
    return Stored(201, json.dumps({"id": ids.show("ord", order_id), "state": "placed"})), False


def create_app(*arguments: Any, **options: Any) -> Litestar:
    checkout.buy = buy  # type: ignore[assignment]
    return app.create_app(*arguments, **options)
