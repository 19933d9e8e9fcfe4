"""Operators' HTTP of the rules that put commissions to review."""

from typing import Any

from litestar import Request, Response, Router, get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody

from growth.mechanics.referral.review.model import ReviewRules
from growth.mechanics.referral.review.service import Reviews
from growth.plumbing.http.answers import JsonResponse, etag, if_match
from growth.plumbing.http.operators import act_of, requires
from growth.vocabulary.actors import Operator, Role


@get("", operation_id="admin_referral_review_rules_get", summary="Get the review rules", guards=[requires(Role.VIEWER)])
async def get_rules(reviews: NamedDependency[Reviews]) -> Response[ReviewRules]:
    """The ETag is the version that PUT asks for in If-Match."""
    version, rules = await reviews.rules()
    return JsonResponse(rules, headers={"ETag": etag(version)})


@put(
    "",
    operation_id="admin_referral_review_rules_change",
    summary="Change the review rules",
    guards=[requires(Role.ADMIN)],
)
async def change_rules(
    data: JSONBody[ReviewRules],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    reviews: NamedDependency[Reviews],
) -> Response[ReviewRules]:
    """Replaces all fields. Counts for commissions that are looked at from now on; what is in review stays there."""
    version = await reviews.change(act_of(request, operator), if_match(request), data)
    return JsonResponse(data, headers={"ETag": etag(version)})


router = Router(
    path="/admin/v1/review-rules", route_handlers=[get_rules, change_rules], tags=["Operators: commissions"]
)
