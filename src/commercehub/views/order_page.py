"""An order as it is shown, whoever asks and whenever: at the till, in an answer kept for a key, a year later."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import fulfillment
import payments
from commercehub import ids
from commercehub.sales import dues, orders
from commercehub.sales.carts import Address
from commercehub.sales.orders import Order, OrderLine
from commercehub.views.cart_page import AddressView, PromotionView
from payments.money import Money

WAITING: Final = frozenset({"pending", "unknown"})


class OrderLineView(msgspec.Struct, frozen=True, kw_only=True):
    """A line, and what became of its units."""

    id: str
    sku: str
    title: str
    ordered: int
    cancelled: int
    fulfilled: int
    returned: int
    unit_price: Money
    discount: Money
    tax: Money
    total: Money


class OrderDeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """How some lines reach the customer. The address is shown when read, and kept in no stored answer."""

    method: str
    location_id: str | None
    line_ids: list[str]
    price: Money
    address: AddressView | None = None


class FulfillmentSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Work for the order at one location.

    The code that opens a pickup which is ready is shown to whom the order is for, and to nobody else.
    """

    id: str
    kind: str
    state: str
    location_id: str
    collect_by: datetime | None = None
    pickup_code: str | None = None
    pickup_qr: str | None = None


class NextAction(msgspec.Struct, frozen=True, kw_only=True):
    """What the payer has to do before the payment goes on."""

    type: str
    url: str


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order."""

    id: str
    number: str
    cart_id: str
    channel: str
    location_id: str | None
    customer_id: str | None
    currency: str
    tax_included: bool
    state: str
    payment_state: str
    fulfillment_state: str
    on_hold: bool
    version: int
    created_at: datetime
    lines: list[OrderLineView]
    deliveries: list[OrderDeliveryView]
    fulfillments: list[FulfillmentSummary]
    subtotal: Money
    discount_total: Money
    delivery_total: Money
    tax_total: Money
    total: Money
    amount_due: Money
    receipt_barcode: str
    permalink: str
    change: Money | None = None
    next_action: NextAction | None = None
    email: str | None = None
    phone: str | None = None
    promotions: list[PromotionView] = []


def show_order(
    order: Order,
    work: Sequence[fulfillment.Fulfillment],
    *,
    base_url: str,
    next_url: str | None = None,
    due: int = 0,
) -> OrderView:
    """The page of an order, from what its rooms know; nothing personal is in it. ``due``: what is left to pay."""

    def money(amount: int) -> Money:
        return Money(amount, order.currency)

    return OrderView(
        id=ids.show("ord", order.id),
        number=order.number,
        cart_id=ids.show("cart", order.cart_id),
        channel=order.channel,
        location_id=ids.show("loc", order.location_id) if order.location_id else None,
        customer_id=ids.show("cus", order.customer_id) if order.customer_id else None,
        currency=order.currency,
        tax_included=order.tax_included,
        state=order.state,
        payment_state=order.payment_state,
        fulfillment_state=order.fulfillment_state,
        on_hold=order.on_hold,
        version=order.version,
        created_at=order.created_at,
        lines=[_line(line, order.currency) for line in order.lines],
        deliveries=[
            OrderDeliveryView(
                method=each.method,
                location_id=ids.show("loc", each.location_id) if each.location_id else None,
                line_ids=[ids.show("line", line.id) for line in order.lines if line.delivery_id == each.id],
                price=money(each.price),
            )
            for each in order.deliveries
        ],
        fulfillments=[
            FulfillmentSummary(
                id=ids.show("ful", each.id),
                kind=each.kind,
                state=each.state,
                location_id=ids.show("loc", each.location_id),
                collect_by=each.collect_by,
            )
            for each in work
        ],
        subtotal=money(order.subtotal),
        discount_total=money(order.discount_total),
        delivery_total=money(order.delivery_total),
        tax_total=money(order.tax_total),
        total=money(order.total),
        amount_due=money(due),
        receipt_barcode=orders.receipt_barcode(order.number),
        permalink=f"{base_url}/v1/orders/{ids.show('ord', order.id)}",
        change=money(order.change) if order.change is not None else None,
        next_action=NextAction(type="redirect", url=next_url) if next_url else None,
        promotions=[PromotionView(code=each.code, discount=money(each.discount)) for each in order.promotions],
    )


def _line(line: OrderLine, currency: str) -> OrderLineView:
    return OrderLineView(
        id=ids.show("line", line.id),
        sku=line.sku,
        title=line.title,
        ordered=line.ordered,
        cancelled=line.cancelled,
        fulfilled=line.fulfilled,
        returned=line.returned,
        unit_price=Money(line.unit_price, currency),
        discount=Money(line.discount, currency),
        tax=Money(line.tax, currency),
        total=Money(line.total, currency),
    )


def conceal(view: OrderView) -> OrderView:
    """The page without what a stored answer may not keep: how to reach somebody, where they live, what opens a pickup."""
    deliveries = [msgspec.structs.replace(each, address=None) for each in view.deliveries]
    work = [msgspec.structs.replace(each, pickup_code=None, pickup_qr=None) for each in view.fulfillments]
    return msgspec.structs.replace(view, email=None, phone=None, deliveries=deliveries, fulfillments=work)


async def read_pages(
    db: Connection, found: Sequence[Order], *, base_url: str, secret: str | None = None
) -> list[OrderView]:
    """The pages of orders with whom and where they are for: one read for all work, one for all contacts, one for money.

    One more for those whose payers are waited for, if there are any. ``secret``: the reader is whom the orders are for,
    and sees what opens a pickup.
    """
    work: dict[UUID, list[fulfillment.Fulfillment]] = {}
    for each in await fulfillment.read_fulfillments_of(db, references=[order.id for order in found]):
        work.setdefault(each.reference, []).append(each)
    wanted = {order.contact_id for order in found} | {d.address_id for order in found for d in order.deliveries}
    contacts = await orders.read_contacts(db, contact_ids=[each for each in wanted if each])
    waiting = [order.id for order in found if order.payment_state in WAITING]
    next_urls = await payments.read_next_urls(db, references=waiting) if waiting else {}
    balances: dict[UUID, list[payments.Balance]] = {}
    for balance in await payments.read_balances(db, references=[order.id for order in found]):
        balances.setdefault(balance.intent.reference, []).append(balance)
    views = [
        show_order(
            order,
            work.get(order.id, ()),
            base_url=base_url,
            next_url=next_urls.get(order.id),
            due=dues.amount_due(order, balances.get(order.id, ())),
        )
        for order in found
    ]
    if secret is not None:
        views = [_with_codes(view, work.get(order.id, ()), secret) for view, order in zip(views, found, strict=True)]
    return [_with_contacts(view, order, contacts) for view, order in zip(views, found, strict=True)]


def _with_codes(view: OrderView, work: Sequence[fulfillment.Fulfillment], secret: str) -> OrderView:
    shown = []
    for summary, each in zip(view.fulfillments, work, strict=True):
        code = fulfillment.pickup_code(secret, each.id) if each.state is fulfillment.State.READY else None
        qr = fulfillment.qr_of(code) if code else None
        shown.append(msgspec.structs.replace(summary, pickup_code=code, pickup_qr=qr))
    return msgspec.structs.replace(view, fulfillments=shown)


def _with_contacts(
    view: OrderView, order: Order, contacts: Mapping[UUID, tuple[orders.Contact, Address | None]]
) -> OrderView:
    contact = contacts[order.contact_id][0] if order.contact_id is not None else None
    return msgspec.structs.replace(
        view,
        email=contact.email if contact else None,
        phone=contact.phone if contact else None,
        deliveries=[
            msgspec.structs.replace(
                shown,
                address=msgspec.convert(contacts[each.address_id][1], AddressView, from_attributes=True)
                if each.address_id is not None and each.address_id in contacts
                else None,
            )
            for shown, each in zip(view.deliveries, order.deliveries, strict=True)
        ],
    )
