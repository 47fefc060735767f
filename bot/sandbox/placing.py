"""Where a test script lies, under which name, and what runs it: by its own words, and by what the tree has.

Models write a script as if it were one of the repository's own tests: it names files relative to itself, is a module
where the package is none, or declares tests for the repository's runner. A script in JavaScript, TypeScript, Ruby or
PHP that names files relative to itself lies in the folder of the tree from which it finds most of them; all others lie
beside the tree, where no name of a candidate's is near them.
"""

import functools
import itertools
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

from bot.patch.formats import of_json
from bot.records import SandboxJob, Test
from bot.sandbox.script_command import script_name

Scripts = Mapping[str, tuple[str, ...]]  # commands by endings, as of `script_command`

_NODE = (".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx")
_LONGEST = 200_000  # characters of a script that are looked at
_MOST = 300  # folders of the tree that are tried
_USUAL = ("test", "test/unit")  # for `../` and `../../`, whether there is such a folder or not

# What is imported, by its name; and what is joined to the script's own folder.
_IMPORTED = re.compile(
    r"(?:\bfrom|\bimport|\b(?:require|import)(?:\.resolve)?\s*\(|\b(?:jest|vi)\.\w+\(|\bnew URL\()\s*"
    r"[\"'`]([^\"'`\n$]+)[\"'`]"
)
_JOINED = re.compile(r"\b__dirname\b((?:\s*[,+]\s*[\"'`][^\"'`\n]*[\"'`])+)|\$\{__dirname\}([^`\"'\n]*)`")
_RELATIVE = {
    ".rb": re.compile(
        r"\brequire_relative[\s(]+[\"']([^\"'\n#]+)[\"']"
        r"|\bexpand_path[\s(]+[\"']\.\./([^\"'\n#]+)[\"']\s*,\s*__FILE__"
        r"|\bexpand_path[\s(]+[\"'](\.\.?[^\"'\n#]*)[\"']\s*,\s*__dir__"
        r"|\bjoin[\s(]+__dir__\s*,\s*([^)\n]+)"
    ),
    ".php": re.compile(
        r"(?:\b__DIR__|\bdirname\(__FILE__\))\s*\.\s*[\"']/?([^\"'\n$]+)[\"']"
        r"|\b(dirname\(__DIR__(?:,\s*\d)?\))\s*\.\s*[\"']/?([^\"'\n$]+)[\"']"
    ),
}
_ENDINGS = ("", ".js", ".cjs", ".mjs", ".ts", ".tsx", ".jsx", ".mts", ".json", ".rb", ".php")
_INDEX = ("package.json", "index.js", "index.ts", "index.cjs", "index.mjs", "index.tsx")

_MODULE = re.compile(
    r"^(?:import\s*(?:[\w${*\"'])|export\s+(?:default|const|function|async|class|let|\{))", re.MULTILINE
)
_AWAITS = re.compile(r"^(?:(?:const|let|var)\s[^\n=]*=\s*|[\w.]+\(\s*)?await\b|^for await\b", re.MULTILINE)
_COMMON = re.compile(r"\brequire\s*\(|\bmodule\.exports\b|\b__(?:dirname|filename)\b")
_CALLS = re.compile(r"^[ \t]*(?:describe|it|test|suite)(?:\.\w+)*\(", re.MULTILINE)
_NODES_OWN = re.compile(r"[\"']node:test[\"']")
_JEST = re.compile(r"\bjest\.\w|@jest/globals")


class Placed(NamedTuple):
    """A job whose script has its name and its place."""

    job: SandboxJob
    scripts: Scripts = MappingProxyType({})
    folder: str | None = None  # of the tree, "" for its root; None where the script lies beside the tree

    def script(self, tree: str, beside: str) -> str:
        """The script's path, where the tree and what lies beside it are in these folders."""
        assert self.job.test is not None
        above = [beside] if self.folder is None else [tree, self.folder] if self.folder else [tree]
        return "/".join([*above, script_name(self.job.test)])


def placed(job: SandboxJob, scripts: Scripts, base: Path) -> Placed:
    """The job as it is run on copies of the tree at `base`, which stays as it is: a script is placed once, and its name
    for each job, whose changes may have taken it.
    """
    if job.test is None or job.command or len(job.test.text) > _LONGEST:
        return Placed(job, scripts)
    test, known, folder = _place(job.test, tuple(scripts.items()), base)
    if folder is not None:
        taken = {change.path for change in job.changes}
        test = test.model_copy(update={"path": _free(test, folder, base, taken)})
    return Placed(job.model_copy(update={"test": test}), known, folder)


