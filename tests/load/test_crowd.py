import random
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest

from growth.load.crowd import LoadCrowd, RequestKind
from growth.load.http_client import Job, ServiceEndpoint
from growth.load.messages import Play, Shares
from growth.load.recorder import Recorder

USERS = [f"shopper.{number}" for number in range(50)]
MIX = Shares(page=0.25, retry=0.1, over_limit=0.05, bad_token=0.02)


def crowd_of(*, lapse_seconds: float = 0.0, opens_at: float = 100.0, mix: Shares = MIX) -> LoadCrowd:
    play = Play(
        sale_id="sale",
        units_total=100,
        max_per_shopper=1,
        opens_at=opens_at,
        start_at=90.0,
        mix=mix,
        lapse_seconds=lapse_seconds,
    )
    tokens = [user.encode() for user in USERS]
    endpoint = ServiceEndpoint("http://shop.test/growth")
    return LoadCrowd(play, endpoint, Recorder(90.0, 60.0), USERS, tokens, [b"bad"], random.Random(1))


def answer(status: int, body: object) -> bytes:
    return f"HTTP/1.1 {status} X\r\n\r\n".encode() + msgspec.json.encode(body)


def wins(crowd: LoadCrowd, job: Job, now: float, claim_id: str) -> None:
    crowd.settle(job, 201, answer(201, {"claim_id": claim_id, "units": 1, "more": "to come"}), now)


def claims(crowd: LoadCrowd, due: float) -> Iterator[Job]:
    while True:
        job = crowd.next_job(due)
        if job.kind == RequestKind.CLAIM:
            yield job


def test_the_mix_is_what_was_asked_for() -> None:
    crowd = crowd_of()
    for number in range(20):
        wins(crowd, next(claims(crowd, 101.0)), 101.0, f"claim-{number}")
    kinds = Counter(crowd.next_job(105.0 + number / 100).kind for number in range(20_000))
    assert kinds[RequestKind.PAGE] / 20_000 == pytest.approx(0.25, abs=0.02)
    assert kinds[RequestKind.RETRY] / 20_000 == pytest.approx(0.1, abs=0.02)
    assert kinds[RequestKind.OVER_LIMIT] / 20_000 == pytest.approx(0.05, abs=0.02)
    assert kinds[RequestKind.BAD_TOKEN] / 20_000 == pytest.approx(0.02, abs=0.01)


def test_nobody_asks_for_more_than_they_may_before_anybody_has_any() -> None:
    crowd = crowd_of(mix=Shares(page=0, retry=0, over_limit=1, bad_token=0))
    assert {crowd.next_job(101.0).kind for _ in range(100)} == {RequestKind.CLAIM}


def test_a_request_is_what_http_says_it_is() -> None:
    job = next(claims(crowd_of(), 101.0))
    head, _, body = job.payload.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert first == "POST /growth/v1/flash-sales/sale/claims HTTP/1.1"
    assert headers["Content-Length"] == str(len(body))
    assert headers["Host"] == "shop.test"
    assert headers["Authorization"].startswith("Bearer shopper.")
    assert headers["Idempotency-Key"] == job.key.decode()
    assert msgspec.json.decode(body) == {"units": 1}


def test_a_key_is_never_used_for_two_claims_but_a_retry_uses_it_again() -> None:
    crowd = crowd_of()
    jobs = [crowd.next_job(101.0) for _ in range(4000)]
    claimed = [(job.shopper, job.key) for job in jobs if job.kind == RequestKind.CLAIM]
    retried = [(job.shopper, job.key) for job in jobs if job.kind == RequestKind.RETRY]
    assert len({key for _, key in claimed}) == len(claimed)
    assert retried
    assert set(retried) <= set(claimed)


def retry_by_winner(crowd: LoadCrowd, due: float) -> Job | None:
    jobs = (crowd.next_job(due) for _ in range(2000))
    return next((job for job in jobs if job.kind == RequestKind.RETRY and job.claim_id), None)


def test_a_winner_who_is_told_sold_out_when_asking_again_was_forgotten() -> None:
    crowd = crowd_of()
    wins(crowd, next(claims(crowd, 101.0)), 101.0, "claim-1")
    job = retry_by_winner(crowd, 102.0)
    assert job is not None
    crowd.settle(job, 409, answer(409, {"code": "flash_sale.sold_out"}), 102.0)
    assert crowd.books.forgotten_wins == ["claim-1"]


def test_after_a_hold_lapsed_its_winner_is_like_anybody_else() -> None:
    crowd = crowd_of(lapse_seconds=30.0)
    job = next(claims(crowd, 101.0))
    wins(crowd, job, 101.0, "claim-1")
    late = retry_by_winner(crowd, 125.0)
    assert late is not None
    crowd.settle(late, 409, answer(409, {"code": "flash_sale.sold_out"}), 132.0)
    assert not crowd.books.forgotten_wins
    assert retry_by_winner(crowd, 132.0) is None
    again = Job(132.0, RequestKind.CLAIM, b"", job.shopper, b"another-key")
    wins(crowd, again, 132.0, "claim-2")
    assert not crowd.books.above_limit


def test_two_claims_of_one_shopper_are_one_too_many() -> None:
    crowd = crowd_of(lapse_seconds=30.0)
    job = next(claims(crowd, 101.0))
    wins(crowd, job, 101.0, "claim-1")
    wins(crowd, Job(110.0, RequestKind.CLAIM, b"", job.shopper, b"another-key"), 110.0, "claim-2")
    assert crowd.books.above_limit == [USERS[job.shopper]]


def test_an_answer_that_was_lost_may_have_been_a_win() -> None:
    crowd = crowd_of()
    crowd.settle(next(claims(crowd, 101.0)), 0, b"connection lost", 101.5)
    crowd.settle(next(claims(crowd, 101.0)), 503, answer(503, {"code": "unavailable"}), 101.5)
    assert crowd.books.unknown_claims == 2
    assert crowd.recorder.details == {"claim: connection lost": 1, "claim: 503 unavailable": 1}
