"""Product files from real shops, whole and as they are; the same file again changes nothing."""

import asyncio
import csv
import io
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from commercehub.app import open_hub
from commercehub.database import DatabaseUnavailable
from commercehub.events import Actor
from commercehub.jobs import housekeeping
from commercehub.sales import catalog, shopify
from commercehub.sales.csv_records import UnreadableFile
from commercehub.seed import CATALOG
from commercehub.settings import Settings
from commercehub.workflows import importing
from commercehub.workflows.importing import Import, Progress
from commercehub.workflows.parts import Hub
from tests.client import Channel, Channels
from tests.serving import findings

REAL = Path(__file__).parents[4] / "shared" / "data"
FILES = [*(REAL / f"shopify-{name}.csv" for name in ("apparel", "home-and-garden", "books")), CATALOG]
ACTOR = Actor(name="a test", channel="back_office")
HEADING = ("Handle", "Title", "Option1 Name", "Option1 Value", "Variant SKU", "Variant Price", "Variant Barcode")
MANY_SECONDS_MAX = 20

READ_PRODUCTS = """
SELECT handle, title, description_html, vendor, kind, tags, published FROM commercehub.products WHERE handle = ANY ($1)
"""
READ_VARIANTS = """
SELECT variant.sku, variant.barcode, variant.gtin14, variant.title, variant.weight_grams, variant.requires_shipping,
       variant.tax_class, variant.position, product.handle, price.amount_minor, position.on_hand
FROM commercehub.variants AS variant
JOIN commercehub.products AS product ON product.id = variant.product_id
JOIN commercehub.prices AS price ON price.variant_id = variant.id AND price.currency = 'USD'
LEFT JOIN inventory.positions AS position ON position.sku = variant.sku AND position.location_id = $2
WHERE product.handle = ANY ($1)
"""
# A row that is written anew has another place or another xmin.
SNAPSHOT = " UNION ALL ".join(
    f"SELECT '{table}' AS name, ctid::text || ' ' || xmin::text AS row FROM {table}"
    for table in (
        *("commercehub.products", "commercehub.variants", "commercehub.prices"),
        *("inventory.positions", "inventory.movements", "inventory.opening_receipts"),
    )
)


@pytest.fixture(scope="module")
def own_url(make_database: Callable[[str], str]) -> str:
    return make_database("importing")


@pytest.fixture(scope="module")
async def shop(own_url: str, settings: Settings) -> AsyncIterator["Shop"]:
    """A hub whose catalog only these tests import into."""
    async with open_hub(Settings(database_url=own_url, secret=settings.secret)) as hub:
        async with hub.database.connection() as db:
            place = await db.fetchval("SELECT id FROM inventory.locations WHERE code = 'DC1'")
        yield Shop(hub, place)


class Shop:
    def __init__(self, hub: Hub, place: uuid.UUID) -> None:
        self.hub, self.place = hub, place
        self.wanted = Import(currency="USD", location_id=place, actor=ACTOR)

    async def take(self, source: Any, **options: Any) -> Progress:
        return await importing.import_products(self.hub.database, source, self.wanted, **options)

    async def variants(self, *handles: str) -> dict[str, Any]:
        async with self.hub.database.connection() as db:
            return {row["sku"]: row for row in await db.fetch(READ_VARIANTS, list(handles), self.place)}

    async def products(self, *handles: str) -> dict[str, Any]:
        async with self.hub.database.connection() as db:
            return {row["handle"]: row for row in await db.fetch(READ_PRODUCTS, list(handles))}

    async def snapshot(self) -> Counter[tuple[str, str]]:
        async with self.hub.database.connection() as db:
            return Counter((row["name"], row["row"]) for row in await db.fetch(SNAPSHOT))


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def file(request: pytest.FixtureRequest) -> bytes:
    path: Path = request.param
    return path.read_bytes() if path.is_file() else pytest.skip(f"{path} is not on this machine")


