"""The kit: what rooms are made of. It names no room."""
