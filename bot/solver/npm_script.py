"""The command that runs a Node package's tests, without its linters, and each step of them. Pure.

`"test": "standard && tape test/*.js"` is common, and `"pretest": "npm run lint"` too. Where a patch is not written as a
linter asks for, npm then runs no test at all, and a right patch would break every one. A `posttest` that lints fails
where the linter is not installed. In `"flow check && npm run unit && npm run integration"` what fails here on the base
commit would keep all behind it from running, on every candidate: so each step runs, and any that fails counts.
"""

import re
import shlex
from collections.abc import Mapping, Sequence

from bot.patch.formats import of_json

NPM_TEST = ("npm", "test", "--silent")

_NO_TEST_SCRIPT = "no test specified"  # what `npm init` writes
_NAMES = """
alex biome commitlint cspell dprint ec editorconfig-checker eslint gts jscs jshint jslint markdownlint markdownlint-cli2
oxlint prettier remark rome semistandard standard stylelint ts-standard tslint xo
"""
_LINTERS = frozenset(_NAMES.split())
_NPX = re.compile(r"(?:npx|bunx|pnpm exec|yarn exec)\s+(?:--?[\w-]+\s+)*")
_AUDIT = re.compile(r"(?:npx\s+)?(?:npm\b\S*(?:\s\S+){0,3}\s+audit|aud)\b")  # of dependencies: it asks a registry
_RUN = re.compile(r"(?:npm|pnpm|yarn|bun)(?:\s+run(?:-script)?)?(?:\s+-\S+)*\s+([\w:.-]+)(?:\s+-\S+)*")
_FAILS = " || failed=1"
_END = "; exit ${failed:-0}"
_MORE = re.compile(r"[`()|;&\n]")
_AND = re.compile(r"\s*&&\s*")
_LONGEST = 2_000  # characters of a script that is taken apart
_MOST = 50  # scripts that are looked at


def npm_test(text: str) -> tuple[str, ...] | None:
    """By the text of `package.json`; None where it has no test script."""
    try:
        scripts = of_json(text)["scripts"]
        script = scripts["test"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(script, str) or _NO_TEST_SCRIPT in script:
        return None
    package = _Package(scripts)
    before = scripts.get("pretest", "")
    if not isinstance(before, str) or max(len(script), len(before)) > _LONGEST:
        return NPM_TEST
    parts = [part for text in (before, script) if text for part in _AND.split(text)]
    tests = [part for part in parts if not package.lints(part)]
    whole = tests == parts and len(parts) == 1 and not package.only_lints("posttest")
    if whole or not any(part in tests for part in _AND.split(script)) or not all(map(_simple, parts)):
        return NPM_TEST
    return ("npm", "exec", "--silent", "-c", _each(tests))


def _each(steps: Sequence[str]) -> str:
    return steps[0] if len(steps) == 1 else "; ".join(f"{step}{_FAILS}" for step in steps) + _END


def last_step(line: str) -> str:
    """Of the line that `npm_test` gives to a shell what tests, as a rule: its last step."""
    return line.removesuffix(_END).removesuffix(_FAILS).rpartition(f"{_FAILS}; ")[2]


def _simple(part: str) -> bool:
    """Whether what is between two ` && ` is one command, so that they are not within quotes or parentheses."""
    try:
        shlex.split(part)
    except ValueError:
        return False
    return not _MORE.search(part)


class _Package:
    """Says what the scripts of a package do; looks at each once."""

    def __init__(self, scripts: Mapping[str, object]) -> None:
        self._scripts = scripts
        self._known: dict[str, bool] = {}

    def lints(self, command: str) -> bool:
        """Whether a command is a linter, or calls a script that does nothing else."""
        if called := _RUN.fullmatch(command.strip()):
            return self.only_lints(called[1])
        plain = command.strip()
        return _AUDIT.match(plain) is not None or _NPX.sub("", plain, count=1).partition(" ")[0] in _LINTERS

    def only_lints(self, name: str) -> bool:
        """Whether there is such a script, and it does nothing else."""
        script = self._scripts.get(name)
        if name not in self._known and isinstance(script, str) and len(script) <= _LONGEST and len(self._known) < _MOST:
            self._known[name] = False  # where it calls itself
            self._known[name] = all(map(self.lints, _AND.split(script)))
        return self._known.get(name, False)
