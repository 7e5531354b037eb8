"""The HTTP API: one file per resource, each with its ``ROUTES``."""

from collections.abc import Sequence

from commercehub.api import (
    audit,
    availability,
    cart_gift_cards,
    carts,
    catalog,
    categories,
    checkout,
    customers,
    devices,
    docs,
    fulfillments,
    gift_cards,
    handoffs,
    health,
    imports,
    keys,
    locations,
    mailbox,
    metrics,
    openapi,
    order_lookup,
    order_payments,
    orders,
    pages,
    payments,
    problems,
    promotions,
    registers,
    returns,
    staff,
    stock,
    streams,
    timelines,
    webhooks,
    wishlists,
)
from commercehub.api.routing import Route

_RESOURCES = (
    catalog,
    categories,
    imports,
    locations,
    availability,
    carts,
    handoffs,
    promotions,
    cart_gift_cards,
    wishlists,
    checkout,
    order_lookup,
    order_payments,
    orders,
    timelines,
    streams,
    payments,
    webhooks,
    fulfillments,
    returns,
    gift_cards,
    registers,
    stock,
    customers,
    staff,
    devices,
    keys,
    audit,
    health,
)


def described(*, demo: bool = False) -> Sequence[Route]:
    """Every route of the API: what the document is about."""
    declared = [route for resource in _RESOURCES for route in resource.ROUTES]
    if demo:
        declared.extend(mailbox.ROUTES)
    return declared


def routes(*, demo: bool = False, measured: bool = False) -> Sequence[Route]:
    """Every route of the API, of the document and the pages that describe them, and of the page that tells how it is."""
    declared = described(demo=demo)
    about = [openapi.document_route(declared), docs.docs_route(declared), *problems.routes(declared), *pages.ROUTES]
    return [*declared, *about, *(metrics.ROUTES if measured else ())]
