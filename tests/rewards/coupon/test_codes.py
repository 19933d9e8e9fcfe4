"""Printed codes: each is redeemed once, and nobody learns anything by guessing."""

import asyncio
from collections import Counter
from datetime import timedelta
from hashlib import sha256
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from growth.kit.campaign.audience import Audiences
from growth.plumbing.http.limits import TooManyRequests
from growth.plumbing.redis.client import connect_redis
from growth.rewards.coupon.code import model, service
from growth.rewards.coupon.code.model import ALPHABET, CodeBatchDraft, new_codes, printed, read_code
from growth.rewards.coupon.take.service import TakenCoupon
from growth.vocabulary.clock import now
from growth.vocabulary.refusals import Refusal
from tests.rewards.coupon.conftest import Room, an_act

pytestmark = pytest.mark.anyio


async def refused(room: Room, code: str, user_id: str = "ann") -> str:
    with pytest.raises(Refusal) as no:
        await room.codes.redeem(code, user_id)
    return no.value.kind.code


def test_a_code_has_80_random_bits_in_an_alphabet_without_look_alikes() -> None:
    codes = new_codes(1000)
    assert len(set(codes)) == 1000
    assert {len(code) for code in codes} == {16}
    counted = Counter("".join(codes))
    assert set(counted) == set(ALPHABET)
    assert not set("ILOU") & set(ALPHABET)
    # 500 of each are expected; twenty standard deviations are no dice.
    assert all(300 < count < 700 for count in counted.values())


@given(st.text(ALPHABET, min_size=16, max_size=16), st.data())
def test_a_code_is_read_however_it_is_typed(code: str, data: Any) -> None:
    typed = data.draw(st.sampled_from([code, code.lower(), printed(code), printed(code).replace("-", " ")]))
    typed = typed.replace("1", data.draw(st.sampled_from("1lIiL"))).replace("0", data.draw(st.sampled_from("0oO")))
    assert read_code(typed) == code


AROUND = ["", " ", "\n", "\r\n", "\t", "\u00a0", "\u200b", "\u3000", "\ufeff", '"', "。"]
BETWEEN = ["", "-", " ", "\u2013", "\u2014", "_", ".", "\u00b7", "\u2212", "\u200d", "\uff0d", "/"]


@given(
    st.text(ALPHABET, min_size=16, max_size=16),
    st.sampled_from(AROUND),
    st.sampled_from(BETWEEN),
    st.sampled_from([0, 0xFEE0]),
)
def test_what_a_person_would_call_the_same_code_is_the_same_code(
    code: str, around: str, between: str, width: int
) -> None:
    typed = between.join(code[start : start + 4] for start in range(0, 16, 4))
    if width:
        typed = "".join(
            chr(ord(letter) + width) if letter.isalnum() and letter.isascii() else letter for letter in typed
        )
    assert read_code(around + typed + around) == code
    assert read_code(around + typed.lower() + around) == code


@given(st.text(max_size=40))
def test_whatever_is_typed_is_a_code_or_none(text: str) -> None:
    code = read_code(text)
    assert code is None or (len(code) == 16 and set(code) <= set(ALPHABET))


async def test_a_code_is_redeemed_and_again_it_is_the_same_coupon(room: Room) -> None:
    template = await room.template()
    (code,) = (await room.make(template)).codes
    first = await room.codes.redeem(code.lower(), "ann")
    again = await room.codes.redeem(code.replace("-", ""), "ann")
    assert (first.coupon.source, first.coupon.reason, first.replayed) == ("code", "coupon.code", False)
    assert again.replayed
    assert again.coupon == await room.coupon(first.coupon) == first.coupon
    assert await refused(room, code, "bob") == "coupon.code_not_found"
    assert len(await room.events("issued")) == 1


