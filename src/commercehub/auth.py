"""Who calls: API keys, what their roles may do, and a short memory of keys that were verified."""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from asyncpg import Connection

from commercehub import ids
from commercehub.database import Database
from commercehub.events import Actor

VERIFIED_SECONDS: Final = 5.0
"""How long a verified key is remembered, and so the longest that a revoked one still works."""
VERIFIED_MAX: Final = 10_000
SECRET_BYTES: Final = 32


class Permission(StrEnum):
    """What a route asks for. Every route declares one, or says that it is public."""

    CATALOG_READ = "catalog.read"
    CATALOG_WRITE = "catalog.write"
    AVAILABILITY_READ = "availability.read"
    STOCK_READ = "stock.read"
    STOCK_WRITE = "stock.write"
    LOCATIONS_WRITE = "locations.write"
    CARTS = "carts"
    ORDERS_READ = "orders.read"
    ORDERS_SEARCH = "orders.search"
    ORDERS_CANCEL = "orders.cancel"
    FULFILL = "fulfillments"
    TILL = "till"
    PAYMENTS_READ = "payments.read"
    KEYS = "keys"
    PUBLIC = "public"


class Role(StrEnum):
    """What a key is for."""

    STOREFRONT = "storefront"
    TILL = "till"
    SERVICE = "service"
    FULFILLMENT = "fulfillment"
    ADMIN = "admin"


_SHOPPING: Final = {
    Permission.CATALOG_READ,
    Permission.AVAILABILITY_READ,
    Permission.CARTS,
    Permission.ORDERS_READ,
}
_HELPING: Final = _SHOPPING | {
    Permission.STOCK_READ,
    Permission.ORDERS_SEARCH,
    Permission.ORDERS_CANCEL,
    Permission.PAYMENTS_READ,
}

MAY: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.STOREFRONT: frozenset(_SHOPPING),
    Role.TILL: frozenset(_HELPING | {Permission.TILL, Permission.FULFILL}),
    Role.SERVICE: frozenset(_HELPING),
    Role.FULFILLMENT: frozenset(
        {
            Permission.CATALOG_READ,
            Permission.AVAILABILITY_READ,
            Permission.STOCK_READ,
            Permission.STOCK_WRITE,
            Permission.ORDERS_READ,
            Permission.ORDERS_SEARCH,
            Permission.FULFILL,
        }
    ),
    Role.ADMIN: frozenset(set(Permission) - {Permission.PUBLIC}),
}


class SalesChannel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of the shop: what a cart made through it looks like."""

    id: UUID
    kind: str
    name: str
    currency: str
    locale: str
    price_list: str
    tax_included: bool
    tax_country: str


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """A verified caller. ``location_id``: the one place whose work, carts and drawers it sees; ``None`` is every place."""

    key_id: UUID
    role: Role
    location_id: UUID | None
    sales_channel: SalesChannel
    allowed_origins: frozenset[str]

    @property
    def is_publishable(self) -> bool:
        """Whether the key may stand in a browser: it then opens nothing that its bearer cannot name by a token."""
        return self.role is Role.STOREFRONT

    def may(self, permission: Permission) -> bool:
        """Whether the role has the permission."""
        return permission is Permission.PUBLIC or permission in MAY[self.role]

    def as_actor(self) -> Actor:
        """The caller as it stands in timelines and movements."""
        return Actor(name=ids.show("key", self.key_id), channel=self.sales_channel.kind, location_id=self.location_id)


class NewKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key just made. ``secret`` is shown here and never again."""

    id: UUID
    secret: str


INSERT_KEY = """
INSERT INTO commercehub.api_keys
    (id, sales_channel_id, role, location_id, secret_hash, allowed_origins, created_at, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

END_KEY = """
UPDATE commercehub.api_keys SET ends_at = $2
WHERE id = $1 AND (ends_at IS NULL OR ends_at > $2)
RETURNING id
"""

READ_CHANNEL = """
SELECT id, kind, name, currency, locale, price_list, tax_included = 1 AS tax_included, tax_country
FROM commercehub.sales_channels
WHERE kind = $1
ORDER BY name
LIMIT 1
"""

READ_KEY = """
SELECT api_key.id AS key_id, api_key.role, api_key.location_id, api_key.allowed_origins,
       channel.id, channel.kind, channel.name, channel.currency, channel.locale, channel.price_list,
       channel.tax_included = 1 AS tax_included, channel.tax_country
FROM commercehub.api_keys AS api_key
JOIN commercehub.sales_channels AS channel ON channel.id = api_key.sales_channel_id
WHERE api_key.secret_hash = $1 AND (api_key.ends_at IS NULL OR api_key.ends_at > now() + $2::interval)
"""


async def create_key(
    db: Connection,
    *,
    sales_channel_id: UUID,
    role: Role,
    location_id: UUID | None,
    created_by: str,
    now: datetime,
    allowed_origins: frozenset[str] = frozenset(),
    secret: str | None = None,
) -> NewKey:
    """Make a key. Only its SHA-256 is stored: 256 random bits need no slow hash. A ``secret`` is given by demos only."""
    kind = "pk" if role is Role.STOREFRONT else "sk"
    key = NewKey(id=ids.new(), secret=secret or f"hub_{kind}_{secrets.token_urlsafe(SECRET_BYTES)}")
    await db.execute(
        INSERT_KEY,
        key.id,
        sales_channel_id,
        role.value,
        location_id,
        digest(key.secret),
        sorted(allowed_origins),
        now,
        created_by,
    )
    return key


async def revoke_key(db: Connection, *, key_id: UUID, now: datetime) -> bool:
    """End a key; within ``VERIFIED_SECONDS`` no process takes it any more. False if there is none that works."""
    return await db.fetchval(END_KEY, key_id, now) is not None


async def find_channel(db: Connection, *, kind: str) -> SalesChannel | None:
    """The shop's sales channel of a kind; the first by name if it has several."""
    row = await db.fetchrow(READ_CHANNEL, kind)
    return msgspec.convert(dict(row), SalesChannel) if row else None


def digest(secret: str) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).digest()


class Keyring:
    """Verifies keys, remembering good and bad ones for ``verified_seconds``."""

    def __init__(self, database: Database, *, verified_seconds: float = VERIFIED_SECONDS) -> None:
        self._database = database
        self._verified_seconds = verified_seconds
        self._verified: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()

    async def verify(self, secret: str) -> Principal | None:
        """The caller that a key belongs to, or ``None``."""
        fingerprint = digest(secret)
        known = self._verified.get(fingerprint)
        asked_at = time.monotonic()
        if known is not None and known[0] > asked_at:
            return known[1]
        async with self._database.connection() as db:
            row = await db.fetchrow(READ_KEY, fingerprint, self._database.clock_offset)
        principal = _principal(dict(row)) if row else None
        # From when it was asked, not from when it was answered: the key may have been revoked in between.
        self._verified[fingerprint] = (asked_at + self._verified_seconds, principal)
        self._verified.move_to_end(fingerprint)
        while len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return principal


def _principal(row: dict[str, object]) -> Principal:
    return Principal(
        key_id=msgspec.convert(row.pop("key_id"), UUID),
        role=msgspec.convert(row.pop("role"), Role),
        location_id=msgspec.convert(row.pop("location_id"), UUID | None),
        allowed_origins=frozenset(msgspec.convert(row.pop("allowed_origins"), list[str])),
        sales_channel=msgspec.convert(row, SalesChannel),
    )
