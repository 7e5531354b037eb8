"""Products by the thousand: a file becomes catalog and opening stock, a batch at a time, and again changes nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import inventory
from commercehub import ids
from commercehub.database import Database
from commercehub.events import Actor
from commercehub.sales import catalog, shopify
from commercehub.sales.csv_records import Refused, Source, UnreadableFile
from commercehub.sales.shopify import ProductRow, VariantRow

BATCH: Final = 500
REFUSED_MAX: Final = 1_000
"""How many refused rows are kept word for word; the rest are counted."""
TAKEN_FOR: Final = timedelta(seconds=60)

TAX_CLASS_DEFAULT: Final = "standard"
TAX_CLASS_EXEMPT: Final = "exempt"

Row = ProductRow | VariantRow | Refused


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A row that was not taken."""

    line: int
    reason: str


class Progress(msgspec.Struct, kw_only=True):
    """How far an import is. Rows are variants and refused rows; what was there already as it is counts as read only."""

    read: int = 0
    created: int = 0
    changed: int = 0
    refused: list[Refusal] = []
    refused_count: int = 0

    def refuse(self, line: int, reason: str) -> None:
        """Note a row that was not taken."""
        self.refused_count += 1
        if len(self.refused) < REFUSED_MAX:
            self.refused.append(Refusal(line=line, reason=reason))


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """What is imported: prices in one currency, and the quantities to one location."""

    currency: str
    location_id: UUID | None
    actor: Actor
    tax_class_by_kind: dict[str, str] = {}


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An import that somebody can ask after."""

    id: UUID
    state: str
    rows_read: int
    rows_created: int
    rows_changed: int
    refused: list[Refusal]
    error: str | None


OPEN = """
INSERT INTO commercehub.operations (id, kind, state, request, payload, created_at)
VALUES ($1, 'import_products', 'running', $2::jsonb, $3, $4)
"""

READ = """
SELECT id, state, rows_read, rows_created, rows_changed, refused, error
FROM commercehub.operations WHERE id = $1
"""

TAKE = """
UPDATE commercehub.operations SET taken_until = $1 + $2::interval
WHERE id = (
    SELECT id FROM commercehub.operations
    WHERE state = 'running' AND (taken_until IS NULL OR taken_until < $1)
    ORDER BY created_at
    LIMIT 1
    FOR UPDATE SKIP LOCKED
)
RETURNING id, request, payload
"""

TELL = """
UPDATE commercehub.operations
SET rows_read = $2, rows_created = $3, rows_changed = $4, refused = $5::jsonb, taken_until = $6::timestamptz + $7::interval
WHERE id = $1
"""

END = """
UPDATE commercehub.operations SET state = $2, error = $3, payload = NULL, taken_until = NULL WHERE id = $1
"""


async def open_import(db: Connection, request: Import, payload: bytes, *, now: datetime) -> UUID:
    """Write an import down for the job; returns the operation to ask after."""
    operation_id = ids.new()
    await db.execute(OPEN, operation_id, msgspec.json.encode(request).decode(), payload, now)
    return operation_id


async def read_operation(db: Connection, *, operation_id: UUID) -> Operation | None:
    """An operation as it is now."""
    row = await db.fetchrow(READ, operation_id)
    if row is None:
        return None
    return Operation(
        id=row["id"],
        state=row["state"],
        rows_read=row["rows_read"],
        rows_created=row["rows_created"],
        rows_changed=row["rows_changed"],
        refused=msgspec.json.decode(row["refused"], type=list[Refusal]),
        error=row["error"],
    )


async def run_next(database: Database) -> bool:
    """Carry out the oldest import that nobody works on. False if there is none.

    One whose worker died is taken up again after a minute, from its beginning: what is in already does not change.
    """

    async def take(db: Connection, now: datetime) -> tuple[UUID, Import, bytes] | None:
        row = await db.fetchrow(TAKE, now, TAKEN_FOR)
        return (
            (row["id"], msgspec.json.decode(row["request"], type=Import), row["payload"]) if row else None
        )

    taken = await database.transaction(take)
    if taken is None:
        return False
    operation_id, wanted, payload = taken

    async def tell(db: Connection, progress: Progress, now: datetime) -> None:
        refused = msgspec.json.encode(progress.refused).decode()
        await db.execute(
            TELL, operation_id, progress.read, progress.created, progress.changed, refused, now, TAKEN_FOR
        )

    error = None
    try:
        progress = await import_products(database, payload, wanted)
    except UnreadableFile as unreadable:
        error, progress = str(unreadable), Progress()

    async def end(db: Connection, now: datetime) -> None:
        await tell(db, progress, now)
        await db.execute(END, operation_id, "failed" if error else "succeeded", error)

    await database.transaction(end)
    return True


async def import_products(
    database: Database,
    source: Source,
    wanted: Import,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Bring a Shopify product file in, each batch in a transaction of its own. ``UnreadableFile`` if it is none.

    Products go by their handle, variants by their SKU, quantities are opening receipts: the same file sent again
    changes nothing. A row that cannot be taken is refused by its line, and the rest goes in.
    """
    progress = Progress(refused=[])
    kinds: dict[str, str] = {}
    for batch in _batches(shopify.read(source, currency=wanted.currency)):
        kinds |= {row.handle: row.kind for row in batch if isinstance(row, ProductRow)}
        taken = await database.transaction(_Batch(batch, wanted, kinds).write)
        progress.read += len([row for row in batch if not isinstance(row, ProductRow)])
        progress.created += taken.created
        progress.changed += taken.changed
        for row in batch:
            if isinstance(row, Refused):
                progress.refuse(row.line, row.reason)
        for refusal in taken.refused:
            progress.refuse(refusal.line, refusal.reason)
        on_progress(progress)
    progress.refused.sort(key=lambda refusal: refusal.line)
    return progress


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    """Lists of up to ``BATCH`` variants, every product before its first variant."""
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) >= BATCH and not isinstance(row, ProductRow):
            yield batch
            batch = []
    if batch:
        yield batch


