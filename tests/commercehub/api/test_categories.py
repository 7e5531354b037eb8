"""Categories: a tree without circles, and the products that are filed in it."""

import asyncio
import uuid
from typing import Any

import httpx

from commercehub import ids
from tests.client import Channel, Statements


def _name() -> str:
    return f"c-{uuid.uuid4().hex[:16]}"


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def _make(admin: Channel, parent: str | None = None, **more: Any) -> str:
    return str((await admin.ok("POST", "/v1/categories", {"name": _name(), "parent_id": parent, **more}))["id"])


async def _product(admin: Channel, *categories: str, **more: Any) -> str:
    body = {"title": "Thing", "variants": [{"sku": _name(), "prices": []}], "category_ids": list(categories)}
    return str((await admin.ok("POST", "/v1/products", body | more))["id"])


async def _inside(channel: Channel, category: str, more: str = "") -> list[str]:
    return [each["id"] for each in (await channel.ok("GET", f"/v1/products?category_id={category}{more}"))["data"]]


async def test_a_category_tells_the_way_from_the_top_to_it(admin: Channel, app: Channel) -> None:
    top = await admin.ok("POST", "/v1/categories", {"name": "Ropa de niños", "position": 2})
    below = await admin.ok("POST", "/v1/categories", {"name": "Camisas", "parent_id": top["id"], "handle": _name()})
    assert await app.ok("GET", f"/v1/categories/{below['id']}") == below
    assert [step["name"] for step in below["path"]] == ["Ropa de niños", "Camisas"]
    assert (top["parent_id"], top["position"], top["version"]) == (None, 2, 1)
    assert top["handle"].startswith("ropa-de-ninos-")
    assert (await app.ok("GET", f"/v1/categories?parent_id={top['id']}"))["data"] == [below]
    again = {"name": "x", "handle": below["handle"].upper().lower()}
    assert _code(await admin.post("/v1/categories", again)) == (409, "handle_taken")
    assert _code(await admin.patch(f"/v1/categories/{top['id']}", {"handle": below["handle"]})) == (409, "handle_taken")


async def test_a_category_shows_the_products_of_all_below_it(admin: Channel, app: Channel) -> None:
    top = await _make(admin)
    left, right = await _make(admin, top), await _make(admin, top)
    deep = await _make(admin, left)
    both = await _product(admin, left, right)
    lowest = await _product(admin, deep)
    unseen = await _product(admin, top, published=False)
    assert await _inside(app, top) == [both, lowest]
    assert (await _inside(app, right), await _inside(app, deep)) == ([both], [lowest])
    assert await _inside(admin, top, "&published=false") == [unseen]
    assert await _inside(app, top, "&limit=1") == [both]
    first = await app.ok("GET", f"/v1/products?category_id={top}&limit=1")
    assert await _inside(app, top, f"&cursor={first['next_cursor']}") == [lowest]
    await admin.ok("PATCH", f"/v1/categories/{deep}", {"parent_id": right})
    assert (await _inside(app, left), await _inside(app, right)) == ([both], [both, lowest])


async def test_a_product_is_in_the_categories_that_it_was_filed_in_last(admin: Channel, app: Channel) -> None:
    first, second = await _make(admin), await _make(admin)
    product = await _product(admin, first)
    changed = await admin.ok("PATCH", f"/v1/products/{product}", {"category_ids": [second, second]})
    assert (changed["category_ids"], changed["version"]) == ([second], 2)
    assert (await _inside(app, first), await _inside(app, second)) == ([], [product])
    unknown = ids.show("cat", ids.new())
    for category in (unknown, "cat_x"):
        answer = await admin.patch(f"/v1/products/{product}", {"category_ids": [category]})
        assert _code(answer) == (404, "not_found")
    assert (await app.ok("GET", f"/v1/products/{product}"))["category_ids"] == [second]


async def test_a_search_keeps_to_a_category(admin: Channel, app: Channel) -> None:
    top = await _make(admin)
    below = await _make(admin, top)
    word = "q" + "".join(chr(ord("g") + int(digit, 16)) for digit in uuid.uuid4().hex[:12])
    inside, outside = await _product(admin, below, title=word), await _product(admin, title=word)
    assert await _inside(app, top, f"&q={word}") == [inside]
    assert {each["id"] for each in (await app.ok("GET", f"/v1/products?q={word}"))["data"]} == {inside, outside}


