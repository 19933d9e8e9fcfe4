"""What happened, counted: outcomes and latencies in all and over time. Memory is bounded by the number of slots."""

from enum import IntEnum

from msgspec import Struct

from growth.load.histogram import Histogram, percentile_of
from growth.load.http_client import TIMEOUT_SECONDS

SLOT_SECONDS = 0.1
MAX_SLOTS = 600
"""A run longer than a minute gets wider slots instead of more."""
MAX_DETAILS = 40
"""Different reasons of errors that are told apart."""


class RequestOutcome(IntEnum):
    """What came of a request, as a shopper would tell it."""

    WON = 0
    """201: units are held."""
    SOLD_OUT = 1
    LIMIT_REACHED = 2
    NOT_OPEN = 3
    REPLAY = 4
    """201 again for the same key: the same claim."""
    BAD_TOKEN = 5
    """401 for a token that deserved it."""
    PAGE = 6
    """The sale's page, 200 or 304."""
    RELEASED = 7
    """A held claim was given back."""
    OTHER = 8
    """Another refusal: 429, or 409 for ended, paused, the same key still running."""
    ERROR = 9
    """No answer, an answer that makes no sense, or one that says the service failed."""


NAMES = tuple(outcome.name.lower() for outcome in RequestOutcome)


class Latencies(Struct):
    """Latencies of one kind, microseconds."""

    count: int
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    max_us: int


class Timeline(Struct):
    """What happened when; every list has one value for each slot."""

    slot_seconds: float
    offered: list[int]
    """Requests due in the slot."""
    outcomes: dict[str, list[int]]
    """Answers that came in the slot."""
    p50_us: list[int]
    """Of the requests that were due in the slot; 0 if none were."""
    p99_us: list[int]


class Recording(Struct):
    """All that one run left."""

    timeline: Timeline
    outcomes: dict[str, Latencies]
    all: Latencies
    waiting: Latencies
    """The part of the latency before the request was sent: no connection was free, or the generator slept."""
    details: dict[str, int]
    """Why requests ended as `other` or `error`."""


def latencies(histogram: Histogram) -> Latencies:
    """Return the figures of a histogram."""
    return Latencies(
        histogram.total,
        histogram.percentile(50),
        histogram.percentile(90),
        histogram.percentile(99),
        histogram.percentile(99.9),
        histogram.maximum_us,
    )


class Recorder:
    """Counts one run that starts at `start_at` (monotonic) and is expected to take `seconds`."""

    def __init__(self, start_at: float, seconds: float) -> None:
        self._start_at = start_at
        self.slot_seconds = max(SLOT_SECONDS, seconds / MAX_SLOTS)
        # Answers may come two time-outs late (waiting for a connection, then for the answer).
        self._slots = int((seconds + 2 * TIMEOUT_SECONDS) / self.slot_seconds) + 1
        self._offered = [0] * self._slots
        self._came = [[0] * self._slots for _ in RequestOutcome]
        self._spread: list[dict[int, int]] = [{} for _ in range(self._slots)]
        self._histograms = [Histogram() for _ in RequestOutcome]
        self._waiting = Histogram()
        self.details: dict[str, int] = {}

    def _slot(self, at: float) -> int:
        return min(max(int((at - self._start_at) / self.slot_seconds), 0), self._slots - 1)

    def settle(self, outcome: RequestOutcome, due: float, sent: float, now: float) -> None:
        """Count a request."""
        bucket = self._histograms[outcome].record(int((now - due) * 1e6))
        self._waiting.record(int((sent - due) * 1e6) if sent else 0)
        slot = self._slot(due)
        self._offered[slot] += 1
        spread = self._spread[slot]
        spread[bucket] = spread.get(bucket, 0) + 1
        self._came[outcome][self._slot(now)] += 1

    def explain(self, reason: str) -> None:
        """Count why a request ended badly."""
        if reason in self.details or len(self.details) < MAX_DETAILS:
            self.details[reason] = self.details.get(reason, 0) + 1

    def counts(self) -> dict[str, int]:
        """Return how many requests had each outcome so far."""
        return {name: histogram.total for name, histogram in zip(NAMES, self._histograms, strict=True)}

    def everything(self) -> Histogram:
        """Return the latencies of all requests so far."""
        total = Histogram()
        for histogram in self._histograms:
            total.add(histogram.sparse(), histogram.maximum_us)
        return total

    def recording(self) -> Recording:
        """Return all that was counted."""
        last = max((slot for slot in range(self._slots) if any(came[slot] for came in self._came)), default=0) + 1
        ordered = [(sorted(spread.items()), sum(spread.values())) for spread in self._spread[:last]]
        timeline = Timeline(
            slot_seconds=self.slot_seconds,
            offered=self._offered[:last],
            outcomes={name: came[:last] for name, came in zip(NAMES, self._came, strict=True) if any(came)},
            p50_us=[percentile_of(counts, total, 50) if total else 0 for counts, total in ordered],
            p99_us=[percentile_of(counts, total, 99) if total else 0 for counts, total in ordered],
        )
        return Recording(
            timeline=timeline,
            outcomes={name: latencies(h) for name, h in zip(NAMES, self._histograms, strict=True) if h.total},
            all=latencies(self.everything()),
            waiting=latencies(self._waiting),
            details=dict(sorted(self.details.items(), key=lambda item: -item[1])),
        )
