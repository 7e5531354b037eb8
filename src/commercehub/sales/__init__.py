"""What is sold, to whom, and what became of it: catalog, carts and orders."""
