"""Operators' HTTP of referrals: programs, relations, commissions, and the rules that put these to review."""

from functools import partial
from typing import Annotated, Literal

import msgspec
from litestar import Response, Router, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter
from msgspec import Meta, Struct

from growth.kit.campaign.admin import campaign_routes
from growth.mechanics.referral import model
from growth.mechanics.referral.commission.model import (
    Commission,
    CommissionFilter,
    ReleaseReason,
    ShownState,
    VoidReason,
)
from growth.mechanics.referral.commission.service import CommissionExplained, Commissions, InReview
from growth.mechanics.referral.correction.model import ReferralRelation, RelationFilter
from growth.mechanics.referral.correction.service import Corrections
from growth.mechanics.referral.model import PROGRAMS
from growth.mechanics.referral.relation.model import RelationState
from growth.mechanics.referral.review.model import Reason as ReviewReason
from growth.mechanics.referral.review.model import ReviewRules
from growth.mechanics.referral.review.service import Reviews
from growth.mechanics.referral.service import BindingDryRun, ProgramStats, ReferralPrograms
from growth.plumbing.http.answers import (
    AnyRequest,
    JsonResponse,
    Page,
    PathUuid,
    created,
    etag,
    idempotency_key,
    if_match,
)
from growth.plumbing.http.idempotency import fingerprint
from growth.plumbing.http.listing import Listing
from growth.plumbing.http.operators import for_operators
from growth.plumbing.strict_json import Instant
from growth.plumbing.watch.audit import Act
from growth.vocabulary import clock
from growth.vocabulary.actors import Role
from growth.vocabulary.ids import FOREIGN_ID_PATTERN, UUID_PATTERN, ForeignId, ShopperId
from growth.vocabulary.names import MAX_TYPED_CHARACTERS


class BindingDryRunRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Who would send which code, and when."""

    user_id: ShopperId
    code: Annotated[str, Meta(min_length=1, max_length=MAX_TYPED_CHARACTERS)]
    now: Instant | None = None
    """The moment to try; now, if left out."""


@for_operators(
    post,
    "/{program_id:str}/dry-run",
    "admin_referral_program_dry_run",
    "See what sending a code would get, and why",
    Role.VIEWER,
)
async def dry_run(
    program_id: PathUuid, data: JSONBody[BindingDryRunRequest], referral_programs: NamedDependency[ReferralPrograms]
) -> BindingDryRun:
    """Changes nothing. A draft is tried as if it were published."""
    return await referral_programs.dry_run(program_id, data.user_id, data.code, data.now or clock.now())


@for_operators(
    get,
    "/{program_id:str}/stats",
    "admin_referral_program_stats_get",
    "Get the numbers of a referral program",
    Role.VIEWER,
)
async def get_stats(program_id: PathUuid, referral_programs: NamedDependency[ReferralPrograms]) -> ProgramStats:
    """Invitees by state, inviters, rewards and milestones."""
    return await referral_programs.stats(program_id, clock.now())


InviterFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this inviter.")]
InviteeFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this invitee.")]
ProgramFilter = Annotated[str | None, QueryParameter(pattern=UUID_PATTERN, description="Only bound under this one.")]
RelationStateFilter = Annotated[RelationState | None, QueryParameter(name="state", description="Only in this state.")]
SuspectedFilter = Annotated[bool | None, QueryParameter(description="Only with signs of one person's two accounts.")]
Reason = Literal["fraud", "mistake", "shopper_request", "other"]


class RelationEnding(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator ends a relation."""

    reason: Reason


