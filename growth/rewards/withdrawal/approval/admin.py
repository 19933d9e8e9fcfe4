"""Operators' HTTP of withdrawals."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

from litestar import Request, Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Struct

from growth.plumbing.http.answers import (
    DEFAULT_PAGE,
    Cursor,
    JsonResponse,
    Limit,
    Page,
    PathUuid,
    etag,
    if_match,
)
from growth.plumbing.http.listing import listed
from growth.plumbing.http.operators import act_of, requires
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
from growth.vocabulary.actors import Operator, Role
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


@get("/withdrawals", operation_id="admin_withdrawal_list", summary="List withdrawals", guards=[requires(Role.ADMIN)])
async def list_all(
    request: Request[Any, Any, Any],
    approvals: NamedDependency[Approvals],
    only: StateFilter = None,
    user_id: UserFilter = None,
    day: DayFilter = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_PAGE,
) -> Response[Page[Withdrawal]]:
    """Newest first, with the accounts to pay to. With `Accept: text/csv` all of it as a file."""

    async def read(after: str | None, most: int) -> Sequence[Withdrawal]:
        return await approvals.page(WithdrawalFilter(state=only, user_id=user_id, day=day), before=after, limit=most)

    return await listed(request, cursor, limit, Withdrawal, "withdrawal_id", read)


@get(
    "/withdrawals/{withdrawal_id:str}",
    operation_id="admin_withdrawal_get",
    summary="Get a withdrawal",
    guards=[requires(Role.ADMIN)],
)
async def get_withdrawal(withdrawal_id: PathUuid, approvals: NamedDependency[Approvals]) -> Withdrawal:
    """With what the payout service said last, and when it is asked again."""
    return await approvals.find(withdrawal_id)


@post(
    "/withdrawals/{withdrawal_id:str}/approve",
    status_code=200,
    operation_id="admin_withdrawal_approve",
    summary="Approve a withdrawal",
    guards=[requires(Role.ADMIN)],
)
async def approve(
    withdrawal_id: PathUuid,
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    approvals: NamedDependency[Approvals],
) -> Withdrawal:
    """The payout service that is configured now pays it, or a person. 409 in another state, or if the shopper owes."""
    return await approvals.approve(act_of(request, operator), withdrawal_id)


@post(
    "/withdrawals/{withdrawal_id:str}/reject",
    status_code=200,
    operation_id="admin_withdrawal_reject",
    summary="Reject a withdrawal",
    guards=[requires(Role.ADMIN)],
)
async def reject(
    withdrawal_id: PathUuid,
    data: JSONBody[WithdrawalRejection],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    approvals: NamedDependency[Approvals],
) -> Withdrawal:
    """The shopper has the money to withdraw again. 409 once it may have been sent."""
    return await approvals.reject(act_of(request, operator), withdrawal_id, data.reason)


@post(
    "/withdrawals/{withdrawal_id:str}/paid",
    status_code=200,
    operation_id="admin_withdrawal_mark_paid",
    summary="Mark a withdrawal as paid",
    guards=[requires(Role.ADMIN)],
)
async def mark_paid(
    withdrawal_id: PathUuid,
    data: JSONBody[WithdrawalPayment],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    approvals: NamedDependency[Approvals],
) -> Withdrawal:
    """By hand, or as the payout service's own records show. 409 in another state."""
    return await approvals.mark_paid(act_of(request, operator), withdrawal_id, data.reference)


@post(
    "/withdrawals/{withdrawal_id:str}/failed",
    status_code=200,
    operation_id="admin_withdrawal_mark_failed",
    summary="Mark a withdrawal as failed",
    guards=[requires(Role.ADMIN)],
)
async def mark_failed(
    withdrawal_id: PathUuid,
    data: JSONBody[WithdrawalFailure],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    approvals: NamedDependency[Approvals],
) -> Withdrawal:
    """The shopper has the money to withdraw again. A payout service is asked first; 409 unless it says so itself."""
    return await approvals.mark_failed(act_of(request, operator), withdrawal_id, data.reason)


@get(
    "/withdrawal-rules",
    operation_id="admin_withdrawal_rules_get",
    summary="Get the withdrawal rules",
    guards=[requires(Role.VIEWER)],
)
async def get_rules(approvals: NamedDependency[Approvals]) -> Response[WithdrawalRules]:
    """Minimum, fee, and the limits of a day. The ETag is the version that PUT asks for in If-Match."""
    version, rules = await approvals.rules()
    return JsonResponse(rules, headers={"ETag": etag(version)})


@put(
    "/withdrawal-rules",
    operation_id="admin_withdrawal_rules_change",
    summary="Change the withdrawal rules",
    guards=[requires(Role.ADMIN)],
)
async def change_rules(
    data: JSONBody[WithdrawalRules],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    approvals: NamedDependency[Approvals],
) -> Response[WithdrawalRules]:
    """Replaces all fields: one that is left out gets its default. Counts for withdrawals asked for from now on."""
    version = await approvals.change_rules(act_of(request, operator), if_match(request), data)
    return JsonResponse(data, headers={"ETag": etag(version)})


router = Router(
    path="/admin/v1",
    route_handlers=[list_all, get_withdrawal, approve, reject, mark_paid, mark_failed, get_rules, change_rules],
    tags=["Operators: withdrawals"],
)
