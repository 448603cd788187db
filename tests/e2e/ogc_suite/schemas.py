"""The two ways in which the suite validates a document.

*Remote* schemas are the YAML files of the standard, read as JSON Schema draft 7. The *bundled* description of the API
is OpenAPI 3.0: ``nullable`` counts, ``exclusiveMinimum`` is a boolean, ``byte`` and ``date-time`` are checked, and
``oneOf`` takes exactly one branch. Both are read from the folder of the standard's schemas; nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft7Validator, FormatChecker
from jsonschema.protocols import Validator
from openapi_schema_validator import OAS30Validator
from referencing import Registry, Resource, Specification
from referencing.jsonschema import DRAFT4, DRAFT7

from tests.e2e.ogc_suite.wire import JSON, Answer

BASE = "https://schemas.opengis.net/ogcapi/processes/part1/1.0/openapi/schemas/"
PROBLEM_JSON = "application/problem+json"

BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
DATE_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})")

FORMATS = FormatChecker(formats=())
FORMATS.checks("byte")(lambda value: not isinstance(value, str) or BASE64.fullmatch(value) is not None)
FORMATS.checks("date-time")(lambda value: not isinstance(value, str) or DATE_TIME.fullmatch(value) is not None)

OPERATIONS: dict[str, dict[str, str]] = {
    "getProcessDescription": {"200": "process.yaml"},
    "getJobs": {"200": "jobList.yaml"},
    "getStatus": {"200": "statusInfo.yaml"},
    "getResult": {"200": "results.yaml"},
    "execute": {"200": "#execute", "201": "#empty"},
}
"""The schema of each answer in the bundled description; every other status takes an exception."""

SYNC_RESULT: dict[str, Any] = {
    "oneOf": [
        {"$ref": f"{BASE}results.yaml"},
        {"$ref": f"{BASE}exception.yaml"},
        {"type": "object"},
        {"type": "string", "format": "binary"},
        {"type": "string", "format": "byte"},
        {"type": "string"},
        {"type": "number"},
        {"type": "boolean"},
    ]
}
"""What the bundled description allows as the answer to a synchronous execution: exactly one of these."""


class Schemas:
    """The schemas of Part 1, version 1.0, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def remote_faults(self, name: str, document: Any) -> list[str]:
        """Return what is wrong with a document by a remote schema, e.g. ``landingPage.yaml``."""
        schema = {"$ref": BASE + name}
        return _faults(Draft7Validator(schema, registry=self._draft7, format_checker=FORMATS), document)

    def bundled_faults(self, schema: dict[str, Any], document: Any) -> list[str]:
        """Return what is wrong with a document by a schema in which ``$ref`` names files of the standard."""
        return _faults(OAS30Validator(schema, registry=self._openapi, format_checker=FORMATS), document)

    def assert_remote(self, name: str, answer: Answer) -> None:
        """Fail unless the body is valid by a remote schema."""
        faults = self.remote_faults(name, answer.json())
        assert not faults, f"{answer}\nis invalid by {name}: {faults}"

    def assert_operation(self, operation: str, answer: Answer, *, content_type: str | None = None) -> None:
        """Fail unless the bundled description allows this answer of an operation."""
        allowed = OPERATIONS[operation].get(str(answer.status), "exception.yaml")
        document = answer.json()
        if allowed == "#empty":
            return
        schema = SYNC_RESULT if allowed == "#execute" else {"$ref": BASE + allowed}
        media_type = (content_type or answer.first("Content-Type")).split(";")[0].strip().lower()
        assert allowed == "#execute" or media_type == JSON, f"{answer}\nhas a media type that is not described"
        faults = self.bundled_faults(schema, document)
        assert not faults, f"{answer}\nis invalid for {operation}: {faults}"

    def assert_response(self, operation: str, answer: Answer) -> None:
        """As `assert_operation`, after the suite's one indulgence: bare ``application/problem+json`` counts as JSON."""
        content_type = answer.first("Content-Type")
        self.assert_operation(operation, answer, content_type=JSON if content_type == PROBLEM_JSON else content_type)

    @cached_property
    def _draft7(self) -> Registry[Any]:
        return Registry(retrieve=self._reader(DRAFT7))

    @cached_property
    def _openapi(self) -> Registry[Any]:
        return Registry(retrieve=self._reader(DRAFT4))

    def _reader(self, dialect: Specification[Any]) -> Callable[[str], Resource[Any]]:
        read: dict[str, Resource[Any]] = {}

        def retrieve(uri: str) -> Resource[Any]:
            if uri not in read:
                file = self.folder / uri.removeprefix(BASE)
                read[uri] = Resource.from_contents(yaml.safe_load(file.read_text(encoding="utf-8")), dialect)
            return read[uri]

        return retrieve


def _faults(validator: Validator, document: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
