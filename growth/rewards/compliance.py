"""Compliance: what platforms and law forbid a campaign to reward, told before shoppers see it.

A room says in an `Offer` what its campaign pays for, and gives what `check` finds as its kind's `findings`::

    check(Offer(deed=Deed.PURCHASE, by_invitee=True, levels=draft.levels, texts=(draft.title, draft.description)))

`refuse` is for good; `warn` publishes once the operator has said `accept_warnings`. This is
help, not legal advice: it knows what a campaign is, not what pages say.
"""

import re

from msgspec import Struct

from growth.kit.campaign.findings import Finding, Severity
from growth.vocabulary.facts import Deed

MAX_LEVELS = 2
"""Of inviters who earn from one order. The third is what the law calls pyramid selling."""

_PLATFORM = "WeChat Mini Program Platform Operation Rules (微信小程序平台运营规范), 5.1 Abuse of sharing (滥用分享行为)"
_SHARING_NOTICE = "WeChat notice on sharing in mini-programs (关于小程序内分享行为的进一步规范), December 2020"
_LINKS = "WeChat External Link Content Rules (微信外部链接内容管理规范), 1.2"
_PROMOTION = "Interim Provisions on Regulating Promotions (规范促销行为暂行规定), SAMR Order No. 32 of 2020, article 13"
_PERSONAL_DATA = "Personal Information Protection Law (个人信息保护法), 2021, article 24"
_PYRAMID = (
    "Regulations on Prohibition of Pyramid Selling (禁止传销条例), State Council Order No. 444 of 2005, article 7"
)


class Offer(Struct, frozen=True, kw_only=True):
    """What a campaign pays for, as far as rules ask."""

    deed: Deed
    by_invitee: bool = False
    """The deed is done by somebody whom the rewarded shopper brought; otherwise by the rewarded shopper."""
    unlocked_by_share: bool = False
    """Something (a price, a page, a chance) is to be had only after sharing."""
    is_certain: bool = True
    """The reward and what it takes are fixed and told; neither drawn nor different from one to the next."""
    invitee_is_rewarded: bool = False
    """Who was brought gets something as well."""
    levels: int = 1
    """Inviters above each other who earn from one deed."""
    price_by_list: bool = False
    """A price is for shoppers whom an operator chose, not for all who meet terms that anybody can read."""
    entry_fee: bool = False
    """Taking part costs money, or takes a purchase."""
    texts: tuple[str, ...] = ()
    """What shoppers read: title, description."""


class Rule(Struct, frozen=True, kw_only=True):
    """One thing that is forbidden or asks for care."""

    code: str
    """Stable: `share.paid`."""
    severity: Severity
    title: str
    text: str
    source: str
    """Whose rule it is, by name and number."""


