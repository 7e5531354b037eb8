"""The only place where two rooms change together. What talks to a processor never does it inside a transaction."""
