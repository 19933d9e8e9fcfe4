"""WORDS: all that the document names has a Chinese word, and nothing else has."""

from collections.abc import Mapping
from typing import Any

import pytest

from growth.bootstrap import assembled
from growth.plumbing.docs.openapi import complete
from growth.plumbing.docs.words import KINDS, Name, TwoWordsError, Word, files, merged, named, translated, words
from growth.plumbing.settings import load_settings
from growth.web import Routes
from tests.architecture.source import HOUSE

pytestmark = pytest.mark.anyio

JSON = dict[str, Any]

NOWHERE = {
    "GROWTH_ENVIRONMENT": "development",
    "GROWTH_POSTGRES_DSN": "postgresql://nowhere",
    "GROWTH_REDIS_URL": "redis://nowhere",
    "GROWTH_JWT_SECRET": "x" * 32,
    "GROWTH_SHOP_SECRETS": "whsec_" + "A" * 44,
}


async def the_document() -> JSON:
    async with assembled(load_settings(NOWHERE), connect_now=False) as growth:
        app = Routes(growth, serves_docs=True).litestar
        return complete(app.openapi_schema.to_schema(), app)


def faults(needed: set[Name], told: Mapping[Name, Word]) -> list[str]:
    """What is wrong with the words, a line each."""
    return [
        *(f"missing: {kind} {name}" for kind, name in sorted(needed - told.keys())),
        *(f"used by nothing: {kind} {name}" for kind, name in sorted(told.keys() - needed)),
        *(
            f"not Chinese: {kind} {name}: {word.zh!r}"
            for (kind, name), word in sorted(told.items())
            if word.zh.isascii()
        ),
        *(
            f"not Chinese: help of {kind} {name}"
            for (kind, name), word in sorted(told.items())
            if (word.help or kind == "tag") and word.help.isascii()
        ),
        *(
            f"no English: {kind} {name}"
            for (kind, name), word in sorted(told.items())
            if (kind == "tag") != bool(word.en)
        ),
    ]


async def test_all_that_the_document_names_has_a_chinese_word_and_nothing_else_has() -> None:
    found = faults(named(await the_document()), words())
    assert not found, "\n".join(found)


def test_words_stand_beside_a_room_or_in_the_documents_folder() -> None:
    alone = [
        path for path in files() if path.parent != HOUSE / "plumbing/docs" and not path.with_name("room.py").exists()
    ]
    assert not alone


def test_the_rule_finds_what_is_missing_left_over_empty_or_english() -> None:
    needed = {("field", "sku"), ("value", "paid"), ("code", "auth.token_missing"), ("call", "ledger_points_get")}
    needed |= {("event", "task.completed"), ("tag", "Tasks")}
    good = {name: Word("好") if name[0] != "tag" else Word("好", "好", "Good.") for name in needed}
    assert not faults(needed, good)
    for name in needed:
        kind, own = name
        assert faults(needed, {one: good[one] for one in needed - {name}}) == [f"missing: {kind} {own}"]
        assert faults(needed - {name}, good) == [f"used by nothing: {kind} {own}"]
        word = good[name]
        assert faults(needed, good | {name: word._replace(zh="")}) == [f"not Chinese: {kind} {own}: ''"]
        assert faults(needed, good | {name: word._replace(zh="Good")}) == [f"not Chinese: {kind} {own}: 'Good'"]
        assert faults(needed, good | {name: word._replace(help="in fen")}) == [f"not Chinese: help of {kind} {own}"]
    assert faults(needed, good | {("tag", "Tasks"): Word("好")}) == [
        "not Chinese: help of tag Tasks",
        "no English: tag Tasks",
    ]


def test_the_rule_sees_each_kind_of_name() -> None:
    document = {
        "paths": {
            "/": {
                "get": {"operationId": "ledger_points_get", "parameters": [{"name": "q", "in": "query", "schema": {}}]}
            }
        },
        "webhooks": {"task.completed": {"post": {"schema": {"const": "task.completed"}}}},
        "tags": [{"name": "Tasks"}],
        "components": {
            "examples": {"auth.token_missing": {"value": {"type": "object", "properties": {"not": 1}}}},
            "schemas": {
                "One": {"type": "object", "properties": {"sku": {"enum": ["paid", None, 1, "auth.token_missing"]}}}
            },
        },
    }
    assert named(document) == {
        ("call", "ledger_points_get"),
        ("field", "q"),
        ("field", "sku"),
        ("value", "paid"),
        ("code", "auth.token_missing"),
        ("event", "task.completed"),
        ("tag", "Tasks"),
    }


def test_two_rooms_may_tell_a_word_together_but_not_two_words() -> None:
    one, other = {"field": {"sku": {"zh": "商品"}}}, {"field": {"sku": {"zh": "货号"}}}
    assert merged([one, one]) == {("field", "sku"): Word("商品")}
    with pytest.raises(TwoWordsError):
        merged([one, other])


async def test_the_document_in_chinese_names_all_that_it_did_and_says_it_in_chinese() -> None:
    english = await the_document()
    chinese = translated(english, "zh")
    assert translated(english, "en") is english
    assert named(chinese) == named(english)
    call = chinese["paths"]["/v1/flash-sales/{sale_id}/claims"]["post"]
    assert call["summary"] == "参与秒杀"
    assert english["paths"]["/v1/flash-sales/{sale_id}/claims"]["post"]["summary"].isascii()
    refusal = chinese["components"]["examples"]["flash_sale.not_open"]
    assert refusal["summary"] == "活动还没开始，请稍后再来"  # noqa: RUF001 - as Chinese is written
    assert refusal["value"] == english["components"]["examples"]["flash_sale.not_open"]["value"]
    price = chinese["components"]["schemas"]["Sale"]["properties"]["price_fen"]
    assert price["title"] == "活动价"
    assert price["description"].startswith("单位")
    assert {kind for kind, _ in words()} == set(KINDS)
