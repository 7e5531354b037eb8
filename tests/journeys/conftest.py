"""The books that the journeys sell, imported through the API by whoever comes first."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from commercehub.jobs import housekeeping
from commercehub.sales import shopify
from commercehub.workflows.parts import Hub
from tests.client import Channels

REAL = Path("../shared/data/shopify-books.csv")
"""A real bookshop's file, where it lies beside the checkout; ours has the same columns."""


@pytest.fixture(scope="session")
async def book(hub: Hub, channels: Channels, api: httpx.AsyncClient, repository: Path) -> Mapping[str, Any]:
    """One book of the imported file, with copies at S1 and in the warehouse."""
    file = repository / REAL
    content = (file if file.is_file() else Path(__file__).with_name("books.csv")).read_bytes()
    for code in ("S1", "DC1"):
        place = await channels.location(code)
        begun = await api.post(
            f"/v1/imports/products?format=shopify&currency=USD&location_id={place}",
            content=content,
            headers={"Authorization": f"Bearer {channels['admin'].key}", "Content-Type": "text/csv"},
        )
        assert begun.status_code == 202, begun.text
        await housekeeping.run_imports(hub)
        operation = await channels["admin"].ok("GET", f"/v1/operations/{begun.json()['id']}")
        assert (operation["state"], operation["refused"]) == ("succeeded", []), operation
        await asyncio.sleep(0)
    row = next(
        row for row in shopify.read(content, currency="USD") if isinstance(row, shopify.VariantRow) and row.gtin14
    )
    return dict((await channels["admin"].ok("GET", f"/v1/variants?sku={row.sku}"))["data"][0])
