"""Poetry's tables, and which groups of dependencies are for tests."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

_TESTING = re.compile(
    r"(all[-_]?|unit[-_]?|hatch[-_]?)?(tests?|testing|tester|pytest|ci|unittests?)([-_](deps|requires?))?"
)
_DEVELOPING = re.compile(r"dev|develop|development|dev[-_]?deps|devel|default")


def for_tests(names: Iterable[str]) -> tuple[str, ...]:
    """Of groups of dependencies those for tests; where no name says so, those for development."""
    listed = list(names)
    tests = [name for name in listed if _TESTING.fullmatch(name.lower())]
    return tuple(tests or [name for name in listed if _DEVELOPING.fullmatch(name.lower())])


def poetry_requirements(poetry: dict[str, Any], extras: Sequence[str]) -> list[str]:
    """Poetry's own tables as requirements; its lock, where there is one, has the versions."""
    tables = [table_at(poetry, "dependencies"), table_at(poetry, "dev-dependencies")]
    groups = table_at(poetry, "group")
    tables += [table_at(groups, group, "dependencies") for group in for_tests(groups)]
    wanted = {normal(one) for extra in extras for one in strings(table_at(poetry, "extras").get(extra))}
    found = []
    for table in tables:
        for name, value in table.items():
            one = value[0] if isinstance(value, list) and value else value
            if name.lower() == "python" or (
                isinstance(one, dict) and one.get("optional") and normal(name) not in wanted
            ):
                continue
            found.append(_poetry_requirement(name, one))
    return found


def _poetry_requirement(name: str, value: object) -> str:
    table = value if isinstance(value, dict) else {"version": value}
    extras = strings(table.get("extras"))
    full = f"{name}[{','.join(extras)}]" if extras else name
    if isinstance(table.get("git"), str):
        at = next((f"@{table[key]}" for key in ("rev", "tag", "branch") if isinstance(table.get(key), str)), "")
        return f"{full} @ git+{table['git']}{at}"
    if isinstance(table.get("url"), str):
        return f"{full} @ {table['url']}"
    if isinstance(table.get("path"), str):
        return ""
    version = str(table.get("version") or "*").strip()
    return full + _range(version)


def _range(version: str) -> str:
    """Poetry's ranges in the form of PEP 440: `^1.2` and `~1.2` by their lower and upper bounds."""
    parts = []
    for part in filter(None, (one.strip() for one in version.split("||")[0].split(","))):
        caret = re.fullmatch(r"([\^~])\s*(\d{1,9}(?:\.\d{1,9})*)(?!\d)(\S*)", part)
        if caret:
            numbers = [int(number) for number in caret[2].split(".")]
            if caret[1] == "^":
                keep = next((i for i, number in enumerate(numbers) if number), len(numbers) - 1)
            else:
                keep = min(1, len(numbers) - 1)
            upper = [*numbers[:keep], numbers[keep] + 1]
            parts += [f">={caret[2]}{caret[3]}", f"<{'.'.join(map(str, upper))}"]
        elif part == "*":
            continue
        elif re.match(r"\d", part):
            parts.append(f"=={part}")
        else:
            parts.append(part.replace(" ", ""))
    return ",".join(parts)


def table_at(data: dict[str, Any], *path: str) -> dict[str, Any]:
    """The table at a path of keys; empty where there is none."""
    for key in path:
        inner = data.get(key)
        if not isinstance(inner, dict):
            return {}
        data = inner
    return data


def strings(value: object) -> list[str]:
    """The texts of a list; what else is in it, or is no list, is left out."""
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def normal(name: str) -> str:
    """A distribution's name as it is compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
