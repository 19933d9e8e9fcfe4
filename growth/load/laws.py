"""The verdict: what must hold after a sale, whatever the load was. Each law is a sentence, and either held or not.

The judge is the generator's own record of answers; the service's books come second, and must say the same.
"""

from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from growth.load.crowd import LAPSE_SLACK_SECONDS
from growth.load.engine import KEPT_UP
from growth.load.messages import Books, Play, Played, SeenWin
from growth.load.service import ClaimSeen, ClaimTally, Invariants, ServiceStats


class Law(Struct, frozen=True):
    """One sentence and whether it held."""

    sentence: str
    held: bool | None
    """None: the service does not tell what it takes to judge."""
    detail: str
    about_measuring: bool = False
    """It says whether the figures are worth reading, not whether the service did wrong."""


class Evidence(Struct, frozen=True, kw_only=True):
    """All that one sale left behind."""

    play: Play
    played: Played
    paid_claims: set[str]
    """Claims whose order was paid, and the service said `applied`."""
    unapplied: list[str]
    """What the service said of other orders."""
    seen: Mapping[str, ClaimSeen | None]
    """Claims as the service shows them to their winners, after the run: all of them, or a sample."""
    stats: ServiceStats | None
    invariants: Invariants | None

    @property
    def lapsing(self) -> bool:
        """Winners who do not pay let their holds lapse instead of giving them back."""
        return self.play.lapse_seconds > 0

    @property
    def books(self) -> Books:
        """The generator's notes."""
        return self.played.books


def judge(evidence: Evidence) -> list[Law]:
    """Return every law's verdict."""
    return [law(evidence) for law in LAWS]


def most_at_once(wins: Sequence[SeenWin], ends_at: Callable[[SeenWin], float]) -> int:
    """Return the most units that were held at one time."""
    steps = [(win.at, win.units) for win in wins]
    steps += [(ends_at(win), -win.units) for win in wins if ends_at(win)]
    held = most = 0
    # At the same instant, what ends goes first: the service may have given it to the next one.
    for _, units in sorted(steps):
        held += units
        most = max(most, held)
    return most


def _ends_at(evidence: Evidence) -> Callable[[SeenWin], float]:
    def ends_at(win: SeenWin) -> float:
        if win.let_go_at or not evidence.lapsing or win.claim_id in evidence.paid_claims:
            return win.let_go_at
        return win.at + evidence.play.lapse_seconds - LAPSE_SLACK_SECONDS

    return ends_at


def _no_unit_twice(evidence: Evidence) -> Law:
    total = evidence.play.units_total
    most = most_at_once(evidence.played.wins, _ends_at(evidence))
    return Law(
        "No unit was given twice",
        most <= total,
        f"{most:,} of {total:,} units were held at once, at the most; {len(evidence.played.wins):,} claims were won",
    )


def _every_unit(evidence: Evidence) -> Law:
    total, unknown = evidence.play.units_total, evidence.books.unknown_claims
    if evidence.lapsing:
        states = [claim for claim in evidence.seen.values() if claim is not None]
        live = sum(claim.units for claim in states if claim.state in {"held", "paid"})
        complete = len(evidence.seen) == len(evidence.played.wins)
        held = live == total if complete else None
    else:
        live = sum(win.units for win in evidence.played.wins if not win.released)
        held = live <= total <= live + unknown
    note = f"; {unknown:,} claims had no answer and may hold the rest" if unknown and live != total else ""
    return Law("Every unit was won in the end", held, f"{live:,} of {total:,} units are held or paid{note}")


def _limit(evidence: Evidence) -> Law:
    most = evidence.play.max_per_shopper
    # What was paid in the meantime is only known now.
    live: dict[str, int] = {}
    for win in evidence.played.wins:
        claim = evidence.seen.get(win.claim_id)
        if claim is not None and claim.state in {"held", "paid"}:
            live[win.user_id] = live.get(win.user_id, 0) + claim.units
    above = sorted({*evidence.books.above_limit, *(user for user, units in live.items() if units > most)})
    return Law(
        f"No shopper held more than {most}",
        not above,
        f"above the limit: {_some(above)}" if above else "judged by the answers that said 201",
    )


def _retries(evidence: Evidence) -> Law:
    second, forgotten = evidence.books.second_claims, evidence.books.forgotten_wins
    replays = evidence.played.recording.outcomes.get("replay")
    told = f"{replays.count if replays else 0:,} repeated requests got the claim they had won"
    if second:
        told = f"a key gave two claims: {_some(second)}"
    elif forgotten:
        told = f"winners who asked again were refused: {_some(forgotten)}"
    return Law("The same request again gave the same claim", not second and not forgotten, told)


