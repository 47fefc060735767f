"""Which of the repository's tests are about given source files: by names, by imports, by folders, by words. Pure."""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath

_MARK = re.compile(r"^tests?[_-]|[._-](tests?|spec)$|(?<=[a-z0-9])(Tests?|Spec)$", re.IGNORECASE)
_RELATIVE = re.compile(r"^[^\S\n]*from (\.++)([\w.]*+) import (\([^()]*\)|[^\n#]*)", re.MULTILINE)
_TOP_FOLDERS = frozenset({"src", "lib", "python"})  # which imports don't name
_OF_FOLDERS = frozenset({"__init__", "index"})  # stems of files that are known by their folder's name
_NAMED, _IMPORTED, _BESIDE = 4.0, 2.0, 1.0  # what the ways weigh in which a test is about a file
_OF_ITS_FOLDER = 1.0  # ... by the name of the package that holds it, which is what users import
_USES = 0.5  # ... by importing that package and saying what the issue says
_OFTEN = 4  # mentions of a word that say half as much as any number


def related(paths: Sequence[str], tests: Mapping[str, str], words: Collection[str] = ()) -> list[str]:
    """The test files that are about one of the source files, the likeliest first.

    `paths`: the most important first. `words`: names that the issue is about. They break ties, and where nothing else
    tells, a test that has one and imports the package of a file is about it: many suites import the package alone.
    """
    files = [path for path in paths if path not in tests]
    scores: dict[str, float] = {}
    by_words: set[str] = set()
    for test, text in tests.items():
        score = sum(_about(test, text, path) / (1 + place / 4) for place, path in enumerate(files))
        counts = [text.count(word) for word in words if word in text]
        if not score and counts and any(_imports_package(text, path) for path in files):
            score = _USES
            by_words.add(test)
        if score:
            scores[test] = score + sum(count / (count + _OFTEN) for count in counts) / (1 + len(words))
    if len(by_words) < len(scores):
        scores = {test: score for test, score in scores.items() if test not in by_words}
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
    if (pattern is not None and pattern.search(text)) or _imports_by_place(of_test, text, pure):
        score += _IMPORTED
    if pure.suffix == ".go" and pure.parent == of_test.parent:
        score += _BESIDE
    return score


def _bare(stem: str) -> str:
    """The stem of a test file without what marks it as one."""
    return _plain(_MARK.sub("", _MARK.sub("", stem)))


def _plain(stem: str) -> str:
    return stem.strip("_").replace("-", "_").lower()


def _imports_package(text: str, path: str) -> bool:
    """Whether the Python test imports a package that holds the Python file."""
    parts = PurePosixPath(path).parts if path.endswith(".py") else ()
    names = "|".join(re.escape(part) for part in parts[:-1] if part not in _TOP_FOLDERS)
    return bool(names) and re.search(rf"^[^\S\n]*(?:from|import) (?:{names})\b", text, re.MULTILINE) is not None


def _imports_by_place(test: PurePosixPath, text: str, path: PurePosixPath) -> bool:
    """Whether the Python test imports the Python file relatively, or by its bare name from beside or below it."""
    if path.suffix not in (".py", ".pyi") or path.stem == "__init__":  # many tests import the package alone
        return False
    module = path.with_suffix("")
    for dots, name, names in _RELATIVE.findall(text):
        package = PurePosixPath(".", *test.parts[: max(0, len(test.parts) - len(dots))], *name.split("."))
        if package == module or (package == module.parent and re.search(rf"\b{re.escape(module.name)}\b", names)):
            return True
    near = module.parent in (test.parent, test.parent.parent)
    bare = rf"^[^\S\n]*(?:from|import) {re.escape(module.name)}(?![\w.])"
    return near and re.search(bare, text, re.MULTILINE) is not None


@cache
def _imports(path: str) -> re.Pattern[str] | None:
    """What an import of the file looks like, where its path tells."""
    pure = PurePosixPath(path)
    if pure.suffix in (".py", ".pyi"):
        parts = list(pure.with_suffix("").parts)
        if "src" in parts[:-1]:
            parts = parts[len(parts) - parts[::-1].index("src") :]
        while len(parts) > 1 and parts[0] in _TOP_FOLDERS:
            parts.pop(0)
        if parts[-1] == "__init__":
            parts.pop()
            if len(parts) < 2:  # every test imports the package itself
                return None
        # Below which folder imports begin, its path doesn't tell: packages/a/src/pkg/mod.py is pkg.mod.
        above = "".join(rf"(?:{re.escape(part)}\.)?" for part in parts[:-2])
        holder = re.escape(parts[-2]) if len(parts) > 1 else ""
        whole = (above + rf"{holder}\." if holder else "") + re.escape(parts[-1])
        within = rf"|^[^\S\n]*from {above}{holder} import [^\n#]*\b{re.escape(parts[-1])}\b" if holder else ""
        return re.compile(rf"^[^\S\n]*(?:from|import) {whole}(?![\w.]){within}", re.MULTILINE)
    if pure.suffix.startswith((".js", ".ts", ".mj", ".cj", ".mt", ".ct", ".rb", ".lua", ".php")):
        stem = pure.parent.name if pure.stem == "index" else pure.stem
        return re.compile(rf"""["'][^"'\n]*\b{re.escape(stem)}(?:\.\w+)?["']""") if stem else None
    if pure.suffix in (".java", ".kt", ".scala", ".cs", ".swift", ".rs"):
        return re.compile(rf"\b{re.escape(pure.stem)}\b")
    return None