class _Batch:
    """One batch on its way into the database; ``write`` may run again from the start."""

    def __init__(self, rows: Sequence[Row], wanted: Import, kinds: Mapping[str, str]) -> None:
        self._products = [row for row in rows if isinstance(row, ProductRow)]
        self._variants = [row for row in rows if isinstance(row, VariantRow)]
        self._wanted = wanted
        self._kinds = kinds

    async def write(self, db: Connection, now: datetime) -> Progress:
        """Write what can be taken; what belongs to somebody else already is refused."""
        taken = Progress(refused=[])
        await catalog.upsert_products(db, [self._product(row) for row in self._products], now=now)
        product_ids = await catalog.find_product_ids(db, handles=sorted({row.handle for row in self._variants}))
        rows = await self._acceptable(db, product_ids, taken)
        if not rows:
            return taken
        touched = await catalog.upsert_variants(
            db, [self._variant(row, product_ids[row.handle.lower()]) for row in rows]
        )
        kept = await catalog.find_skus(db, skus=[row.sku for row in rows])
        priced = await catalog.set_prices(
            db,
            [
                (
                    kept[row.sku.lower()].id,
                    catalog.Price(currency=self._wanted.currency, amount_minor=row.price_minor),
                )
                for row in rows
            ],
        )
        opened = await self._open_stock(db, rows, kept, now)
        created = {variant_id for variant_id, is_new in touched.items() if is_new}
        taken.created = len(created)
        taken.changed = len((touched.keys() | priced | opened) - created)
        return taken

    async def _acceptable(
        self, db: Connection, product_ids: dict[str, UUID], taken: Progress
    ) -> list[VariantRow]:
        """The rows whose SKU and barcode are free, or theirs."""
        known = await catalog.find_skus(db, skus=[row.sku for row in self._variants])
        owners = await catalog.find_barcodes(db, gtin14s=[row.gtin14 for row in self._variants if row.gtin14])
        rows = []
        for row in self._variants:
            found = known.get(row.sku.lower())
            if found is not None and found.product_id != product_ids[row.handle.lower()]:
                taken.refuse(row.line, f"SKU {row.sku!r} belongs to another product")
            elif row.gtin14 is not None and owners.get(row.gtin14, row.sku.lower()) != row.sku.lower():
                taken.refuse(row.line, f"barcode {row.barcode!r} belongs to SKU {owners[row.gtin14]!r}")
            else:
                rows.append(row)
        return rows

    async def _open_stock(
        self, db: Connection, rows: Sequence[VariantRow], kept: dict[str, catalog.Kept], now: datetime
    ) -> set[UUID]:
        if self._wanted.location_id is None:
            return set()
        openings = [
            inventory.Opening(
                sku=kept[row.sku.lower()].sku, location_id=self._wanted.location_id, quantity=row.quantity
            )
            for row in rows
            if row.quantity is not None
        ]
        opened = await inventory.open_stock(
            db, openings, actor=self._wanted.actor.name, channel=self._wanted.actor.channel, now=now
        )
        return {kept[sku.lower()].id for sku in opened}

    def _product(self, row: ProductRow) -> catalog.Product:
        return catalog.Product(
            id=ids.new(),
            handle=row.handle,
            title=row.title,
            description_html=row.description_html,
            vendor=row.vendor,
            kind=row.kind,
            tags=row.tags,
            published=row.published,
        )

    def _variant(self, row: VariantRow, product_id: UUID) -> catalog.Variant:
        return catalog.Variant(
            id=ids.new(),
            product_id=product_id,
            position=row.position,
            sku=row.sku,
            barcode=row.barcode,
            gtin14=row.gtin14,
            title=row.title,
            options=row.options,
            tax_class=self._tax_class(row),
            unit="each",
            quantity_scale=0,
            weight_grams=row.weight_grams,
            requires_shipping=row.requires_shipping,
            prices=(),
        )

    def _tax_class(self, row: VariantRow) -> str:
        if not row.taxable:
            return TAX_CLASS_EXEMPT
        return self._wanted.tax_class_by_kind.get(self._kinds.get(row.handle, ""), TAX_CLASS_DEFAULT)