async def test_every_price_barcode_and_quantity_of_a_real_file_arrives(file: bytes, shop: Shop) -> None:
    """By Python's own reader, which knows nothing of ours. Rows without a price are pictures; one book has no handle."""
    progress = await shop.take(file)
    assert progress.refused == []
    rows = [row for row in csv.DictReader(io.StringIO(file.decode("utf-8-sig"))) if row["Variant Price"]]
    assert progress.read == len(rows)
    wanted = Counter(
        (
            row["Handle"].lower() or "-".join(re.findall(r"[^\W_]+", row["Title"].lower())),
            round(float(row["Variant Price"]) * 100),
            (row.get("Variant Barcode") or "").lstrip("'") or None,
            int(row.get("Variant Inventory Qty") or 0),
        )
        for row in rows
    )
    found = await shop.variants(*{handle for handle, *_ in wanted})
    assert wanted == Counter(
        (each["handle"], each["amount_minor"], each["barcode"], each["on_hand"] or 0) for each in found.values()
    )
    given = {row["Variant SKU"].lstrip("'") for row in rows if row.get("Variant SKU")}
    assert given <= found.keys()


async def test_every_product_and_variant_arrives_as_it_was_read(file: bytes, shop: Shop) -> None:
    await shop.take(file)
    read = list(shopify.read(file, currency="USD"))
    products = {row.handle: row for row in read if isinstance(row, shopify.ProductRow)}
    variants = [row for row in read if isinstance(row, shopify.VariantRow)]
    kept = await shop.products(*products)
    for handle, row in products.items():
        for name in ("title", "description_html", "vendor", "kind", "published"):
            assert kept[handle][name] == getattr(row, name)
        assert tuple(kept[handle]["tags"]) == row.tags
    found = await shop.variants(*products)
    for each in variants:
        for name in ("handle", "position", "barcode", "gtin14", "title", "weight_grams", "requires_shipping"):
            assert found[each.sku][name] == getattr(each, name)
        assert found[each.sku]["amount_minor"] == each.price_minor
        assert (found[each.sku]["tax_class"] == "exempt") == (not each.taxable)


async def test_a_second_run_changes_nothing_to_the_last_row_version(file: bytes, shop: Shop) -> None:
    await shop.take(file)
    before = await shop.snapshot()
    again = await shop.take(file)
    assert (again.created, again.changed, again.refused) == (0, 0, [])
    assert await shop.snapshot() == before
    async with shop.hub.database.connection() as db:
        assert await findings(db) == []


async def test_a_file_may_come_as_an_open_file_too(shop: Shop) -> None:
    with CATALOG.open("rb") as source:
        progress = await shop.take(source)
    assert (progress.read, progress.created) == (120, 0)


async def test_a_bad_row_is_refused_by_its_line_and_the_rest_goes_in(shop: Shop) -> None:
    progress = await shop.take(
        _file(
            ("bad-tee", "Bad tee", "Size", "S", "BAD-S", "19.99", ""),
            ("bad-tee", "", "", "M", "BAD-M", "cheap", ""),
            ("bad-tee", "", "", "L", "BAD-L", "19.99", "4006381333932"),
            ("bad-tee", "", "", "XL", "BAD-XL", "19.99", ""),
        )
    )
    assert (progress.read, progress.created, progress.refused_count) == (4, 2, 2)
    assert [refusal.line for refusal in progress.refused] == [3, 4]
    assert "cheap" in progress.refused[0].reason
    assert (await shop.variants("bad-tee")).keys() == {"BAD-S", "BAD-XL"}


async def test_a_price_that_changed_is_changed_and_counted(shop: Shop) -> None:
    await shop.take(_file(("priced", "Priced", "", "", "PRICED", "10.00", "")))
    progress = await shop.take(_file(("priced", "Priced", "", "", "priced", "11.50", "")))
    assert (progress.created, progress.changed) == (0, 1)
    assert (await shop.variants("priced"))["PRICED"]["amount_minor"] == 1_150


async def test_a_quantity_is_received_once_whatever_the_file_says_later(shop: Shop) -> None:
    heading = (*HEADING, "Variant Inventory Qty")
    for quantity in ("7", "9", "0", "7"):
        await shop.take(_file(("once", "Once", "", "", "ONCE", "10.00", "", quantity), heading=heading))
    assert (await shop.variants("once"))["ONCE"]["on_hand"] == 7


async def test_a_sku_of_another_product_is_refused_and_that_product_left_alone(shop: Shop) -> None:
    await shop.take(_file(("first", "First", "", "", "SHARED", "10.00", "")))
    progress = await shop.take(
        _file(("second", "Second", "", "", "shared", "99.00", ""), ("third", "Third", "", "", "THIRD", "1.00", ""))
    )
    assert [(each.line, each.reason) for each in progress.refused] == [(2, "SKU 'shared' belongs to another product")]
    assert (progress.created, progress.changed) == (1, 0)
    assert (await shop.variants("first"))["SHARED"]["amount_minor"] == 1_000