class Rebinding(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is bound to whom, and why by hand."""

    invitee_id: ForeignId
    inviter_id: ForeignId
    reason: Reason


@for_operators(get, "/referral-relations", "admin_referral_relation_list", "List referral relations", Role.VIEWER)
async def list_relations(
    listing: NamedDependency[Listing],
    referral_corrections: NamedDependency[Corrections],
    inviter_id: InviterFilter = None,
    invitee_id: InviteeFilter = None,
    program_id: ProgramFilter = None,
    only: RelationStateFilter = None,
    suspected: SuspectedFilter = None,
) -> Response[Page[ReferralRelation]]:
    """Newest first. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""
    filters = RelationFilter(
        inviter_id=inviter_id, invitee_id=invitee_id, program_id=program_id, state=only, is_suspected=suspected
    )
    return await listing.listed(ReferralRelation, "relation_id", partial(referral_corrections.page, filters))


@for_operators(
    post,
    "/referral-relations/{relation_id:str}/end",
    "admin_referral_relation_end",
    "End a referral relation",
    Role.EDITOR,
)
async def end_relation(
    relation_id: PathUuid,
    data: JSONBody[RelationEnding],
    act: NamedDependency[Act],
    referral_corrections: NamedDependency[Corrections],
) -> ReferralRelation:
    """Orders paid from now on earn its inviter nothing; what was earned stays."""
    return await referral_corrections.end(act.why(data.reason), relation_id, data.reason)


@for_operators(
    post,
    "/referral-relations",
    "admin_referral_relation_rebind",
    "Bind a shopper to an inviter",
    Role.EDITOR,
    status_code=201,
)
async def rebind(
    data: JSONBody[Rebinding],
    request: AnyRequest,
    act: NamedDependency[Act],
    referral_corrections: NamedDependency[Corrections],
) -> Response[ReferralRelation]:
    """Also who is no newcomer: then without a first order. A relation that is there ends for the same reason.

    Takes an admin where the program gives money: it says who earns.
    """
    made = await referral_corrections.rebind(
        act.why(data.reason),
        data.invitee_id,
        data.inviter_id,
        data.reason,
        idempotency_key(request),
        fingerprint(msgspec.json.encode(data)),
    )
    return created(made.answer, replayed=made.replayed)


StateFilter = Annotated[
    ShownState | None,
    QueryParameter(name="state", description="Only in this state; `refunded` are those of which nothing is left."),
]
EarnerFilter = Annotated[
    str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only what this shopper earns.")
]
PayerFilter = Annotated[
    str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of orders that this shopper paid.")
]
OrderFilter = Annotated[str | None, QueryParameter(pattern=FOREIGN_ID_PATTERN, description="Only of this order.")]
ReasonFilter = Annotated[ReviewReason | None, QueryParameter(description="Only what this reason put to review.")]


class CommissionRelease(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a commission may go on."""

    reason: ReleaseReason


class CommissionVoid(Struct, frozen=True, forbid_unknown_fields=True):
    """Why a commission is taken back."""

    reason: VoidReason


@for_operators(get, "/commissions", "admin_referral_commission_list", "List commissions", Role.VIEWER)
async def list_all(
    listing: NamedDependency[Listing],
    commissions: NamedDependency[Commissions],
    only: StateFilter = None,
    inviter_id: EarnerFilter = None,
    invitee_id: PayerFilter = None,
    order_id: OrderFilter = None,
    reason: ReasonFilter = None,
) -> Response[Page[Commission]]:
    """Newest first. With `Accept: text/csv` all of it as a file that spreadsheets open safely."""
    filters = CommissionFilter(
        state=only, inviter_id=inviter_id, invitee_id=invitee_id, order_id=order_id, reason=reason
    )
    return await listing.listed(Commission, "commission_id", partial(commissions.page, filters))


@for_operators(
    get,
    "/commissions/review",
    "admin_referral_commission_review_get",
    "Summarize commissions that wait for review",
    Role.VIEWER,
)
async def get_review(commissions: NamedDependency[Commissions]) -> list[InReview]:
    """By reason. One commission may have several; `GET /admin/v1/commissions?state=review` is the queue."""
    return await commissions.in_review()


@for_operators(
    get, "/commissions/{commission_id:str}", "admin_referral_commission_get", "Get a commission", Role.VIEWER
)
async def get_commission(commission_id: PathUuid, commissions: NamedDependency[Commissions]) -> Commission:
    """With the lines of its order as last told."""
    return await commissions.find(commission_id)


@for_operators(
    get,
    "/commissions/{commission_id:str}/explain",
    "admin_referral_commission_explain",
    "Explain a commission",
    Role.VIEWER,
)
async def explain(commission_id: PathUuid, commissions: NamedDependency[Commissions]) -> CommissionExplained:
    """The terms, each line with what was paid back of it, the cap, and every movement with the ledger's transfer."""
    return await commissions.explain(commission_id)


@for_operators(
    post,
    "/commissions/{commission_id:str}/release",
    "admin_referral_commission_release",
    "Release a commission from review",
    Role.ADMIN,
)
async def release(
    commission_id: PathUuid,
    data: JSONBody[CommissionRelease],
    act: NamedDependency[Act],
    commissions: NamedDependency[Commissions],
) -> Commission:
    """It goes on as if nothing had been found, and is not put to review again. 409 unless it is in review."""
    return await commissions.release(act, commission_id, data.reason)


@for_operators(
    post, "/commissions/{commission_id:str}/void", "admin_referral_commission_void", "Void a commission", Role.ADMIN
)
async def void(
    commission_id: PathUuid,
    data: JSONBody[CommissionVoid],
    act: NamedDependency[Act],
    commissions: NamedDependency[Commissions],
) -> Commission:
    """In any state; what was withdrawn of it is owed. 409 if it is void already."""
    return await commissions.void(act, commission_id, data.reason)


@for_operators(get, "", "admin_referral_review_rules_get", "Get the review rules", Role.VIEWER)
async def get_rules(reviews: NamedDependency[Reviews]) -> Response[ReviewRules]:
    """The ETag is the version that PUT asks for in If-Match."""
    version, rules = await reviews.rules()
    return JsonResponse(rules, headers={"ETag": etag(version)})


@for_operators(put, "", "admin_referral_review_rules_change", "Change the review rules", Role.ADMIN)
async def change_rules(
    data: JSONBody[ReviewRules], request: AnyRequest, act: NamedDependency[Act], reviews: NamedDependency[Reviews]
) -> Response[ReviewRules]:
    """Replaces all fields. Counts for commissions that are looked at from now on; what is in review stays there."""
    version = await reviews.change(act, if_match(request), data)
    return JsonResponse(data, headers={"ETag": etag(version)})


router = Router(
    path="/admin/v1/referral-programs",
    route_handlers=[
        *campaign_routes(
            PROGRAMS,
            ReferralPrograms,
            "referral_programs",
            "admin_referral_program",
            told={
                "create": "Nobody sees a draft; publish it when it is right.",
                "change": "Replaces all fields. Orders keep the terms of the moment they were paid at; relations keep"
                " their end.",
                "publish": "From now on it is the one that binds and pays.",
                "pause": "Binds nobody meanwhile. Relations there are go on earning.",
                "resume": "Shoppers are bound again.",
                "end": "Orders paid from now on earn nothing; what was earned takes its course.",
            },
            raises={"publish": [model.OTHER_IS_LIVE]},
        ),
        dry_run,
        get_stats,
    ],
    tags=["Operators: referrals"],
)
relations_router = Router(
    path="/admin/v1", route_handlers=[list_relations, end_relation, rebind], tags=["Operators: referrals"]
)
commissions_router = Router(
    path="/admin/v1",
    route_handlers=[list_all, get_review, get_commission, explain, release, void],
    tags=["Operators: commissions"],
)
review_router = Router(
    path="/admin/v1/review-rules", route_handlers=[get_rules, change_rules], tags=["Operators: commissions"]
)
