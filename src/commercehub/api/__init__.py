"""The HTTP API: one file per resource, each with its ``ROUTES``."""

from collections.abc import Sequence

from commercehub.api import (
    availability,
    carts,
    catalog,
    checkout,
    fulfillments,
    health,
    imports,
    keys,
    locations,
    mailbox,
    openapi,
    orders,
    payments,
    registers,
    stock,
)
from commercehub.api.routing import Route

_RESOURCES = (
    catalog,
    imports,
    locations,
    availability,
    carts,
    checkout,
    orders,
    payments,
    fulfillments,
    registers,
    stock,
    keys,
    health,
)


def routes(*, demo: bool = False) -> Sequence[Route]:
    """Every route of the API, and of the document that describes them."""
    declared = [route for resource in _RESOURCES for route in resource.ROUTES]
    if demo:
        declared.extend(mailbox.ROUTES)
    return [*declared, openapi.document_route(declared)]
