"""Latencies in log-linear buckets, as HdrHistogram has them: 64 to an octave, so a figure is at most 1.6 % too high.

Memory is bounded (some 1,400 buckets), recording is one addition, and histograms of several runs add up.
"""

import math
from collections.abc import Iterable, Mapping

SUB_BITS = 6
MAX_BITS = 27
MAX_US = (1 << MAX_BITS) - 1
"""134 s: far beyond the generator's time-out. What is longer counts as this."""
BUCKETS = (MAX_BITS - SUB_BITS - 1) * (1 << SUB_BITS) + (2 << SUB_BITS)


def bucket_of(microseconds: int) -> int:
    """Return the bucket for a latency."""
    if microseconds < 2 << SUB_BITS:
        return max(microseconds, 0)
    shift = min(microseconds, MAX_US).bit_length() - SUB_BITS - 1
    return (shift << SUB_BITS) + (min(microseconds, MAX_US) >> shift)


def top_of(bucket: int) -> int:
    """Return the highest latency, in microseconds, that a bucket holds."""
    if bucket < 2 << SUB_BITS:
        return bucket
    shift = (bucket >> SUB_BITS) - 1
    return ((bucket - (shift << SUB_BITS) + 1) << shift) - 1


def percentile_of(counts: Iterable[tuple[int, int]], total: int, percent: float) -> int:
    """Return the latency that `percent` of `total` stay at or below; `counts` are (bucket, count) in bucket order."""
    wanted = max(1, math.ceil(total * percent / 100))
    seen = 0
    bucket = 0
    for bucket, count in counts:  # noqa: B007 - the last bucket looked at is the answer
        seen += count
        if seen >= wanted:
            break
    return top_of(bucket)


class Histogram:
    """Latencies in microseconds."""

    __slots__ = ("counts", "maximum_us", "total")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total = 0
        self.maximum_us = 0

    def record(self, microseconds: int) -> int:
        """Count one latency; return its bucket."""
        bucket = bucket_of(microseconds)
        self.counts[bucket] += 1
        self.total += 1
        self.maximum_us = max(self.maximum_us, microseconds)
        return bucket

    def percentile(self, percent: float) -> int:
        """Return the latency in microseconds that `percent` of all stay at or below; 0 if there are none."""
        if not self.total:
            return 0
        return min(percentile_of(enumerate(self.counts), self.total, percent), self.maximum_us)

    def sparse(self) -> dict[int, int]:
        """Return the buckets that are not empty."""
        return {bucket: count for bucket, count in enumerate(self.counts) if count}

    def add(self, counts: Mapping[int, int], maximum_us: int) -> None:
        """Add what another histogram counted."""
        for bucket, count in counts.items():
            self.counts[bucket] += count
            self.total += count
        self.maximum_us = max(self.maximum_us, maximum_us)
