"""What the sandbox has, found out once before the first model call: interpreters, packages, what can be imported.

The models read it in the part of their prompts that all share. The report says where the repository can't be imported,
since tests then show nothing.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from bot.contracts import Sandbox
from bot.errors import SandboxError, SandboxUnavailable
from bot.patch.protected_files import is_configuration, is_test
from bot.records import Ending, Execution, Fault, Obstacle, Record, SandboxJob

TIMEOUT = 60.0  # seconds; packages with many dependencies take long to import
_PACKAGES = 3  # of the repository's own that are imported
_LISTED = 40  # installed packages that are named
_ELSEWHERE = "elsewhere: "  # what the script says of an installed copy
_INTERPRETERS = ("node", "go", "cargo", "ruby", "php")

# What a repository whose files end so may need to run, and how it tells its version.
_TOOLS = {
    ".js": ("node --version", "npm --version"),
    ".ts": ("node --version", "npm --version"),
    ".go": ("go version",),
    ".rs": ("cargo --version",),
    ".rb": ("ruby --version",),
    ".php": ("php --version",),
    ".pl": ("perl --version",),
    ".java": ("java --version",),
    ".c": ("gcc --version", "make --version"),
    ".cpp": ("g++ --version", "make --version"),
    ".lua": ("lua -v",),
    ".sh": ("bash --version",),
}
_NOT_PACKAGES = frozenset(
    ("docs", "doc", "example", "examples", "scripts", "tools", "benchmark", "benchmarks", "bench", "build", "ci")
)
_NOT_MODULES = frozenset(
    ("setup", "noxfile", "tasks", "fabfile", "manage", "versioneer", "dodo", "wscript", "__init__", "__main__")
)

# Prints a line for each thing found: an import that ends the process loses only the lines after it.
_PYTHON = """
import json, sys
def say(*what): sys.__stdout__.write("\\ntroop-survey " + json.dumps(what) + "\\n"); sys.__stdout__.flush()
say("version", "%d.%d.%d" % sys.version_info[:3])
try:
    from importlib import metadata
    say("installed", sorted({(d.metadata["Name"] or "", d.version or "") for d in metadata.distributions()}))
except Exception: pass
import importlib, os
here = os.path.realpath(os.getcwd())
for name in sys.argv[1:]:
    try: module = importlib.import_module(name)
    except BaseException as error:
        say("import", name, (type(error).__name__ + ": " + " ".join(str(error).split()))[:300])
        continue
    places = [getattr(module, "__file__", None) or "", *getattr(module, "__path__", ())]
    inside = any(os.path.realpath(p).startswith(here + os.sep) for p in places if p)
    say("import", name, "" if inside else "elsewhere: " + (places[0] or "?"))
"""


class Survey(Record):
    """What was found. Empty where nothing is known."""

    python: str = ""  # version
    installed: tuple[tuple[str, str], ...] = ()  # name and version of every distribution
    imports: tuple[tuple[str, str], ...] = ()  # of the repository's packages: name, and why it can't be imported or ""
    tools: tuple[tuple[str, str], ...] = ()  # name and version, "" where it is not there

    @property
    def broken(self) -> tuple[tuple[str, str], ...]:
        return tuple((name, why) for name, why in self.imports if why)

    def same_environment(self, other: "Survey") -> bool:
        """Whether the same can be used. Messages differ from start to start: they name folders of the sandbox.

        A survey that found nothing says nothing.
        """
        return Survey() in (self, other) or self.digest == other.digest

    @property
    def digest(self) -> str:
        """Of what can be used, as 16 hexadecimal digits."""
        usable = [self.python, self.installed, [(name, bool(why)) for name, why in self.imports], self.tools]
        return hashlib.sha256(json.dumps(usable).encode()).hexdigest()[:16]


async def survey(files: Sequence[str], declared: str, sandbox: Sandbox) -> Survey:
    """Survey the sandbox. `files`: the repository's paths; `declared`: the text of its build files.

    Where the sandbox fails at it, the survey is empty. Raises `SandboxUnavailable`.
    """
    endings = Counter(PurePosixPath(path).suffix for path in files)
    python = endings[".py"] > 0
    wanted = dict.fromkeys(tool for ending, tools in _TOOLS.items() if endings[ending] for tool in tools)
    names = own_packages(files, declared) if python else ()
    if not python and not wanted:
        return Survey()
    asked = [f'printf "\\ntroop-tool {tool.split()[0]} "; {tool} 2>/dev/null | head -n 1' for tool in wanted]
    script = "\n".join([*asked, *(['exec python3 -c "$0" "$@"'] if python else [])])
    job = SandboxJob(command=("sh", "-c", script, _PYTHON, *names), timeout=TIMEOUT)
    try:
        execution = await sandbox.run(job)
    except SandboxUnavailable:
        raise
    except SandboxError:
        return Survey()
    return _read(execution, names)


def _read(execution: Execution, names: Sequence[str]) -> Survey:
    said: dict[str, object] = {}
    imports: dict[str, str] = {}
    for line in re.findall(r"^troop-survey (.*)$", execution.output, re.MULTILINE):
        try:
            word, *rest = json.loads(line)
        except ValueError:
            continue
        if word == "import" and len(rest) == 2:
            imports[str(rest[0])] = str(rest[1])
        elif len(rest) == 1:
            said.setdefault(str(word), rest[0])
    if "version" in said:  # an import that ended the process has said nothing
        ended = "the import did not end" if execution.ending is Ending.TIMED_OUT else "the import ended the process"
        missing = next((name for name in names if name not in imports), None)
        if missing is not None:
            imports[missing] = ended
    listed = said.get("installed")
    installed = [(str(one[0]), str(one[1])) for one in listed] if isinstance(listed, list) else []
    tools = re.findall(r"^troop-tool (\S+) ?(.*)$", execution.output, re.MULTILINE)
    imports = {name: "".join(c for c in why if c.isprintable()) for name, why in imports.items()}
    return Survey(
        python=str(said.get("version", "")),
        installed=tuple(installed),
        imports=tuple(imports.items()),
        tools=tuple((name, " ".join(version.split())[:60]) for name, version in tools),
    )


def own_packages(files: Sequence[str], declared: str) -> tuple[str, ...]:
    """What users of the repository import, the likeliest first, at most a few: packages, else modules. Pure."""
    tops: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    known = set(files)
    for path in files:
        if not path.endswith(".py") or is_test(path) or is_configuration(path):
            continue
        parts = PurePosixPath(path).parts
        root = next((i for i in range(len(parts)) if "/".join((*parts[: i + 1], "__init__.py")) in known), None)
        if root is None or root + 1 == len(parts):
            if len(parts) == 1 or (len(parts) == 2 and parts[0] in ("src", "lib")):
                stem = PurePosixPath(path).stem
                if stem.isidentifier() and stem not in _NOT_MODULES:
                    modules[stem] += 1
            continue
        # folders above a package are places to import from, but for those of a namespace
        above = parts[1:root] if parts[0] in ("src", "lib") else ()
        name = ".".join((*above, parts[root]))
        if not _NOT_PACKAGES.intersection(parts[: root + 1]) and all(p.isidentifier() for p in name.split(".")):
            tops[name] += 1
    project = re.search(r"""^\s*name\s*=\s*["']?([\w.-]+)""", declared, re.MULTILINE)
    wanted = re.sub(r"[-_.]+", "_", project[1]).lower() if project else ""

    def likeliest(name: str) -> tuple[bool, int, str]:
        counted = tops if tops else modules
        return (name.replace(".", "_").lower() != wanted, -counted[name], name)

    return tuple(sorted(tops or modules, key=likeliest)[:_PACKAGES])


