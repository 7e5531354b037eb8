"""Products and variants: made, searched, found by what a scanner reads, and brought in by the file."""

import uuid
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from commercehub.jobs import housekeeping
from commercehub.sales.barcodes import check_digit
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels


def _name() -> str:
    return f"T-{uuid.uuid4().hex[:16]}"


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


def _product(sku: str, **variant: Any) -> dict[str, Any]:
    return {"title": f"Thing {sku}", "variants": [{"sku": sku, "prices": [], **variant}]}


def _upc_a() -> str:
    digits = "8" + str(uuid.uuid4().int)[-10:]
    return digits + check_digit(digits)


async def test_a_product_is_shown_as_it_was_made(admin: Channel, app: Channel) -> None:
    sku, barcode = _name(), _upc_a()
    variant = {
        "sku": sku,
        "barcode": barcode,
        "title": "Small",
        "prices": [{"amount": 1999, "currency": "JPY"}, {"amount": 1500, "currency": "USD"}],
        "tax_class": "reduced",
        "unit": "kg",
        "quantity_scale": 3,
        "weight_grams": 1000,
        "requires_shipping": False,
    }
    product = {"title": "Tee", "handle": sku.lower(), "description_html": "<b>x</b>", "vendor": "v", "kind": "k"}
    made = await admin.ok("POST", "/v1/products", {**product, "tags": ["a", "b"], "variants": [variant]})
    assert await app.ok("GET", f"/v1/products/{made['id']}") == made
    assert {name: made[name] for name in product} == product
    assert (made["tags"], made["published"]) == (["a", "b"], True)
    shown = made["variants"][0]
    assert {name: shown[name] for name in variant} == variant
    assert (shown["product_id"], shown["options"]) == (made["id"], [])
    assert (await app.ok("GET", f"/v1/variants?sku={sku.lower()}"))["data"] == [shown]


async def test_a_sku_is_one_variants_whatever_its_case(admin: Channel) -> None:
    sku = _name()
    await admin.ok("POST", "/v1/products", _product(sku))
    taken = await admin.post("/v1/products", _product(sku.upper()))
    assert _code(taken) == (409, "sku_taken")
    body = _product(_name())
    body["variants"] *= 2
    assert _code(await admin.post("/v1/products", body)) == (409, "sku_taken")


async def test_a_barcode_is_one_variants_however_long_it_is_written(admin: Channel) -> None:
    barcode = _upc_a()
    await admin.ok("POST", "/v1/products", _product(_name(), barcode=barcode))
    taken = await admin.post("/v1/products", _product(_name(), barcode=f"00{barcode}"))
    assert _code(taken) == (409, "barcode_taken")


async def test_a_handle_is_one_products(admin: Channel) -> None:
    handle = _name().lower()
    await admin.ok("POST", "/v1/products", {**_product(_name()), "handle": handle})
    assert _code(await admin.post("/v1/products", {**_product(_name()), "handle": handle})) == (409, "handle_taken")


async def test_products_of_the_same_title_get_handles_of_their_own(admin: Channel) -> None:
    made = [await admin.ok("POST", "/v1/products", {**_product(_name()), "title": "Ñandú 走"}) for _ in range(2)]
    assert made[0]["handle"] != made[1]["handle"]


