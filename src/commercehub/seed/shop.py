"""Thistle & Oar, a retailer that does not exist, with one warehouse and three stores in Texas.

The cities, their positions and their postal codes are real, so that distances mean something. The streets are not, and
the taxes are for show.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

CURRENCY: Final = "USD"
COUNTRY: Final = "US"
PRICE_LIST: Final = "default"

TAX_CLASS_DEFAULT: Final = "standard"


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where a place is, in the fields of the API."""

    name: str
    line1: str
    city: str
    region: str
    postal_code: str
    country: str


class Location(msgspec.Struct, frozen=True, kw_only=True):
    """A place, its tills, and how much of each variant's quantity in the catalogue it has on its shelves.

    The warehouse has all of it; a store has its share on top of that, rounded up, so that no shelf is empty.
    """

    code: str
    name: str
    kind: str
    address: Address
    latitude: float
    longitude: float
    timezone: str
    capabilities: tuple[str, ...]
    opening_hours: Mapping[str, tuple[tuple[str, str], ...]]
    registers: tuple[str, ...]
    stock_share_percent: int


class SalesChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A way the shop sells."""

    kind: str
    name: str
    brand: str = "Thistle & Oar"
    currency: str = CURRENCY
    locale: str = "en-US"
    price_list: str = PRICE_LIST
    tax_included: bool = False
    tax_country: str = COUNTRY


class TaxRate(msgspec.Struct, frozen=True, kw_only=True):
    """What a class of goods is taxed at, in parts per million: 8.25 % is 82,500."""

    country: str
    tax_class: str
    rate_ppm: int


class DeliveryRate(msgspec.Struct, frozen=True, kw_only=True):
    """What a way of delivery costs, per delivery."""

    method: str
    currency: str
    amount_minor: int


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who works in the shop, at places by their codes; nowhere named is everywhere."""

    role: str
    name: str
    location_codes: tuple[str, ...] = ()


_STORE_CAPABILITIES: Final = ("ship", "pickup", "returns", "till", "receive")
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri")

LOCATIONS: Final = (
    Location(
        code="DC1",
        name="Fort Worth Warehouse",
        kind="warehouse",
        address=Address(
            name="Thistle & Oar Warehouse",
            line1="4100 Lantern Yard Road",
            city="Fort Worth",
            region="TX",
            postal_code="76106",
            country=COUNTRY,
        ),
        latitude=32.8090,
        longitude=-97.3560,
        timezone="America/Chicago",
        capabilities=("ship", "returns", "receive"),
        opening_hours=dict.fromkeys((*_WEEKDAYS, "sat"), (("06:00", "22:00"),)),
        registers=(),
        stock_share_percent=100,
    ),
    Location(
        code="S1",
        name="Austin, Juniper Street",
        kind="store",
        address=Address(
            name="Thistle & Oar Austin",
            line1="218 Juniper Wharf Street",
            city="Austin",
            region="TX",
            postal_code="78701",
            country=COUNTRY,
        ),
        latitude=30.2700,
        longitude=-97.7420,
        timezone="America/Chicago",
        capabilities=_STORE_CAPABILITIES,
        opening_hours={
            **dict.fromkeys((*_WEEKDAYS, "sat"), (("09:00", "20:00"),)),
            "sun": (("11:00", "18:00"),),
        },
        registers=("Till 1", "Till 2"),
        stock_share_percent=40,
    ),
    Location(
        code="S2",
        name="Houston, Cooper's Row",
        kind="store",
        address=Address(
            name="Thistle & Oar Houston",
            line1="77 Cooper's Row",
            city="Houston",
            region="TX",
            postal_code="77006",
            country=COUNTRY,
        ),
        latitude=29.7410,
        longitude=-95.3910,
        timezone="America/Chicago",
        capabilities=_STORE_CAPABILITIES,
        opening_hours={
            **dict.fromkeys((*_WEEKDAYS, "sat"), (("10:00", "21:00"),)),
            "sun": (("12:00", "18:00"),),
        },
        registers=("Till 1",),
        stock_share_percent=25,
    ),
    # A smaller store that closes for lunch and on Mondays: opening hours have gaps, and code has to live with them.
    Location(
        code="S3",
        name="Dallas, Millrace Lane",
        kind="store",
        address=Address(
            name="Thistle & Oar Dallas",
            line1="1509 Millrace Lane",
            city="Dallas",
            region="TX",
            postal_code="75208",
            country=COUNTRY,
        ),
        latitude=32.7490,
        longitude=-96.8390,
        timezone="America/Chicago",
        capabilities=_STORE_CAPABILITIES,
        opening_hours={
            **dict.fromkeys(_WEEKDAYS[1:], (("10:00", "13:00"), ("14:00", "19:00"))),
            "sat": (("10:00", "17:00"),),
        },
        registers=("Till 1",),
        stock_share_percent=15,
    ),
)

SALES_CHANNELS: Final = (
    SalesChannel(kind="web", name="Web shop"),
    SalesChannel(kind="app", name="App"),
    SalesChannel(kind="store", name="Stores"),
    SalesChannel(kind="call_center", name="Call center"),
    SalesChannel(kind="chat", name="Chat"),
    SalesChannel(kind="agent", name="Shopping agents"),
    SalesChannel(kind="back_office", name="Back office"),
)

TAX_RATES: Final = (
    TaxRate(country=COUNTRY, tax_class="standard", rate_ppm=82_500),
    TaxRate(country=COUNTRY, tax_class="reduced", rate_ppm=20_000),
    TaxRate(country=COUNTRY, tax_class="books", rate_ppm=0),
)

TAX_CLASSES_BY_KIND: Final[Mapping[str, str]] = {"Books": "books", "Pantry": "reduced"}
"""The class of each kind of product in the catalogue; any other kind has ``TAX_CLASS_DEFAULT``."""

DELIVERY_RATES: Final = (
    DeliveryRate(method="ship", currency=CURRENCY, amount_minor=499),
    DeliveryRate(method="express", currency=CURRENCY, amount_minor=1_299),
    DeliveryRate(method="pickup", currency=CURRENCY, amount_minor=0),
    DeliveryRate(method="carry_out", currency=CURRENCY, amount_minor=0),
    DeliveryRate(method="digital", currency=CURRENCY, amount_minor=0),
)

PROMOTIONS: Final[Mapping[str, int]] = {"WELCOME10": 100_000}
"""Codes and what they take off, in parts per million: for everybody, without limit, in every channel."""

STAFF: Final = (
    Person(role="cashier", name="Cass Iver", location_codes=("S1",)),
    Person(role="manager", name="Mona Gray", location_codes=("S1",)),
    Person(role="picker", name="Pia Ker", location_codes=("S1", "DC1")),
    Person(role="support", name="Sunny Port"),
)
"""One of each role; their logins are their roles."""
