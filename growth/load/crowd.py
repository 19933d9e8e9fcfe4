"""The crowd in front of one sale: who asks for what, what came of it, and the books that the laws are judged by.

The books hold only what the service told: a 201 is a claim won. Whoever forgets it later is in the wrong.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum

import msgspec
from msgspec import Struct

from growth.load.http_client import HEAD_END, Job, ServiceEndpoint
from growth.load.messages import Books, Play, SeenWin, Shares
from growth.load.recorder import Recorder, RequestOutcome

WINNER_PER_SECOND = 8.0
"""How often one winner may be asked to come again: above it, retries are left to the others, for even a fair service
limits the rate of one shopper."""
RECENT = 512
"""Losers' requests that may be retried."""
LAPSE_SLACK_SECONDS = 1.0
"""A hold counts from the service's commit, which is earlier than when its winner hears of it, by no more than this."""
MAX_NOTES = 100
"""Violations noted one by one, of each kind."""

CODE = b'"code":"'
CODES = {
    b"flash_sale.sold_out": RequestOutcome.SOLD_OUT,
    b"flash_sale.limit_reached": RequestOutcome.LIMIT_REACHED,
    b"flash_sale.not_open": RequestOutcome.NOT_OPEN,
}
BODY = b'{"units":1}'


class RequestKind(IntEnum):
    """What a request wants."""

    CLAIM = 0
    RETRY = 1
    OVER_LIMIT = 2
    BAD_TOKEN = 3
    PAGE = 4
    LET_GO = 5


class _Claim(Struct):
    """What the generator needs of a 201. Other fields are the service's business."""

    claim_id: str
    units: int


