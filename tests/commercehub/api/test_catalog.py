"""Products and variants: made, edited, found by what a scanner reads, and brought in by the file."""

import uuid
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from commercehub.jobs import housekeeping
from commercehub.sales.barcodes import check_digit
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels, Statements


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
    shown = await app.ok("GET", f"/v1/products/{made['id']}")
    assert shown["variants"][0].pop("availability") == {"available_to_ship": 0, "available_for_pickup": 0}
    assert shown == made
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


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"title": "Cap", "vendor": "w"}, ["title", "vendor"]),
        ({"tags": ["summer"], "kind": "Hat"}, ["kind", "tags"]),
        ({"description_html": "<p>Blue</p>"}, ["description_html"]),
        ({"images": [{"url": "https://img.example/1.png?w=2", "alt": "front"}]}, ["images"]),
        ({}, []),
    ],
)
async def test_what_is_edited_is_otherwise_and_the_rest_stays(
    change: Mapping[str, Any], fields: list[str], admin: Channel, app: Channel
) -> None:
    made = await admin.ok("POST", "/v1/products", _product(_name()))
    changed = await admin.ok("PATCH", f"/v1/products/{made['id']}", change)
    if "images" in change:
        change = {"images": [{"url": "https://img.example/1.png?w=2", "alt": "front", "position": 1}]}
    assert changed == {**made, **change, "version": 1 + bool(change)}
    shown = await app.ok("GET", f"/v1/products/{made['id']}")
    del shown["variants"][0]["availability"]
    assert shown == changed
    written = (await admin.ok("GET", f"/v1/audit?subject={made['id']}"))["data"][0]
    assert (written["action"], written["changes"]) == ("PATCH /v1/products/{product_id}", {"fields": fields})


async def test_two_who_edit_one_product_do_not_undo_each_other(admin: Channel) -> None:
    made = await admin.ok("POST", "/v1/products", _product(_name()))
    path, seen = f"/v1/products/{made['id']}", {"If-Match": '"1"'}
    answer = await admin.patch(path, {"title": "First"}, headers=seen)
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    assert _code(await admin.patch(path, {"title": "Second"}, headers=seen)) == (412, "version_conflict")
    variant = f"{path}/variants/{made['variants'][0]['id']}"
    assert _code(await admin.patch(variant, {"title": "Second"}, headers=seen)) == (412, "version_conflict")
    more = {"sku": _name(), "prices": []}
    assert _code(await admin.post(f"{path}/variants", more, headers=seen)) == (412, "version_conflict")
    assert (await admin.ok("PATCH", variant, {"title": "Small"}, headers={"If-Match": '"2"'}))["version"] == 3
    assert (await admin.ok("GET", path))["title"] == "First"


@pytest.mark.parametrize(
    "url",
    [
        *("http://img.example/1.png", "javascript:alert(1)", "//img.example/1.png", "https://", "https://a@b.example/"),
        *('https://img.example/"><script>', "https://img.example/a b", "https://img.example/a\n", "data:image/png,x"),
    ],
)
async def test_an_image_is_an_address_that_a_page_can_show_safely(url: str, admin: Channel) -> None:
    answer = await admin.post("/v1/products", {**_product(_name()), "images": [{"url": url}]})
    assert (_code(answer), answer.json()["errors"][0]["pointer"]) == ((400, "invalid_request"), "/images/0/url")


async def test_a_product_grows_by_a_variant(admin: Channel, app: Channel) -> None:
    first, second = _name(), _name()
    made = await admin.ok("POST", "/v1/products", _product(first))
    more = {"sku": second, "title": "Large", "prices": [{"amount": 5, "currency": "USD"}]}
    grown = await admin.ok("POST", f"/v1/products/{made['id']}/variants", more)
    assert [(each["sku"], each["title"]) for each in grown["variants"]] == [(first, None), (second, "Large")]
    assert (grown["version"], grown["variants"][1]["prices"]) == (2, more["prices"])
    assert (await app.ok("GET", f"/v1/products?q={second}"))["data"][0]["id"] == made["id"]
    assert _code(await admin.post(f"/v1/products/{made['id']}/variants", more)) == (409, "sku_taken")
    missing = await admin.post(f"/v1/products/{made['id'][:-6]}000000/variants", {"no": "body"})
    assert _code(missing) == (404, "not_found")


async def test_a_variant_has_another_barcode_from_now_on(admin: Channel, till: Channel) -> None:
    sku, first, second = _name(), _upc_a(), _upc_a()
    made = await admin.ok("POST", "/v1/products", _product(sku, barcode=first))
    path = f"/v1/products/{made['id']}/variants/{made['variants'][0]['id']}"
    await admin.ok("POST", "/v1/products", _product(_name(), barcode=second))
    assert _code(await admin.patch(path, {"barcode": second})) == (409, "barcode_taken")
    assert _code(await admin.patch(path, {"barcode": "4006381333932"})) == (422, "invalid_barcode")
    third = _upc_a()
    await admin.ok("PATCH", path, {"barcode": third})
    assert (await till.ok("GET", f"/v1/variants?barcode={first}"))["data"] == []
    assert (await till.ok("GET", f"/v1/variants?barcode={third}"))["data"][0]["sku"] == sku
    await admin.ok("PATCH", path, {"barcode": None})
    assert (await till.ok("GET", f"/v1/variants?barcode={third}"))["data"] == []


