"""What the ledger has of one shopper."""
