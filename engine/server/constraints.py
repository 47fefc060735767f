"""Fields that say what form the text must have."""

import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StrictBool

from engine.errors import RequestError
from engine.server.fields import Closed, Listed, Stop
from engine.text.grammar import Grammar

MAX_STRUCTURED_CHOICES = 4096


class StructuredOutputs(Closed):
    """Constraints on the text, in one of four forms, named as in vLLM."""

    model_config = ConfigDict(populate_by_name=True)

    json_schema: dict[str, Any] | str | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: Annotated[Listed[Stop], Field(min_length=1, max_length=MAX_STRUCTURED_CHOICES)] | None = None
    grammar: str | None = None  # in llguidance's dialect of Lark

    def chosen(self) -> Grammar:
        """The form that is given.

        Raises:
            RequestError: there is none, or more than one.
        """
        field = "structured_outputs"
        found: list[Grammar] = []
        if self.json_schema is not None:
            schema = self.json_schema if isinstance(self.json_schema, str) else json.dumps(self.json_schema)
            found.append(Grammar("json", schema, field))
        if self.regex is not None:
            found.append(Grammar("regex", self.regex, field))
        if self.choice is not None:
            found.append(Grammar("choice", json.dumps(self.choice), field))
        if self.grammar is not None:
            found.append(Grammar("lark", self.grammar, field))
        if len(found) != 1:
            raise RequestError("give exactly one of json, regex, choice and grammar", field)
        return found[0]


class JsonSchema(Closed):
    """The schema of a `response_format`; the answer follows it strictly, whatever `strict` says."""

    name: str | None = None
    description: str | None = None
    strict: StrictBool | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")


class ResponseFormat(Closed):
    """OpenAI's option for JSON answers."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def grammar(self) -> Grammar | None:
        """The requested grammar; `None`: any text.

        Raises:
            RequestError: the schema is missing.
        """
        if self.type == "text":
            return None
        if self.type == "json_object":
            return Grammar("json", json.dumps({"type": "object"}), "response_format")
        if self.json_schema is None or self.json_schema.schema_ is None:
            raise RequestError("a response_format of type json_schema needs json_schema.schema", "response_format")
        return Grammar("json", json.dumps(self.json_schema.schema_), "response_format")