@functools.lru_cache(maxsize=1024)
def _place(test: Test, known: tuple[tuple[str, tuple[str, ...]], ...], base: Path) -> tuple[Test, Scripts, str | None]:
    """The script with its name, the commands by endings, and its folder; walks through the tree."""
    scripts = dict(known)
    ending = PurePosixPath(test.path.lower()).suffix
    configured = any(test.path.lower().endswith(one) for one in scripts)
    of_node = ending in _NODE
    named = [*_named(ending, test.text)]
    folder = _folder(test, named, base) if named else None
    if of_node and not configured:
        runner = _runner(test, base)
        scripts = {**scripts, ending: runner} if runner else scripts
        if runner and folder is None:
            folder = _real(base, posixpath.dirname(test.path)) or ""
        if runner and not re.search(r"[._-](?:test|spec)\.\w+$", test.path):  # vitest runs no others
            test = test.model_copy(update={"path": f"{test.path[: -len(ending)]}.test{ending}"})
        if not runner and ending == ".js":
            test = test.model_copy(update={"path": _as_module(test, base, folder)})
    if not configured and ending in (".php", ".rb"):
        test, command = _in_class(test, base)
        scripts = {**scripts, ending: command} if command else scripts
        if command and folder is None:
            folder = _real(base, posixpath.dirname(test.path)) or ""
    if not configured and ending == ".go" and (base / "go.mod").is_file():
        test, folder, command = _of_go(test, base)
        scripts = {**scripts, ending: command} if command else scripts
    return test, scripts, folder


# -- the folder ----------------------------------------------------------------------------------------------------


def _named(ending: str, text: str) -> Iterator[str]:
    """The files that the script names relative to itself, and packages of node_modules as `name`."""
    if ending in _NODE:
        for name in _IMPORTED.findall(text):
            if name.startswith(".") or not (name.startswith(("node:", "/", "data:")) or name in _BUILTIN):
                yield name
        for joined, written in _JOINED.findall(text):
            parts = re.findall(r"[\"'`]([^\"'`\n]*)[\"'`]", joined)
            yield "./" + (written or "/".join(parts)).lstrip("/")
    elif ending in _RELATIVE:
        for found in _RELATIVE[ending].findall(text):
            yield f"./{_joined(filter(None, found))}"


def _joined(parts: Iterable[str]) -> str:
    """Of an expression in Ruby or PHP, as `dirname(__DIR__, 2)` and a text behind it."""
    words = []
    for part in parts:
        if above := re.fullmatch(r"dirname\(__DIR__(?:,\s*(\d))?\)", part):
            words.append("/".join([".."] * int(above[1] or 1)))
        else:
            words += re.findall(r"[\"']([^\"']*)[\"']", part) or [part]
    return "/".join(words)


_BUILTIN = frozenset((
    *("assert", "assert/strict", "buffer", "child_process", "cluster", "console", "crypto", "dns", "events", "fs"),
    *("fs/promises", "http", "http2", "https", "module", "net", "os", "path", "perf_hooks", "process", "punycode"),
    *("querystring", "readline", "stream", "string_decoder", "test", "timers", "timers/promises", "tls", "tty", "url"),
    *("util", "v8", "vm", "worker_threads", "zlib"),
))  # fmt: skip


def _folder(test: Test, named: Sequence[str], base: Path) -> str:
    """The folder of the tree from which most of the names lead to files: of several the one that its path says."""
    own = _real(base, posixpath.dirname(test.path))
    candidates = dict.fromkeys([*([own] if own is not None else []), "", *_USUAL, *_folders(base)])
    relative = [name for name in dict.fromkeys(named) if name.startswith(".")]
    best, most = own or "", 0
    for folder in candidates:
        found = sum(_leads(base, folder, name, not test.path.lower().endswith(_NODE)) for name in relative)
        if found > most and _real(base, folder) is not None:
            best, most = folder, found
    return best


def _folders(base: Path) -> Iterator[str]:
    """Folders of the tree, those of packages that it uses left out; three deep."""
    for folder, folders, _ in itertools.islice(os.walk(base), _MOST):
        above = os.path.relpath(folder, base)
        depth = 0 if above == "." else above.count("/") + 1
        folders[:] = sorted(one for one in folders if one[:1] != "." and one not in ("node_modules", "vendor"))
        folders[:] = folders if depth < 3 else []
        if above != ".":
            yield above


def _real(base: Path, folder: str) -> str | None:
    """The folder, where no link and no file is on the way to it."""
    folder = posixpath.normpath(folder) if folder else ""
    if folder in ("", "."):
        return ""
    if folder.startswith(("/", "..")) or ".git" in folder.split("/"):
        return None
    at = base
    for part in folder.split("/"):
        at = at / part
        if at.is_symlink() or (at.exists() and not at.is_dir()):
            return None
    return folder