SHARE_REQUIRED = Rule(
    code="share.required",
    severity=Severity.REFUSE,
    title="Nothing may be unlocked by sharing",
    text="Functions, prices, pages, pictures and chances must be open to those who do not share.",
    source=_PLATFORM,
)
SHARE_PAID = Rule(
    code="share.paid",
    severity=Severity.REFUSE,
    title="Sharing itself may not be rewarded",
    text="No money, goods, coupons, points or other benefit for the mere act of sharing. Reward what somebody who"
    " knows what it is about then does: registers, joins, buys.",
    source=_PLATFORM,
)
OPENING_PAID = Rule(
    code="share.opening_paid",
    severity=Severity.REFUSE,
    title="An invitee's mere opening of a page may not be rewarded",
    text="A benefit for the sharer needs deep interaction: the invitee understands the offer and takes part in it."
    " Opening the card, or being bound by opening it, is none.",
    source=_PLATFORM,
)
SHARE_RANDOM = Rule(
    code="share.random",
    severity=Severity.REFUSE,
    title="What sharing or inviting earns may not depend on chance",
    text="Rules, steps and benefit must be told whole beforehand; no draws, no chances of winning, no amounts that"
    " differ from one helper to the next.",
    source=f"{_SHARING_NOTICE}; {_LINKS}",
)
FOLLOW_PAID = Rule(
    code="follow.paid",
    severity=Severity.REFUSE,
    title="Following or subscribing may not be rewarded",
    text="No benefit for following an account or taking its messages, and nothing unlocked by it.",
    source=f"{_PLATFORM}; {_LINKS}",
)
INVITE_LEVELS = Rule(
    code="invite.levels",
    severity=Severity.REFUSE,
    title=f"At most {MAX_LEVELS} levels of inviters may earn",
    text="Pay that reaches over three or more levels is pyramid selling, whatever it is called.",
    source=_PYRAMID,
)
INVITE_SECOND_LEVEL = Rule(
    code="invite.second_level",
    severity=Severity.WARN,
    title="A second level of inviters asks for care",
    text="Pay only for goods that were bought and received, never for numbers of people; have it looked at by a"
    " lawyer, and expect the platform to ask.",
    source=_PYRAMID,
)
INVITE_HEADS = Rule(
    code="invite.heads",
    severity=Severity.WARN,
    title="A reward for registrations is a reward for heads",
    text="Pay for what new shoppers buy rather than for their number: heads invite fraud, and on more than one level"
    " they are pyramid selling.",
    source=_PYRAMID,
)
INVITE_HEADS_ON_LEVELS = Rule(
    code="invite.heads_on_levels",
    severity=Severity.REFUSE,
    title="Recruiting may not be paid on more than one level",
    text="Pay by the number of people recruited, directly or through others, is pyramid selling.",
    source=_PYRAMID,
)
INVITE_ENTRY_FEE = Rule(
    code="invite.entry_fee",
    severity=Severity.REFUSE,
    title="Inviting may not cost anything",
    text="Nobody may have to pay, or to buy, before they can invite and earn.",
    source=_PYRAMID,
)
INVITEE_REWARDED = Rule(
    code="invite.invitee_rewarded",
    severity=Severity.WARN,
    title="Invitees may not be rewarded where goods are virtual",
    text="In mini-programs that sell virtual goods or services, a benefit for who was invited is abuse of sharing."
    " With goods that are shipped it is fine.",
    source=_PLATFORM,
)
CHANCE_UNTOLD = Rule(
    code="promotion.chance",
    severity=Severity.WARN,
    title="A draw must tell its terms beforehand",
    text="Kinds and number of prizes or odds, conditions, times, ways of drawing and of collecting, who runs it; and"
    " nothing of it may change later. No prize above 50,000 yuan.",
    source=_PROMOTION,
)
RULES_UNTOLD = Rule(
    code="promotion.rules",
    severity=Severity.WARN,
    title="Shoppers should be able to read the terms",
    text="What to do, by when, what one gets, and what takes it back.",
    source=f"{_PROMOTION}; {_SHARING_NOTICE}",
)
WORDING = Rule(
    code="share.wording",
    severity=Severity.WARN,
    title="The text speaks of what platforms forbid",
    text="Words such as “forward to get”, “unlock by sharing”, “collect likes” or “draw” have cards blocked, even"
    " where the campaign itself is sound.",
    source=f"{_PLATFORM}; {_LINKS}",
)

PRICE_DISCRIMINATION = Rule(
    code="price.discrimination",
    severity=Severity.WARN,
    title="A price should be open to all who meet its terms",
    text="A price may depend on what anybody can read and meet: newcomer, level, time. Where chosen shoppers alone get"
    " one, the SKU must have no other live price; give the others a coupon rather than another price.",
    source=_PERSONAL_DATA,
)

RULES: tuple[Rule, ...] = (
    SHARE_REQUIRED,
    SHARE_PAID,
    OPENING_PAID,
    SHARE_RANDOM,
    FOLLOW_PAID,
    INVITE_LEVELS,
    INVITE_SECOND_LEVEL,
    INVITE_HEADS,
    INVITE_HEADS_ON_LEVELS,
    INVITE_ENTRY_FEE,
    INVITEE_REWARDED,
    CHANCE_UNTOLD,
    RULES_UNTOLD,
    WORDING,
    PRICE_DISCRIMINATION,
)
"""All there are, as operators read them."""