async def test_a_product_of_which_every_row_is_refused_is_not_made(shop: Shop) -> None:
    await shop.take(_file(("owner", "Owner", "", "", "OWNED", "10.00", "")))
    await shop.take(_file(("nobody", "Nobody", "", "", "OWNED", "10.00", "")))
    assert await shop.products("nobody") == {}
    await shop.take(_file(("nobody", "Nobody", "", "", "OF-ITS-OWN", "10.00", "")))
    assert (await shop.products("nobody"))["nobody"]["title"] == "Nobody"


async def test_a_barcode_of_another_sku_is_refused_by_name(shop: Shop) -> None:
    await shop.take(_file(("barred", "Barred", "", "", "BARRED", "10.00", "4006381333931")))
    progress = await shop.take(_file(("thief", "Thief", "", "", "THIEF", "10.00", "4006381333931")))
    assert [each.reason for each in progress.refused] == ["barcode '4006381333931' belongs to SKU 'barred'"]


async def test_a_barcode_that_is_given_away_while_we_look_is_refused_too(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.take(_file(("faster", "Faster", "", "", "FASTER", "10.00", "9780553380958")))
    looks: list[int] = []
    look = catalog.find_barcodes

    async def blind_once(*arguments: Any, **options: Any) -> dict[str, str]:
        looks.append(1)
        return {} if len(looks) == 1 else await look(*arguments, **options)

    monkeypatch.setattr(catalog, "find_barcodes", blind_once)
    progress = await shop.take(
        _file(("slower", "Slower", "", "", "SLOWER", "10.00", "9780553380958"), ("x", "X", "", "", "X-1", "1.00", ""))
    )
    assert (len(looks), progress.created, [each.line for each in progress.refused]) == (2, 1, [2])


@pytest.mark.parametrize("sku", ["ΟΔΥΣΣΕΥΣ", "İSTANBUL-1", "STRASSE-ß", "ǅ"])
async def test_a_sku_in_any_alphabet_arrives_and_is_found_again(sku: str, shop: Shop) -> None:
    handle = f"abc-{uuid.uuid4().hex}"
    first = await shop.take(_file((handle, "A", "", "", sku, "10.00", "")))
    again = await shop.take(_file((handle, "A", "", "", sku, "10.00", "")))
    assert (first.created, first.refused, again.created, again.changed) == (1, [], 0, 0)
    assert list(await shop.variants(handle)) == [sku]


async def test_a_product_whose_rows_fall_into_two_batches_arrives_whole(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 2)
    await shop.take(_file(("taken", "Taken", "", "", "TAKEN", "1.00", "")))
    progress = await shop.take(
        _file(
            ("long", "Long", "Size", "1", "TAKEN", "1.00", ""),
            *(("long", "", "", str(size), f"LONG-{size}", "1.00", "") for size in range(2, 8)),
        )
    )
    assert (progress.created, progress.refused_count) == (6, 1)
    assert (await shop.products("long"))["long"]["title"] == "Long"
    assert (await shop.variants("long")).keys() == {f"LONG-{size}" for size in range(2, 8)}


async def test_progress_is_told_after_each_batch(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH", 3)
    told: list[tuple[int, int]] = []

    async def tell(progress: Progress) -> None:
        told.append((progress.read, progress.created))

    await shop.take(
        _file(*((f"told-{i}", "Told", "", "", f"TOLD-{i}", "1.00", "") for i in range(7))), on_progress=tell
    )
    assert told[-1] == (7, 7)
    assert len(told) >= 3
    assert told == sorted(told)


async def test_a_person_is_told_how_far_it_is_every_two_seconds_and_not_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = iter([0.0, 1.9, 2.1, 2.1, 2.2, 4.2, 4.2])
    monkeypatch.setattr(importing, "monotonic", lambda: next(clock))
    tell = importing.tell_people(said.append)
    for read in (500, 1_000, 1_500, 2_000):
        await tell(Progress(read=read))
    assert said == ["1000 rows read …", "2000 rows read …"]


async def test_ten_thousand_rows_take_seconds_and_again_fewer(
    shop: Shop, record_testsuite_property: Callable[[str, object], None]
) -> None:
    rows = [
        (
            f"many-{i // 4}",
            f"Many {i // 4}" if i % 4 == 0 else "",
            "Size",
            str(i % 4),
            f"MANY-{i}",
            "9.99",
            _gtin(i),
            "5",
        )
        for i in range(10_000)
    ]
    file = _file(*rows, heading=(*HEADING, "Variant Inventory Qty"))
    begun = time.monotonic()
    first = await shop.take(file)
    first_seconds = time.monotonic() - begun
    again = await shop.take(file)
    again_seconds = time.monotonic() - begun - first_seconds
    record_testsuite_property("10,000 rows", f"{first_seconds:.1f} s, again {again_seconds:.1f} s")
    assert (first.created, first.refused_count, again.created, again.changed) == (10_000, 0, 0, 0)
    assert max(first_seconds, again_seconds) < MANY_SECONDS_MAX
    async with shop.hub.database.connection() as db:
        assert await findings(db) == []


async def test_what_is_no_product_file_is_refused_as_a_whole(shop: Shop) -> None:
    for source in (b"", b"a,b\n1,2\n", b"\xff\xfe"):
        with pytest.raises(UnreadableFile):
            await shop.take(source)


# The job and its endpoint.


async def test_a_file_sent_to_the_api_is_brought_in_by_the_job_and_can_be_asked_after(
    channels: Channels, hub: Hub, api: httpx.AsyncClient
) -> None:
    sku = f"SENT-{uuid.uuid4().hex[:8]}"
    file = _file((sku, "Sent", "", "", sku, "12.00", ""), (sku, "", "", "", f"{sku}-2", "dear", ""))
    begun = await _send(api, channels, file)
    assert (begun.status_code, begun.json()["state"]) == (202, "running")
    await housekeeping.run_imports(hub)
    operation = await channels["admin"].ok("GET", f"/v1/operations/{begun.json()['id']}")
    assert (operation["state"], operation["rows"]) == ("succeeded", {"read": 2, "created": 1, "changed": 0})
    assert [refusal["line"] for refusal in operation["refused"]] == [3]
    found = await channels["app"].ok("GET", f"/v1/products?q={sku}")
    assert [variant["sku"] for product in found["data"] for variant in product["variants"]] == [sku]


async def test_the_same_key_begins_no_second_import(channels: Channels, hub: Hub, api: httpx.AsyncClient) -> None:
    file, key = _file(("keyed", "Keyed", "", "", f"K-{uuid.uuid4().hex[:8]}", "1.00", "")), str(uuid.uuid4())
    first, again = [await _send(api, channels, file, key=key) for _ in range(2)]
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["idempotent-replayed"] == "true"
    other = await _send(api, channels, _file(("other", "Other", "", "", "OTHER-1", "1.00", "")), key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    await housekeeping.run_imports(hub)


async def test_a_file_sent_twice_is_two_operations_and_the_second_changes_nothing(
    channels: Channels, hub: Hub, api: httpx.AsyncClient
) -> None:
    file = CATALOG.read_bytes()
    begun = [(await _send(api, channels, file)).json()["id"] for _ in range(2)]
    await housekeeping.run_imports(hub)
    second = await channels["admin"].ok("GET", f"/v1/operations/{begun[1]}")
    assert (second["state"], second["rows"]) == ("succeeded", {"read": 120, "created": 0, "changed": 0})


async def test_what_cannot_be_imported_is_refused_at_once(
    channels: Channels, app: Channel, api: httpx.AsyncClient
) -> None:
    file = _file(("a", "A", "", "", "A-1", "1.00", ""))
    unreadable = await _send(api, channels, b"a,b\n1,2\n")
    assert (unreadable.status_code, unreadable.json()["code"]) == (422, "unreadable_file")
    nowhere = await _send(api, channels, file, place="loc_01h455vb4pex5vsknk084sn02q")
    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    stranger = await _send(api, channels, file, channel="app")
    assert (stranger.status_code, stranger.json()["code"]) == (403, "forbidden")
    assert (await app.get("/v1/operations/op_01h455vb4pex5vsknk084sn02q")).status_code == 403
    unknown = await channels["admin"].get("/v1/operations/op_01h455vb4pex5vsknk084sn02q")
    assert unknown.status_code == 404


async def test_how_far_an_import_is_can_be_seen_while_it_runs(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BATCH", 5)
    operation_id = await _open(shop, *(f"SEEN-{i}" for i in range(60)))
    running = asyncio.create_task(importing.run_next(shop.hub.database))
    seen = set()
    while not running.done():
        operation = await _read(shop, operation_id)
        seen.add((operation.state, operation.rows_read))
        await asyncio.sleep(0)
    assert any(state == "running" and 0 < read < 60 for state, read in seen)
    assert (await _read(shop, operation_id)).state == "succeeded"


async def test_an_import_whose_worker_died_is_taken_up_from_its_beginning_a_minute_later(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH", 5)
    skus = [f"DIED-{uuid.uuid4().hex[:6]}-{i}" for i in range(20)]
    operation_id = await _open(shop, *skus)
    dying = asyncio.create_task(importing.run_next(shop.hub.database))
    while (await _read(shop, operation_id)).rows_read == 0:
        await asyncio.sleep(0)
    dying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dying
    assert not await importing.run_next(shop.hub.database), "somebody may still work on it"
    async with shop.hub.database.connection() as db:
        await db.execute("UPDATE commercehub.operations SET taken_until = now() - interval '1 second'")
    assert await importing.run_next(shop.hub.database)
    operation = await _read(shop, operation_id)
    assert (operation.state, operation.rows_read, operation.rows_changed) == ("succeeded", 20, 0)
    assert (await shop.variants(*(sku.lower() for sku in skus))).keys() == set(skus)


async def test_an_import_that_meets_a_mistake_of_ours_fails_and_says_so(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation_id = await _open(shop, "MISTAKE-1")

    async def stumble(*_: Any, **__: Any) -> Any:
        raise KeyError("a mistake")

    monkeypatch.setattr(catalog, "set_prices", stumble)
    assert await importing.run_next(shop.hub.database)
    operation = await _read(shop, operation_id)
    assert (operation.state, "logged" in (operation.error or "")) == ("failed", True)
    assert await shop.variants("mistake-1") == {}


@pytest.mark.parametrize("passing", [DatabaseUnavailable("gone"), asyncpg.DeadlockDetectedError("again")], ids=str)
async def test_an_import_that_meets_what_passes_stays_open(
    passing: Exception, shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation_id = await _open(shop, "PASSES-1")

    async def pass_by(*_: Any, **__: Any) -> Any:
        raise passing

    with monkeypatch.context() as patched:
        patched.setattr(catalog, "set_prices", pass_by)
        with pytest.raises(type(passing)):
            await importing.run_next(shop.hub.database)
    assert (await _read(shop, operation_id)).state == "running"
    async with shop.hub.database.connection() as db:
        await db.execute("UPDATE commercehub.operations SET taken_until = NULL")
    await housekeeping.run_imports(shop.hub)
    assert (await _read(shop, operation_id)).state == "succeeded"


def _file(*rows: Iterable[str], heading: Iterable[str] = HEADING) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([heading, *rows])
    return out.getvalue().encode()


def _gtin(number: int) -> str:
    digits = f"29{number:010}"
    total = sum(int(digit) * (3 if position % 2 else 1) for position, digit in enumerate(digits))
    return digits + str(-total % 10)


async def _open(shop: Shop, *skus: str) -> uuid.UUID:
    file = _file(*((sku.lower(), "A", "", "", sku, "1.00", "") for sku in skus))

    async def work(db: Any, now: Any) -> uuid.UUID:
        return await importing.open_import(db, shop.wanted, file, now=now)

    return await shop.hub.database.transaction(work)


async def _read(shop: Shop, operation_id: uuid.UUID) -> importing.Operation:
    async with shop.hub.database.connection() as db:
        operation = await importing.read_operation(db, operation_id=operation_id)
    assert operation is not None
    return operation


async def _send(
    api: httpx.AsyncClient,
    channels: Channels,
    file: bytes,
    *,
    key: str | None = None,
    place: str | None = None,
    channel: str = "admin",
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {channels[channel].key}", "Content-Type": "text/csv"}
    headers["Idempotency-Key"] = key or str(uuid.uuid4())
    place = place or await channels.location("DC1")
    path = f"/v1/imports/products?format=shopify&currency=USD&location_id={place}"
    return await api.post(path, content=file, headers=headers)
