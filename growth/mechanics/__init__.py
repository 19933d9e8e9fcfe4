"""Floor 3, mechanics: what a shopper plays. Rooms here do not know each other."""
