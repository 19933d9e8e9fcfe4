"""A shopper's month on one page, in one reply."""
