"""Floor 1, pipes: how rooms reach Postgres, Redis, callers and the clock. Knows no mechanic."""