async def test_of_64_who_redeem_one_code_one_has_the_coupon(room: Room) -> None:
    template = await room.template(units_total=100)
    for round_ in range(3):
        (code,) = (await room.make(template)).codes
        answers = await asyncio.gather(
            *[room.codes.redeem(code, f"u{round_}-{number}") for number in range(64)], return_exceptions=True
        )
        won = [answer for answer in answers if isinstance(answer, TakenCoupon)]
        lost = [answer.kind.code for answer in answers if isinstance(answer, Refusal)]
        assert len(won) == 1
        assert lost == ["coupon.code_not_found"] * 63


async def test_of_a_shoppers_many_codes_as_many_are_redeemed_as_are_allowed(room: Room) -> None:
    template = await room.template(units_total=100, max_per_shopper=2, claimable=True)
    codes = (await room.make(template, 8)).codes
    answers = await asyncio.gather(*[room.codes.redeem(code, "ann") for code in codes], return_exceptions=True)
    assert sum(isinstance(answer, TakenCoupon) for answer in answers) == 2
    assert {one.kind.code for one in answers if isinstance(one, Refusal)} == {"coupon.limit_reached"}
    with pytest.raises(Refusal, match=r"coupon\.limit_reached"):
        await room.takes_one(template)
    # The others are as good as before.
    left = [code for code, answer in zip(codes, answers, strict=True) if isinstance(answer, Refusal)]
    assert not (await room.codes.redeem(left[0], "bob")).replayed


async def test_every_code_that_is_no_good_is_answered_alike(room: Room) -> None:
    template = await room.template(units_total=100)
    (gone,) = (await room.make(template)).codes
    await room.codes.redeem(gone, "bob")
    revoked = await room.make(template)
    await room.codes.revoke(an_act("printed wrong"), revoked.batch.batch_id)
    answers = set()
    for number, code in enumerate(
        [gone, revoked.codes[0], printed(new_codes(1)[0]), "tea", "x" * 64, "'; --", "\u202e"]
    ):
        with pytest.raises(Refusal) as no:
            await room.codes.redeem(code, f"eve{number}")
        answers.add((no.value.kind.code, no.value.kind.status, no.value.detail, tuple(no.value.members)))
    assert answers == {("coupon.code_not_found", 404, model.CODE_NOT_FOUND.title, ())}


async def test_who_tries_too_often_waits(room: Room) -> None:
    for number in range(service.MAX_TRIES_AT_ONCE):
        assert await refused(room, f"guess {number}", "eve") == "coupon.code_not_found"
    (good,) = (await room.make(await room.template())).codes
    with pytest.raises(TooManyRequests):
        await room.codes.redeem(good, "eve")
    assert not (await room.codes.redeem(good, "ann")).replayed


async def test_only_hashes_are_kept(room: Room) -> None:
    (code,) = (await room.make(await room.template())).codes
    plain = code.replace("-", "")
    stored = await room.database.fetchval("SELECT code_hash FROM coupon.codes")
    assert stored == sha256(plain.encode()).digest()
    for text in (
        await room.database.fetchval("SELECT string_agg(audit::text, '') FROM plumbing.audit AS audit"),
        await room.database.fetchval("SELECT string_agg(event::text, '') FROM plumbing.outbox AS event"),
    ):
        assert plain not in str(text)
        assert code not in str(text)


async def test_a_key_makes_one_batch_whose_codes_are_told_once(room: Room) -> None:
    template = await room.template()
    draft = CodeBatchDraft(name="Flyer", codes=5)
    made = await room.codes.make(an_act(), template.template_id, draft, "key", b"same")
    again = await room.codes.make(an_act(), template.template_id, draft, "key", b"same")
    assert len(made.answer.codes) == 5
    assert (again.replayed, again.answer.codes, again.answer.batch) == (True, [], made.answer.batch)
    assert (await room.again(template)).codes_left == 5
    stored = await room.database.fetchval("SELECT answer FROM plumbing.idempotency")
    assert made.answer.codes[0].encode() not in stored