@pytest.mark.parametrize(
    ("variant", "pointer"),
    [
        ({"sku": "two\nlines"}, "/variants/0/sku"),
        ({"sku": " space"}, "/variants/0/sku"),
        ({"sku": "a\u200eb"}, "/variants/0/sku"),
        ({"sku": "x" * 65}, "/variants/0/sku"),
        ({"prices": [{"amount": 1, "currency": "USD"}, {"amount": 2, "currency": "USD"}]}, "/variants/0/prices"),
        ({"prices": [{"amount": -1, "currency": "USD"}]}, "/variants/0/prices/0/amount"),
        ({"prices": [{"amount": 1, "currency": "usd"}]}, "/variants/0/prices/0/currency"),
        ({"quantity_scale": 7}, "/variants/0/quantity_scale"),
        ({"unit": "Kg"}, "/variants/0/unit"),
    ],
)
async def test_a_variant_that_could_not_be_sold_is_not_made(
    variant: Mapping[str, Any], pointer: str, admin: Channel
) -> None:
    variants = [{"sku": _name(), "prices": [], **variant}]
    answer = await admin.post("/v1/products", {"title": "Thing", "variants": variants})
    assert _code(answer) == (400, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_a_product_has_a_variant(admin: Channel) -> None:
    assert _code(await admin.post("/v1/products", {"title": "x", "variants": []})) == (400, "invalid_request")


async def test_a_misprinted_barcode_is_pointed_at(admin: Channel) -> None:
    answer = await admin.post("/v1/products", _product(_name(), barcode="4006381333932"))
    assert (_code(answer), answer.json()["errors"][0]["pointer"]) == ((422, "invalid_barcode"), "/variants/0/barcode")


async def test_a_search_finds_words_of_titles_and_beginnings_of_skus(admin: Channel, app: Channel) -> None:
    sku = _name()
    made = await admin.ok("POST", "/v1/products", {**_product(sku), "title": f"Blue Boat {sku[2:9]} 100%_x"})
    for words in (f"boat+{sku[2:9].upper()}", sku[:12].lower(), f"{sku[2:9]}+100%25_"):
        assert [each["id"] for each in (await app.ok("GET", f"/v1/products?q={words}"))["data"]] == [made["id"]], words
    for words in (sku[3:12], f"{sku[2:9]}+1000"):
        assert made["id"] not in [each["id"] for each in (await app.ok("GET", f"/v1/products?q={words}"))["data"]]


async def test_what_is_not_published_is_for_staff_alone(admin: Channel, app: Channel, till: Channel) -> None:
    sku = _name()
    made = await admin.ok("POST", "/v1/products", {**_product(sku), "published": False})
    assert _code(await app.get(f"/v1/products/{made['id']}")) == (404, "not_found")
    assert (await app.ok("GET", f"/v1/variants?sku={sku}"))["data"] == []
    assert (await app.ok("GET", f"/v1/products?q={sku}"))["data"] == []
    assert (await till.ok("GET", f"/v1/products/{made['id']}"))["published"] is False
    assert len((await till.ok("GET", f"/v1/variants?sku={sku}"))["data"]) == 1


async def test_a_scanner_finds_a_variant_by_whatever_it_reads(admin: Channel, till: Channel) -> None:
    barcode, sku = _upc_a(), _name()
    await admin.ok("POST", "/v1/products", _product(sku, barcode=barcode))
    for text in (barcode, f"0{barcode}", f"00{barcode}"):
        found = (await till.ok("GET", f"/v1/variants?barcode={text}"))["data"]
        assert [(each["sku"], each["barcode"]) for each in found] == [(sku, barcode)]
    assert (await till.ok("GET", "/v1/variants?barcode=9999999999994"))["data"] == []


@pytest.mark.parametrize(
    ("query", "status"), [("", 400), ("sku=A&barcode=4006381333931", 400), ("barcode=4006381333932", 422)]
)
async def test_a_variant_is_asked_for_in_one_way(query: str, status: int, app: Channel) -> None:
    assert (await app.get(f"/v1/variants?{query}")).status_code == status


async def test_a_file_is_brought_in_and_its_operation_tells_how_it_went(
    admin: Channel, app: Channel, channels: Channels, hub: Hub
) -> None:
    sku, place = _name(), await channels.location("S1")
    file = (
        "Handle,Title,Option1 Name,Option1 Value,Variant SKU,Variant Inventory Qty,Variant Price\n"
        f"{sku},Cup,Size,S,{sku},4,12.50\n"
        f"{sku},,,L,{sku}-L,2,no price\n"
    )
    begun = await admin.http.post(
        f"/v1/imports/products?format=shopify&currency=USD&location_id={place}",
        content=file,
        headers={"Authorization": f"Bearer {admin.key}", "Content-Type": "text/csv"},
    )
    assert (begun.status_code, begun.json()["state"]) == (202, "running")
    await housekeeping.run_imports(hub)
    done = await admin.ok("GET", f"/v1/operations/{begun.json()['id']}")
    assert (done["state"], done["rows"]["created"]) == ("succeeded", 1)
    assert [each["line"] for each in done["refused"]] == [3]
    assert (await channels.level(sku, "S1"))[0] == 4
    variant = (await app.ok("GET", f"/v1/variants?sku={sku}"))["data"][0]
    assert variant["prices"] == [{"amount": 1250, "currency": "USD"}]


@pytest.mark.parametrize(
    "query", ["", "currency=USD", "currency=usd&location_id={}", "currency=USD&location_id={}&format=x"]
)
async def test_a_file_comes_with_its_currency_and_its_place(query: str, admin: Channel, channels: Channels) -> None:
    place = await channels.location("S1")
    answer = await admin.http.post(
        f"/v1/imports/products?{query.format(place)}",
        content="Handle,Title,Variant Price\n",
        headers={"Authorization": f"Bearer {admin.key}", "Content-Type": "text/csv"},
    )
    assert _code(answer) == (400, "invalid_request")
