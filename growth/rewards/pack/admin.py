"""Operators' HTTP of the new-shopper pack."""

from typing import Any

from litestar import Request, Response, Router, get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody

from growth.plumbing.http.answers import JsonResponse, etag, if_match
from growth.plumbing.http.operators import act_of, requires
from growth.rewards.pack.model import Pack, PackDraft, PackPage
from growth.rewards.pack.service import Packs
from growth.vocabulary.actors import Operator, Role


@get("", operation_id="admin_pack_get", summary="Get the new-shopper pack", guards=[requires(Role.VIEWER)])
async def get_pack(packs: NamedDependency[Packs]) -> Response[PackPage]:
    """What whoever registers is given, once a person. The ETag is the version that PUT asks for in If-Match."""
    page = await packs.page()
    return JsonResponse(page, headers={"ETag": etag(page.pack.version)})


@put(
    "",
    operation_id="admin_pack_change",
    summary="Change the new-shopper pack",
    guards=[requires(Role.EDITOR)],
)
async def change_pack(
    data: JSONBody[PackDraft],
    request: Request[Any, Any, Any],
    operator: NamedDependency[Operator],
    packs: NamedDependency[Packs],
) -> Response[Pack]:
    """Replaces all fields; `enabled` switches it on and off. Who had it before does not get the new one."""
    pack = await packs.change(act_of(request, operator), if_match(request), data)
    return JsonResponse(pack, headers={"ETag": etag(pack.version)})


router = Router(
    path="/admin/v1/new-shopper-pack", route_handlers=[get_pack, change_pack], tags=["Operators: new-shopper pack"]
)
