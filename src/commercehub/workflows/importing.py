"""Products by the thousand: a file becomes catalog and opening stock, a batch at a time, and again changes nothing."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
import structlog
from asyncpg import Connection

import inventory
from commercehub import ids
from commercehub.database import Database, DatabaseUnavailable, Raced
from commercehub.events import Actor
from commercehub.sales import catalog, shopify
from commercehub.sales.csv_records import Refused, Source, UnreadableFile
from commercehub.sales.shopify import ProductRow, VariantRow

BATCH: Final = 500
REFUSED_MAX: Final = 1_000
"""How many refused rows are kept word for word; the rest are counted."""
TELL_SECONDS: Final = 2.0
TAKEN_FOR: Final = timedelta(seconds=60)

TAX_CLASS_DEFAULT: Final = "standard"
TAX_CLASS_EXEMPT: Final = "exempt"

Row = ProductRow | VariantRow | Refused

# What a little later may be over. Everything else would be the same at the next try.
_PASSING: Final = (
    DatabaseUnavailable,
    Raced,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.OperatorInterventionError,
    asyncpg.TransactionRollbackError,
)

log = structlog.get_logger()


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


# A plan made while the catalog was small reads all of it for each batch, and is kept for as long as it fills.
PLAN_ANEW = "SELECT set_config('plan_cache_mode', 'force_custom_plan', true)"


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
        return (row["id"], msgspec.json.decode(row["request"], type=Import), row["payload"]) if row else None

    taken = await database.transaction(take)
    if taken is None:
        return False
    operation_id, wanted, payload = taken
    latest, error = Progress(), None

    async def write(db: Connection, now: datetime) -> None:
        refused = msgspec.json.encode(latest.refused).decode()
        await db.execute(TELL, operation_id, latest.read, latest.created, latest.changed, refused, now, TAKEN_FOR)

    async def tell(progress: Progress) -> None:
        nonlocal latest
        latest = progress
        await database.transaction(write)

    async def end(db: Connection, now: datetime) -> None:
        await write(db, now)
        await db.execute(END, operation_id, "failed" if error else "succeeded", error)

    try:
        latest = await import_products(database, payload, wanted, on_progress=tell)
    except UnreadableFile as unreadable:
        error = str(unreadable)
    except _PASSING:
        raise  # it stays open, and is taken up again
    except Exception:
        log.exception("import.failed", operation_id=ids.show("op", operation_id))
        error = f"The hub made a mistake, which is logged. {latest.read} rows were read before it; what is in, is in."
    await database.transaction(end)
    return True


async def _tell_nobody(_: Progress) -> None:
    pass


def tell_people(say: Callable[[str], None]) -> Callable[[Progress], Awaitable[None]]:
    """Say how far it is, every two seconds: whoever waits less needs no word."""
    told_at = monotonic()

    async def tell(progress: Progress) -> None:
        nonlocal told_at
        if monotonic() - told_at >= TELL_SECONDS:
            told_at = monotonic()
            say(f"{progress.read} rows read …")

    return tell


async def import_products(
    database: Database,
    source: Source,
    wanted: Import,
    *,
    on_progress: Callable[[Progress], Awaitable[None]] = _tell_nobody,
) -> Progress:
    """Bring a Shopify product file in, each batch in a transaction of its own. ``UnreadableFile`` if it is none.

    Products go by their handle, variants by their SKU, quantities are opening receipts: the same file sent again
    changes nothing. A row that cannot be taken is refused by its line, and the rest goes in.
    """
    progress = Progress()
    kinds: dict[str, str] = {}
    unwritten: dict[str, ProductRow] = {}
    for rows in _batches(shopify.read(source, currency=wanted.currency)):
        told = {row.handle: row for row in rows if isinstance(row, ProductRow)}
        kinds |= {handle: row.kind for handle, row in told.items()}
        unwritten |= told
        batch = _Batch(rows, wanted, kinds=kinds, products=unwritten)
        taken = await database.transaction(batch.write)
        for handle in taken.handles:
            unwritten.pop(handle, None)
        progress.read += len(rows) - len(told)
        progress.created += taken.created
        progress.changed += taken.changed
        for row in rows:
            if isinstance(row, Refused):
                progress.refuse(row.line, row.reason)
        for refusal in taken.refused:
            progress.refuse(refusal.line, refusal.reason)
        await on_progress(progress)
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


class _Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch."""

    handles: frozenset[str] = frozenset()
    created: int = 0
    changed: int = 0
    refused: tuple[Refusal, ...] = ()