# -- for the prompts, and for the report -----------------------------------------------------------------------------


def for_models(found: Survey, declared: str) -> str:
    """The text for the prompts; "" where nothing is known. Packages that `declared` mentions come first."""
    said = []
    if found.python:
        said.append(
            f"Python {found.python}. Scripts are run as `python3 test_issue.py`, started in the root of the "
            "repository, which is on `sys.path` (so are `src` and `lib`, where they are)."
        )
        working = [f"`import {name}`" for name, why in found.imports if not why]
        if working:
            said.append(f"{' and '.join(working)} {'work' if len(working) > 1 else 'works'}.")
        said += [f"`import {name}` fails here: {why}." for name, why in found.broken if not _elsewhere(why)]
        if any(not _elsewhere(why) for _, why in found.broken):
            said.append(
                "A test that imports it as it is fails for that reason alone, and shows nothing. Put a small stand-in "
                "for what is missing into `sys.modules` before the import, or load the one file under test by its "
                "path (`importlib.util.spec_from_file_location`)."
            )
        named, more = _named(found.installed, declared)
        if named:
            said.append(f"Beside the standard library there are {', '.join(named)}{more}; nothing else is installed.")
        else:
            said.append("There is nothing beside the standard library: no pytest either.")
    there = [f"{name} ({version})" for name, version in found.tools if version]
    absent = [name for name, version in found.tools if not version]
    if there:
        said.append(f"Programs: {', '.join(there)}.")
    if absent:
        said.append(f"Not there: {', '.join(absent)}.")
    return "\n".join(said)


def obstacles(found: Survey) -> tuple[Obstacle, ...]:
    """What keeps tests from showing much, for the operator and the maintainers; () where all is well."""
    wrong = []
    for name, why in found.broken:
        if _elsewhere(why):
            wrong.append(Obstacle(fault=Fault.INSTALLED_COPY, name=name, detail=why.removeprefix(_ELSEWHERE)))
            continue
        built = re.search(rf"No module named '{re.escape(name.split('.')[0])}[.']", why) is not None
        wrong.append(Obstacle(fault=Fault.NOT_BUILT if built else Fault.IMPORT_FAILS, name=name, detail=why))
    if not found.python:
        gone = [name for name, version in found.tools if not version and name in _INTERPRETERS]
        wrong += [Obstacle(fault=Fault.NO_INTERPRETER, name=name) for name in gone]
    return tuple(wrong)


def _elsewhere(why: str) -> bool:
    return why.startswith(_ELSEWHERE)


_OFTEN_WANTED = ("pytest", "hypothesis", "numpy", "attrs", "pytest-asyncio", "pytest-mock")


def _named(installed: Collection[tuple[str, str]], declared: str) -> tuple[list[str], str]:
    """The distributions to name, those that the build files mention first, and how many are left out."""
    text = declared.lower()
    dull = ("pip", "setuptools", "wheel")

    def rank(one: tuple[str, str]) -> tuple[bool, bool, str]:
        name = one[0].lower()
        mentioned = re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None
        return (not mentioned, name not in _OFTEN_WANTED, name)

    listed = sorted((one for one in installed if one[0] and one[0].lower() not in dull), key=rank)
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return [f"{name} {version}" for name, version in listed[:_LISTED]], more
