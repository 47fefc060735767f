"""Which of the repository's tests are about given source files: by names, by imports, by folders. Pure."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath

_MARK = re.compile(r"^tests?[_-]|[._-](tests?|spec)$|(?<=[a-z0-9])(Tests?|Spec)$", re.IGNORECASE)
_TOP_FOLDERS = frozenset({"src", "lib", "python"})  # which imports don't name
_OF_FOLDERS = frozenset({"__init__", "index"})  # stems of files that are known by their folder's name
_NAMED, _IMPORTED, _BESIDE = 4.0, 2.0, 1.0  # what the ways weigh in which a test is about a file
_OF_ITS_FOLDER = 1.0  # ... by the name of the package that holds it, which is what users import


def related(paths: Sequence[str], tests: Mapping[str, str], words: Collection[str] = ()) -> list[str]:
    """The test files that are about one of the source files, the likeliest first.

    `paths`: the most important first. `words` break ties: names that the issue is about.
    """
    files = [path for path in paths if path not in tests]
    scores: dict[str, float] = {}
    for test, text in tests.items():
        score = sum(_about(test, text, path) / (1 + place / 4) for place, path in enumerate(files))
        if score:
            said = sum(word in text for word in words) / (1 + len(words))
            scores[test] = score + said
    return sorted(scores, key=lambda test: (-scores[test], test))


def _about(test: str, text: str, path: str) -> float:
    pure, of_test = PurePosixPath(path), PurePosixPath(test)
    stem = pure.parent.name if pure.stem in _OF_FOLDERS or pure.name in ("mod.rs", "lib.rs") else pure.stem
    if pure.suffix[:3] != of_test.suffix[:3]:  # .js and .jsx, .ts and .tsx go together
        return 0.0
    score = 0.0
    if stem and _bare(of_test.stem) == _plain(stem):
        score += _NAMED
        score += 0.5 * len(set(pure.parent.parts) & set(of_test.parent.parts))
    elif pure.parent.name not in ("", *_TOP_FOLDERS) and _bare(of_test.stem) == _plain(pure.parent.name):
        score += _OF_ITS_FOLDER
    pattern = _imports(path)
    if pattern is not None and pattern.search(text):
        score += _IMPORTED
    if pure.suffix == ".go" and pure.parent == of_test.parent:
        score += _BESIDE
    return score


def _bare(stem: str) -> str:
    """The stem of a test file without what marks it as one."""
    return _plain(_MARK.sub("", _MARK.sub("", stem)))


def _plain(stem: str) -> str:
    return stem.strip("_").replace("-", "_").lower()


@cache
def _imports(path: str) -> re.Pattern[str] | None:
    """What an import of the file looks like, where its path tells."""
    pure = PurePosixPath(path)
    if pure.suffix in (".py", ".pyi"):
        parts = list(pure.with_suffix("").parts)
        while len(parts) > 1 and parts[0] in _TOP_FOLDERS:
            parts.pop(0)
        if parts[-1] == "__init__":
            parts.pop()
            if len(parts) < 2:  # every test imports the package itself
                return None
        whole = re.escape(".".join(parts))
        above = re.escape(".".join(parts[:-1]))
        within = rf"|^\s*from {above} import [^\n#]*\b{re.escape(parts[-1])}\b" if above else ""
        return re.compile(rf"^\s*(?:from|import) {whole}(?![\w.]){within}", re.MULTILINE)
    if pure.suffix.startswith((".js", ".ts", ".mj", ".cj", ".mt", ".ct", ".rb", ".lua", ".php")):
        stem = pure.parent.name if pure.stem == "index" else pure.stem
        return re.compile(rf"""["'][^"'\n]*\b{re.escape(stem)}(?:\.\w+)?["']""") if stem else None
    if pure.suffix in (".java", ".kt", ".scala", ".cs", ".swift", ".rs"):
        return re.compile(rf"\b{re.escape(pure.stem)}\b")
    return None
