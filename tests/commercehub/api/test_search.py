"""Products found by words, in Spanish and in English, and what can be had of them."""

import uuid
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from commercehub.sales.barcodes import check_digit
from tests.client import Channel, Channels, Statements


def _word() -> str:
    """A word that no other test's product has: letters alone, which no stemmer shortens."""
    return "q" + "".join(chr(ord("g") + int(digit, 16)) for digit in uuid.uuid4().hex[:12]) + "x"


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def _make(admin: Channel, title: str, **more: Any) -> str:
    sku = more.pop("sku", None) or f"T-{uuid.uuid4().hex[:16]}"
    variant = {"sku": sku, "prices": [], **more.pop("variant", {})}
    return str((await admin.ok("POST", "/v1/products", {"title": title, "variants": [variant], **more}))["id"])


async def _find(channel: Channel, words: str, **more: str) -> list[str]:
    query = "&".join(f"{name}={quote(value)}" for name, value in {"q": words, **more}.items())
    return [each["id"] for each in (await channel.ok("GET", f"/v1/products?{query}"))["data"]]


@pytest.mark.parametrize(
    ("title", "words", "locale"),
    [
        ("Camión de madera", "camion", "es"),
        ("Camión de madera", "CAMIONES", "es-AR"),
        ("Zapatillas para niños", "zapatilla niño", "es-MX"),
        ("Zapatillas para niños", "zapatillas para el nino", "es"),
        ("Lápices de colores", "lápices color", "es"),
        ("Running shoes", "shoe run", "en"),
        ("Running shoes", "the shoes for running", "en-US"),
        ("Running shoes", "runni", "en"),
        ("Café crème 500g", "creme cafe", "en"),
        ("Straße No. 7", "strasse 7", "de"),
        ("T-Shirt", "t shirt", "en"),
    ],
)
async def test_words_are_found_in_the_language_of_whoever_asks(
    title: str, words: str, locale: str, admin: Channel, app: Channel
) -> None:
    mark = _word()
    made = await _make(admin, f"{mark} {title}")
    assert await _find(app, f"{mark} {words}", locale=locale) == [made]
    assert await _find(app, f"{mark} otherwise", locale=locale) == []


async def test_a_word_of_the_title_counts_more_than_one_of_the_description(admin: Channel, app: Channel) -> None:
    mark = _word()
    told = await _make(admin, "Bowl", description_html=f"<p class='{_word()}'>Goes with a {mark}.</p>")
    tagged = await _make(admin, "Bowl", tags=["kitchen", mark])
    titled = await _make(admin, f"A {mark}")
    exact = await _make(admin, "Bowl", sku=mark.upper())
    begun = await _make(admin, "Bowl", sku=f"{mark}-2")
    assert await _find(app, mark) == [exact, titled, tagged, told, begun]
    assert await _find(app, mark[:9]) == [titled, tagged, told, exact, begun]


async def test_mark_up_is_no_word(admin: Channel, app: Channel) -> None:
    mark, tag, entity = _word(), _word(), _word()
    made = await _make(admin, "Bowl", description_html=f"<{tag} x='1'>{mark}</{tag}>&{entity};")
    assert await _find(app, mark) == [made]
    assert await _find(app, tag) == []


async def test_what_was_edited_is_found_by_what_it_is_called_now(admin: Channel, app: Channel) -> None:
    before, after = _word(), _word()
    made = await _make(admin, before)
    await admin.ok("PATCH", f"/v1/products/{made}", {"title": after})
    assert (await _find(app, before), await _find(app, after)) == ([], [made])


async def test_a_barcode_finds_its_product(admin: Channel, app: Channel) -> None:
    digits = "8" + str(uuid.uuid4().int)[-10:]
    barcode = digits + check_digit(digits)
    made = await _make(admin, "Bowl", variant={"barcode": barcode})
    for text in (barcode, f"00{barcode}", f" {barcode} "):
        assert await _find(app, text) == [made]


@pytest.mark.parametrize(
    "words",
    [
        *(
            "%",
            "'",
            "\\",
            ":*",
            "a & | !b",
            "<->",
            "& ",
            "(",
            "the",
            "el",
            "½",
            "\ufdfa" * 100,
            "\U0001f600",
            "a" * 100,
        ),
        *(" ".join("abcdefghij" * 5), "\u0301", "\ud7ff", "x:A", '"a b"', "-x"),
    ],
)
@pytest.mark.parametrize("locale", ["en", "es"])
async def test_whatever_is_typed_is_a_question(words: str, locale: str, app: Channel) -> None:
    assert isinstance(await _find(app, words, locale=locale), list)


async def test_a_search_is_read_page_by_page_while_products_are_added(admin: Channel, app: Channel) -> None:
    mark = _word()
    made = [await _make(admin, f"{mark} {'cup ' * (4 - n // 2)}") for n in range(7)]
    seen: list[str] = []
    cursor = ""
    while True:
        page = await app.ok("GET", f"/v1/products?q={mark}+cup&limit=2{cursor}")
        seen += [each["id"] for each in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
        await _make(admin, f"{mark} cup")
    assert len(seen) == len(set(seen))
    assert [each for each in seen if each in made] == [each for each in await _find(app, f"{mark} cup") if each in made]
    assert set(made) <= set(seen)
    assert _code(await app.get("/v1/products?cursor=eHg")) == (400, "invalid_cursor")


async def test_a_result_tells_what_can_be_had_and_not_what_lies_on_a_shelf(
    channels: Channels, app: Channel, statements: Statements
) -> None:
    sku = await channels.product({"DC1": 5, "S1": 3})
    await app.get(f"/v1/products?q={sku}")
    async with statements.counted() as seen:
        found = (await app.ok("GET", f"/v1/products?q={sku}"))["data"][0]
    assert len(seen) == 2, seen
    assert found["variants"][0]["availability"] == {"available_to_ship": 8, "available_for_pickup": 3}
    one = await app.ok("GET", f"/v1/products/{found['id']}")
    assert one == found


async def test_staff_finds_what_is_not_published_and_the_public_never(admin: Channel, app: Channel) -> None:
    mark = _word()
    made = await _make(admin, mark, published=False)
    assert await _find(admin, mark, published="false") == [made]
    assert await _find(admin, mark) == await _find(app, mark) == await _find(app, mark, published="false") == []


@pytest.mark.parametrize("query", ["locale=x", "locale=ES", "q=", "category_id=cat_x", "words=x"])
async def test_a_question_that_cannot_be_read_is_refused(query: str, app: Channel) -> None:
    assert (await app.get(f"/v1/products?{query}")).status_code in {400, 404}