def _leads(base: Path, folder: str, name: str, to_folders: bool) -> bool:
    """Whether that name, relative to the folder, is a file of the tree, or a folder, which in JavaScript must be one
    that can be imported."""
    path = posixpath.normpath(f"{folder}/{name}" if folder else name)
    if path.startswith(".."):
        return False
    if any((base / f"{path}{ending}").is_file() for ending in _ENDINGS):
        return True
    if to_folders:
        return (base / path).is_dir()
    return any((base / path / index).is_file() for index in _INDEX)


def _free(test: Test, folder: str, base: Path, taken: set[str]) -> str:
    """The script's path in the folder; under another name where there is such a file."""
    name = script_name(test)
    while os.path.lexists(base / folder / name) or posixpath.join(folder, name) in taken:
        name = f"troop_{name}"
    return posixpath.join(folder, name)


# -- the name and the runner ------------------------------------------------------------------------------------------


def _as_module(test: Test, base: Path, folder: str | None) -> str:
    """The path, with the ending by which Node takes the script for what it is."""
    stem = test.path[: -len(".js")]
    if _MODULE.search(test.text) or (_AWAITS.search(test.text) and not _COMMON.search(test.text)):
        return f"{stem}.mjs"
    return f"{stem}.cjs" if folder is not None and _is_module(base, folder) else test.path


def _is_module(base: Path, folder: str) -> bool:
    """Whether what ends with `.js` in that folder is a module, by the nearest package.json."""
    for above in (folder, *map(str, PurePosixPath(folder).parents)):
        try:
            with open(base / above / "package.json", "rb") as file:
                package = of_json(file.read(100_000).decode("utf-8-sig", "replace"))
        except (OSError, ValueError):
            continue
        return isinstance(package, dict) and package.get("type") == "module"
    return False


def _runner(test: Test, base: Path) -> tuple[str, ...]:
    """The command of the repository's runner of tests, where the script declares tests for it; () for none."""
    text = test.text
    if not _CALLS.search(text) or _NODES_OWN.search(text) or _declares(text):
        return ()
    has = {name for name in ("jest", "vitest", "mocha") if (base / "node_modules/.bin" / name).exists()}
    wanted = [name for name in ("vitest", "mocha") if re.search(rf"[\"']{name}[\"']", text)]
    wanted += ["jest"] if _JEST.search(text) else []
    name = next((one for one in (wanted or ("vitest", "jest", "mocha")) if one in has), "")
    if name == "jest":
        # Patterns of the configuration's are for the repository's own files.
        return ("npx", "--no-install", "jest", "--testMatch", "**/*", "--runTestsByPath", "{script}")
    if name == "vitest":
        return ("npx", "--no-install", "vitest", "run", "--globals", "{script}")
    return ("npx", "--no-install", "mocha", "{script}") if name else ()


_PHPUNIT = re.compile(
    r"^[ \t]*(?:(?:final|abstract|readonly)\s+)*class\s+(\w+)\s+extends\s+\\?(?:\w+\\)*TestCase\b", re.MULTILINE
)
_MINITEST = re.compile(r"<\s*(?:::)?Mini[tT]est::(?:Test|Spec)\b")


def _in_class(test: Test, base: Path) -> tuple[Test, tuple[str, ...]]:
    """A class of tests, which starts none of them itself, with what it needs and its runner; () for the usual one."""
    if test.path.lower().endswith(".rb"):
        return test.model_copy(update={"text": _of_ruby(test.text, base)}), ()
    found = _PHPUNIT.search(test.text)
    if found is None or re.search(r"\bTestRunner\b|->run\(", test.text):
        return test, ()
    settings = [base / name for name in ("phpunit.xml", "phpunit.xml.dist", "phpunit.dist.xml")]
    loads = any(one.is_file() and "bootstrap=" in one.read_text(errors="replace") for one in settings)
    load = () if loads or not (base / "vendor/autoload.php").is_file() else ("--bootstrap", "vendor/autoload.php")
    program = "vendor/bin/phpunit" if (base / "vendor/bin/phpunit").is_file() else "phpunit"
    path = posixpath.join(posixpath.dirname(test.path), f"{found[1]}.php")  # it looks for the class of the file's name
    return test.model_copy(update={"path": path}), (program, "--no-coverage", *load, "{script}")


_GO_TEST = re.compile(r"^func (Test\w*)\(\w+ \*testing\.T\)", re.MULTILINE)
_OWN_GO = "troop_test"  # a folder of the module
_GO_PACKAGE = re.compile(r"^package (\w+)", re.MULTILINE)


