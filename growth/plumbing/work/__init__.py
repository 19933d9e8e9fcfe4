"""Work: many calls that become one batch (coalescing), and what the clock wakes, by whoever holds the lease."""
