"""The commands of tox that run tests. Pure. Source: tox's configuration reference (`commands`, substitutions)."""

import configparser
import re
import shlex
from collections.abc import Iterator, Sequence

from bot.patch.formats import of_toml, read_ini
from bot.recipe.ci import as_test
from bot.recipe.groups import table_at
from bot.recipe.recipe import Read

_FACTOR = re.compile(r"\s*[\w.{},!-]+:\s")  # for some environments alone: `py312: pytest`
_POSITIONAL = re.compile(r"\{posargs(?::(?P<usual>[^{}]*))?\}")
_KNOWN = {"{envpython}": "python3", "{toxinidir}": ".", "{tox_root}": ".", "{envbindir}/": "", "{/}": "/"}
_HERE = ("", ".", "{toxinidir}", "{tox_root}")
_NAME = re.compile(r"[A-Za-z_]\w*")


def tests_of_tox(files: Sequence[str], read: Read) -> tuple[tuple[str, ...], ...]:
    """Commands of `[testenv]` that run tests, each an argv with the environment's variables; a file that can't be read
    tells none."""
    if "tox.ini" in files:
        text = read("tox.ini") or ""
    else:
        try:
            tables = of_toml(read("pyproject.toml") or "") if "pyproject.toml" in files else {}
        except ValueError:
            return ()
        text = str(table_at(tables, "tool", "tox").get("legacy_tox_ini") or "")
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    try:
        read_ini(parser, text)
    except ValueError:
        return ()
    if not parser.has_section("testenv") or (parser.get("testenv", "changedir", fallback="") or "") not in _HERE:
        return ()
    variables = tuple(_variables(parser.get("testenv", "setenv", fallback="") or ""))
    found = []
    for words in _commands(parser.get("testenv", "commands", fallback="") or ""):
        if (test := as_test(words)) is not None:
            found.append(("env", *variables, *test) if variables else test)
    return tuple(dict.fromkeys(found))


def _commands(text: str) -> Iterator[list[str]]:
    for line in re.sub(r"\\\n", " ", text).splitlines():
        plain = _plain(line)
        try:
            words = shlex.split(plain, comments=True) if plain else []
        except ValueError:
            continue
        if words:
            yield words[1:] if words[0] == "-" else words  # whose exit code tox ignores


def _variables(text: str) -> Iterator[str]:
    for line in text.splitlines():
        name, _, value = (_plain(line) or "").partition("=")
        if _NAME.fullmatch(name.strip()) and value.strip():
            yield f"{name.strip()}={value.strip()}"


def _plain(line: str) -> str | None:
    """The line with what tox fills in; None where that is not known, or the line is for some environments alone."""
    if _FACTOR.match(line):
        return None
    line = _POSITIONAL.sub(lambda found: found["usual"] or "", line)
    for word, meaning in _KNOWN.items():
        line = line.replace(word, meaning)
    return None if re.search(r"[{}]", line) else line.strip()
