"""Operators' HTTP of the new-shopper pack."""

from litestar import Response, Router, get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody

from growth.plumbing.http.answers import AnyRequest, JsonResponse, etag, if_match
from growth.plumbing.http.operators import for_operators
from growth.plumbing.watch.audit import Act
from growth.rewards.pack.model import Pack, PackDraft, PackPage
from growth.rewards.pack.service import Packs
from growth.vocabulary.actors import Role


@for_operators(get, "", "admin_pack_get", "Get the new-shopper pack", Role.VIEWER)
async def get_pack(packs: NamedDependency[Packs]) -> Response[PackPage]:
    """What whoever registers is given, once a person. The ETag is the version that PUT asks for in If-Match."""
    page = await packs.page()
    return JsonResponse(page, headers={"ETag": etag(page.pack.version)})


@for_operators(put, "", "admin_pack_change", "Change the new-shopper pack", Role.EDITOR)
async def change_pack(
    data: JSONBody[PackDraft], request: AnyRequest, act: NamedDependency[Act], packs: NamedDependency[Packs]
) -> Response[Pack]:
    """Replaces all fields; `enabled` switches it on and off. Who had it before does not get the new one."""
    pack = await packs.change(act, if_match(request), data)
    return JsonResponse(pack, headers={"ETag": etag(pack.version)})


router = Router(
    path="/admin/v1/new-shopper-pack", route_handlers=[get_pack, change_pack], tags=["Operators: new-shopper pack"]
)
