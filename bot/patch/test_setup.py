"""Files that the configuration of a test runner loads before tests: they judge candidates. Pure."""

import json
import posixpath
import re
from collections.abc import Callable, Iterator

from bot.patch.formats import of_json

Read = Callable[[str], str | None]

_SCRIPTS = ("js", "cjs", "mjs", "ts", "mts", "cts", "json")
_FILES = (
    *(f"{tool}.config.{ending}" for tool in ("jest", "vitest", "vite", "ava", "playwright") for ending in _SCRIPTS),
    *(
        f".{tool}rc{ending}"
        for tool in ("mocha", "nyc", "c8")
        for ending in ("", *(f".{one}" for one in _SCRIPTS), ".yml")
    ),
    *("karma.conf.js", "phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml", ".rspec", "test/mocha.opts"),
)
_TOOLS = ("jest", "mocha", "ava", "nyc", "c8", "tap", "vitest", "jasmine")  # in `package.json`
_KEY = re.compile(
    r"[\"']?\b(?:setupFiles(?:AfterEnv)?|setupTestFrameworkScriptFile|globalSetup|globalTeardown|testEnvironment"
    r"|(?:test)?[rR]unner|resolver|reporters?|snapshotSerializers|preset|require|import|loaders?|file|bootstrap)[\"']?"
    r"[ \t]*[:=][ \t]*"
)
_VALUE = re.compile(r"\[[^\]]{0,2000}\]|(?:\n[ \t]+-[ \t][^\n]*)+|[^\n,}>]*")
_WORD = re.compile(r"[\w@./<>$-]+")
_OPTION = re.compile(
    r"(?:--(?:require|import|loader|experimental-loader|file|setupFiles)[ =]|(?<!rm )-r[ \t]+)[\"']?([\w@./-]+)"
)


def set_up(read: Read) -> frozenset[str]:
    """Paths of files that are loaded. `read`: the text of a file of the base tree; None where there is none."""
    found: set[str] = set()
    for name in _FILES:
        found.update(_named(read(name) or "", read))
    found.update(_named(_of_package(read("package.json") or ""), read))
    return frozenset(found)


def _of_package(text: str) -> str:
    """What the tools are told there, and the lines of its scripts."""
    try:
        package = of_json(text)
        tools = {name: package[name] for name in (*_TOOLS, "scripts") if name in package}
    except (ValueError, TypeError):
        return ""
    return json.dumps(tools)


def _named(text: str, read: Read) -> Iterator[str]:
    values = [_VALUE.match(text, found.end()) for found in _KEY.finditer(text)]
    words = [word for value in values if value for word in _WORD.findall(value[0])] + _OPTION.findall(text)
    for word in dict.fromkeys(words):
        path = posixpath.normpath(word.replace("<rootDir>/", "").lstrip("/"))
        for one in (
            path,
            *(f"{path}.{ending}" for ending in _SCRIPTS),
            f"{path}/index.js",
            f"{path}.rb",
            f"spec/{path}.rb",
        ):
            if path not in (".", "..") and not path.startswith("../") and read(one) is not None:
                yield one