_WORDS = re.compile(
    r"分享|转发|集赞|点赞|助力|砍价|砍一刀|抽奖|拆红包|朋友圈|关注公众号|解锁"
    r"|\bunlock|\bforward (?:to|this)|\bcollect likes|\blucky draw|\blottery",
    re.IGNORECASE,
)


def check(*offers: Offer) -> list[Finding]:
    """Return what speaks against a campaign that makes all of `offers`: what refuses first, each rule once."""
    found: dict[str, Finding] = {}
    for offer in offers:
        for finding in (*_about_sharing(offer), *_about_inviting(offer), *_about_telling(offer)):
            found.setdefault(finding.rule, finding)
    return sorted(found.values(), key=lambda finding: finding.severity is not Severity.REFUSE)


def _find(rule: Rule, detail: str) -> Finding:
    return Finding(rule=rule.code, severity=rule.severity, title=rule.title, detail=detail, source=rule.source)


def _about_sharing(offer: Offer) -> list[Finding]:
    found = []
    if offer.unlocked_by_share:
        found.append(_find(SHARE_REQUIRED, "Something here is open only to those who share; open it to all."))
    if offer.deed is Deed.SHARE:
        found.append(_find(SHARE_PAID, "The reward is for sharing; reward what those who were brought then do."))
    if offer.deed is Deed.OPEN and offer.by_invitee:
        found.append(_find(OPENING_PAID, "The reward is for an invitee's visit; ask for a registration or a purchase."))
    if offer.deed is Deed.FOLLOW:
        found.append(_find(FOLLOW_PAID, "The reward is for following; reward something else."))
    if not offer.is_certain:
        if offer.deed is Deed.SHARE or offer.by_invitee:
            found.append(_find(SHARE_RANDOM, "What is earned is not fixed beforehand; give the same for the same."))
        else:
            found.append(_find(CHANCE_UNTOLD, "What is won depends on chance; the text must tell how."))
    return found


def _about_inviting(offer: Offer) -> list[Finding]:
    if not offer.by_invitee:
        return []
    found = []
    is_for_heads = offer.deed in {Deed.REGISTER, Deed.OPEN, Deed.FOLLOW}
    if offer.levels > MAX_LEVELS:
        found.append(_find(INVITE_LEVELS, f"{offer.levels} levels earn; {MAX_LEVELS} are the most."))
    if offer.levels > 1 and is_for_heads:
        found.append(_find(INVITE_HEADS_ON_LEVELS, "People are paid for, on more than one level; pay for purchases."))
    elif offer.levels == MAX_LEVELS:
        found.append(_find(INVITE_SECOND_LEVEL, f"{offer.levels} levels earn from one order."))
    elif offer.deed is Deed.REGISTER:
        found.append(_find(INVITE_HEADS, "The reward is for a registration; a first order would be safer."))
    if offer.entry_fee:
        found.append(_find(INVITE_ENTRY_FEE, "One has to pay or buy before one can invite; drop that."))
    if offer.invitee_is_rewarded:
        found.append(_find(INVITEE_REWARDED, "Who is invited gets something too; fine unless goods are virtual."))
    return found


def _about_telling(offer: Offer) -> list[Finding]:
    found = []
    if offer.price_by_list:
        found.append(_find(PRICE_DISCRIMINATION, "A list says who gets the price; sell this SKU at no other one."))
    if (offer.by_invitee or not offer.is_certain) and len([text for text in offer.texts if text]) < 2:  # noqa: PLR2004
        found.append(_find(RULES_UNTOLD, "There is no description; say what to do and what one gets."))
    words = sorted({match[0].lower() for text in offer.texts for match in _WORDS.finditer(text)})
    if words:
        found.append(_find(WORDING, f"The text says {', '.join(f'“{word}”' for word in words)}."))
    return found
