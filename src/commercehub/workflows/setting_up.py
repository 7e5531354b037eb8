"""The first steps in an empty hub, which no key may take yet: sales channels, rates, and the first key."""

from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from asyncpg import Connection

import inventory
from commercehub import auth, ids
from commercehub.auth import NewKey, Role
from commercehub.database import violated
from commercehub.events import Actor
from commercehub.sales.catalog import DEFAULT_PRICE_LIST

ACTOR: Final = Actor(name="cli", channel="back_office")

INSERT_CHANNEL = """
INSERT INTO commercehub.sales_channels
    (id, kind, name, brand, currency, locale, price_list, tax_included, tax_country)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""

SET_TAX_RATE = """
INSERT INTO commercehub.tax_rates (country, tax_class, rate_ppm) VALUES ($1, $2, $3)
ON CONFLICT (country, tax_class) DO UPDATE SET rate_ppm = excluded.rate_ppm
"""

SET_DELIVERY_RATE = """
INSERT INTO commercehub.delivery_rates (method, currency, amount_minor) VALUES ($1, $2, $3)
ON CONFLICT (method, currency) DO UPDATE SET amount_minor = excluded.amount_minor
"""


class ChannelTaken(Exception):
    """Another sales channel has this name."""


class ChannelMissing(Exception):
    """The shop has no sales channel of this kind."""


class LocationMissing(Exception):
    """There is no location with this code."""


async def create_channel(
    db: Connection,
    *,
    kind: str,
    name: str,
    brand: str,
    currency: str,
    locale: str,
    tax_included: bool,
    tax_country: str,
    now: datetime,
) -> UUID:
    """Open a sales channel; ``ChannelTaken`` if there is one of this name."""
    channel_id = ids.new()
    try:
        await db.execute(
            INSERT_CHANNEL,
            channel_id,
            kind,
            name,
            brand,
            currency,
            locale,
            DEFAULT_PRICE_LIST,
            int(tax_included),
            tax_country,
        )
    except asyncpg.UniqueViolationError as error:
        if violated(error) == "uq_sales_channels_name":
            raise ChannelTaken(name) from error
        raise
    changes = {"kind": kind, "currency": currency}
    await auth.write_audit(db, actor=ACTOR, action="channel.created", subject=name, changes=changes, now=now)
    return channel_id


async def create_key(db: Connection, *, role: Role, channel: str, location_code: str | None, now: datetime) -> NewKey:
    """Make a key of a channel; ``ChannelMissing`` or ``LocationMissing`` if there is no such thing."""
    sold_by = await auth.find_channel(db, kind=channel)
    if sold_by is None:
        raise ChannelMissing(channel)
    place = await inventory.find_by_code(db, code=location_code) if location_code else None
    if location_code and place is None:
        raise LocationMissing(location_code)
    key = await auth.create_key(
        db,
        sales_channel_id=sold_by.id,
        role=role,
        location_id=place.id if place else None,
        created_by=ACTOR.name,
        now=now,
    )
    changes = {"role": role.value, "channel": channel}
    subject = ids.show("key", key.id)
    await auth.write_audit(db, actor=ACTOR, action="key.created", subject=subject, changes=changes, now=now)
    return key


async def set_tax_rate(db: Connection, *, country: str, tax_class: str, rate_ppm: int, now: datetime) -> None:
    """From now on goods of the class are taxed at this rate there, in parts per million."""
    await db.execute(SET_TAX_RATE, country, tax_class, rate_ppm)
    subject, changes = f"{country} {tax_class}", {"rate_ppm": rate_ppm}
    await auth.write_audit(db, actor=ACTOR, action="tax_rate.set", subject=subject, changes=changes, now=now)


async def set_delivery_rate(db: Connection, *, method: str, currency: str, amount_minor: int, now: datetime) -> None:
    """From now on this way of delivery is offered in the currency, at this price."""
    await db.execute(SET_DELIVERY_RATE, method, currency, amount_minor)
    subject, changes = f"{method} {currency}", {"amount_minor": amount_minor}
    await auth.write_audit(db, actor=ACTOR, action="delivery_rate.set", subject=subject, changes=changes, now=now)
