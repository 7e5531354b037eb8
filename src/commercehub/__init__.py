"""commercehub: one cart, one stock, one order book and one payments layer for every channel of a retailer."""