async def test_no_category_stands_below_itself(admin: Channel) -> None:
    top = await _make(admin)
    middle = await _make(admin, top)
    lowest = await _make(admin, middle)
    for below in (top, middle, lowest):
        assert _code(await admin.patch(f"/v1/categories/{top}", {"parent_id": below})) == (409, "category_cycle")
    moved = await admin.ok("PATCH", f"/v1/categories/{lowest}", {"parent_id": None})
    assert (moved["parent_id"], len(moved["path"]), moved["version"]) == (None, 1, 2)
    unknown = {"parent_id": ids.show("cat", ids.new())}
    assert _code(await admin.patch(f"/v1/categories/{top}", unknown)) == (404, "not_found")
    assert _code(await admin.post("/v1/categories", {"name": "x", **unknown})) == (404, "not_found")


async def test_two_moves_at_once_close_no_circle(admin: Channel) -> None:
    for _ in range(5):
        one, other = await _make(admin), await _make(admin)
        answers = await asyncio.gather(
            admin.patch(f"/v1/categories/{one}", {"parent_id": other}),
            admin.patch(f"/v1/categories/{other}", {"parent_id": one}),
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]


async def test_the_tree_is_eight_deep(admin: Channel) -> None:
    branch = [await _make(admin)]
    for _ in range(7):
        branch.append(await _make(admin, branch[-1]))
    assert _code(await admin.post("/v1/categories", {"name": "x", "parent_id": branch[-1]})) == (
        422,
        "category_too_deep",
    )
    above = await _make(admin)
    assert _code(await admin.patch(f"/v1/categories/{branch[0]}", {"parent_id": above})) == (422, "category_too_deep")
    await admin.ok("PATCH", f"/v1/categories/{branch[4]}", {"parent_id": above})


async def test_a_category_goes_when_none_is_below_it_and_its_products_stay(admin: Channel, app: Channel) -> None:
    top = await _make(admin)
    below = await _make(admin, top)
    product = await _product(admin, below)
    assert _code(await admin.delete(f"/v1/categories/{top}")) == (409, "category_not_empty")
    stale = await admin.delete(f"/v1/categories/{below}", headers={"If-Match": '"7"'})
    assert _code(stale) == (412, "version_conflict")
    assert await admin.ok("DELETE", f"/v1/categories/{below}") == {"id": below}
    assert _code(await admin.delete(f"/v1/categories/{below}")) == (404, "not_found")
    assert (await app.ok("GET", f"/v1/products/{product}"))["category_ids"] == []
    await admin.ok("DELETE", f"/v1/categories/{top}")
    written = (await admin.ok("GET", f"/v1/audit?subject={below}"))["data"]
    assert [each["action"] for each in written] == ["DELETE /v1/categories/{category_id}", "POST /v1/categories"]


async def test_two_who_edit_one_category_do_not_undo_each_other(admin: Channel) -> None:
    path = f"/v1/categories/{await _make(admin)}"
    await admin.ok("PATCH", path, {"name": "First"}, headers={"If-Match": '"1"'})
    assert _code(await admin.patch(path, {"name": "x"}, headers={"If-Match": '"1"'})) == (412, "version_conflict")


async def test_the_tree_is_for_administrators_to_change(admin: Channel, app: Channel, till: Channel) -> None:
    category = await _make(admin)
    for channel in (app, till):
        assert _code(await channel.post("/v1/categories", {"name": "x"})) == (403, "forbidden")
        assert _code(await channel.patch(f"/v1/categories/{category}", {"name": "x"})) == (403, "forbidden")
        assert _code(await channel.delete(f"/v1/categories/{category}")) == (403, "forbidden")


async def test_a_category_is_listed_by_a_fixed_number_of_statements(
    admin: Channel, app: Channel, statements: Statements
) -> None:
    top = await _make(admin)
    for _ in range(3):
        await _product(admin, await _make(admin, top))
    async with statements.counted() as seen:
        assert len(await _inside(app, top)) == 3
    assert len(seen) == 2, seen
    async with statements.counted() as seen:
        await app.ok("GET", f"/v1/categories?parent_id={top}")
    assert len(seen) == 1, seen
