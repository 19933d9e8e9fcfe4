"""What conductor and generator tell each other: one JSON document a line, over the generator's stdin and stdout."""

from msgspec import Struct, field

from growth.load.arrivals import Stretch
from growth.load.recorder import Latencies, Recording


class Shares(Struct, frozen=True):
    """What the crowd asks for, as shares of all requests; the rest are claims under a fresh key."""

    page: float = 0.25
    """Polls of the sale's page."""
    retry: float = 0.075
    """The same claim again, with the same Idempotency-Key: half by winners, half by anyone."""
    over_limit: float = 0.05
    """Shoppers who hold all they may, claiming again with a new key."""
    bad_token: float = 0.01
    """Claims with a token that must be refused."""


class Instruction(Struct, frozen=True, tag_field="do"):
    """Base of what the conductor orders."""


class Setup(Instruction, frozen=True, tag="setup", kw_only=True):
    """Sign the tokens of a crowd and connect."""

    base_url: str
    jwt_secret: str
    jwt_issuer: str = ""
    jwt_audience: str = ""
    shoppers: int
    connections: int
    run_id: str
    """Leads every user id, so that runs on one database do not meet."""
    seed: int
    core: int | None = None
    """The core to stay on."""


class Play(Instruction, frozen=True, tag="play", kw_only=True):
    """Play a crowd in front of one sale."""

    sale_id: str
    units_total: int
    max_per_shopper: int
    opens_at: float
    """Monotonic seconds by this machine's clock; what comes before is an early claim."""
    early_by: float = 0.0
    """A claim won more than this many seconds before `opens_at` was won before the opening."""
    start_at: float
    """Monotonic seconds of the schedule's beginning."""
    stretches: list[Stretch] = field(default_factory=list)
    """Open loop."""
    closed_seconds: float = 0.0
    """Closed loop, instead of a schedule."""
    base_url: str = ""
    """Another server than the one set up for: one to compare with."""
    first_shopper: int = 0
    """Who claims first: those before have claimed in an earlier run on the same sale."""
    lapse_seconds: float = 0.0
    """Holds that are not paid end by themselves after this; 0: not while the sale is played."""
    mix: Shares = Shares()
    mix_before: Shares = Shares(page=0.6, retry=0, over_limit=0, bad_token=0.01)
    """Before the opening."""
    give_up: bool = False
    """End the run as soon as the service does not keep up."""


class LetGo(Instruction, frozen=True, tag="let_go"):
    """Have winners give their claims back, spread over `seconds`."""

    claim_ids: list[str]
    seconds: float = 0.5


class Hammer(Instruction, frozen=True, tag="hammer", kw_only=True):
    """Send one and the same request to another server, in a closed loop or on a schedule."""

    url: str
    method: str = "GET"
    body: str = ""
    seconds: float
    per_second: float = 0.0
    """0: closed loop."""
    connections: int


class Quit(Instruction, frozen=True, tag="quit"):
    """End the process."""


class SeenWin(Struct):
    """A claim that was won, as the generator saw it."""

    claim_id: str
    user_id: str
    shopper: int
    units: int
    at: float
    """Monotonic seconds when the answer came."""
    let_go_at: float = 0.0
    """When giving it back was asked for; 0 if it was not."""
    released: bool = False
    """The service said that it took it back."""
    let_go_refused: str = ""
    """What the service said instead."""


class Books(Struct):
    """What the generator noted against the service; all counts are 0 and all lists empty if it behaved."""

    above_limit: list[str] = field(default_factory=list)
    """User ids that held more than they may."""
    second_claims: list[str] = field(default_factory=list)
    """Keys under which a second, different claim was given."""
    forgotten_wins: list[str] = field(default_factory=list)
    """Claims whose winner repeated the request and was told something else."""
    early_wins: list[str] = field(default_factory=list)
    """Claims given before the opening."""
    bad_tokens_passed: int = 0
    """Bad tokens that were answered otherwise than by 401."""
    unknown_claims: int = 0
    """Claims without an answer, or with a 5xx: the service may have given units for them."""


class Report(Struct, frozen=True, tag_field="is"):
    """Base of what the generator reports."""


class Ready(Report, frozen=True, tag="ready"):
    """The crowd stands at the door."""

    pid: int
    core: int | None
    loop: str


class Progress(Report, frozen=True, tag="progress", kw_only=True):
    """Where a run is; several a second."""

    at: float
    offered: int
    answered: int
    outcomes: dict[str, int]
    p99_us: int
    wins: list[SeenWin]
    """Won since the last report."""
    first_sold_out_at: float


class Played(Report, frozen=True, tag="played", kw_only=True):
    """A run is over."""

    offered: int
    answered: int
    answered_in_time: int
    """Before the schedule ended; the others came while the generator waited for the last ones."""
    seconds: float
    kept_up: bool
    recording: Recording
    wins: list[SeenWin]
    books: Books
    first_sold_out_at: float
    generator_cpu_seconds: float


class Hammered(Report, frozen=True, tag="hammered", kw_only=True):
    """What a hammer found."""

    per_second: float
    statuses: dict[int, int]
    latencies: Latencies
    generator_cpu_seconds: float


class Failed(Report, frozen=True, tag="failed"):
    """The generator could not do what it was told."""

    reason: str
