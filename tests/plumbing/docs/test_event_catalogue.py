"""The catalogue: every event has a word for when, for each field, and an example; the document says the same."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from jsonschema_rs import Draft202012Validator

from growth.cli import cli
from growth.plumbing.docs.event_catalogue import OF_THE_ENVELOPE, EventDescription, catalogue
from growth.plumbing.outbox.outbox import events_below
from growth.vocabulary.events import Event
from growth.vocabulary.events.glossary import GLOSSARY
from tests.app import RunningApp, running_app

pytestmark = pytest.mark.anyio

JSON = dict[str, Any]
MIN_CHARACTERS = 5


@pytest.fixture
async def app(postgres_dsn: str, redis_url: str) -> AsyncIterator[RunningApp]:
    async with running_app(postgres_dsn, redis_url) as app:
        yield app


def faults(entry: EventDescription) -> list[str]:
    found = [] if len(entry.when) >= MIN_CHARACTERS else [f"{entry.name} does not say when"]
    if entry.event.__doc__ in {base.__doc__ for base in entry.event.__mro__[1:]}:
        found.append(f"{entry.name} says what its base says")
    return found + [
        f"{entry.name}: {field.name} is not described" for field in entry.fields if len(field.told) < MIN_CHARACTERS
    ]


def test_every_event_of_the_house_is_in_the_catalogue_once() -> None:
    names = [entry.name for entry in catalogue()]
    ours = {name for name, event in events_below(Event) if event.__module__.startswith("growth.")}
    assert set(names) == ours
    assert len(names) == len(ours) > 30


def test_every_event_says_when_and_what_each_field_is() -> None:
    assert [fault for entry in catalogue() for fault in faults(entry)] == []


def test_an_event_that_says_nothing_is_seen() -> None:
    entry = catalogue()[0]
    assert not faults(entry)
    mute = msgspec.structs.replace(
        entry, when="", fields=(msgspec.structs.replace(entry.fields[0], told=""), *entry.fields[1:])
    )
    assert len(faults(mute)) == 2


@pytest.mark.parametrize("entry", catalogue(), ids=lambda entry: entry.name)
def test_an_example_is_an_event_again(entry: EventDescription) -> None:
    example = entry.example
    event = msgspec.convert(example["data"] | {"type": example["type"], "at": example["time"]}, entry.event)
    assert event.subject == example["subject"]
    assert example["type"] == entry.name
    assert set(example["data"]) == {field.name for field in entry.fields}
    assert not set(OF_THE_ENVELOPE) & set(example["data"])


def test_the_glossary_has_no_word_that_nobody_uses() -> None:
    used = {field.name for entry in catalogue() for field in entry.fields}
    # Rooms are being built: their words may wait for them a little.
    waiting = {"program_id", "task_id", "template_id", "coupon_id", "refund_id"}
    assert set(GLOSSARY) - used <= waiting


async def test_the_documents_webhooks_are_the_catalogue(app: RunningApp) -> None:
    document: JSON = (await app.client.get("/openapi.json")).json()
    webhooks: Mapping[str, JSON] = document["webhooks"]
    assert list(webhooks) == [entry.name for entry in catalogue()]
    for entry in catalogue():
        operation = webhooks[entry.name]["post"]
        content = operation["requestBody"]["content"]["application/cloudevents+json"]
        assert operation["description"] == entry.when
        assert content["example"] == entry.example
        validator = Draft202012Validator({**content["schema"], "components": document["components"]})
        assert list(validator.iter_errors(entry.example)) == []
        assert list(validator.iter_errors(entry.example | {"type": "tea.poured"})) != []
        data = document["components"]["schemas"][content["schema"]["properties"]["data"]["$ref"].rpartition("/")[2]]
        assert set(data["properties"]) == {field.name for field in entry.fields}
        assert {name: shape.get("description") for name, shape in data["properties"].items()} == {
            field.name: field.told for field in entry.fields
        }
    names = [operation["post"]["operationId"] for operation in webhooks.values()]
    assert len(set(names)) == len(names)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_the_command_lists_all_and_shows_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    runner = CliRunner()
    listed = runner.invoke(cli, ["events"])
    assert listed.exit_code == 0
    one = runner.invoke(cli, ["events", "flash_sale.claim_held"])
    assert one.exit_code == 0, one.output
    assert runner.invoke(cli, ["events", "tea.poured"]).exit_code == 2
