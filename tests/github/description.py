"""GitHub's published OpenAPI description, to which every request to the test GitHub is held.

`make test` fetches it into `var/`; it is never committed. https://github.com/octokit/openapi
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

VERSION = "23.0.2"
SHA256 = "829b4bebb19a53133289f7b0bc819f4f1118115821db2ca9f25e9ee995a7da2a"
FILE = Path(__file__).parents[2] / "var" / "openapi" / f"api.github.com-{VERSION}.json"

Json = dict[str, Any]


@functools.cache
def description() -> "Description | None":
    """Read once a process, since it has 13 MB; None where it was not fetched."""
    if not FILE.exists():
        return None
    raw = FILE.read_bytes()
    assert hashlib.sha256(raw).hexdigest() == SHA256, f"{FILE} is not the description that was looked at"
    return Description(json.loads(raw))


@dataclass
class Operation:
    """One method of one path."""

    path: re.Pattern[str]
    fixed: int  # characters of the path that are no parameter; of two that match, the one with more is meant
    shape: Json  # as described


class Description:
    """Compares requests with an OpenAPI 3.0 document."""

    def __init__(self, document: Json) -> None:
        self._document = document
        self._operations: dict[str, list[Operation]] = {}
        for path, methods in document["paths"].items():
            for method, shape in methods.items():
                pattern = re.sub(r"\\{(\w+)\\}", self._segment, re.escape(path))
                found = Operation(re.compile(pattern), len(re.sub(r"{\w+}", "", path)), shape)
                self._operations.setdefault(method.upper(), []).append(found)

    @staticmethod
    def _segment(parameter: re.Match[str]) -> str:
        """A path within a repository, and a reference, may have slashes."""
        return ".+" if parameter[1] in ("path", "ref") else "[^/]+"

    def problems(self, method: str, path: str, query: str, body: bytes) -> list[str]:
        """What is wrong with the request, by the description; `path` as it was sent, below the API's address."""
        found = [each for each in self._operations.get(method, []) if each.path.fullmatch(path)]
        if not found:
            return [f"{method} {path}: there is no such operation"]
        shape = max(found, key=lambda each: each.fixed).shape
        wrong = [*self._of_query(shape, query), *self._of_body(shape, body)]
        return [f"{method} {path}: {each}" for each in wrong]

    def _of_query(self, shape: Json, query: str) -> Iterator[str]:
        known = {
            each["name"]: each for each in map(self._resolved, shape.get("parameters", [])) if each["in"] == "query"
        }
        sent = dict(parse_qsl(query, keep_blank_values=True))
        yield from (f"there is no parameter {name}" for name in sent if name not in known)
        yield from (f"{name} is required" for name, each in known.items() if each.get("required") and name not in sent)
        for name in sent.keys() & known.keys():
            schema = self._strict(known[name]["schema"])
            value = int(sent[name]) if schema.get("type") == "integer" and sent[name].isdigit() else sent[name]
            yield from self._wrong(schema, value, name)

    def _of_body(self, shape: Json, body: bytes) -> Iterator[str]:
        described = self._resolved(shape.get("requestBody", {}))
        if not body:
            if described.get("required"):
                yield "there is no body"
            return
        content = described.get("content", {}).get("application/json")
        if content is None:
            yield "it takes no JSON"
            return
        try:
            value = json.loads(body)
        except ValueError:
            yield "the body is not JSON"
            return
        yield from self._wrong(self._strict(content["schema"]), value, "body")

    def _wrong(self, schema: Json, value: object, where: str) -> Iterator[str]:
        from jsonschema import Draft4Validator  # the demo, which runs this server, is installed without it

        for error in Draft4Validator(schema).iter_errors(value):
            yield f"{'.'.join([where, *map(str, error.absolute_path)])}: {error.message[:300]}"

    def _resolved(self, shape: Json) -> Json:
        while "$ref" in shape:
            _, *parts = shape["$ref"].split("/")
            shape = functools.reduce(lambda node, part: node[part], parts, self._document)
        return shape

    def _strict(self, schema: Json, *, closed: bool = True) -> Json:
        """As JSON Schema knows it: references replaced, `nullable` a type, and no properties but those described."""
        schema = dict(self._resolved(schema))
        for name in ("oneOf", "anyOf", "allOf"):
            if name in schema:
                schema[name] = [self._strict(each, closed=closed and name != "allOf") for each in schema[name]]
        if "items" in schema:
            schema["items"] = self._strict(schema["items"])
        if "properties" in schema:
            schema["properties"] = {name: self._strict(each) for name, each in schema["properties"].items()}
            if closed and not schema.keys() & {"additionalProperties", "oneOf", "anyOf", "allOf"}:
                schema["additionalProperties"] = False
        if isinstance(schema.get("additionalProperties"), Mapping):
            schema["additionalProperties"] = self._strict(schema["additionalProperties"])
        if schema.pop("nullable", False):
            return {"anyOf": [{"type": "null"}, schema]}
        return schema
