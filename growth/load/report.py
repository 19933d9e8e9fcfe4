"""What a run found: one Struct, written as JSON or as a page."""

from datetime import datetime
from typing import Literal

from msgspec import Struct, field

from growth.load.calibrate import Alone, Knee
from growth.load.laws import Law
from growth.load.messages import Shares
from growth.load.recorder import Latencies, Recording


class SpikeOptions(Struct, frozen=True, kw_only=True):
    """How the sale is played."""

    units: int = 100
    shoppers: int = 50_000
    rate: float | None = None
    """Requests a second at the opening and after; None: a share of the knee."""
    seconds: float = 20.0
    """From the opening to the end."""
    before_seconds: float = 4.0
    seed: int = 1
    max_per_shopper: int = 1
    connections: int = 128
    let_go: Literal["release", "lapse"] = "release"
    """What winners who do not pay do."""
    pay_share: float = 0.6
    steps: bool = False
    step_seconds: float = 5.0
    pin_service: bool = False


class Phase(Struct, frozen=True):
    """A part of the sale, in seconds from the beginning of the run."""

    name: str
    begin: float
    end: float


class PhaseCpu(Struct, frozen=True):
    """Who paid for a phase."""

    phase: str
    requests: int
    milliseconds: dict[str, float]
    """CPU of each process for 1,000 requests."""


class RateStep(Struct, frozen=True):
    """One step of a staircase of rates."""

    share_of_knee: float
    offered_per_second: float
    answered_per_second: float
    kept_up: bool
    all: Latencies
    outcomes: dict[str, Latencies]
    milliseconds: dict[str, float]
    """CPU of each process for 1,000 requests."""


class Machine(Struct, frozen=True):
    """What it ran on."""

    processor: str
    cores: int
    system: str
    python: str
    generators_core: int | None
    generators_loop: str


class SpikeReport(Struct, kw_only=True):
    """Everything."""

    made_at: datetime
    options: SpikeOptions
    machine: Machine
    base_url: str
    rate: float
    alone: Alone
    floor: Latencies
    """Of a server that says 204 to the same rate: what is measured here, nobody can be quicker than."""
    knee: Knee | None
    mix: Shares
    phases: list[Phase]
    opens_at: float
    """Seconds from the beginning of the run, as the next ones."""
    sold_out_at: float | None
    returned_at: float | None
    sold_out_again_at: float | None
    offered: int
    answered: int
    wins: int
    released: int
    paid: int
    recording: Recording
    cpu: list[PhaseCpu]
    others_cores: float
    """Cores that were busy meanwhile with what has no part in this: other programs, the kernel's network."""
    steps: list[RateStep] = field(default_factory=list)
    laws: list[Law]

    @property
    def seconds_to_sell_out(self) -> float | None:
        """From the opening until the winner of the last unit had the answer."""
        return None if self.sold_out_at is None else self.sold_out_at - self.opens_at

    @property
    def broken(self) -> list[Law]:
        """Laws that did not hold."""
        return [law for law in self.laws if law.held is False and not law.about_measuring]

    @property
    def is_measured(self) -> bool:
        """Whether the figures are worth reading."""
        return all(law.held is not False for law in self.laws if law.about_measuring)
