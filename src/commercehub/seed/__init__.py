"""The retailer of the demo, all of it invented: its catalogue in Shopify's columns, its places, prices and taxes."""

from pathlib import Path
from typing import Final

CATALOG: Final = Path(__file__).with_name("catalog.csv")
"""43 products and 120 variants, read by ``commercehub.sales.shopify``; prices are in the shop's currency.

The barcodes start with 952, which GS1 keeps for demonstrations: no product in the world has one of them.
"""
