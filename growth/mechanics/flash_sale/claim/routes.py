"""Shoppers' HTTP of claims."""

from typing import Annotated, Any

from litestar import Request, Response, Router, delete, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import JSONBody
from msgspec import Meta, Struct

from growth.mechanics.flash_sale.claim.draw.model import EntryPage, show_entry
from growth.mechanics.flash_sale.claim.gate import DecidedClaim
from growth.mechanics.flash_sale.claim.model import ClaimPage, show
from growth.mechanics.flash_sale.claim.service import Claims
from growth.mechanics.flash_sale.model import MAX_UNITS_PER_SHOPPER
from growth.plumbing.http.answers import REPLAYED_HEADER, JsonResponse, Page, PathUuid, idempotency_key
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper


class ClaimRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """How many units a shopper wants."""

    units: Annotated[int, Meta(ge=1, le=MAX_UNITS_PER_SHOPPER)] = 1


@post(
    "/flash-sales/{sale_id:str}/claims",
    operation_id="flash_sale_claim_create",
    summary="Claim units of a flash sale",
    responses={202: ResponseSpec(EntryPage, description="Accepted", generate_examples=False)},
)
async def create_claim(
    sale_id: PathUuid,
    data: JSONBody[ClaimRequest],
    request: Request[Any, Any, Any],
    shopper: NamedDependency[Shopper],
    claims: NamedDependency[Claims],
    address: NamedDependency[str],
) -> Response[ClaimPage]:
    """201: the units are held until `held_until`; pay before that. 202: the claim entered the sale's draw.

    Send an Idempotency-Key and repeat the call with it after a time-out or a 503: the same key is the same claim.
    """
    answer = await claims.claim(
        sale_id, shopper.user_id, data.units, idempotency_key(request), address, shopper.token_id
    )
    if isinstance(answer, DecidedClaim):
        headers = {"Cache-Control": "no-store"} | ({REPLAYED_HEADER: "true"} if answer.replayed else {})
        return JsonResponse(show(answer.claim, answer.at), status_code=201, headers=headers)
    return JsonResponse(show_entry(answer, clock.now()), status_code=202, headers={"Cache-Control": "no-store"})


@get(
    "/flash-sales/{sale_id:str}/claims", operation_id="flash_sale_claim_list", summary="List my claims in a flash sale"
)
async def list_claims(
    sale_id: PathUuid, shopper: NamedDependency[Shopper], claims: NamedDependency[Claims]
) -> Page[ClaimPage]:
    """Every claim of the shopper in this sale, whatever became of it; the latest 100."""
    now = clock.now()
    return Page([show(claim, now) for claim in await claims.mine(sale_id, shopper.user_id)])


@get("/claims/{claim_id:str}", operation_id="flash_sale_claim_get", summary="Get one of my claims")
async def get_claim(
    claim_id: PathUuid, shopper: NamedDependency[Shopper], claims: NamedDependency[Claims]
) -> ClaimPage:
    """404 for what is not there and for what is somebody else's, alike."""
    return show(await claims.find(claim_id, shopper.user_id), clock.now())


@delete(
    "/claims/{claim_id:str}",
    status_code=200,
    operation_id="flash_sale_claim_release",
    summary="Release one of my claims",
)
async def release_claim(
    claim_id: PathUuid, shopper: NamedDependency[Shopper], claims: NamedDependency[Claims]
) -> ClaimPage:
    """The units go back on sale at once. Again: the same answer. 409 once the claim is paid.

    429 for the 31st within an hour in one sale: that claim lapses by itself, or is paid.
    """
    now = clock.now()
    return show(await claims.give_back(claim_id, shopper.user_id, now), now)


router = Router(path="/v1", route_handlers=[create_claim, list_claims, get_claim, release_claim], tags=["Flash sales"])
