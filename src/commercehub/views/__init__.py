"""Reads that show several rooms at once: one bulk read per room, joined here. One file per page."""
