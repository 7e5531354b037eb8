"""The seeded shop on its way into an empty hub: once, and then it is left as it has become."""

import hmac
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

import inventory
import payments
from commercehub import auth, ids
from commercehub.auth import Role
from commercehub.database import Database
from commercehub.events import Actor
from commercehub.sales import promotions, search
from commercehub.sales.catalog import Variant
from commercehub.seed import CATALOG, shop
from commercehub.workflows import importing
from commercehub.workflows.importing import Import, Progress

ACTOR: Final = Actor(name="seed", channel="back_office")
VARIANTS_MAX: Final = 200


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the demo."""

    channel: str
    role: Role
    location_code: str | None = None


KEYS: Final = {
    "web": Key(channel="web", role=Role.STOREFRONT),
    "app": Key(channel="app", role=Role.STOREFRONT),
    "agent": Key(channel="agent", role=Role.STOREFRONT),
    "store": Key(channel="store", role=Role.TILL, location_code="S1"),
    "call_center": Key(channel="call_center", role=Role.SERVICE),
    "chat": Key(channel="chat", role=Role.SERVICE),
    "warehouse": Key(channel="back_office", role=Role.FULFILLMENT),
    "admin": Key(channel="back_office", role=Role.ADMIN),
}

INSERT_CHANNEL = """
INSERT INTO commercehub.sales_channels
    (id, kind, name, brand, currency, locale, price_list, tax_included, tax_country)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

INSERT_TAX_RATE = "INSERT INTO commercehub.tax_rates (country, tax_class, rate_ppm) VALUES ($1, $2, $3)"

INSERT_DELIVERY_RATE = "INSERT INTO commercehub.delivery_rates (method, currency, amount_minor) VALUES ($1, $2, $3)"

READ_CHANNELS = "SELECT kind, (array_agg(id ORDER BY name))[1] AS id FROM commercehub.sales_channels GROUP BY kind"

READ_KNOWN_KEYS = "SELECT secret_hash FROM commercehub.api_keys WHERE secret_hash = ANY ($1::bytea[])"

IS_PLANTED = "SELECT EXISTS (SELECT FROM commercehub.sales_channels)"


def demo_secret(secret: str, name: str) -> str:
    """The demo's key of a name: derived, so that each start can print it again although only its hash is stored."""
    kind = "pk" if KEYS[name].role is Role.STOREFRONT else "sk"
    return f"hub_{kind}_{hmac.new(secret.encode(), f'demo key {name}'.encode(), 'sha256').hexdigest()}"


def demo_login(secret: str, role: str) -> dict[str, str]:
    """How the demo's member of staff of a role signs in; derived, like the keys."""
    word = hmac.new(secret.encode(), f"demo staff {role}".encode(), "sha256").hexdigest()
    return {"login": role, "password": word[:20], "pin": f"{int(word[20:32], 16) % 1_000_000:06}"}


async def _tell_nobody(_: Progress) -> None:
    pass


async def plant(
    database: Database, *, secret: str, on_progress: Callable[[Progress], Awaitable[None]] = _tell_nobody
) -> bool:
    """Set the shop up in an empty hub; False if there is one already, which then knows the keys of ``secret`` too."""

    async def look(db: Connection, now: datetime) -> bool:
        is_planted: bool = await db.fetchval(IS_PLANTED)
        if is_planted:
            # A database of somebody's own outlives the folder that the secret lies in.
            await _plant_missing_keys(db, secret, now)
        return is_planted

    if await database.transaction(look):
        return False
    places = await database.transaction(_plant_places)
    await importing.import_products(
        database,
        CATALOG.read_bytes(),
        Import(
            currency=shop.CURRENCY,
            location_id=places["DC1"],
            actor=ACTOR,
            tax_class_by_kind=dict(shop.TAX_CLASSES_BY_KIND),
        ),
        on_progress=on_progress,
    )

    async def finish(db: Connection, now: datetime) -> None:
        await _stock_stores(db, places, now)
        # The channels and keys come last: an interrupted planting is begun again.
        await _plant_channels(db, secret, now)

    await _plant_staff(database, places, secret)
    await database.transaction(finish)
    return True


