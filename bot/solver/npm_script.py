"""The command that runs a Node package's tests, without its linters. Pure.

`"test": "standard && tape test/*.js"` is common, and `"pretest": "npm run lint"` too. Where a patch is not written as a
linter asks for, npm then runs no test at all, and a right patch would break every one. A `posttest` that lints fails
where the linter is not installed.
"""

import re
import shlex
from collections.abc import Mapping

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
    parts = _AND.split(script[:_LONGEST])
    tests = [part for part in parts if not package.lints(part)]
    needless = bool(before) and package.only_lints("pretest")
    less = tests != parts or needless or package.only_lints("posttest")
    clear = len(script) <= _LONGEST and all(map(_simple, parts))
    if not clear or not tests or (before and not needless) or not less:
        return NPM_TEST
    return ("npm", "exec", "--silent", "-c", " && ".join(tests))


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