def _of_go(test: Test, base: Path) -> tuple[Test, str, tuple[str, ...]]:
    """Go's script with its name, its folder and its command: tests lie in the package that they say they are of, a
    program in the module, whose internal packages nobody else may import. () for the usual command."""
    test = test.model_copy(update={"text": _with_imports(test.text)})
    names, package = _GO_TEST.findall(test.text), _GO_PACKAGE.search(test.text)
    stem = re.sub(r"(?:_test)?\.go$", "", test.path)
    if not names or package is None or re.search(r"^func main\(\)", test.text, re.MULTILINE):
        # In a folder of its own: beside the files of another package neither could be imported.
        return test.model_copy(update={"path": f"{stem}.go"}), _OWN_GO, ()
    of = package[1].removesuffix("_test")
    own = _real(base, posixpath.dirname(test.path)) or ""
    packages = {folder: _package_in(base / folder) for folder in dict.fromkeys((own, "", *_folders(base)))}
    folder = next((one for one, name in packages.items() if name == of and _real(base, one) is not None), None)
    if folder is None:  # a package of its own
        folder = own if not packages[own] and own else _OWN_GO
    # One more may come to be, of which it is known that it fails: see `failing_test.py`.
    only = f"^({'|'.join(dict.fromkeys(names))}|Test_troop[0-9a-f]{{8}})$"
    run = ("go", "test", "-count=1", "-vet=off", "-run", only, f"./{folder}", "-args", "{script}")
    return test.model_copy(update={"path": f"{stem}_test.go"}), folder, run


_OF_GO = {
    path.rpartition("/")[2]: path
    for path in (
        *("bytes", "context", "encoding/json", "errors", "fmt", "io", "log", "math", "os", "path/filepath", "reflect"),
        *("regexp", "sort", "strconv", "strings", "sync", "testing", "time"),
    )
}
_GO_IMPORT = re.compile(r"^([ \t]*)(import[ \t]+)?\"([\w/]+)\"[ \t]*$", re.MULTILINE)
_GO_ASIDE = re.compile(r"//[^\n]*|/\*[\s\S]*?\*/|\"(?:[^\"\\\n]|\\.)*\"|`[^`]*`")


def _with_imports(text: str) -> str:
    """Go's script with the imports from its library that it uses, and no others, which Go takes for errors."""
    code = _GO_ASIDE.sub('""', text)
    used = set(re.findall(r"(?<![\w.])(\w+)\.[A-Z]", code))
    own = set(re.findall(r"\b(\w+)[ \t]*(?:,[ \t]*\w+[ \t]*)?:=|\b(?:var|func|type|const|range)[ \t]+(\w+)", code))
    text = _GO_IMPORT.sub(
        lambda found: "" if found[3] in _OF_GO.values() and _last(found[3]) not in used else found[0], text
    )
    imported = {_last(path) for path in re.findall(r"\"([\w./-]+)\"", text.partition("\nfunc ")[0])}
    renamed = set(re.findall(r"^[ \t]*(?:import[ \t]+)?(\w+)[ \t]+\"", text, re.MULTILINE))
    taken = imported | renamed | {name for names in own for name in names}
    more = "".join(f'; import "{_OF_GO[name]}"' for name in sorted(used & _OF_GO.keys() - taken))
    return _GO_PACKAGE.sub(lambda found: found[0] + more, text, count=1)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _package_in(folder: Path) -> str:
    """The name of the Go package in the folder; "" where there is none."""
    for place in sorted(folder.glob("*.go"))[:_MOST]:
        if not place.name.endswith("_test.go"):
            with open(place, "rb") as file:
                found = _GO_PACKAGE.search(file.read(_LONGEST).decode("utf-8", "replace"))
            if found and found[1] != "main":
                return found[1]
    return ""


def _of_ruby(text: str, base: Path) -> str:
    """The script with what it was to be run with: minitest, and the folder `lib` as the last where files are found."""
    begin = ""
    if _MINITEST.search(text) and "autorun" not in text and "Minitest.run" not in text:
        begin += "require 'minitest/autorun'; "
    needed = re.findall(r"^require[\s(]+[\"']([\w/-]+)[\"']", text, re.MULTILINE)
    if any((base / f"lib/{name}.rb").is_file() for name in needed) and not re.search(r"\$LOAD_PATH|\$:", text):
        begin += "$LOAD_PATH.push(Dir.pwd + '/lib'); "
    return re.sub(r"\A((?:#.*\n|\s*\n)*)", lambda found: found[1] + begin, text) if begin else text


def _declares(text: str) -> bool:
    """Whether the script has such functions of its own."""
    return bool(re.search(r"\b(?:function|const|let|var)\s+(?:describe|it|test)\b", text))
