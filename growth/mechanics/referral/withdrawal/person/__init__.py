"""One person: what becomes of withdrawals when a shopper is erased, or two ids turn out to be one person's."""
