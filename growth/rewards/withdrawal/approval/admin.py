"""Operators' HTTP of withdrawals."""

from datetime import date
from functools import partial
from typing import Annotated

from litestar import Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.plumbing.http.answers import AnyRequest, JsonResponse, Page, PathUuid, etag, if_match
from growth.plumbing.http.listing import Listing
from growth.plumbing.http.operators import for_operators
from growth.plumbing.watch.audit import Act
from growth.rewards.withdrawal.approval.service import Approvals
from growth.rewards.withdrawal.model import (
    FailReason,
    Reference,
    RejectReason,
    State,
    Withdrawal,
    WithdrawalFilter,
    WithdrawalRules,
)
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN

StateFilter = Annotated[State | None, QueryParameter(name="state", description="Only withdrawals in this state.")]
UserFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this shopper.")]
DayFilter = Annotated[date | None, QueryParameter(description="Only those asked for on this day, in the shop's zone.")]


class WithdrawalRejection(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a withdrawal is not paid."""

    reason: RejectReason


class WithdrawalPayment(Struct, frozen=True, forbid_unknown_fields=True):
    """How a withdrawal was paid."""

    reference: Reference | None = None


class WithdrawalFailure(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a withdrawal could not be paid."""

    reason: FailReason


@for_operators(get, "/withdrawals", "admin_withdrawal_list", "List withdrawals", Role.ADMIN)
async def list_all(
    listing: NamedDependency[Listing],
    approvals: NamedDependency[Approvals],
    only: StateFilter = None,
    user_id: UserFilter = None,
    day: DayFilter = None,
) -> Response[Page[Withdrawal]]:
    """Newest first, with the accounts to pay to. With `Accept: text/csv` all of it as a file."""
    read = partial(approvals.page, WithdrawalFilter(state=only, user_id=user_id, day=day))
    return await listing.listed(Withdrawal, "withdrawal_id", read)


@for_operators(get, "/withdrawals/{withdrawal_id:str}", "admin_withdrawal_get", "Get a withdrawal", Role.ADMIN)
async def get_withdrawal(withdrawal_id: PathUuid, approvals: NamedDependency[Approvals]) -> Withdrawal:
    """With what the payout service said last, and when it is asked again."""
    return await approvals.find(withdrawal_id)


@for_operators(
    post, "/withdrawals/{withdrawal_id:str}/approve", "admin_withdrawal_approve", "Approve a withdrawal", Role.ADMIN
)
async def approve(
    withdrawal_id: PathUuid, act: NamedDependency[Act], approvals: NamedDependency[Approvals]
) -> Withdrawal:
    """The payout service that is configured now pays it, or a person. 409 in another state, or if the shopper owes."""
    return await approvals.approve(act, withdrawal_id)


@for_operators(
    post, "/withdrawals/{withdrawal_id:str}/reject", "admin_withdrawal_reject", "Reject a withdrawal", Role.ADMIN
)
async def reject(
    withdrawal_id: PathUuid,
    data: JSONBody[WithdrawalRejection],
    act: NamedDependency[Act],
    approvals: NamedDependency[Approvals],
) -> Withdrawal:
    """The shopper has the money to withdraw again. 409 once it may have been sent."""
    return await approvals.reject(act, withdrawal_id, data.reason)


@for_operators(
    post, "/withdrawals/{withdrawal_id:str}/paid", "admin_withdrawal_mark_paid", "Mark a withdrawal as paid", Role.ADMIN
)
async def mark_paid(
    withdrawal_id: PathUuid,
    data: JSONBody[WithdrawalPayment],
    act: NamedDependency[Act],
    approvals: NamedDependency[Approvals],
) -> Withdrawal:
    """By hand, or as the payout service's own records show. 409 in another state."""
    return await approvals.mark_paid(act, withdrawal_id, data.reference)


@for_operators(
    post,
    "/withdrawals/{withdrawal_id:str}/failed",
    "admin_withdrawal_mark_failed",
    "Mark a withdrawal as failed",
    Role.ADMIN,
)
async def mark_failed(
    withdrawal_id: PathUuid,
    data: JSONBody[WithdrawalFailure],
    act: NamedDependency[Act],
    approvals: NamedDependency[Approvals],
) -> Withdrawal:
    """The shopper has the money to withdraw again. A payout service is asked first; 409 unless it says so itself."""
    return await approvals.mark_failed(act, withdrawal_id, data.reason)


@for_operators(get, "/withdrawal-rules", "admin_withdrawal_rules_get", "Get the withdrawal rules", Role.VIEWER)
async def get_rules(approvals: NamedDependency[Approvals]) -> Response[WithdrawalRules]:
    """Minimum, fee, and the limits of a day. The ETag is the version that PUT asks for in If-Match."""
    version, rules = await approvals.rules()
    return JsonResponse(rules, headers={"ETag": etag(version)})


@for_operators(put, "/withdrawal-rules", "admin_withdrawal_rules_change", "Change the withdrawal rules", Role.ADMIN)
async def change_rules(
    data: JSONBody[WithdrawalRules],
    request: AnyRequest,
    act: NamedDependency[Act],
    approvals: NamedDependency[Approvals],
) -> Response[WithdrawalRules]:
    """Replaces all fields: one that is left out gets its default. Counts for withdrawals asked for from now on."""
    version = await approvals.change_rules(act, if_match(request), data)
    return JsonResponse(data, headers={"ETag": etag(version)})


router = Router(
    path="/admin/v1",
    route_handlers=[list_all, get_withdrawal, approve, reject, mark_paid, mark_failed, get_rules, change_rules],
    tags=["Operators: withdrawals"],
)
