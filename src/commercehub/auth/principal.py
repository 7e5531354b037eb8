"""A verified caller, and the sales channel that it speaks through."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from commercehub import ids
from commercehub.auth.permissions import MAY, Permission, Role
from commercehub.events import Actor


class Kind(StrEnum):
    """What a credential is."""

    KEY = "key"
    CUSTOMER = "customer"
    STAFF = "staff"
    DEVICE = "device"
    ORDER = "order"
    """Whoever looked an order up by its number and their e-mail address or phone."""


_PREFIXES: Final[Mapping[Kind, str]] = {
    Kind.KEY: "key",
    Kind.CUSTOMER: "cus",
    Kind.STAFF: "staff",
    Kind.DEVICE: "dev",
    Kind.ORDER: "ord",
}
_IN_PUBLIC: Final = frozenset({Role.STOREFRONT, Role.CUSTOMER, Role.GUEST})


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
    """A verified caller. ``location_id``: the one place whose work, carts and drawers it sees; ``None`` is every place.

    ``subject_id`` is the key, the customer, the member of staff, the device or the order; ``session_id`` the sign-in.
    """

    kind: Kind = Kind.KEY
    subject_id: UUID
    role: Role
    location_id: UUID | None
    sales_channel: SalesChannel
    allowed_origins: frozenset[str]
    session_id: UUID | None = None

    @property
    def is_publishable(self) -> bool:
        """Whether the key may stand in a browser: it then opens nothing that its bearer cannot name by a token."""
        return self.role is Role.STOREFRONT

    @property
    def is_public(self) -> bool:
        """Whether it is in a shopper's hands: a publishable key, a customer, a guest. It never sees what staff sees."""
        return self.role in _IN_PUBLIC

    @property
    def customer_id(self) -> UUID | None:
        """The customer who is signed in, if it is one."""
        return self.subject_id if self.kind is Kind.CUSTOMER else None

    @property
    def order_id(self) -> UUID | None:
        """The one order that a guest looked up."""
        return self.subject_id if self.kind is Kind.ORDER else None

    @property
    def name(self) -> str:
        """The caller as it stands in timelines, movements and logs: ``key_…``, ``cus_…``, ``staff_…``, ``dev_…``."""
        return ids.show(_PREFIXES[self.kind], self.subject_id)

    def may(self, permission: Permission) -> bool:
        """Whether the role has the permission."""
        return permission is Permission.PUBLIC or permission in MAY[self.role]

    def as_actor(self) -> Actor:
        """The caller as it stands in timelines and movements."""
        return Actor(name=self.name, channel=self.sales_channel.kind, location_id=self.location_id)
