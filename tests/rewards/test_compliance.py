"""What platforms and law forbid a campaign is found, named and refused; what is sound passes."""

import re

import pytest

from growth.kit.campaign.findings import Severity, hold
from growth.rewards.compliance import MAX_LEVELS, RULES, Offer, check
from growth.vocabulary.facts import Deed
from growth.vocabulary.refusals import Kind, Refusal

NOT_COMPLIANT = Kind("tea.not_compliant", "Rules forbid this.")
TEXTS = ("Bring a friend", "You get 10 points once a friend has received a first order.")


def codes(*offers: Offer) -> set[str]:
    return {finding.rule for finding in check(*offers)}


def refused(*offers: Offer) -> set[str]:
    return {finding.rule for finding in check(*offers) if finding.severity is Severity.REFUSE}


def test_sharing_itself_is_never_paid() -> None:
    assert refused(Offer(deed=Deed.SHARE)) == {"share.paid"}


def test_an_invitees_visit_is_never_paid_but_the_shoppers_own_may_be() -> None:
    assert refused(Offer(deed=Deed.OPEN, by_invitee=True, texts=TEXTS)) == {"share.opening_paid"}
    assert check(Offer(deed=Deed.OPEN)) == []


def test_nothing_is_unlocked_by_sharing() -> None:
    assert refused(Offer(deed=Deed.PURCHASE, unlocked_by_share=True)) == {"share.required"}


def test_following_is_never_paid() -> None:
    assert refused(Offer(deed=Deed.FOLLOW)) == {"follow.paid"}


def test_what_sharing_earns_never_depends_on_chance() -> None:
    assert "share.random" in refused(Offer(deed=Deed.SHARE, is_certain=False))
    assert refused(Offer(deed=Deed.PURCHASE, by_invitee=True, is_certain=False, texts=TEXTS)) == {"share.random"}


def test_a_draw_without_sharing_is_a_warning() -> None:
    assert refused(Offer(deed=Deed.OTHER, is_certain=False, texts=TEXTS)) == set()
    assert codes(Offer(deed=Deed.OTHER, is_certain=False, texts=TEXTS)) == {"promotion.chance"}


@pytest.mark.parametrize("levels", [1, 2, 3, 9])
def test_only_two_levels_of_inviters_may_earn_and_the_second_warns(levels: int) -> None:
    offer = Offer(deed=Deed.PURCHASE, by_invitee=True, levels=levels, texts=TEXTS)
    assert codes(offer) == (
        {"invite.levels"} if levels > MAX_LEVELS else {1: set(), 2: {"invite.second_level"}}[levels]
    )
    assert ("invite.levels" in refused(offer)) == (levels > MAX_LEVELS)


def test_recruiting_on_two_levels_is_refused_and_on_one_a_warning() -> None:
    assert codes(Offer(deed=Deed.REGISTER, by_invitee=True, texts=TEXTS)) == {"invite.heads"}
    assert refused(Offer(deed=Deed.REGISTER, by_invitee=True, levels=2, texts=TEXTS)) == {"invite.heads_on_levels"}


def test_inviting_costs_nothing() -> None:
    assert refused(Offer(deed=Deed.PURCHASE, by_invitee=True, entry_fee=True, texts=TEXTS)) == {"invite.entry_fee"}


def test_a_reward_for_the_invitee_is_a_warning() -> None:
    assert codes(Offer(deed=Deed.PURCHASE, by_invitee=True, invitee_is_rewarded=True, texts=TEXTS)) == {
        "invite.invitee_rewarded"
    }


def test_an_invitation_without_a_description_is_a_warning() -> None:
    assert codes(Offer(deed=Deed.PURCHASE, by_invitee=True, texts=("Bring a friend", ""))) == {"promotion.rules"}


@pytest.mark.parametrize("text", ["分享好友得积分", "集赞换礼", "转发后解锁", "Unlock the price", "A LUCKY DRAW"])
def test_words_that_platforms_look_for_are_a_warning(text: str) -> None:
    assert codes(Offer(deed=Deed.OTHER, texts=("Tea", text))) == {"share.wording"}


def test_plain_deeds_and_plain_words_pass() -> None:
    for deed in (Deed.OTHER, Deed.PURCHASE, Deed.REGISTER, Deed.OPEN):
        assert check(Offer(deed=deed, texts=("View three teas", "Twenty points for viewing three teas."))) == []
    assert check(Offer(deed=Deed.PURCHASE, by_invitee=True, texts=TEXTS)) == []


def test_each_rule_is_told_once_and_what_refuses_comes_first() -> None:
    offers = [Offer(deed=Deed.SHARE, texts=("分享", "")), Offer(deed=Deed.SHARE), Offer(deed=Deed.FOLLOW)]
    found = check(*offers)
    assert [finding.rule for finding in found] == ["share.paid", "follow.paid", "share.wording"]


def test_a_refused_campaign_stays_refused_whatever_is_accepted() -> None:
    with pytest.raises(Refusal) as raised:
        hold(check(Offer(deed=Deed.SHARE, texts=("分享", ""))), NOT_COMPLIANT, accept_warnings=True)
    assert raised.value.kind is NOT_COMPLIANT
    assert raised.value.detail.startswith("share.paid: ")
    assert [finding.rule for finding in raised.value.members["findings"]] == [  # type: ignore[attr-defined]
        "share.paid",
        "share.wording",
    ]


def test_warnings_are_to_be_accepted_and_then_pass() -> None:
    found = check(Offer(deed=Deed.OTHER, texts=("抽奖", "")))
    with pytest.raises(Refusal, match=r"tea\.not_compliant"):
        hold(found, NOT_COMPLIANT, accept_warnings=False)
    hold(found, NOT_COMPLIANT, accept_warnings=True)
    hold([], NOT_COMPLIANT, accept_warnings=False)


def test_every_rule_has_a_code_of_its_own_a_text_and_a_source() -> None:
    assert len({rule.code for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert re.fullmatch(r"(?:share|follow|invite|promotion|price)\.[a-z_]+", rule.code)
        assert rule.title
        assert rule.text.endswith(".")
        assert re.search("[一-鿿]", rule.source), "a public rule is cited under its own name"


def test_every_rule_can_be_found() -> None:
    reachable = codes(
        Offer(deed=Deed.SHARE, unlocked_by_share=True, is_certain=False, texts=("分享", "")),
        Offer(deed=Deed.OPEN, by_invitee=True),
        Offer(deed=Deed.FOLLOW),
        Offer(deed=Deed.OTHER, is_certain=False),
        Offer(deed=Deed.REGISTER, by_invitee=True, levels=2),
        Offer(deed=Deed.REGISTER, by_invitee=True, entry_fee=True, invitee_is_rewarded=True),
        Offer(deed=Deed.PURCHASE, by_invitee=True, levels=2),
        Offer(deed=Deed.PURCHASE, by_invitee=True, levels=3),
        Offer(deed=Deed.PURCHASE, price_by_list=True),
    )
    assert reachable == {rule.code for rule in RULES}
