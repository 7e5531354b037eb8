"""The HTTP API: one file per resource, each with its ``ROUTES``."""

from collections.abc import Sequence

from commercehub.api import (
    audit,
    availability,
    carts,
    catalog,
    checkout,
    customers,
    devices,
    fulfillments,
    health,
    imports,
    keys,
    locations,
    mailbox,
    openapi,
    order_lookup,
    orders,
    payments,
    registers,
    staff,
    stock,
    streams,
    timelines,
    webhooks,
)
from commercehub.api.routing import Route

_RESOURCES = (
    catalog,
    imports,
    locations,
    availability,
    carts,
    checkout,
    order_lookup,
    orders,
    timelines,
    streams,
    payments,
    webhooks,
    fulfillments,
    registers,
    stock,
    customers,
    staff,
    devices,
    keys,
    audit,
    health,
)


def routes(*, demo: bool = False) -> Sequence[Route]:
    """Every route of the API, and of the document that describes them."""
    declared = [route for resource in _RESOURCES for route in resource.ROUTES]
    if demo:
        declared.extend(mailbox.ROUTES)
    return [*declared, openapi.document_route(declared)]