class LoadCrowd:
    """Makes requests by the mix of the moment, and settles their answers."""

    def __init__(
        self,
        play: Play,
        endpoint: ServiceEndpoint,
        recorder: Recorder,
        users: Sequence[str],
        tokens: Sequence[bytes],
        bad_tokens: Sequence[bytes],
        dice: random.Random,
    ) -> None:
        self.play = play
        self.recorder = recorder
        self.books = Books()
        self.wins: dict[str, SeenWin] = {}
        self.fresh_wins: list[SeenWin] = []
        """Won since somebody last took them from here."""
        self.first_sold_out_at = 0.0
        self._users = users
        self._tokens = tokens
        self._bad_tokens = bad_tokens
        self._dice = dice
        self._key_lead = f"{dice.getrandbits(40):010x}-".encode()
        self._keys = 0
        self._turn = play.first_shopper % len(users)
        self._claim_of_key: dict[bytes, str] = {}
        self._key_of_claim: dict[str, bytes] = {}
        self._won_by: dict[int, list[SeenWin]] = {}
        self._holders: list[SeenWin] = []
        """Winners who were not asked to let go, for retries and for more than they may have."""
        self._last_asked: dict[str, float] = {}
        self._recent: deque[tuple[int, bytes]] = deque(maxlen=RECENT)
        self._before = _thresholds(play.mix_before)
        self._after = _thresholds(play.mix)
        sale = endpoint.prefix + b"/v1/flash-sales/" + play.sale_id.encode()
        host = b" HTTP/1.1\r\nHost: " + endpoint.authority + b"\r\n"
        self._claim_head = (
            b"POST " + sale + b"/claims" + host + b"Content-Type: application/json\r\nContent-Length: 11\r\n"
            b"Authorization: Bearer "
        )
        self._page_head = b"GET " + sale + host + b"Authorization: Bearer "
        self._let_go_head = b"DELETE " + endpoint.prefix + b"/v1/claims/"
        self._host = host

    # Asking.

    def next_job(self, due: float) -> Job:
        """Return what somebody of the crowd asks at `due`."""
        draw = self._dice.random()
        page, retry, over_limit, bad_token = self._before if due < self.play.opens_at else self._after
        if draw < page:
            shopper = self._dice.randrange(len(self._users))
            return Job(due, RequestKind.PAGE, self._page_head + self._tokens[shopper] + HEAD_END, shopper)
        if draw < retry:
            job = self._retry(due)
        elif draw < over_limit:
            holder = self._holder(due)
            job = None if holder is None else self._claim(due, RequestKind.OVER_LIMIT, holder.shopper, self._new_key())
        elif draw < bad_token:
            token = self._bad_tokens[self._keys % len(self._bad_tokens)]
            return Job(due, RequestKind.BAD_TOKEN, self._claim_bytes(token, self._new_key()))
        else:
            job = None
        return job or self._fresh(due)

    def _fresh(self, due: float) -> Job:
        shopper = self._turn
        self._turn = (shopper + 1) % len(self._users)
        key = self._new_key()
        self._recent.append((shopper, key))
        return self._claim(due, RequestKind.CLAIM, shopper, key)

    def _retry(self, due: float) -> Job | None:
        if self._holders and self._dice.random() < 0.5:  # noqa: PLR2004 - half of them
            win = self._holder(due)
            if win is not None:
                return self._claim(due, RequestKind.RETRY, win.shopper, self._key_of_claim[win.claim_id], win.claim_id)
        if self._recent:
            return self._claim(due, RequestKind.RETRY, *self._dice.choice(self._recent))
        return None

    def _holder(self, due: float) -> SeenWin | None:
        """Return a winner who still holds, and was not asked to come just now."""
        if not self._holders:
            return None
        at = self._dice.randrange(len(self._holders))
        win = self._holders[at]
        if self._may_be_gone(win, due):
            self._holders[at] = self._holders[-1]
            self._holders.pop()
            return None
        if due - self._last_asked.get(win.claim_id, 0.0) < 1 / WINNER_PER_SECOND:
            return None
        self._last_asked[win.claim_id] = due
        return win

    def _new_key(self) -> bytes:
        self._keys += 1
        return self._key_lead + str(self._keys).encode()

    def _claim(self, due: float, kind: RequestKind, shopper: int, key: bytes, claim_id: str = "") -> Job:
        return Job(due, kind, self._claim_bytes(self._tokens[shopper], key), shopper, key, claim_id)

    def _claim_bytes(self, token: bytes, key: bytes) -> bytes:
        return b"".join((self._claim_head, token, b"\r\nIdempotency-Key: ", key, HEAD_END, BODY))

    def let_go(self, claim_ids: Sequence[str], begin: float, seconds: float) -> list[Job]:
        """Return the requests by which winners give claims back, spread over `seconds` from `begin`."""
        jobs = []
        for number, claim_id in enumerate(claim_ids):
            win = self.wins[claim_id]
            due = begin + seconds * number / len(claim_ids)
            # From now on the shopper may win again, for the service may take it back before we hear so.
            win.let_go_at = due
            payload = b"".join(
                (
                    self._let_go_head,
                    claim_id.encode(),
                    self._host,
                    b"Authorization: Bearer ",
                    self._tokens[win.shopper],
                    HEAD_END,
                )
            )
            jobs.append(Job(due, RequestKind.LET_GO, payload, win.shopper, b"", claim_id))
        return jobs

    # Hearing.

    def settle(self, job: Job, status: int, answer: bytes, now: float) -> None:
        """Take an answer into the counts and the books."""
        outcome = HEARD[job.kind](self, job, status, answer, now)
        if outcome >= RequestOutcome.OTHER:
            self.recorder.explain(_reason(job, status, answer))
        self.recorder.settle(outcome, job.due, job.sent, now)

    def _hear_claim(self, job: Job, status: int, answer: bytes, now: float) -> RequestOutcome:
        if status == 409:  # noqa: PLR2004
            outcome = CODES.get(_code(answer), RequestOutcome.OTHER)
            if outcome is RequestOutcome.SOLD_OUT and not self.first_sold_out_at:
                self.first_sold_out_at = now
            if job.claim_id and outcome is not RequestOutcome.OTHER:
                self._hear_forgotten(job, now)
            return outcome
        if status in {200, 201}:
            return self._hear_won(job, answer, now)
        if status == 0 or status >= 500:  # noqa: PLR2004
            self.books.unknown_claims += 1
            return RequestOutcome.ERROR
        return RequestOutcome.OTHER if status == 429 else RequestOutcome.ERROR  # noqa: PLR2004

    def _hear_won(self, job: Job, answer: bytes, now: float) -> RequestOutcome:
        try:
            claim = msgspec.json.decode(answer[answer.find(HEAD_END) + 4 :], type=_Claim)
        except msgspec.DecodeError:
            self.books.unknown_claims += 1
            return RequestOutcome.ERROR
        known = self._claim_of_key.get(job.key)
        if known == claim.claim_id:
            return RequestOutcome.REPLAY
        if known is not None or claim.claim_id in self.wins:
            _note(self.books.second_claims, job.key.decode())
        if claim.claim_id in self.wins:
            return RequestOutcome.REPLAY
        win = SeenWin(claim.claim_id, self._users[job.shopper], job.shopper, claim.units, now)
        self._claim_of_key[job.key] = claim.claim_id
        self._key_of_claim[claim.claim_id] = job.key
        self.wins[claim.claim_id] = win
        self.fresh_wins.append(win)
        self._holders.append(win)
        mine = self._won_by.setdefault(job.shopper, [])
        mine.append(win)
        held = sum(other.units for other in mine if not self._may_be_gone(other, now))
        if held > self.play.max_per_shopper:
            _note(self.books.above_limit, win.user_id)
        if now < self.play.opens_at - self.play.early_by:
            _note(self.books.early_wins, claim.claim_id)
        return RequestOutcome.WON

    def _may_be_gone(self, win: SeenWin, now: float) -> bool:
        """Say whether a claim may have ended: given back, or lapsed. Whether it was paid is not known here."""
        lapses = self.play.lapse_seconds
        return bool(win.let_go_at) or (lapses > 0 and now > win.at + lapses - LAPSE_SLACK_SECONDS)

    def _hear_forgotten(self, job: Job, now: float) -> None:
        """A winner's retry was refused. That is fair only if the claim ended in the meantime."""
        if not self._may_be_gone(self.wins[job.claim_id], now):
            _note(self.books.forgotten_wins, job.claim_id)

    def _hear_bad_token(self, _job: Job, status: int, _answer: bytes, _now: float) -> RequestOutcome:
        if status == 401:  # noqa: PLR2004
            return RequestOutcome.BAD_TOKEN
        if 200 <= status < 500 and status != 429:  # noqa: PLR2004
            self.books.bad_tokens_passed += 1
        return RequestOutcome.OTHER if status == 429 else RequestOutcome.ERROR  # noqa: PLR2004

    def _hear_page(self, _job: Job, status: int, _answer: bytes, _now: float) -> RequestOutcome:
        if status in {200, 304}:
            return RequestOutcome.PAGE
        return RequestOutcome.OTHER if status == 429 else RequestOutcome.ERROR  # noqa: PLR2004

    def _hear_let_go(self, job: Job, status: int, answer: bytes, _now: float) -> RequestOutcome:
        win = self.wins[job.claim_id]
        if 200 <= status < 300:  # noqa: PLR2004
            win.released = True
            return RequestOutcome.RELEASED
        win.let_go_refused = _reason(job, status, answer)
        return RequestOutcome.OTHER if status in {404, 409, 429} else RequestOutcome.ERROR