async def _plant_staff(database: Database, places: Mapping[str, UUID], secret: str) -> None:
    people = []
    for person in shop.STAFF:
        login = demo_login(secret, person.role)
        people.append(
            auth.Person(
                id=ids.new(),
                login=login["login"],
                name=person.name,
                role=person.role,
                location_ids=tuple(places[code] for code in person.location_codes),
                password_hash=await auth.hash_password(login["password"]),
                pin_hash=await auth.hash_password(login["pin"]),
                ended_at=None,
            )
        )

    async def work(db: Connection, now: datetime) -> None:
        for person in people:
            if await auth.find_person(db, login=person.login) is None:
                await auth.create_person(db, person, now=now)

    await database.transaction(work)


async def _plant_places(db: Connection, now: datetime) -> dict[str, UUID]:
    places = {}
    for place in shop.LOCATIONS:
        known = await inventory.find_by_code(db, code=place.code)
        if known is not None:
            places[place.code] = known.id
            continue
        places[place.code] = ids.new()
        location = inventory.Location(
            id=places[place.code],
            code=place.code,
            name=place.name,
            kind=place.kind,
            address=msgspec.to_builtins(place.address),
            latitude=place.latitude,
            longitude=place.longitude,
            timezone=place.timezone,
            capabilities=place.capabilities,
            opening_hours=msgspec.to_builtins(place.opening_hours),
            holidays=[],
            pickup_window_days=7,
        )
        await inventory.create_location(db, location, now=now)
        for name in place.registers:
            register = payments.Register(id=ids.new(), location_id=location.id, name=name)
            await payments.create_register(db, register, now=now)
    return places


async def _stock_stores(db: Connection, places: dict[str, UUID], now: datetime) -> None:
    """A store has its share of what the warehouse has, rounded up."""
    skus = [variant.sku for variant in await list_variants(db)]
    levels = await inventory.read_levels(db, skus=skus, location_ids=[places["DC1"]])
    for place in shop.LOCATIONS:
        if place.code == "DC1":
            continue
        openings = [
            inventory.Opening(
                sku=level.sku,
                location_id=places[place.code],
                quantity=-(-level.on_hand * place.stock_share_percent // 100),
            )
            for level in levels
        ]
        await inventory.open_stock(db, openings, actor=ACTOR.name, channel=ACTOR.channel, now=now)


async def _plant_channels(db: Connection, secret: str, now: datetime) -> None:
    channel_ids = {}
    for channel in shop.SALES_CHANNELS:
        channel_ids[channel.kind] = ids.new()
        await db.execute(
            INSERT_CHANNEL,
            channel_ids[channel.kind],
            channel.kind,
            channel.name,
            channel.brand,
            channel.currency,
            channel.locale,
            channel.price_list,
            int(channel.tax_included),
            channel.tax_country,
        )
    for rate in shop.TAX_RATES:
        await db.execute(INSERT_TAX_RATE, rate.country, rate.tax_class, rate.rate_ppm)
    for rate_of in shop.DELIVERY_RATES:
        await db.execute(INSERT_DELIVERY_RATE, rate_of.method, rate_of.currency, rate_of.amount_minor)
    for code, percent_off_ppm in shop.PROMOTIONS.items():
        await promotions.create_promotion(db, code=code, percent_off_ppm=percent_off_ppm, now=now)
    await _plant_keys(db, channel_ids, KEYS, secret, now)


async def _plant_keys(
    db: Connection, channel_ids: Mapping[str, UUID], names: Iterable[str], secret: str, now: datetime
) -> None:
    for name in names:
        key = KEYS[name]
        place = await inventory.find_by_code(db, code=key.location_code) if key.location_code else None
        await auth.create_key(
            db,
            sales_channel_id=channel_ids[key.channel],
            role=key.role,
            location_id=place.id if place else None,
            created_by=ACTOR.name,
            secret=demo_secret(secret, name),
            now=now,
        )


async def _plant_missing_keys(db: Connection, secret: str, now: datetime) -> None:
    hashes = {name: auth.digest(demo_secret(secret, name)) for name in KEYS}
    known = {row["secret_hash"] for row in await db.fetch(READ_KNOWN_KEYS, list(hashes.values()))}
    channel_ids = {row["kind"]: row["id"] for row in await db.fetch(READ_CHANNELS)}
    await _plant_keys(db, channel_ids, [name for name in KEYS if hashes[name] not in known], secret, now)


async def list_variants(db: Connection) -> list[Variant]:
    """The variants of the catalog, as many as the demo tells of."""
    found = await search.list_products(db, limit=VARIANTS_MAX)
    return [variant for each in found for variant in each.product.variants][:VARIANTS_MAX]
