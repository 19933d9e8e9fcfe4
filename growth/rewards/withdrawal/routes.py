"""Shoppers' HTTP of withdrawals."""

from functools import partial

from litestar import Response, Router, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Struct

from growth.plumbing.http.answers import (
    AnyRequest,
    Page,
    PathUuid,
    created,
    idempotency_key,
)
from growth.plumbing.http.listing import Listing
from growth.rewards.withdrawal.model import Payee, WithdrawalFen, WithdrawalPage, show
from growth.rewards.withdrawal.service import Withdrawals
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper


class WithdrawalRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """How much a shopper wants."""

    amount_fen: WithdrawalFen


@post("/withdrawals", operation_id="withdrawal_request", summary="Request a withdrawal")
async def request_withdrawal(
    data: JSONBody[WithdrawalRequest],
    request: AnyRequest,
    shopper: NamedDependency[Shopper],
    withdrawals: NamedDependency[Withdrawals],
) -> Response[WithdrawalPage]:
    """201: the amount is set aside, the fee with it. Send an Idempotency-Key and repeat the call with it after a 503.

    409 `withdrawal.below_minimum`, `.one_open`, `.day_limit`, `.insufficient`, `.owed`.
    """
    now = clock.now()
    made = await withdrawals.request(shopper.user_id, data.amount_fen, idempotency_key(request), now)
    return created(show(made.answer, now), replayed=made.replayed)


@get("/withdrawals", operation_id="withdrawal_list", summary="List my withdrawals")
async def list_withdrawals(
    listing: NamedDependency[Listing], shopper: NamedDependency[Shopper], withdrawals: NamedDependency[Withdrawals]
) -> Page[WithdrawalPage]:
    """Newest first."""
    read = partial(withdrawals.page, shopper.user_id)
    return await listing.paged("withdrawal_id", read, show=partial(show, now=clock.now()))


@get("/withdrawals/{withdrawal_id:str}", operation_id="withdrawal_get", summary="Get one of my withdrawals")
async def get_withdrawal(
    withdrawal_id: PathUuid, shopper: NamedDependency[Shopper], withdrawals: NamedDependency[Withdrawals]
) -> WithdrawalPage:
    """404 for what is not there and for what is somebody else's, alike."""
    return show(await withdrawals.find(withdrawal_id, shopper.user_id), clock.now())


@delete(
    "/withdrawals/{withdrawal_id:str}",
    status_code=200,
    operation_id="withdrawal_cancel",
    summary="Cancel a withdrawal",
)
async def cancel_withdrawal(
    withdrawal_id: PathUuid, shopper: NamedDependency[Shopper], withdrawals: NamedDependency[Withdrawals]
) -> WithdrawalPage:
    """The money is back at once. Again: the same answer. 409 once somebody has approved or ended it."""
    now = clock.now()
    return show(await withdrawals.cancel(withdrawal_id, shopper.user_id, now), now)


@get("/payee", operation_id="withdrawal_payee_get", summary="Get my payout account")
async def get_payee(shopper: NamedDependency[Shopper], withdrawals: NamedDependency[Withdrawals]) -> Payee:
    """404 if no account was named yet."""
    return await withdrawals.payee(shopper.user_id)


@put("/payee", operation_id="withdrawal_payee_change", summary="Change my payout account")
async def change_payee(
    data: JSONBody[Payee], shopper: NamedDependency[Shopper], withdrawals: NamedDependency[Withdrawals]
) -> Payee:
    """Counts for withdrawals asked for from now on."""
    return await withdrawals.change_payee(shopper.user_id, data, clock.now())


router = Router(
    path="/v1",
    route_handlers=[request_withdrawal, list_withdrawals, get_withdrawal, cancel_withdrawal, get_payee, change_payee],
    tags=["Withdrawals"],
)
