"""Tables of the room `sales`: what is sold, carts, and the orders they become."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Sequence,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR

from commercehub.tables import metadata

products: Final = Table(
    "products",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("handle", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("description_html", Text, nullable=False),
    Column("vendor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("tags", ARRAY(Text), nullable=False),
    Column("published", Boolean, nullable=False),
    Column("images", JSONB, nullable=False, server_default=text("'[]'")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    # The words of title, labels and description, kept by the statement that writes those: once for each language.
    Column("search_en", TSVECTOR, nullable=False, server_default=text("''")),
    Column("search_es", TSVECTOR, nullable=False, server_default=text("''")),
    Index("uq_products_handle", func.lower(text("handle")), unique=True),
    # Every search also reads the list of what is still to be indexed: it is kept short. None at all doubles an import.
    Index(
        "ix_products_search_en", "search_en", postgresql_using="gin", postgresql_with={"gin_pending_list_limit": "256"}
    ),
    Index(
        "ix_products_search_es", "search_es", postgresql_using="gin", postgresql_with={"gin_pending_list_limit": "256"}
    ),
)

categories: Final = Table(
    "categories",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("parent_id", Uuid),
    Column("handle", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["parent_id"], ["commercehub.categories.id"]),
    CheckConstraint("parent_id <> id", name="parent"),
    Index("uq_categories_handle", func.lower(text("handle")), unique=True),
    Index("ix_categories_parent_id", "parent_id"),
)

product_categories: Final = Table(
    "product_categories",
    metadata,
    Column("product_id", Uuid, nullable=False),
    Column("category_id", Uuid, nullable=False),
    PrimaryKeyConstraint("product_id", "category_id"),
    ForeignKeyConstraint(["product_id"], ["commercehub.products.id"]),
    # A category takes its memberships with it, also one that is written in the same moment.
    ForeignKeyConstraint(["category_id"], ["commercehub.categories.id"], ondelete="CASCADE"),
    Index("ix_product_categories_category_id", "category_id", "product_id"),
)

variants: Final = Table(
    "variants",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("product_id", Uuid, nullable=False),
    Column("position", Integer, nullable=False),
    Column("sku", Text, nullable=False),
    Column("barcode", Text),
    Column("gtin14", Text),
    Column("title", Text),
    Column("options", JSONB, nullable=False, server_default=text("'[]'")),
    Column("tax_class", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("quantity_scale", SmallInteger, nullable=False),
    Column("weight_grams", Integer),
    Column("requires_shipping", Boolean, nullable=False),
    Column("for_sale", Boolean, nullable=False, server_default=text("true")),
    ForeignKeyConstraint(["product_id"], ["commercehub.products.id"]),
    CheckConstraint("quantity_scale BETWEEN 0 AND 6", name="quantity_scale"),
    CheckConstraint("length(sku) BETWEEN 1 AND 64", name="sku"),
    Index("uq_variants_sku", func.lower(text("sku")), unique=True),
    # How a SKU begins is compared letter by letter, whatever the language of the database is.
    Index(
        "ix_variants_sku_beginning",
        func.lower(text("sku")).label("beginning"),
        postgresql_ops={"beginning": "text_pattern_ops"},
    ),
    Index("uq_variants_gtin14", "gtin14", unique=True, postgresql_where=text("gtin14 IS NOT NULL")),
    Index("ix_variants_product_id", "product_id", "position"),
)

prices: Final = Table(
    "prices",
    metadata,
    Column("variant_id", Uuid, nullable=False),
    Column("price_list", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    PrimaryKeyConstraint("variant_id", "price_list", "currency"),
    ForeignKeyConstraint(["variant_id"], ["commercehub.variants.id"]),
    CheckConstraint("amount_minor >= 0", name="amount"),
)

tax_rates: Final = Table(
    "tax_rates",
    metadata,
    Column("country", Text, nullable=False),
    Column("tax_class", Text, nullable=False),
    Column("rate_ppm", Integer, nullable=False),
    PrimaryKeyConstraint("country", "tax_class"),
    CheckConstraint("rate_ppm BETWEEN 0 AND 1000000", name="rate"),
)

delivery_rates: Final = Table(
    "delivery_rates",
    metadata,
    Column("method", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("amount_minor", BigInteger, nullable=False),
    PrimaryKeyConstraint("method", "currency"),
    CheckConstraint("amount_minor >= 0", name="amount"),
)

# One of the two homes of personal data: whom and where an order is for. Everything else carries its id.
order_contacts: Final = Table(
    "order_contacts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("email", Text),
    Column("phone", Text),
    Column("name", Text),
    Column("line1", Text),
    Column("line2", Text),
    Column("city", Text),
    Column("region", Text),
    Column("postal_code", Text),
    Column("country", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_order_contacts_email", func.lower(text("email")), postgresql_where=text("email IS NOT NULL")),
)

carts: Final = Table(
    "carts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("sales_channel_id", Uuid, nullable=False),
    Column("channel", Text, nullable=False),
    Column("location_id", Uuid),
    Column("customer_id", Uuid),
    Column("token_hash", LargeBinary),
    # A token that was taken back never opens the cart again: the next one is derived from the next number.
    Column("token_serial", Integer, nullable=False, server_default=text("0")),
    Column("currency", Text, nullable=False),
    Column("tax_included", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Column("merged_into", Uuid),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["sales_channel_id"], ["commercehub.sales_channels.id"]),
    ForeignKeyConstraint(["merged_into"], ["commercehub.carts.id"]),
    CheckConstraint("state IN ('open', 'checked_out', 'merged')", name="state"),
    CheckConstraint("(state = 'merged') = (merged_into IS NOT NULL)", name="merged_into"),
    # The customer's open cart is one and the same in every channel.
    Index(
        "uq_carts_open_customer",
        "customer_id",
        unique=True,
        postgresql_where=text("state = 'open' AND customer_id IS NOT NULL"),
    ),
    postgresql_with={"fillfactor": "80"},
)

cart_deliveries: Final = Table(
    "cart_deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("cart_id", Uuid, nullable=False),
    Column("method", Text, nullable=False),
    Column("location_id", Uuid),
    Column("address_id", Uuid),
    ForeignKeyConstraint(["cart_id"], ["commercehub.carts.id"]),
    ForeignKeyConstraint(["address_id"], ["commercehub.order_contacts.id"]),
    CheckConstraint("method IN ('ship', 'express', 'pickup', 'carry_out', 'digital')", name="method"),
    CheckConstraint("(address_id IS NOT NULL) = (method IN ('ship', 'express'))", name="address"),
    CheckConstraint("(location_id IS NOT NULL) = (method IN ('pickup', 'carry_out'))", name="location"),
    Index("ix_cart_deliveries_cart_id", "cart_id"),
)

cart_lines: Final = Table(
    "cart_lines",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("cart_id", Uuid, nullable=False),
    Column("variant_id", Uuid, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("delivery_id", Uuid),
    ForeignKeyConstraint(["cart_id"], ["commercehub.carts.id"]),
    ForeignKeyConstraint(["variant_id"], ["commercehub.variants.id"]),
    ForeignKeyConstraint(["delivery_id"], ["commercehub.cart_deliveries.id"]),
    CheckConstraint("quantity BETWEEN 1 AND 1000000", name="quantity"),
    Index("uq_cart_lines_cart_id_variant_id", "cart_id", "variant_id", unique=True),
    postgresql_with={"fillfactor": "90"},
)

order_number: Final = Sequence("order_number", schema="commercehub", metadata=metadata, start=100_001, cache=32)

orders: Final = Table(
    "orders",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("number", Text, nullable=False),
    Column("cart_id", Uuid, nullable=False),
    Column("sales_channel_id", Uuid, nullable=False),
    Column("channel", Text, nullable=False),
    Column("locale", Text, nullable=False),
    Column("location_id", Uuid),
    Column("customer_id", Uuid),
    Column("contact_id", Uuid),
    Column("currency", Text, nullable=False),
    Column("tax_included", Boolean, nullable=False),
    Column("subtotal_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("delivery_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("change_minor", BigInteger),
    Column("state", Text, nullable=False),
    Column("payment_state", Text, nullable=False),
    Column("fulfillment_state", Text, nullable=False),
    Column("on_hold", Boolean, nullable=False, server_default=text("false")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("placed_by", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["cart_id"], ["commercehub.carts.id"]),
    ForeignKeyConstraint(["sales_channel_id"], ["commercehub.sales_channels.id"]),
    ForeignKeyConstraint(["contact_id"], ["commercehub.order_contacts.id"]),
    CheckConstraint(
        "state IN ('awaiting_payment', 'payment_unknown', 'placed', 'in_fulfillment', 'completed', 'cancelled', 'failed')",
        name="state",
    ),
    CheckConstraint(
        "payment_state IN ('unpaid', 'pending', 'unknown', 'authorized', 'partially_captured', 'paid', 'capture_failed',"
        " 'partially_refunded', 'refunded', 'voided')",
        name="payment_state",
    ),
    CheckConstraint(
        "fulfillment_state IN ('unfulfilled', 'partial', 'fulfilled', 'returned')", name="fulfillment_state"
    ),
    CheckConstraint(
        "total_minor = subtotal_minor - discount_minor + delivery_minor"
        " + CASE WHEN tax_included THEN 0 ELSE tax_minor END",
        name="total",
    ),
    CheckConstraint(
        "subtotal_minor >= 0 AND discount_minor >= 0 AND delivery_minor >= 0 AND tax_minor >= 0 AND total_minor >= 0",
        name="not_negative",
    ),
    Index("uq_orders_number", "number", unique=True),
    # A cart makes one order that lives; a failed attempt gives the cart back.
    Index("uq_orders_live_cart", "cart_id", unique=True, postgresql_where=text("state <> 'failed'")),
    Index("ix_orders_state", "state", "id"),
    Index("ix_orders_contact_id", "contact_id"),
    Index("ix_orders_customer_id", "customer_id", "id", postgresql_where=text("customer_id IS NOT NULL")),
    postgresql_with={"fillfactor": "80"},
)

order_deliveries: Final = Table(
    "order_deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("location_id", Uuid),
    Column("address_id", Uuid),
    Column("price_minor", BigInteger, nullable=False),
    ForeignKeyConstraint(["order_id"], ["commercehub.orders.id"]),
    ForeignKeyConstraint(["address_id"], ["commercehub.order_contacts.id"]),
    Index("ix_order_deliveries_order_id", "order_id"),
)

order_lines: Final = Table(
    "order_lines",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("delivery_id", Uuid, nullable=False),
    Column("variant_id", Uuid, nullable=False),
    Column("sku", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("quantity_scale", SmallInteger, nullable=False),
    Column("ordered", BigInteger, nullable=False),
    Column("cancelled", BigInteger, nullable=False, server_default=text("0")),
    Column("fulfilled", BigInteger, nullable=False, server_default=text("0")),
    Column("returned", BigInteger, nullable=False, server_default=text("0")),
    Column("unit_price_minor", BigInteger, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    Column("tax_minor", BigInteger, nullable=False),
    Column("tax_rate_ppm", Integer, nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    ForeignKeyConstraint(["order_id"], ["commercehub.orders.id"]),
    ForeignKeyConstraint(["delivery_id"], ["commercehub.order_deliveries.id"]),
    CheckConstraint("ordered > 0 AND cancelled >= 0 AND fulfilled >= 0 AND returned >= 0", name="not_negative"),
    CheckConstraint("fulfilled + cancelled <= ordered", name="fulfilled_within_ordered"),
    CheckConstraint("returned <= fulfilled", name="returned_within_fulfilled"),
    CheckConstraint("quantity_scale > 0 OR total_minor = unit_price_minor * ordered - discount_minor", name="total"),
    Index("ix_order_lines_order_id", "order_id"),
    postgresql_with={"fillfactor": "80"},
)

# A code opens a cart in another channel, once.
handoffs: Final = Table(
    "handoffs",
    metadata,
    Column("code_hash", LargeBinary, nullable=False),
    Column("cart_id", Uuid, nullable=False),
    Column("ends_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("code_hash"),
    ForeignKeyConstraint(["cart_id"], ["commercehub.carts.id"]),
    Index("ix_handoffs_cart_id", "cart_id"),
    Index("ix_handoffs_ends_at", "ends_at"),
)

promotions: Final = Table(
    "promotions",
    metadata,
    Column("code", Text, nullable=False),
    Column("percent_off_ppm", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    PrimaryKeyConstraint("code"),
    CheckConstraint("percent_off_ppm BETWEEN 1 AND 1000000", name="percent_off"),
    CheckConstraint("code = upper(code)", name="code"),
)

cart_promotions: Final = Table(
    "cart_promotions",
    metadata,
    Column("cart_id", Uuid, nullable=False),
    Column("code", Text, nullable=False),
    PrimaryKeyConstraint("cart_id", "code"),
    ForeignKeyConstraint(["cart_id"], ["commercehub.carts.id"]),
    ForeignKeyConstraint(["code"], ["commercehub.promotions.code"]),
)

# A gift card that somebody means to pay with. The payments room knows the card; its code is kept nowhere.
cart_gift_cards: Final = Table(
    "cart_gift_cards",
    metadata,
    Column("cart_id", Uuid, nullable=False),
    Column("gift_card_id", Uuid, nullable=False),
    Column("last4", Text, nullable=False),
    Column("added_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("cart_id", "gift_card_id"),
    ForeignKeyConstraint(["cart_id"], ["commercehub.carts.id"]),
)

order_promotions: Final = Table(
    "order_promotions",
    metadata,
    Column("order_id", Uuid, nullable=False),
    Column("code", Text, nullable=False),
    Column("discount_minor", BigInteger, nullable=False),
    PrimaryKeyConstraint("order_id", "code"),
    ForeignKeyConstraint(["order_id"], ["commercehub.orders.id"]),
    CheckConstraint("discount_minor >= 0", name="discount"),
)

wishlists: Final = Table(
    "wishlists",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("customer_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("share_hash", LargeBinary),
    # A link that was taken back stays dead: the next one is derived from the next number.
    Column("share_serial", Integer, nullable=False, server_default=text("0")),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("ix_wishlists_customer_id", "customer_id"),
    Index("uq_wishlists_share_hash", "share_hash", unique=True, postgresql_where=text("share_hash IS NOT NULL")),
)

wishlist_items: Final = Table(
    "wishlist_items",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("wishlist_id", Uuid, nullable=False),
    Column("variant_id", Uuid, nullable=False),
    Column("location_id", Uuid),
    Column("added_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["wishlist_id"], ["commercehub.wishlists.id"]),
    ForeignKeyConstraint(["variant_id"], ["commercehub.variants.id"]),
    Index("uq_wishlist_items_wishlist_id_variant_id", "wishlist_id", "variant_id", unique=True),
)

# Goods on their way back. What has come back is counted on the order's lines too; what is open counts against them.
returns: Final = Table(
    "returns",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("order_id", Uuid, nullable=False),
    Column("state", Text, nullable=False),
    Column("method", Text, nullable=False),
    Column("resolution", Text, nullable=False),
    Column("location_id", Uuid),
    Column("amount_minor", BigInteger),
    Column("requested_by", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("version", BigInteger, nullable=False, server_default=text("1")),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    ForeignKeyConstraint(["order_id"], ["commercehub.orders.id"]),
    CheckConstraint(
        "state IN ('requested', 'approved', 'in_transit', 'received', 'inspected', 'refunded', 'closed', 'rejected',"
        " 'cancelled')",
        name="state",
    ),
    CheckConstraint("method IN ('in_store', 'courier_pickup', 'mail')", name="method"),
    CheckConstraint("resolution IN ('refund', 'store_credit', 'exchange')", name="resolution"),
    CheckConstraint("amount_minor >= 0", name="amount"),
    CheckConstraint("(amount_minor IS NOT NULL) = (state IN ('refunded', 'closed'))", name="settled_with_an_amount"),
    Index("ix_returns_order_id", "order_id"),
)

return_lines: Final = Table(
    "return_lines",
    metadata,
    Column("return_id", Uuid, nullable=False),
    Column("line_id", Uuid, nullable=False),
    Column("position", SmallInteger, nullable=False),
    Column("sku", Text, nullable=False),
    Column("quantity", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("restocked", BigInteger, nullable=False, server_default=text("0")),
    Column("damaged", BigInteger, nullable=False, server_default=text("0")),
    Column("quarantined", BigInteger, nullable=False, server_default=text("0")),
    Column("amount_minor", BigInteger, nullable=False, server_default=text("0")),
    PrimaryKeyConstraint("return_id", "line_id"),
    ForeignKeyConstraint(["return_id"], ["commercehub.returns.id"]),
    ForeignKeyConstraint(["line_id"], ["commercehub.order_lines.id"]),
    CheckConstraint("quantity > 0", name="quantity"),
    CheckConstraint(
        "restocked >= 0 AND damaged >= 0 AND quarantined >= 0 AND restocked + damaged + quarantined <= quantity",
        name="received_within_quantity",
    ),
    CheckConstraint("amount_minor >= 0", name="amount"),
    Index("ix_return_lines_line_id", "line_id"),
)
