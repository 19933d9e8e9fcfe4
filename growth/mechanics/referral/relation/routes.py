"""Shoppers' HTTP of relations: saying who brought me."""

from typing import Annotated, ClassVar

from litestar import Router, put
from litestar.di import NamedDependency
from litestar.params import JSONBody
from msgspec import Meta, Struct

from growth.mechanics.referral.inviter.model import MyInviter
from growth.mechanics.referral.relation.model import mask_id
from growth.mechanics.referral.relation.service import Bound, Relations
from growth.vocabulary import clock
from growth.vocabulary.actors import Shopper
from growth.vocabulary.names import MAX_TYPED_CHARACTERS, Decoration


class InviterRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose code a shopper came by."""

    mends_text: ClassVar[bool] = True
    code: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_TYPED_CHARACTERS,
            description="A code, in any case, width and grouping; or the `scene` that carries it.",
        ),
    ]
    nickname: Decoration | None = None
    """Shown to the inviter as its first character and a star; no more of it is kept."""


@put("/referral/inviter", operation_id="referral_inviter_set", summary="Name my inviter")
async def bind(
    data: JSONBody[InviterRequest], shopper: NamedDependency[Shopper], referral_relations: NamedDependency[Relations]
) -> MyInviter:
    """The first touch counts; the same again is the same.

    404 `referral.unknown_code`; 409 `referral.own_code`, `.already_bound`, `.loop`, `.not_new`, `.no_program`; 429 for
    who tries many codes.
    """
    return show_inviter(await referral_relations.bind(shopper.user_id, data.code, data.nickname, clock.now()))


def show_inviter(bound: Bound) -> MyInviter:
    """Show a relation to the shopper who was brought."""
    return MyInviter(
        inviter=mask_id(bound.inviter_id), bound_at=bound.bound_at, ends_at=bound.ends_at, server_time=bound.at
    )


router = Router(path="/v1", route_handlers=[bind], tags=["Referrals"])
