"""The plot of a sale, while it is played: when it is sold out, who pays, who lets go, and when it is sold out again."""

import asyncio
import random
from time import monotonic

from growth.load.conductor import GeneratorProcess, LoadError
from growth.load.messages import Play, Progress, SeenWin
from growth.load.report import Phase, SpikeOptions
from growth.load.service import Service

PAY_AFTER_SECONDS = 0.3
PAID_AT_ONCE = 20
"""Orders told in one hook."""
RETURN_AT_SHARE = 0.4
"""Units come back after this share of the time from the opening to the end, if the sale is sold out by then."""
RETURN_SECONDS = 0.5
QUIET_SECONDS = 0.5
"""No win for so long after the first "sold out": the rest is with claims whose answer was lost."""
RAMP_SECONDS = 0.5


class Plot:
    """Follows the reports of one play and does what shop and shoppers would do."""

    def __init__(
        self, service: Service, generator: GeneratorProcess, play: Play, options: SpikeOptions, sku: str
    ) -> None:
        self._service = service
        self._generator = generator
        self._play = play
        self._options = options
        self._sku = sku
        self._dice = random.Random(f"{options.seed}.payers")
        self._tasks: list[asyncio.Task[None]] = []
        self._wins: list[SeenWin] = []
        self._leavers: list[SeenWin] = []
        self.paid: set[str] = set()
        self.unapplied: list[str] = []
        self.sold_out_at: float | None = None
        self.returned_at: float | None = None
        self.sold_out_again_at: float | None = None

    @property
    def _return_due(self) -> float:
        assert self.sold_out_at is not None
        return max(self._play.opens_at + self._options.seconds * RETURN_AT_SHARE, self.sold_out_at + 1)

    def phase(self, now: float) -> str:
        """Return the name of the phase at `now`."""
        return [phase.name for phase in self.phases(now) if phase.begin <= now - self._play.start_at][-1]

    def phases(self, end: float) -> list[Phase]:
        """Return what the sale went through until `end`, in seconds from the start; empty ones are left out."""
        opens = self._play.opens_at
        bounds = [
            ("before opening", self._play.start_at),
            ("opening spike", opens),
            ("selling", min(opens + RAMP_SECONDS, self.sold_out_at or end)),
            ("sold out", self.sold_out_at),
            ("units return", self.returned_at),
            ("sold out again", self.sold_out_again_at),
        ]
        known = [(name, at) for name, at in bounds if at is not None]
        ends = [at for _, at in known[1:]] + [end]
        start = self._play.start_at
        return [
            Phase(name, begin - start, until - start)
            for (name, begin), until in zip(known, ends, strict=True)
            if until > begin
        ]

    async def follow(self, progress: Progress) -> None:
        """Take the next report."""
        self._wins += progress.wins
        now = monotonic()
        if self.sold_out_at is None:
            self._look_for_sold_out(progress, now)
        elif self.returned_at is None:
            if self._options.let_go == "lapse":
                self._look_for_lapse()
            elif now >= self._return_due:
                self.returned_at = now
                await self._generator.let_go([win.claim_id for win in self._leavers], RETURN_SECONDS)
        elif self.sold_out_again_at is None:
            self._look_for_sold_out_again()

    def _look_for_sold_out(self, progress: Progress, now: float) -> None:
        units = sum(win.units for win in self._wins)
        quiet = bool(self._wins) and now - self._wins[-1].at > QUIET_SECONDS
        if units >= self._play.units_total or (progress.first_sold_out_at and quiet):
            self.sold_out_at = max(win.at for win in self._wins)
            self._leavers = self._share_out(self._wins)

    def _look_for_lapse(self) -> None:
        """Nobody says when a hold lapses: it shows by somebody else winning."""
        assert self.sold_out_at is not None
        later = [win.at for win in self._wins if win.at > self.sold_out_at]
        if later:
            self.returned_at = min(later)

    def _look_for_sold_out_again(self) -> None:
        assert self.sold_out_at is not None
        second = [win for win in self._wins if win.at > self.sold_out_at]
        if second and sum(win.units for win in second) >= sum(win.units for win in self._leavers):
            self.sold_out_again_at = max(win.at for win in second)
            self._share_out(second)

    def _share_out(self, winners: list[SeenWin]) -> list[SeenWin]:
        """Have a share of the winners pay; returns the others."""
        drawn = self._dice.sample(winners, len(winners))
        payers = drawn[: round(len(winners) * self._options.pay_share)] if self._service.target.shop_secret else []
        self._tasks.append(asyncio.create_task(self._pay(payers), name="load:pay"))
        return drawn[len(payers) :]

    async def _pay(self, payers: list[SeenWin]) -> None:
        await asyncio.sleep(PAY_AFTER_SECONDS)
        for first in range(0, len(payers), PAID_AT_ONCE):
            batch = payers[first : first + PAID_AT_ONCE]
            try:
                outcomes = await self._service.pay(self._sku, batch)
            except LoadError as error:
                self.unapplied.append(str(error))
                continue
            for win, outcome in zip(batch, outcomes, strict=True):
                if outcome == "applied":
                    self.paid.add(win.claim_id)
                else:
                    self.unapplied.append(outcome)

    async def finish(self) -> None:
        """Wait for what the shop still has to tell."""
        await asyncio.gather(*self._tasks)
