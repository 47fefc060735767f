"""Code that was escaped as HTML on its way: its entities as the characters they stand for. Pure."""

import ast
import re

from bot.patch.syntax import parsed, syntax_error

_ENTITIES = {"lt": "<", "gt": ">", "quot": '"', "amp": "&", "#39": "'", "apos": "'"}
_ENTITY = re.compile(rf"&({'|'.join(_ENTITIES)});")


def unescaped(text: str) -> str:
    """The text with the entities that HTML needs as characters."""
    return _ENTITY.sub(lambda found: _ENTITIES[found[1]], text)


def unescaped_code(path: str, text: str) -> str:
    """The text of a file, without its entities where they can't be meant: it parses only without them.

    Python reads `a &lt; b` as two statements, the first of which uses a name `lt`.
    """
    plain = unescaped(text)
    if plain == text or syntax_error(path, plain):
        return text
    return plain if syntax_error(path, text) or _names_entities(path, text) else text


def _names_entities(path: str, text: str) -> bool:
    if not path.endswith((".py", ".pyi")):
        return False
    return any(
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.BitAnd)
        and isinstance(node.right, ast.Name)
        and node.right.id in _ENTITIES
        for node in ast.walk(parsed(text))
    )