def _early(evidence: Evidence) -> Law:
    early = evidence.books.early_wins
    not_open = evidence.played.recording.outcomes.get("not_open")
    told = f"won early: {_some(early)}" if early else f"{not_open.count if not_open else 0:,} early claims were refused"
    return Law("Nobody won before the opening", not early, told)


def _bad_tokens(evidence: Evidence) -> Law:
    passed = evidence.books.bad_tokens_passed
    refused = evidence.played.recording.outcomes.get("bad_token")
    return Law(
        "No bad token passed",
        not passed,
        f"{refused.count if refused else 0:,} were refused with 401, {passed:,} were not",
    )


def _nothing_lost(evidence: Evidence) -> Law:
    wrong = [
        win.claim_id for win in evidence.played.wins if win.claim_id in evidence.seen and not _is_kept(evidence, win)
    ]
    if not evidence.seen and evidence.played.wins:
        return Law("No claim that was confirmed is lost", None, "the service does not show claims")
    told = f"lost or in another state: {_some(wrong)}" if wrong else "all there, as held, paid or released"
    return Law(
        "No claim that was confirmed is lost",
        not wrong,
        f"{len(evidence.seen):,} of {len(evidence.played.wins):,} claims looked up: {told}",
    )


def _is_kept(evidence: Evidence, win: SeenWin) -> bool:
    claim = evidence.seen[win.claim_id]
    if claim is None:
        return False
    if win.claim_id in evidence.paid_claims:
        return claim.state == "paid"
    if win.released:
        return claim.state == "released"
    return claim.state == "held" or ((evidence.lapsing or bool(win.let_go_at)) and claim.state == "released")


def _paid(evidence: Evidence) -> Law:
    wrong = evidence.unapplied
    return Law(
        "Every order that was paid was taken",
        not wrong,
        f"{len(evidence.paid_claims):,} paid" + (f"; others were answered: {_some(wrong)}" if wrong else ""),
    )


def _own_books(evidence: Evidence) -> Law:
    sentence = "The service's own books say the same"
    stats = evidence.stats
    if stats is None or stats.taken is None:
        return Law(sentence, None, "the service tells no figures of the sale")
    held, paid = stats.held or ClaimTally(0, stats.taken), stats.paid or ClaimTally(0, 0)
    total = evidence.play.units_total
    # A claim whose answer was lost is in their books and not in ours, so ours cannot judge it.
    agree = stats.taken == held.units + paid.units
    agree = agree and (stats.taken == total or bool(evidence.books.unknown_claims))
    detail = f"taken {stats.taken:,}, held {held.units:,}, paid {paid.units:,}, of {total:,} units"
    return Law(sentence, agree, detail)


def _stores(evidence: Evidence) -> Law:
    sentence = "Redis and Postgres hold the same claims"
    if evidence.stats is None or evidence.stats.stores_agree is None:
        return Law(sentence, None, "the service does not tell")
    return Law(sentence, evidence.stats.stores_agree, "as compared by the service")


def _invariants(evidence: Evidence) -> Law:
    sentence = "Every invariant of the service holds"
    if evidence.invariants is None:
        return Law(sentence, None, "the service does not tell")
    broken = [f"{violation.room}: {violation.name}" for violation in evidence.invariants.violations]
    return Law(
        sentence,
        not broken,
        f"{evidence.invariants.checked} checked" + (f"; broken: {_some(broken)}" if broken else ""),
    )


def _answered(evidence: Evidence) -> Law:
    errors = evidence.played.recording.outcomes.get("error")
    reasons = [f"{count:,} times {reason}" for reason, count in evidence.played.recording.details.items()]
    told = f"{errors.count:,} errors: {_some(reasons)}" if errors else f"{evidence.played.answered:,} answers, no error"
    return Law("Every request had an answer that was no failure", errors is None, told)


def _kept_up(evidence: Evidence) -> Law:
    played = evidence.played
    share = played.answered_in_time / played.offered if played.offered else 0.0
    return Law(
        f"The service kept up: at least {KEPT_UP:.0%} of what was due was answered in time",
        played.kept_up,
        (
            f"{played.offered:,} due, {played.answered_in_time:,} answered in time ({share:.1%}), "
            f"{played.answered:,} in the end"
        ),
        about_measuring=True,
    )


def _some(values: Sequence[str], most: int = 5) -> str:
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")


LAWS: tuple[Callable[[Evidence], Law], ...] = (
    _no_unit_twice,
    _every_unit,
    _limit,
    _retries,
    _early,
    _bad_tokens,
    _nothing_lost,
    _paid,
    _own_books,
    _stores,
    _invariants,
    _answered,
    _kept_up,
)
