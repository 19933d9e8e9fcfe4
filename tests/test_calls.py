"""Calls are named by one scheme, told in sentences, and sorted under tags that say what they are about."""

import json
import re
from collections import Counter
from typing import Any

import pytest
from litestar.routes import HTTPRoute

from growth import tables

pytestmark = pytest.mark.anyio

JSON = dict[str, Any]

ADMIN = "/admin/v1/"
CALLED = {"plumbing": "system"}
"""Rooms whose calls begin with another word than their name: nobody outside knows that there is plumbing."""
ROOFLESS = "system"
"""What calls begin with that no room answers: the probes."""

VERBS = {
    "GET": "list get check explain export",
    "PUT": "change set",
    "DELETE": "cancel delete erase leave release",
    "POST": (
        "approve check check_in complete create disable discard dry_run enable end fail invite "
        "make_up mark_failed mark_paid merge open pause publish quote rebind receive redeem reject release report "
        "request resend resume retry revoke rotate take test void"
    ),
}
"""What a call does, the last word of its operationId, by method."""

SUMMARY = re.compile(r"[A-Z][a-z]+ .*\w")
"""Begins with a verb and has more to say; a title, without a full stop."""


def fault_of(operation_id: str, method: str, path: str, room: str) -> str | None:
    """What is wrong with an operationId, if anything is; `room` is the one that answers."""
    begin = ("admin_" if path.startswith(ADMIN) else "") + CALLED.get(room, room) + "_"
    if not operation_id.startswith(begin):
        return f"{operation_id}: {method} {path} is a call of {room}, its id begins with {begin}"
    rest = operation_id.removeprefix(begin)
    if not re.fullmatch(r"[a-z]+(_[a-z]+)*", rest):
        return f"{operation_id}: not in words of small letters with one _ between them"
    if not any(rest == verb or rest.endswith(f"_{verb}") for verb in VERBS[method].split()):
        return f"{operation_id}: {method} ends with one of: {VERBS[method]}"
    return None


@pytest.fixture
async def document() -> JSON:
    document: JSON = json.loads(await tables.document(None, "en"))
    return document


def calls_of(document: JSON) -> list[JSON]:
    return [operation for operations in document["paths"].values() for operation in operations.values()]


async def test_every_call_is_named_by_its_room_what_it_is_about_and_what_it_does(document: JSON) -> None:
    async with tables.unconnected() as growth:
        rooms = {
            route.path_format: room.name
            for room in growth.rooms
            for router in room.routers
            for route in router.routes
            if isinstance(route, HTTPRoute)
        }
    named = [
        (operation["operationId"], method.upper(), path, rooms.get(path, ROOFLESS))
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    assert {path for _, _, path, room in named if room == ROOFLESS} == {"/livez", "/readyz"}
    assert [fault for call in named if (fault := fault_of(*call))] == []


@pytest.mark.parametrize(
    ("operation_id", "method", "path", "said"),
    [
        ("flash_sale_claim_create", "POST", "/v1/flash-sales/{sale_id}/claims", None),
        ("admin_flash_sale_dry_run", "POST", "/admin/v1/flash-sales/{sale_id}/dry-run", None),
        ("claims_of_sale", "GET", "/v1/flash-sales/{sale_id}/claims", "begins with flash_sale_"),
        ("flash_sale_claim_list", "GET", "/admin/v1/claims", "begins with admin_flash_sale_"),
        ("LivezLivez", "GET", "/livez", "begins with flash_sale_"),
        ("flash_sale_claimList", "GET", "/v1/claims", "small letters"),
        ("flash_sale__list", "GET", "/v1/claims", "small letters"),
        ("flash_sale_reminder", "GET", "/v1/claims", "GET ends with one of"),
        ("flash_sale_claim_create", "GET", "/v1/claims", "GET ends with one of"),
        ("flash_sale_do_not_remind", "DELETE", "/v1/claims", "DELETE ends with one of"),
    ],
)
def test_an_id_that_breaks_the_scheme_is_told_why(operation_id: str, method: str, path: str, said: str | None) -> None:
    fault = fault_of(operation_id, method, path, "flash_sale")
    assert fault is None if said is None else fault is not None and said in fault


async def test_a_verb_that_no_call_uses_is_no_verb(document: JSON) -> None:
    unused = {f"{method} {verb}" for method, verbs in VERBS.items() for verb in verbs.split()}
    for operations in document["paths"].values():
        for method, operation in operations.items():
            unused -= {
                f"{method.upper()} {verb}"
                for verb in VERBS[method.upper()].split()
                if operation["operationId"].endswith(f"_{verb}")
            }
    assert unused == set()


def faults_of_summaries(calls: list[JSON]) -> list[str]:
    told = Counter((tag, operation["summary"]) for operation in calls for tag in operation["tags"])
    return [
        *(f"told twice under {tag}: {summary}" for (tag, summary), times in told.items() if times > 1),
        *(f"no sentence: {one['summary']}" for one in calls if not SUMMARY.fullmatch(one["summary"])),
    ]


async def test_every_call_is_told_in_a_sentence_of_its_own(document: JSON) -> None:
    assert faults_of_summaries(calls_of(document)) == []


def test_a_word_alone_and_one_summary_of_two_calls_are_seen() -> None:
    calls = [{"tags": ["Tea"], "summary": summary} for summary in ("Numbers", "List teas.", "Get a tea", "Get a tea")]
    assert faults_of_summaries(calls) == [
        "told twice under Tea: Get a tea",
        "no sentence: Numbers",
        "no sentence: List teas.",
    ]