async def test_printed_codes_keep_their_units(room: Room) -> None:
    template = await room.template(units_total=10, claimable=True, max_per_shopper=10)
    made = await room.make(template, 9)
    await room.takes_one(template, "bob")
    with pytest.raises(Refusal, match=r"coupon\.sold_out"):
        await room.takes_one(template, "cat")
    with pytest.raises(Refusal, match=r"coupon\.units_missing"):
        await room.make(template)
    await room.codes.redeem(made.codes[0], "ann")
    after = await room.codes.revoke(an_act("lost in the post"), made.batch.batch_id)
    assert (after.redeemed, (await room.again(template)).units_left) == (1, 8)
    with pytest.raises(Refusal, match=r"coupon\.batch_revoked"):
        await room.codes.revoke(an_act("again"), made.batch.batch_id)
    # What was redeemed stays good, for who redeemed it.
    assert (await room.codes.redeem(made.codes[0], "ann")).replayed
    assert (await room.takes_one(template, "cat")).coupon.state == "issued"


async def test_of_batches_made_at_once_no_more_are_made_than_there_are_units(room: Room) -> None:
    template = await room.template(units_total=10)
    answers = await asyncio.gather(*[room.make(template, 3) for _ in range(16)], return_exceptions=True)
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 3
    assert {one.kind.code for one in answers if isinstance(one, Refusal)} == {"coupon.units_missing"}


async def test_revoking_and_redeeming_at_once_is_one_or_the_other(room: Room) -> None:
    template = await room.template(units_total=100)
    for number in range(8):
        made = await room.make(template)
        redeemed, revoked = await asyncio.gather(
            room.codes.redeem(made.codes[0], f"u{number}"),
            room.codes.revoke(an_act("now"), made.batch.batch_id),
            return_exceptions=True,
        )
        assert not isinstance(revoked, BaseException)
        assert revoked.redeemed == isinstance(redeemed, TakenCoupon)


async def test_a_good_code_says_why_its_template_gives_nothing(room: Room) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"opens_at": now() + timedelta(hours=1)}, "coupon.not_open"),
        ({"closes_at": now() - timedelta(hours=1)}, "coupon.ended"),
    ]
    for changes, code in cases:
        template = await room.template(**changes)
        (printed_code,) = (await room.make(template)).codes
        assert await refused(room, printed_code) == code
    template = await room.template(state="draft")
    made = await room.make(template, 2)
    assert await refused(room, made.codes[0]) == "coupon.not_open"
    await room.templates.publish(an_act(), template.template_id)
    await room.codes.redeem(made.codes[0], "ann")
    await room.templates.end(an_act(), template.template_id)
    assert await refused(room, made.codes[1]) == "coupon.ended"
    with pytest.raises(Refusal, match=r"coupon\.wrong_state"):
        await room.make(template)


async def test_a_redemption_that_dies_leaves_the_code_as_it_was(room: Room, monkeypatch: Any) -> None:
    template = await room.template()
    made = await room.make(template)

    async def dies(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(service, "emit", dies)
        with pytest.raises(RuntimeError):
            await room.codes.redeem(made.codes[0], "ann")
    assert not (await room.codes.redeem(made.codes[0], "bob")).replayed


async def test_batches_are_listed_without_their_codes(room: Room) -> None:
    template = await room.template(units_total=100)
    made = [(await room.make(template)).batch for _ in range(3)]
    found = await room.codes.page(template.template_id, None, 10)
    assert found == sorted(made, key=lambda batch: batch.batch_id, reverse=True)
    assert await room.codes.page(template.template_id, made[1].batch_id, 10) == [made[0]]
    assert "codes" in msgspec.to_builtins(found[0])


async def test_with_redis_away_guesses_of_codes_stay_limited(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TRIES_PER_SECOND", 0.0001)
    away = connect_redis("redis://127.0.0.1:1/0", max_connections=1, answer_seconds=0.2)
    codes = service.Codes(room.database, away, ZoneInfo("Asia/Shanghai"), Audiences())
    heard = Counter[str]()
    for _ in range(60):
        with pytest.raises(Refusal) as no:
            await codes.redeem("AAAA-BBBB-CCCC-DDDD", "mallory")
        heard[no.value.kind.code] += 1
    assert heard["coupon.code_not_found"] == service.MAX_TRIES_AT_ONCE
