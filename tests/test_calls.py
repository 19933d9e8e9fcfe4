"""What generators and consoles read in the document: names of calls, sentences, tags, campaigns, bounds."""

import json
import re
from collections import Counter
from itertools import groupby
from typing import Any, get_args

import pytest
from litestar.routes import HTTPRoute

from growth import tables
from growth.kit.campaign.model import STEPS
from growth.kit.campaign.service import Campaigns
from growth.plumbing.docs.parts import Part
from tests.documented import nodes_of

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


def used_tags(document: JSON) -> set[str]:
    webhooks = [item["post"] for item in document["webhooks"].values()]
    return {tag for operation in [*calls_of(document), *webhooks] for tag in operation["tags"]}


async def test_every_tag_says_what_it_is_about_and_stands_where_its_readers_look(document: JSON) -> None:
    tags = {tag["name"]: tag for tag in document["tags"]}
    assert len(tags) == len(document["tags"])
    assert tags.keys() == used_tags(document)
    assert [name for name, tag in tags.items() if not tag.get("description")] == []
    readers = [name.partition(":")[0] for name in tags]
    later = ["Order system", "Operators", "Probes", "Events"]
    assert [reader for reader, _ in groupby(readers) if reader in later] == later
    assert readers[0] not in later, "shoppers' calls come first"
    campaigns = [index for index, name in enumerate(tags) if "x-resource" in tags[name]]
    assert campaigns == list(range(campaigns[0], campaigns[0] + len(campaigns))), "campaigns stand together"
    assert list(tags)[campaigns[0] - 1] == "Order system", "and first among what operators call"


async def test_each_kind_of_campaign_is_told_with_its_steps_and_calls(document: JSON) -> None:
    async with tables.unconnected() as growth:
        kinds = {
            service.kind.path: service.kind
            for room in growth.rooms
            for service in room.services
            if isinstance(service, Campaigns)
        }
    told = [tag["x-resource"] for tag in document["tags"] if "x-resource" in tag]
    assert {one["kind"] for one in told} == kinds.keys()
    assert len(told) == len(kinds) == 7
    by_id = {operation["operationId"]: path for path, item in document["paths"].items() for operation in item.values()}
    for one in told:
        kind = kinds[one["kind"]]
        assert (one["id"], one["word"], one["verbs"]) == (kind.id_field, kind.noun, list(STEPS))
        assert {"list", "get", "create", "change", "check", "dry_run", "stats_get", *STEPS} <= one["calls"].keys()
        for name, operation_id in one["calls"].items():
            assert operation_id.endswith(name)
            assert by_id[operation_id].startswith(f"{ADMIN}{one['kind']}")


async def test_a_part_has_the_tags_of_its_own_calls(document: JSON) -> None:
    for part in get_args(Part):
        cut = json.loads(await tables.document(part, "en"))
        assert {tag["name"] for tag in cut["tags"]} == {tag for one in calls_of(cut) for tag in one["tags"]}
        assert [tag for tag in document["tags"] if tag in cut["tags"]] == cut["tags"]


async def test_tags_campaigns_and_events_are_told_in_chinese_too(document: JSON) -> None:
    chinese: JSON = json.loads(await tables.document(None, "zh"))
    assert [tag["name"] for tag in chinese["tags"]] == [tag["name"] for tag in document["tags"]]
    words = [text for tag in chinese["tags"] for text in (tag["x-displayName"], tag["description"])]
    words += [tag["x-resource"]["word"] for tag in chinese["tags"] if "x-resource" in tag]
    words += [item["post"]["summary"] for item in chinese["webhooks"].values()]
    assert [word for word in words if word.isascii()] == []
    assert all(item["post"]["summary"].isascii() for item in document["webhooks"].values())


async def test_each_status_of_a_claim_has_one_shape(document: JSON) -> None:
    answers = document["paths"]["/v1/flash-sales/{sale_id}/claims"]["post"]["responses"]
    shapes = [answers[status]["content"]["application/json"]["schema"]["$ref"] for status in ("201", "202")]
    assert [shape.rpartition("/")[2] for shape in shapes] == ["ClaimPage", "EntryPage"]


def bound_beside_a_choice(document: JSON) -> list[JSON]:
    bounds = {"format", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
    return [node for node in nodes_of(document) if {"oneOf", "anyOf"} & node.keys() and bounds & node.keys()]


async def test_what_binds_a_value_stands_beside_its_type_and_every_default_is_told(document: JSON) -> None:
    assert bound_beside_a_choice(document) == []
    assert len(bound_beside_a_choice({"tea": {"oneOf": [{"type": "null"}, {"type": "integer"}], "minimum": 1}})) == 1
    schemas = document["components"]["schemas"]
    max_grants = schemas["Budget"]["properties"]["max_grants"]
    assert {"type": "integer", "minimum": 1, "maximum": 10**12} in max_grants["oneOf"]
    assert len(schemas["CheckinDraft"]["properties"]["rewards"]["default"]) == 7


STATES = {"state", "would", "outcome"}


def told_in_prose(schemas: JSON) -> list[str]:
    return [
        f"{name}.{field}"
        for name, schema in schemas.items()
        for field, told in schema.get("properties", {}).items()
        if field in STATES and told.get("type") == "string" and "enum" not in told
    ]


async def test_values_that_clients_choose_by_are_listed(document: JSON) -> None:
    schemas = document["components"]["schemas"]
    assert told_in_prose({name: schema for name, schema in schemas.items() if not name.startswith("Event")}) == []
    assert "event.too_old" in schemas["Rejection"]["properties"]["code"]["enum"]
    assert "told_before" in schemas["TaskDryRun"]["properties"]["code"]["enum"]
    assert told_in_prose({"Tea": {"properties": {"state": {"type": "string"}, "leaf": {"type": "string"}}}}) == [
        "Tea.state"
    ]


async def test_what_all_webhooks_share_stands_once(document: JSON) -> None:
    for item in document["webhooks"].values():
        shared = [*item["post"]["parameters"], *item["post"]["responses"].values()]
        assert all(one.keys() == {"$ref"} for one in shared)
        (media,) = item["post"]["requestBody"]["content"].values()
        assert media["schema"]["allOf"] == [{"$ref": "#/components/schemas/CloudEvent"}]
        assert media["schema"]["properties"].keys() == {"type", "data"}
    deprecated = {name for name, item in document["webhooks"].items() if item["post"].get("deprecated")}
    assert deprecated == {"coupon.refund_required", "flash_sale.refund_required", "group_buy.refund_required"}
