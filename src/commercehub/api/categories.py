"""Categories: the tree that a shop's products are filed in."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from asyncpg import Connection
from msgspec import UNSET, Meta, UnsetType

from commercehub import ids
from commercehub.api.call import Answer, Call
from commercehub.api.fields import END, Id, Name, Page, Paging, read_cursor, write_cursor
from commercehub.api.routing import route
from commercehub.auth import Permission
from commercehub.sales import categories, words
from commercehub.sales.shopify_cells import slug

Handle = Annotated[str, Meta(min_length=1, max_length=200, pattern="^[a-z0-9][a-z0-9-]*" + END)]
Position = Annotated[int, Meta(ge=0, le=1_000_000)]


class NewCategory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A category, at the top or below another one; siblings are shown by ``position``."""

    name: Name
    handle: Handle | None = None
    parent_id: Id | None = None
    position: Position = 0


class CategoryChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be otherwise. ``parent_id`` moves it with all that is below it; ``null`` puts it at the top."""

    name: Name | UnsetType = UNSET
    handle: Handle | UnsetType = UNSET
    parent_id: Id | UnsetType | None = UNSET
    position: Position | UnsetType = UNSET


class CategorySearch(Paging, frozen=True, kw_only=True):
    """All categories, or those right below one."""

    parent_id: Id | None = None


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A category on the way down from the top."""

    id: str
    name: str


class CategoryView(msgspec.Struct, frozen=True, kw_only=True):
    """A category. ``path`` leads from the top to it, itself included."""

    id: str
    parent_id: str | None
    handle: str
    name: str
    position: int
    version: int
    path: list[StepView]


class RemovedCategory(msgspec.Struct, frozen=True, kw_only=True):
    """The category that is no more."""

    id: str


@route(
    "POST",
    "/v1/categories",
    permission=Permission.CATALOG_WRITE,
    body=NewCategory,
    answer=CategoryView,
    status=201,
    codes=("category_too_deep", "handle_taken", "too_many_categories"),
)
async def create_category(call: Call) -> Answer:
    """Add a category."""
    given = await call.read(NewCategory)
    category_id = ids.new()
    category = categories.Category(
        id=category_id,
        parent_id=call.id("cat", given.parent_id) if given.parent_id is not None else None,
        handle=given.handle
        or f"{slug(words.folded_text(given.name))[:180]}-{ids.show('c', category_id)[-8:]}".lstrip("-"),
        name=given.name,
        position=given.position,
    )

    async def work(db: Connection, now: datetime) -> CategoryView:
        return _view(await categories.create_category(db, category, now=now))

    return await call.once(work, status=201)


@route(
    "GET",
    "/v1/categories",
    permission=Permission.CATALOG_READ,
    query=CategorySearch,
    answer=Page[CategoryView],
    codes=("invalid_cursor",),
)
async def list_categories(call: Call) -> Page[CategoryView]:
    """The categories, oldest first; ``parent_id`` makes the tree of them."""
    wanted = call.query(CategorySearch)
    async with call.database.connection() as db:
        found = await categories.list_categories(
            db,
            parent_id=call.id("cat", wanted.parent_id) if wanted.parent_id is not None else None,
            after_id=read_cursor(wanted.cursor, UUID),
            limit=wanted.limit + 1,
        )
    page = found[: wanted.limit]
    return Page(
        data=[_view(category) for category in page],
        next_cursor=write_cursor(page[-1].id) if len(found) > wanted.limit else None,
    )


@route("GET", "/v1/categories/{category_id}", permission=Permission.CATALOG_READ, answer=CategoryView)
async def get_category(call: Call, category_id: UUID) -> CategoryView:
    """One category."""
    async with call.database.connection() as db:
        return _view(await categories.read_category(db, category_id=category_id))


@route(
    "PATCH",
    "/v1/categories/{category_id}",
    permission=Permission.CATALOG_WRITE,
    body=CategoryChange,
    answer=CategoryView,
    codes=("category_cycle", "category_too_deep", "handle_taken", "version_conflict"),
)
async def change_category(call: Call, category_id: UUID) -> CategoryView:
    """Name a category differently, or move it with all that is below it."""
    async with call.asking_first(lambda db: categories.read_category(db, category_id=category_id)):
        given = await call.read(CategoryChange)
    changes: dict[str, Any] = {
        name: value for name, value in msgspec.structs.asdict(given).items() if value is not UNSET
    }
    if changes.get("parent_id") is not None:
        changes["parent_id"] = call.id("cat", changes["parent_id"])

    async def work(db: Connection, _: datetime) -> CategoryView:
        changed = await categories.change_category(
            db, category_id=category_id, changes=changes, version=call.if_match()
        )
        call.audited(ids.show("cat", category_id), fields=sorted(changes))
        return _view(changed)

    return await call.transact(work)


@route(
    "DELETE",
    "/v1/categories/{category_id}",
    permission=Permission.CATALOG_WRITE,
    answer=RemovedCategory,
    codes=("category_not_empty", "version_conflict"),
)
async def remove_category(call: Call, category_id: UUID) -> RemovedCategory:
    """Remove a category that none stands below. Products that were in it stay, and are no longer in it."""

    async def work(db: Connection, _: datetime) -> RemovedCategory:
        await categories.remove_category(db, category_id=category_id, version=call.if_match())
        return RemovedCategory(id=ids.show("cat", category_id))

    return await call.transact(work)


def _view(category: categories.Category) -> CategoryView:
    return CategoryView(
        id=ids.show("cat", category.id),
        parent_id=ids.show("cat", category.parent_id) if category.parent_id is not None else None,
        handle=category.handle,
        name=category.name,
        position=category.position,
        version=category.version,
        path=[StepView(id=ids.show("cat", step.id), name=step.name) for step in category.path],
    )


ROUTES = (create_category, list_categories, get_category, change_category, remove_category)
