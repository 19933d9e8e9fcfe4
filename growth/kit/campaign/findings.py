"""What rules of platforms and law say to a campaign, and how that holds its publication. The rules are a room's."""

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct

from growth.vocabulary.refusals import Kind, Refusal


class Severity(StrEnum):
    """How much a finding weighs."""

    REFUSE = "refuse"
    """The campaign cannot be published like this."""
    WARN = "warn"
    """It can, once the operator says that the warning was read."""


class Finding(Struct, frozen=True, kw_only=True):
    """A rule that a campaign breaks, or that an operator should think of."""

    rule: str
    """The code of the `Rule`."""
    severity: Severity
    title: str
    detail: str
    """What in this campaign is meant, and what would do."""
    source: str


def hold(findings: Sequence[Finding], not_compliant: Kind, *, accept_warnings: bool) -> None:
    """Raise a `Refusal` of the room's own kind, with member `findings`, for what cannot be published like this."""
    refused = [finding for finding in findings if finding.severity is Severity.REFUSE]
    if refused:
        told = "; ".join(f"{finding.rule}: {finding.detail}" for finding in refused)
        raise Refusal(not_compliant, told, findings=list(findings))
    if findings and not accept_warnings:
        rules = ", ".join(finding.rule for finding in findings)
        told = f"There are warnings ({rules}); publish with accept_warnings once they are read."
        raise Refusal(not_compliant, told, findings=list(findings))
