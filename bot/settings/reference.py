"""docs/settings.md, made from the models: `troop config --markdown`."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import ByteSize, SecretStr

from bot.settings.models import Settings
from bot.settings.sources import OF_COMPOSE, OF_ENGINE, PREFIX, Variable, shown, variables

_HEAD = """\
# Settings

<!-- Made by `troop config --markdown`; a test says when it is out of date. -->

Each is an environment variable, a line in `.env` (which the environment overrides), or a file in `TROOP_SECRETS_DIR`
that is named like the variable. `troop config` prints what is read and from where. An empty variable counts as one that
is not set; a misspelt one is refused by servers. Lists are words between spaces or commas.

Variables marked with † may hold secrets: `NAME_FILE` names a file that holds the value instead.
"""
_TITLES = {"": "GitHub and the service"}


def markdown() -> str:
    """The whole file."""
    parts = [_HEAD]
    for part, found in groupby(variables(), lambda variable: variable.place[0] if len(variable.place) > 1 else ""):
        parts.append(f"\n## {_title(part)}\n\n" + "".join(_table(list(found))))
    ours = ", ".join(f"`{PREFIX}{name}`" for name in OF_COMPOSE)
    parts.append(f"\n## Read by deploy/compose.yaml alone\n\n{ours}; see [deploy/README.md](../deploy/README.md).\n")
    engine = ", ".join(f"`{PREFIX}{name}`" for name in OF_ENGINE)
    parts.append(f"\n## Read by `troop engine` alone\n\n{engine}; see `troop engine --help`.\n")
    return "".join(parts)


def _title(part: str) -> str:
    if not part:
        return _TITLES[""]
    return f"`{PREFIX}{part.upper()}_...`: {Settings.model_fields[part].description or ''}".rstrip(".")


def _table(found: Sequence[Variable]) -> Iterator[str]:
    yield "| variable | default | |\n|:--|:--|:--|\n"
    for variable in found:
        mark = " †" if variable.has_file or variable.place == ("private_key",) else ""
        words = (variable.field.description or "").replace("|", "\\|")
        yield f"| `{variable.name}`{mark} | {_default(variable)} | {words}{_bounds(variable)} |\n"


def _default(variable: Variable) -> str:
    value = variable.field.get_default(call_default_factory=True)
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, ByteSize):
        value = value.human_readable(decimal=False).replace(".0", "").replace("iB", "").lower()
    text = shown(value)
    return "" if text == "(empty)" else f"`{text}`"


def _bounds(variable: Variable) -> str:
    """The range of a number, as the models check it."""
    words = []
    for bound in variable.field.metadata:
        match bound:
            case Gt():
                words.append(f"more than {bound.gt:,}")
            case Ge():
                words.append(f"at least {bound.ge:,}")
            case Lt():
                words.append(f"less than {bound.lt:,}")
            case Le():
                words.append(f"at most {bound.le:,}")
            case MinLen():
                words.append(f"at least {bound.min_length} character{'s' if bound.min_length != 1 else ''}")
    choices = getattr(variable.field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        words.append("one of " + ", ".join(f"`{choice}`" for choice in choices))
    return f" ({'; '.join(words)})" if words else ""