class _Batch:
    """One batch on its way into the database; ``write`` may run again from the start.

    ``products`` are those that no row has brought in yet: one of which every row is refused is not made.
    """

    def __init__(
        self, rows: Sequence[Row], wanted: Import, *, kinds: Mapping[str, str], products: Mapping[str, ProductRow]
    ) -> None:
        self._variants = [row for row in rows if isinstance(row, VariantRow)]
        self._wanted = wanted
        self._kinds = kinds
        self._products = products

    async def write(self, db: Connection, now: datetime) -> _Taken:
        """Write what can be taken; what belongs to somebody else already is refused."""
        await db.execute(PLAN_ANEW)
        rows, refused = await self._acceptable(db)
        if not rows:
            return _Taken(refused=refused)
        handles = frozenset(row.handle for row in rows)
        products = [self._products[handle] for handle in sorted(handles) if handle in self._products]
        await catalog.upsert_products(db, [self._product(row) for row in products], now=now)
        product_ids = await catalog.find_product_ids(db, handles=sorted(handles))
        try:
            touched = await catalog.upsert_variants(db, [self._variant(row, product_ids[row.handle]) for row in rows])
        except asyncpg.UniqueViolationError as error:
            # Somebody gave away one of the barcodes since we looked; the next look sees to whom.
            raise Raced from error
        kept = await catalog.find_skus(db, skus=[row.sku for row in rows])
        prices = [
            (
                kept[catalog.folded(row.sku)].id,
                catalog.Price(currency=self._wanted.currency, amount_minor=row.price_minor),
            )
            for row in rows
        ]
        priced = await catalog.set_prices(db, prices)
        opened = await self._open_stock(db, rows, kept, now)
        created = {variant_id for variant_id, is_new in touched.items() if is_new}
        changed = (touched.keys() | priced | opened) - created
        edited = (touched.keys() | priced) - created
        if edited:
            await catalog.count_edits(db, variant_ids=sorted(edited))
        return _Taken(handles=handles, created=len(created), changed=len(changed), refused=refused)

    async def _acceptable(self, db: Connection) -> tuple[list[VariantRow], tuple[Refusal, ...]]:
        """The rows whose SKU and barcode are free or theirs, and why not the others."""
        product_ids = await catalog.find_product_ids(db, handles=sorted({row.handle for row in self._variants}))
        known = await catalog.find_skus(db, skus=[row.sku for row in self._variants])
        owners = await catalog.find_barcodes(db, gtin14s=[row.gtin14 for row in self._variants if row.gtin14])
        rows, refused = [], []
        for row in self._variants:
            key = catalog.folded(row.sku)
            if key in known and known[key].product_id != product_ids.get(row.handle):
                refused.append(Refusal(line=row.line, reason=f"SKU {row.sku!r} belongs to another product"))
            elif row.gtin14 is not None and owners.get(row.gtin14, key) != key:
                reason = f"barcode {row.barcode!r} belongs to SKU {owners[row.gtin14]!r}"
                refused.append(Refusal(line=row.line, reason=reason))
            else:
                rows.append(row)
        return rows, tuple(refused)

    async def _open_stock(
        self, db: Connection, rows: Sequence[VariantRow], kept: dict[str, catalog.Kept], now: datetime
    ) -> set[UUID]:
        if self._wanted.location_id is None:
            return set()
        openings = [
            inventory.Opening(
                sku=kept[catalog.folded(row.sku)].sku, location_id=self._wanted.location_id, quantity=row.quantity
            )
            for row in rows
            if row.quantity is not None
        ]
        opened = await inventory.open_stock(
            db, openings, actor=self._wanted.actor.name, channel=self._wanted.actor.channel, now=now
        )
        return {kept[catalog.folded(sku)].id for sku in opened}

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
            images=tuple(catalog.Image(url=url) for url in [row.image_url] if url and url.startswith("https://")),
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
