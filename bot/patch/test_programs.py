"""The repository's own files that its test command runs, such as `scripts/test.sh`: they judge candidates. Pure."""

import itertools
import posixpath
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from bot.patch.formats import of_json
from bot.patch.test_setup import set_up

Read = Callable[[str], str | None]

_SHELL = re.compile(r"(?:.*/)?(?:ba|da|z|k)?sh")
_INTERPRETER = re.compile(
    r"(?:.*/)?(?:(?:ba|da|z|k)?sh|python[\d.]*|pypy[\d.]*|node|deno|bun|tsx|ts-node|ruby|perl|php|lua|Rscript|julia)|\$.*"
)
_BEFORE = frozenset("command coverage env exec nice nohup npx run setsid stdbuf sudo time timeout xvfb-run".split())
_RUNNERS = frozenset(["uv", "poetry", "pipenv", "pdm", "hatch", "rye", "bundle", "bunx", "pnpx"])  # of `run` and `exec`
_PACKAGES = frozenset(["npm", "yarn", "pnpm", "bun"])
_SEPARATOR = re.compile(r"[;&|()\n]+")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_CHECKS = re.compile(
    r"(?:^|[/_.-])(?:run[_-]?)?(?:tests?|testing|checks?|specs?|ci|verify|validate)(?:[/_.-]|$)", re.IGNORECASE
)
_RULE = re.compile(r"(?P<names>[^\t:=#][^:=#]*):(?![=:])(?P<before>[^=#;]*)(?:[#;].*)?")
_MOST = 300  # commands, scripts and targets that are followed


def programs(commands: Iterable[Sequence[str]], read: Read) -> frozenset[str]:
    """Paths of files that the commands run, or that test runners load by their configuration.

    `read`: the text of a file of the base tree; None where there is none.

    Scripts of `package.json` and recipes of makefiles are followed. Of what those run, only files that are called like
    tests count: a recipe may well run the program that is to be mended.
    """
    repository = _Repository(read)
    found: set[str] = set()
    for argv in commands:
        for words in _simple(argv):
            found.update(repository.run_by(words))
    return frozenset(found) | set_up(read)


def _simple(argv: Sequence[str]) -> Iterator[list[str]]:
    """The simple commands of an argv, or of the line that it gives to a shell."""
    if argv and _SHELL.fullmatch(argv[0]):
        for option, line in itertools.pairwise(argv[1:]):
            if re.fullmatch(r"-[a-z]*c", option):
                yield from _of_line(line)
                return
    yield list(argv)


def _of_line(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|()\n")
    lexer.whitespace = " \t\r"
    lexer.whitespace_split = True
    words: list[str] = []
    try:
        for word in lexer:
            if _SEPARATOR.fullmatch(word):
                yield words
                words = []
            else:
                words.append(word)
    except ValueError:  # a quote that does not end
        return
    yield words


def _called(words: list[str]) -> list[str]:
    """Without what only starts the program: `A=1 env -i timeout 60 uv run`."""
    at = 0
    while at < len(words):
        name = posixpath.basename(words[at])
        if not (_ASSIGNMENT.fullmatch(words[at]) or name in _BEFORE or name in _RUNNERS):
            break
        at += 1
        while at < len(words) and name in _BEFORE and re.fullmatch(r"-.*|[\d.]+[smhd]?", words[at]):
            at += 1
    return words[at:]


class _Repository:
    """Follows commands into what the repository's files say of them, each script and target once."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._left = _MOST
        self._seen: set[tuple[str, str]] = set()
        self._scripts: dict[str, object] | None = None
        self._targets: dict[str, tuple[list[str], list[str]]] | None = None

    def run_by(self, words: list[str]) -> Iterator[str]:
        """The files that a simple command runs."""
        words = _called(words)
        self._left -= 1
        if not words or self._left < 0:
            return
        name, rest = words[0], words[1:]
        if name in _PACKAGES:
            if rest[:1] == ["exec"] and "-c" in rest[:-1]:
                yield from self._followed([rest[rest.index("-c") + 1]])
            asked = next((word for word in rest if not word.startswith("-") and word not in ("run", "run-script")), "")
            for script in (f"pre{asked}", asked, f"post{asked}"):
                yield from self._script(script)
        elif posixpath.basename(name) in ("make", "gmake"):
            for target in rest:
                yield from self._target(target)
        elif _INTERPRETER.fullmatch(name):
            yield from self._interpreted(rest)
        elif path := self._file(name):
            yield path

    def _interpreted(self, words: list[str]) -> Iterator[str]:
        for at, word in enumerate(words[:100]):
            if word == "-m":
                module = "".join(words[at + 1 : at + 2]).replace(".", "/")
                paths = (self._file(path) for path in (f"{module}.py", f"{module}/__main__.py", f"src/{module}.py"))
                yield from filter(None, paths)
                return
            if word in ("-c", "-e"):
                return
            if not word.startswith("-") and (path := self._file(word)):
                yield path
                return

    def _script(self, name: str) -> Iterator[str]:
        """Of `package.json`."""
        if self._scripts is None:
            self._scripts = _scripts(self._read("package.json") or "")
        line = self._scripts.get(name)
        if isinstance(line, str) and self._new("script", name):
            yield from self._followed([line])

    def _target(self, name: str) -> Iterator[str]:
        """Of the makefile, after what it depends on."""
        if self._targets is None:
            texts = (self._read(name) for name in ("GNUmakefile", "makefile", "Makefile"))
            self._targets = _targets(next((text for text in texts if text is not None), ""))
        before, recipe = self._targets.get(name, ([], []))
        if self._new("target", name):
            for other in before:
                yield from self._target(other)
            yield from self._followed(recipe)

    def _new(self, kind: str, name: str) -> bool:
        new = (kind, name) not in self._seen and len(self._seen) < _MOST
        self._seen.add((kind, name))
        return new

    def _followed(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            for words in _of_line(line):
                yield from (path for path in self.run_by(words) if _CHECKS.search(path))

    def _file(self, path: str) -> str | None:
        normal = posixpath.normpath(path)
        outside = normal == "." or normal.startswith(("/", ".."))
        return None if outside or self._read(normal) is None else normal


def _scripts(text: str) -> dict[str, object]:
    try:
        found = of_json(text)["scripts"]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _targets(text: str) -> dict[str, tuple[list[str], list[str]]]:
    """Each target's prerequisites and the lines of its recipe."""
    found: dict[str, tuple[list[str], list[str]]] = {}
    recipes: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("\t"):
            for recipe in recipes:
                recipe.append(line.strip().lstrip("@-+"))
        elif rule := _RULE.fullmatch(line):
            recipes = []
            for name in rule["names"].split()[:20]:
                before, recipe = found.setdefault(name, ([], []))
                before.extend(rule["before"].split())
                recipes.append(recipe)
        elif line.strip() and not line.startswith("#"):
            recipes = []
    return found