Hearing = Callable[[LoadCrowd, Job, int, bytes, float], RequestOutcome]
HEARD: tuple[Hearing, ...] = (
    LoadCrowd._hear_claim,  # noqa: SLF001 - one table, in the order of Kind
    LoadCrowd._hear_claim,  # noqa: SLF001
    LoadCrowd._hear_claim,  # noqa: SLF001
    LoadCrowd._hear_bad_token,  # noqa: SLF001
    LoadCrowd._hear_page,  # noqa: SLF001
    LoadCrowd._hear_let_go,  # noqa: SLF001
)


def _thresholds(mix: Shares) -> tuple[float, float, float, float]:
    page = mix.page
    retry = page + mix.retry
    over_limit = retry + mix.over_limit
    return page, retry, over_limit, over_limit + mix.bad_token


def _note(notes: list[str], note: str) -> None:
    if len(notes) < MAX_NOTES:
        notes.append(note)


def _code(answer: bytes) -> bytes:
    at = answer.find(CODE)
    if at < 0:
        return b""
    begin = at + len(CODE)
    return answer[begin : answer.find(b'"', begin)]


def _reason(job: Job, status: int, answer: bytes) -> str:
    what = RequestKind(job.kind).name.lower()
    said = f"{status} {_code(answer).decode(errors='replace')}".strip() if status else answer.decode(errors="replace")
    return f"{what}: {said}"
