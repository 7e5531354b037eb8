"""Categories: a tree that products are filed in. A product may be in several.

Whoever changes the shape of the tree waits for whoever else does: two moves that are right one by one can close a
circle together, which no look at single rows would tell. Trees are small and moves are rare.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from asyncpg import Connection, Record

from commercehub.sales.errors import (
    CategoryCycle,
    CategoryNotEmpty,
    CategoryNotFound,
    CategoryTooDeep,
    HandleTaken,
    TooManyCategories,
    VersionConflict,
)

DEPTH_MAX: Final = 8
CATEGORIES_MAX: Final = 5_000


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A category on the way down from the top."""

    id: UUID
    name: str


class Category(msgspec.Struct, frozen=True, kw_only=True):
    """A category. ``path`` leads from the top to it, itself included; ``position`` orders it among its siblings."""

    id: UUID
    parent_id: UUID | None
    handle: str
    name: str
    position: int
    version: int = 1
    path: tuple[Step, ...] = ()


_CATEGORY: Final = """category.id, category.parent_id, category.handle, category.name, category.position,
       category.version,
       (WITH RECURSIVE upwards AS (
            SELECT category.id, category.name, category.parent_id, 1 AS height
            UNION ALL
            SELECT parent.id, parent.name, parent.parent_id, upwards.height + 1
            FROM upwards JOIN commercehub.categories AS parent ON parent.id = upwards.parent_id
        )
        SELECT json_agg(json_build_object('id', upwards.id, 'name', upwards.name) ORDER BY upwards.height DESC)
        FROM upwards) AS path"""

LOCK_TREE = "SELECT pg_advisory_xact_lock(hashtextextended('commercehub.categories', 2))"

READ_TREE = "SELECT id, parent_id FROM commercehub.categories"

INSERT = """
INSERT INTO commercehub.categories (id, parent_id, handle, name, position, created_at)
VALUES ($1, $2, $3, $4, $5, $6)
"""

READ = f"SELECT {_CATEGORY} FROM commercehub.categories AS category WHERE category.id = $1"

LIST = f"""
SELECT {_CATEGORY}
FROM commercehub.categories AS category
WHERE ($1::uuid IS NULL OR category.parent_id = $1) AND category.id > $2
ORDER BY category.id
LIMIT $3
"""

UPDATE = """
UPDATE commercehub.categories SET parent_id = $2, handle = $3, name = $4, position = $5, version = version + 1
WHERE id = $1
"""

DELETE = "DELETE FROM commercehub.categories WHERE id = $1"


async def create_category(db: Connection, category: Category, *, now: datetime) -> Category:
    """Add a category to the tree.

    ``CategoryNotFound`` for a parent that there is not; ``CategoryTooDeep``, ``TooManyCategories``, ``HandleTaken``.
    """
    tree = await _lock_tree(db)
    if len(tree) >= CATEGORIES_MAX:
        raise TooManyCategories
    check_place(tree, category_id=category.id, parent_id=category.parent_id)
    given = category.id, category.parent_id, category.handle, category.name, category.position
    try:
        await db.execute(INSERT, *given, now)
    except asyncpg.UniqueViolationError as error:
        raise HandleTaken(category.handle) from error
    return await read_category(db, category_id=category.id)


async def read_category(db: Connection, *, category_id: UUID) -> Category:
    """One category, or raise ``CategoryNotFound``."""
    row = await db.fetchrow(READ, category_id)
    if row is None:
        raise CategoryNotFound
    return _category(row)


async def list_categories(
    db: Connection, *, limit: int, parent_id: UUID | None = None, after_id: UUID | None = None
) -> list[Category]:
    """The categories, or those right below one, oldest first."""
    rows = await db.fetch(LIST, parent_id, after_id or UUID(int=0), limit)
    return [_category(row) for row in rows]


async def change_category(
    db: Connection, *, category_id: UUID, changes: Mapping[str, object], version: int | None = None
) -> Category:
    """Name it differently, or move it with all that is below it.

    ``CategoryNotFound``, for a new parent too; ``VersionConflict`` unless it is at ``version``; ``CategoryCycle``,
    ``CategoryTooDeep``, ``HandleTaken``.
    """
    tree = await _lock_tree(db)
    category = await read_category(db, category_id=category_id)
    if version not in {None, category.version}:
        raise VersionConflict(category.version)
    if not changes:
        return category
    changed = msgspec.structs.replace(category, **changes)
    check_place(tree, category_id=category_id, parent_id=changed.parent_id)
    given = changed.parent_id, changed.handle, changed.name, changed.position
    try:
        await db.execute(UPDATE, category_id, *given)
    except asyncpg.UniqueViolationError as error:
        raise HandleTaken(changed.handle) from error
    return await read_category(db, category_id=category_id)


async def remove_category(db: Connection, *, category_id: UUID, version: int | None = None) -> None:
    """Remove a category that none stands below; products that were in it are no longer.

    ``CategoryNotFound``; ``VersionConflict`` unless it is at ``version``; ``CategoryNotEmpty``.
    """
    tree = await _lock_tree(db)
    category = await read_category(db, category_id=category_id)
    if version not in {None, category.version}:
        raise VersionConflict(category.version)
    if category_id in tree.values():
        raise CategoryNotEmpty
    await db.execute(DELETE, category_id)


def check_place(tree: Mapping[UUID, UUID | None], *, category_id: UUID, parent_id: UUID | None) -> None:
    """Return if the category may stand below the parent, in a tree of parents by category.

    ``CategoryNotFound`` for a parent that is not in it, ``CategoryCycle``, ``CategoryTooDeep``.
    """
    above = 0
    step = parent_id
    while step is not None:
        if step == category_id:
            raise CategoryCycle
        if step not in tree:
            raise CategoryNotFound
        above += 1
        step = tree[step]
    if above + _height(tree, category_id) > DEPTH_MAX:
        raise CategoryTooDeep


def _height(tree: Mapping[UUID, UUID | None], category_id: UUID) -> int:
    """How many levels a category has, its own the first."""
    children: dict[UUID, list[UUID]] = {}
    for child_id, parent_id in tree.items():
        if parent_id is not None:
            children.setdefault(parent_id, []).append(child_id)
    height, level = 0, [category_id]
    while level:
        height += 1
        level = [child_id for each in level for child_id in children.get(each, ())]
    return height


async def _lock_tree(db: Connection) -> dict[UUID, UUID | None]:
    """The parent of each category; nobody else changes it until this transaction ends."""
    await db.execute(LOCK_TREE)
    rows: Sequence[Record] = await db.fetch(READ_TREE)
    return {row["id"]: row["parent_id"] for row in rows}


def _category(row: Record) -> Category:
    return Category(
        id=row["id"],
        parent_id=row["parent_id"],
        handle=row["handle"],
        name=row["name"],
        position=row["position"],
        version=row["version"],
        path=tuple(msgspec.json.decode(row["path"], type=list[Step])),
    )
