"""Arguments that are written without quotes: what a tool's schema says of their types."""

import ast
import json
import warnings
from typing import Any, Literal

from engine.text.replies.pieces import parsed

_MOST_REFERENCES = 16
_DEFINITIONS = ("$defs", "definitions")
_NAMES: tuple[tuple[type, str], ...] = (  # a bool is an int, too
    (bool, "boolean"),
    (int, "integer"),
    (float, "number"),
    (str, "string"),
    (list, "array"),
    (dict, "object"),
)


def parameter(schema: dict[str, Any], name: str) -> Any:
    """The schema of one parameter, able to stand alone: with the definitions of the whole.

    Args:
        schema: of all parameters.
        name: of the parameter.
    """
    properties = schema.get("properties")
    found = properties.get(name) if isinstance(properties, dict) else None
    for _ in range(_MOST_REFERENCES):
        place = found.get("$ref") if isinstance(found, dict) else None
        if not isinstance(place, str) or not place.startswith("#/"):
            break
        target: Any = schema
        for part in place[2:].split("/"):
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        found = target
    if not isinstance(found, dict):
        return found
    return {key: schema[key] for key in _DEFINITIONS if key in schema} | found


def types_of(schema: Any, depth: int = 0) -> frozenset[str]:
    """The JSON types that a schema allows, as far as it says so; of none: texts, as models take it then.

    Args:
        schema: of a parameter.
        depth: of the schema within others.
    """
    if not isinstance(schema, dict) or not schema.keys() - set(_DEFINITIONS):
        return frozenset({"string"})
    if depth > _MOST_REFERENCES:  # it refers to itself
        return frozenset()
    if isinstance(schema.get("enum"), list):
        return frozenset(map(_type_of, schema["enum"]))
    if "const" in schema:
        return frozenset({_type_of(schema["const"])})
    given = schema.get("type")
    if isinstance(given, str):
        return frozenset({given})
    if isinstance(given, list):
        return frozenset(name for name in given if isinstance(name, str))
    ways: list[Any] = next((schema[key] for key in ("anyOf", "oneOf") if isinstance(schema.get(key), list)), [])
    whole = {key: schema[key] for key in _DEFINITIONS if key in schema}
    found: set[str] = set()
    for way in ways[:_MOST_REFERENCES]:
        found |= types_of(parameter(whole | {"properties": {"": way}}, ""), depth + 1 + len(ways))
    return frozenset(found)


def value_of(text: str, schema: dict[str, Any], name: str) -> Any:
    """An argument as it was written: text where only that is allowed, else JSON if it is of an allowed type. Where no
    text is allowed, it may be in Python's form, as templates print what they are given: `True`, `{'a': None}`.

    Args:
        text: as the model wrote it.
        schema: of all parameters.
        name: of the argument's parameter.
    """
    types = types_of(parameter(schema, name))
    if types == {"string"}:
        return text
    try:
        value = parsed(text) if "string" in types else literal(text)
    except ValueError:
        return text
    kind = _type_of(value)
    fits = not types or kind in types or (kind == "integer" and "number" in types)
    return value if fits or "string" not in types else text


def python_tree(text: str, mode: Literal["exec", "eval"]) -> Any:
    """The syntax tree of what a model wrote, without warnings of its escapes.

    Raises:
        SyntaxError, ValueError, MemoryError, RecursionError: it is no Python, or nested too deeply.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text.strip(), mode=mode)


def literal(text: str) -> Any:
    """A value in JSON, or as Python prints it.

    Raises:
        ValueError: it is neither, or is nested too deeply.
    """
    try:
        return parsed(text)
    except ValueError:
        pass
    try:
        return parsed(json.dumps(ast.literal_eval(python_tree(text, "eval"))))
    except (TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError("no value") from error


def _type_of(value: Any) -> str:
    return next((name for kind, name in _NAMES if isinstance(value, kind)), "null")
