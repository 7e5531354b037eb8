"""Verifies credentials, remembering good and bad ones for a few seconds."""

import time
from collections import OrderedDict
from typing import Final
from uuid import UUID

import msgspec

from commercehub.auth.keys import digest
from commercehub.auth.permissions import Role
from commercehub.auth.principal import Kind, Principal, SalesChannel
from commercehub.auth.sessions import TOKEN_PREFIXES
from commercehub.database import Database

VERIFIED_SECONDS: Final = 5.0
"""How long a verified credential is remembered, and so the longest that a revoked one still works."""
VERIFIED_MAX: Final = 10_000

READ_KEY = """
SELECT 'key' AS credential, api_key.id AS subject_id, api_key.role, api_key.location_id, api_key.allowed_origins,
       NULL::uuid AS session_id,
       channel.id, channel.kind, channel.name, channel.currency, channel.locale, channel.price_list,
       channel.tax_included = 1 AS tax_included, channel.tax_country
FROM commercehub.api_keys AS api_key
JOIN commercehub.sales_channels AS channel ON channel.id = api_key.sales_channel_id
WHERE api_key.secret_hash = $1 AND (api_key.ends_at IS NULL OR api_key.ends_at > now() + $2::interval)
"""

# Whoever left, or was taken out of service, is out with all sign-ins, and so is a shift on a key or a device that was; a
# role or a place that was taken away is gone.
READ_SESSION = """
SELECT session.kind AS credential, session.subject_id,
       CASE session.kind WHEN 'customer' THEN 'customer' WHEN 'order' THEN 'guest'
                         WHEN 'staff' THEN person.role ELSE device.role END AS role,
       session.location_id, coalesce(api_key.allowed_origins, '{}') AS allowed_origins, session.id AS session_id,
       channel.id, channel.kind, channel.name, channel.currency, channel.locale, channel.price_list,
       channel.tax_included = 1 AS tax_included, channel.tax_country
FROM commercehub.sessions AS session
JOIN commercehub.sales_channels AS channel ON channel.id = session.sales_channel_id
LEFT JOIN commercehub.api_keys AS api_key ON api_key.id = session.key_id
LEFT JOIN commercehub.staff AS person ON session.kind = 'staff' AND person.id = session.subject_id
LEFT JOIN commercehub.devices AS device ON session.kind = 'device' AND device.id = session.subject_id
LEFT JOIN commercehub.devices AS begun_on ON begun_on.id = session.device_id
WHERE session.access_hash = $1 AND session.access_ends_at > now() + $2::interval
  AND CASE session.kind
      WHEN 'staff' THEN person.ended_at IS NULL AND person.id IS NOT NULL AND begun_on.ended_at IS NULL
          AND (api_key.ends_at IS NULL OR api_key.ends_at > now() + $2::interval)
          AND (cardinality(person.location_ids) = 0 OR session.location_id = ANY (person.location_ids))
      WHEN 'device' THEN device.ended_at IS NULL AND device.id IS NOT NULL
      ELSE true END
"""


class Keyring:
    """Verifies keys and tokens, remembering good and bad ones for ``verified_seconds``."""

    def __init__(self, database: Database, *, verified_seconds: float = VERIFIED_SECONDS) -> None:
        self._database = database
        self._verified_seconds = verified_seconds
        self._verified: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()

    async def verify(self, secret: str) -> Principal | None:
        """The caller that a credential belongs to, or ``None``."""
        fingerprint = digest(secret)
        known = self._verified.get(fingerprint)
        asked_at = time.monotonic()
        if known is not None and known[0] > asked_at:
            return known[1]
        statement = READ_SESSION if secret.startswith(TOKEN_PREFIXES) else READ_KEY
        async with self._database.connection() as db:
            row = await db.fetchrow(statement, fingerprint, self._database.clock_offset)
        principal = _principal(dict(row)) if row else None
        # From when it was asked, not from when it was answered: the key may have been revoked in between.
        self._verified[fingerprint] = (asked_at + self._verified_seconds, principal)
        self._verified.move_to_end(fingerprint)
        while len(self._verified) > VERIFIED_MAX:
            self._verified.popitem(last=False)
        return principal


def _principal(row: dict[str, object]) -> Principal:
    return Principal(
        kind=msgspec.convert(row.pop("credential"), Kind),
        subject_id=msgspec.convert(row.pop("subject_id"), UUID),
        role=msgspec.convert(row.pop("role"), Role),
        location_id=msgspec.convert(row.pop("location_id"), UUID | None),
        allowed_origins=frozenset(msgspec.convert(row.pop("allowed_origins"), list[str])),
        session_id=msgspec.convert(row.pop("session_id"), UUID | None),
        sales_channel=msgspec.convert(row, SalesChannel),
    )
