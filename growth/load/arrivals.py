"""When requests are due: a crowd of strangers, that is a Poisson process, at a rate that may ramp."""

import math
import random
from collections.abc import Iterator, Sequence

from msgspec import Struct


class Stretch(Struct, frozen=True):
    """A stretch of time in which the rate goes in a straight line from one value to another."""

    seconds: float
    from_per_second: float
    to_per_second: float

    @property
    def requests(self) -> float:
        """How many requests are due in it, on average."""
        return self.seconds * (self.from_per_second + self.to_per_second) / 2


def flat(seconds: float, per_second: float) -> Stretch:
    """Return a stretch of one rate."""
    return Stretch(seconds, per_second, per_second)


def total_seconds(stretches: Sequence[Stretch]) -> float:
    """Return how long all stretches take together."""
    return sum(stretch.seconds for stretch in stretches)


def due_offsets(stretches: Sequence[Stretch], dice: random.Random) -> Iterator[float]:
    """Yield the seconds from the start at which requests are due, in order.

    A Poisson process of rate 1 is stretched so that it has the wanted rate: its n-th point, E, is due where the area
    under the rate is E. The rate is linear in each stretch, so that is the root of a quadratic.
    """
    begin = 0.0
    area = 0.0
    point = dice.expovariate(1.0)
    for stretch in stretches:
        slope = (stretch.to_per_second - stretch.from_per_second) / stretch.seconds
        end_area = area + stretch.requests
        while point < end_area:
            yield begin + _root(slope / 2, stretch.from_per_second, point - area)
            point += dice.expovariate(1.0)
        begin += stretch.seconds
        area = end_area


def _root(half_slope: float, rate: float, area: float) -> float:
    """Return t > 0 with `half_slope * t² + rate * t = area`, in the form that stays exact when the slope is nothing."""
    return 2 * area / (rate + math.sqrt(max(rate * rate + 4 * half_slope * area, 0.0)))