async def test_prices_are_those_of_their_list_and_the_public_sees_its_own(admin: Channel, app: Channel) -> None:
    def money(**amounts: int) -> list[dict[str, Any]]:
        return [{"amount": amount, "currency": currency} for currency, amount in amounts.items()]

    made = await admin.ok("POST", "/v1/products", _product(_name(), prices=money(EUR=9, USD=10)))
    path = f"/v1/products/{made['id']}/variants/{made['variants'][0]['id']}"
    trade = {"trade": money(USD=7)}
    changed = await admin.ok("PATCH", path, {"prices": money(JPY=1, USD=11), "price_lists": trade})
    assert changed["variants"][0]["prices"] == money(JPY=1, USD=11)
    assert changed["variants"][0]["price_lists"] == trade
    assert await admin.ok("GET", f"/v1/products/{made['id']}") == {
        **changed,
        "variants": [{**changed["variants"][0], "availability": {"available_to_ship": 0, "available_for_pickup": 0}}],
    }
    public = (await app.ok("GET", f"/v1/products/{made['id']}"))["variants"][0]
    assert (public["prices"], "price_lists" in public) == (money(JPY=1, USD=11), False)
    changed = await admin.ok("PATCH", path, {"price_lists": {"trade": []}})
    assert (changed["variants"][0]["prices"], "price_lists" in changed["variants"][0]) == (money(JPY=1, USD=11), False)
    twice = await admin.patch(path, {"price_lists": {"trade": money(USD=1) * 2}})
    assert (_code(twice), twice.json()["errors"][0]["pointer"]) == ((400, "invalid_request"), "/price_lists/trade")


@pytest.mark.parametrize("what", ["product", "variant"])
async def test_what_is_taken_off_sale_is_neither_seen_nor_sold(what: str, admin: Channel, app: Channel) -> None:
    sku = _name()
    made = await admin.ok("POST", "/v1/products", _product(sku, prices=[{"amount": 5, "currency": "USD"}]))
    cart = await app.cart({"sku": sku})
    path, change = f"/v1/products/{made['id']}", {"published": False}
    if what == "variant":
        path, change = f"{path}/variants/{made['variants'][0]['id']}", {"for_sale": False}
    await admin.ok("PATCH", path, change)
    lines = f"/v1/carts/{cart['id']}/lines"
    assert _code(await app.post(lines, {"sku": sku}, token=cart["token"])) == (422, "unknown_variant")
    seen = await app.ok("GET", f"/v1/carts/{cart['id']}", token=cart["token"])
    assert "no_price" in [problem["code"] for problem in seen["problems"]]
    assert (await app.check_out(cart, {"type": "card", "payment_method": "pm_ok"})).status_code == 422
    assert (await app.ok("GET", f"/v1/variants?sku={sku}"))["data"] == []
    assert len((await admin.ok("GET", f"/v1/variants?sku={sku}"))["data"]) == 1
    await admin.ok("PATCH", path, dict.fromkeys(change, True))
    await app.ok("POST", lines, {"sku": sku}, token=cart["token"])
    assert len((await app.ok("GET", f"/v1/products/{made['id']}"))["variants"]) == 1


async def test_another_products_variant_is_not_edited_through_this_one(admin: Channel) -> None:
    made = [await admin.ok("POST", "/v1/products", _product(_name())) for _ in range(2)]
    path = f"/v1/products/{made[0]['id']}/variants/{made[1]['variants'][0]['id']}"
    assert _code(await admin.patch(path, {"title": "x"})) == (404, "not_found")
    assert _code(await admin.patch(path, {"nonsense": 1})) == (404, "not_found")


async def test_edits_take_a_fixed_number_of_statements(admin: Channel, statements: Statements) -> None:
    made = await admin.ok("POST", "/v1/products", _product(_name()))
    path = f"/v1/products/{made['id']}"
    async with statements.counted() as seen:
        await admin.ok("PATCH", path, {"title": "Other", "category_ids": []})
    # Beside its time: lock, read, write, file, audit.
    assert len(seen) <= 6, seen
    async with statements.counted() as seen:
        await admin.ok("PATCH", f"{path}/variants/{made['variants'][0]['id']}", {"prices": [], "title": "S"})
    # Beside its time: lock, read, write, drop and set prices, count, audit.
    assert len(seen) <= 8, seen


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
