"""What each role may do: one table. Whose objects it may do it to is said by ``Principal`` and by every WHERE."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class Permission(StrEnum):
    """What a route asks for. Every route declares one, or says that it is public."""

    CATALOG_READ = "catalog.read"
    CATALOG_WRITE = "catalog.write"
    AVAILABILITY_READ = "availability.read"
    STOCK_READ = "stock.read"
    STOCK_WRITE = "stock.write"
    LOCATIONS_WRITE = "locations.write"
    CARTS = "carts"
    CARTS_CURRENT = "carts.current"
    CARTS_CLAIM = "carts.claim"
    WISHLISTS = "wishlists"
    ACCOUNT = "account"
    ACCOUNT_READ = "account.read"
    SIGN_OUT = "sign_out"
    CUSTOMERS_READ = "customers.read"
    NOTES_WRITE = "notes.write"
    ORDERS_READ = "orders.read"
    ORDERS_LOOK_UP = "orders.look_up"
    ORDERS_SEARCH = "orders.search"
    ORDERS_CANCEL = "orders.cancel"
    ORDERS_PAY = "orders.pay"
    RETURNS = "returns"
    RETURNS_RECEIVE = "returns.receive"
    FULFILL = "fulfillments"
    TILL = "till"
    GIFT_CARDS_READ = "gift_cards.read"
    GIFT_CARDS_ISSUE = "gift_cards.issue"
    PAYMENTS_READ = "payments.read"
    PAYMENTS_WRITE = "payments.write"
    STAFF_SIGN_IN = "staff.sign_in"
    STAFF = "staff"
    AUDIT_READ = "audit.read"
    KEYS = "keys"
    PUBLIC = "public"


class Role(StrEnum):
    """What a key, a person or a device is for."""

    STOREFRONT = "storefront"
    TILL = "till"
    SERVICE = "service"
    FULFILLMENT = "fulfillment"
    ADMIN = "admin"
    CUSTOMER = "customer"
    GUEST = "guest"
    CASHIER = "cashier"
    PICKER = "picker"
    MANAGER = "manager"
    SUPPORT = "support"


STAFF_ROLES: Final = frozenset({Role.CASHIER, Role.PICKER, Role.MANAGER, Role.SUPPORT, Role.ADMIN})

_SHOPPING: Final = frozenset(
    {
        Permission.CATALOG_READ,
        Permission.AVAILABILITY_READ,
        Permission.CARTS,
        Permission.ORDERS_READ,
        Permission.ORDERS_PAY,
        Permission.RETURNS,
        Permission.WISHLISTS,
        Permission.GIFT_CARDS_READ,
    }
)
# A signed-in customer, on what is their own.
_CUSTOMER: Final = _SHOPPING | {
    Permission.ACCOUNT_READ,
    Permission.SIGN_OUT,
    Permission.CARTS_CURRENT,
    Permission.CARTS_CLAIM,
    Permission.ORDERS_CANCEL,
}
# Who helps customers: any order, any customer.
_HELPING: Final = _SHOPPING | {
    Permission.ACCOUNT,
    Permission.ACCOUNT_READ,
    Permission.CARTS_CURRENT,
    Permission.CARTS_CLAIM,
    Permission.CUSTOMERS_READ,
    Permission.NOTES_WRITE,
    Permission.STOCK_READ,
    Permission.ORDERS_LOOK_UP,
    Permission.ORDERS_SEARCH,
    Permission.ORDERS_CANCEL,
    Permission.PAYMENTS_READ,
    Permission.STAFF_SIGN_IN,
}
_SELLING: Final = _HELPING | {
    Permission.TILL,
    Permission.FULFILL,
    Permission.RETURNS_RECEIVE,
    Permission.GIFT_CARDS_ISSUE,
}
_WORKING: Final = frozenset(
    {
        Permission.CATALOG_READ,
        Permission.AVAILABILITY_READ,
        Permission.STOCK_READ,
        Permission.STOCK_WRITE,
        Permission.ORDERS_READ,
        Permission.ORDERS_SEARCH,
        Permission.FULFILL,
        Permission.RETURNS,
        Permission.RETURNS_RECEIVE,
        Permission.STAFF_SIGN_IN,
    }
)
_EVERYTHING: Final = frozenset(set(Permission) - {Permission.PUBLIC})
# A shift: somebody works in their own name, and signs nobody else in with it.
_SHIFT: Final = frozenset({Permission.SIGN_OUT})
_NOT_IN_A_SHIFT: Final = frozenset({Permission.STAFF_SIGN_IN})

MAY: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.STOREFRONT: _SHOPPING | {Permission.ACCOUNT, Permission.ORDERS_LOOK_UP},
    Role.CUSTOMER: _CUSTOMER,
    # Opens the one order that somebody looked up, for an hour.
    Role.GUEST: frozenset({Permission.ORDERS_READ, Permission.ORDERS_PAY, Permission.RETURNS}),
    Role.TILL: _SELLING,
    Role.SERVICE: _HELPING | {Permission.GIFT_CARDS_ISSUE},
    Role.FULFILLMENT: _WORKING,
    Role.CASHIER: (_SELLING | _SHIFT) - _NOT_IN_A_SHIFT,
    Role.PICKER: (_WORKING | _SHIFT) - _NOT_IN_A_SHIFT,
    Role.MANAGER: (_SELLING | _WORKING | _SHIFT | {Permission.PAYMENTS_WRITE, Permission.STAFF, Permission.AUDIT_READ})
    - _NOT_IN_A_SHIFT,
    Role.SUPPORT: (
        _HELPING | _SHIFT | {Permission.GIFT_CARDS_ISSUE, Permission.PAYMENTS_WRITE, Permission.RETURNS_RECEIVE}
    )
    - _NOT_IN_A_SHIFT,
    Role.ADMIN: _EVERYTHING,
}
