"""Holds answers to the OpenAPI document: whatever a test is about, what it is told is what the document promises."""

import re
from collections.abc import Iterator
from typing import Any

import httpx
from jsonschema_rs import Draft202012Validator

JSON = dict[str, Any]

UNDOCUMENTED = {304, 405, 500}
"""What HTTP itself may answer, and what only a bug does."""

_TIME = re.compile(r'"(\d{4}-\d\d-\d\dT[^"]*)"')
_OUR_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def nodes_of(node: object) -> Iterator[JSON]:
    """Every object in a document, whatever it stands in."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from nodes_of(child)


class Document:
    """The document, as something to hold answers to."""

    def __init__(self, document: JSON) -> None:
        self.document = document
        self._paths = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), item)
            for path, item in sorted(document["paths"].items(), key=lambda one: "{" in one[0].rpartition("/")[2])
        ]
        self._validators: dict[int, Draft202012Validator] = {}

    def operation(self, method: str, path: str) -> JSON | None:
        """The operation that serves such a request, if any; a fixed path comes before one with a parameter."""
        found = [item for pattern, item in self._paths if pattern.fullmatch(path)]
        operations: list[JSON] = [item[method.lower()] for item in found if method.lower() in item]
        return operations[0] if operations else None

    def faults(self, response: httpx.Response) -> list[str]:
        """What the document does not say about this answer."""
        operation = self.operation(response.request.method, response.request.url.path)
        if operation is None or response.status_code in UNDOCUMENTED:
            return []
        name = operation["operationId"]
        answer = self._resolved(operation["responses"].get(str(response.status_code)))
        if answer is None:
            return [f"{name} does not answer {response.status_code}: {response.text[:300]}"]
        media_type = response.headers.get("content-type", "").partition(";")[0]
        media = answer.get("content", {}).get(media_type)
        if media is None:
            return [f"{name} {response.status_code} is no {media_type}"] if response.content else []
        if not media_type.endswith("json"):
            return []
        return [
            f"{name} {response.status_code} at {error.instance_path}: {error.message}"
            for error in self._validator(media["schema"]).iter_errors(response.json())
        ] + [f"{name} {response.status_code}: {time} is not in milliseconds" for time in _other_times(response.text)]

    def _resolved(self, answer: JSON | None) -> JSON | None:
        """The answer itself, where the operation refers to one that calls share."""
        if answer is None or "$ref" not in answer:
            return answer
        shared: JSON = self.document["components"]["responses"][answer["$ref"].rpartition("/")[2]]
        return shared

    def _validator(self, schema: JSON) -> Draft202012Validator:
        if id(schema) not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[id(schema)] = Draft202012Validator(whole, validate_formats=True)
        return self._validators[id(schema)]


def _other_times(text: str) -> list[str]:
    return [time for time in _TIME.findall(text) if not _OUR_TIME.fullmatch(time)]
