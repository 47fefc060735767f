"""What the sandbox has, found out once before the first model call: interpreters, packages, what can be imported.

The models read it in the part of their prompts that all share. The report says where the repository can't be imported,
since tests then show nothing.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath

from bot.contracts import Sandbox
from bot.errors import SandboxError
from bot.patch.formats import of_json
from bot.patch.protected_files import is_configuration, is_test
from bot.recipe.asked import MARK, TOOLS, image_of, telling, told, too_old, words_of
from bot.recipe.declared import Declared
from bot.recipe.groups import normal
from bot.recipe.recipe import Asked
from bot.records import Checkout, Ending, Execution, Fault, Obstacle, Record, SandboxJob
from bot.sanitize import clean
from bot.sanitize.delimiters import escaped
from bot.solver.harness import attempt

TIMEOUT = 60.0  # seconds; packages with many dependencies take long to import
_PACKAGES = 3  # of the repository's own that are imported
_NAMED = 10  # submodules, and files of Git LFS
_LISTED = 40  # installed packages that are named; more if the manifests require them
_LEAST = 10  # of those that the repository does not mention
_ELSEWHERE = "elsewhere: "  # what the script says of an installed copy
_INTERPRETERS = ("node", "go", "cargo", "ruby", "php", "elixir")

# What a repository whose files end so may need to run.
_TOOLS = {
    ".js": ("node", "npm"),
    ".ts": ("node", "npm"),
    ".go": ("go",),
    ".rs": ("cargo",),
    ".rb": ("ruby",),
    ".php": ("php",),
    ".pl": ("perl",),
    ".java": ("java",),
    ".c": ("gcc", "make"),
    ".cpp": ("g++", "make"),
    ".lua": ("lua",),
    ".exs": ("elixir",),
    ".sh": ("bash",),
}
# How they tell their versions.
_SAYING = {"lua": "lua -v", **{name: tool.says for name, tool in TOOLS.items()}}
# Programs of a TypeScript repository's own dependencies: what runs a script, and by which command a file of tests.
_OF_NODE = {"tsx": "", "vitest": "vitest run", "jest": "jest", "mocha": "mocha", "ava": "ava"}
_STRIPPING = Asked(tool="node", wanted="", source="", least=(22, 18))  # runs TypeScript by itself
_HERE = "here"
# Folders with packages that serve a repository's maintenance, not its users.
_NOT_PACKAGES = frozenset(
    (
        *("docs", "doc", "example", "examples", "sample", "samples", "demo", "demos", "notebooks", "tutorials"),
        *("script", "scripts", "tool", "tools", "tooling", "task", "tasks", "dev", "devtools", "hack", "maintenance"),
        *("benchmark", "benchmarks", "bench", "perf", "build", "ci", "release", "packaging", "deploy", "infra", "etc"),
        *("test", "testing", "fixtures", "vendor", "third_party", "node_modules"),
    )
)
_NAME = re.compile(r"""^[^\S\n]*name\s*=\s*["']?([\w.-]+)""", re.MULTILINE)
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
    missing: tuple[str, ...] = ()  # distributions that the manifests require and that are not installed
    named: tuple[str, ...] = ()  # of the packages in `imports`, those that a manifest names as its project

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


async def survey(files: Sequence[str], declared: Declared, sandbox: Sandbox, asked: Sequence[Asked] = ()) -> Survey:
    """Survey the sandbox. `files`: the repository's paths; `declared`: what its manifests say; `asked`: versions.

    Where the sandbox fails at it, the survey is empty. Raises `SandboxUnavailable`.
    """
    endings = Counter(PurePosixPath(path).suffix for path in files)
    python = endings[".py"] > 0
    wanted = dict.fromkeys(tool for ending, tools in _TOOLS.items() if endings[ending] for tool in tools)
    wanted |= dict.fromkeys(one.tool for one in asked if one.tool != "python3")  # tells itself
    names = own_packages(files, declared) if python else ()
    if not python and not wanted:
        return Survey()
    lines = [telling(_SAYING.get(tool, f"{tool} --version") for tool in wanted)]
    if _in_typescript(files):
        lines += [f'printf "\\n{MARK} {name} "; [ -e node_modules/.bin/{name} ] && echo {_HERE}' for name in _OF_NODE]
    script = "\n".join([*lines, *(['exec python3 -c "$0" "$@"'] if python else [])])
    job = SandboxJob(command=("sh", "-c", script, _PYTHON, *names), timeout=TIMEOUT)
    execution = await attempt(sandbox, job)
    if isinstance(execution, SandboxError):
        return Survey()
    found = _read(execution, names)
    there = {normal(name) for name, _ in found.installed}
    missing = [name for name in declared.required if found.installed and normal(name) not in there]
    named = [name for name in names if _plain(name) in map(_plain, declared.projects)]
    return found.model_copy(update={"missing": tuple(missing), "named": tuple(named)})


def _read(execution: Execution, names: Sequence[str]) -> Survey:
    said: dict[str, object] = {}
    imports: dict[str, str] = {}
    for line in re.findall(r"^troop-survey (.*)$", execution.output, re.MULTILINE):
        try:
            word, *rest = of_json(line)
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
    imports = {name: "".join(c for c in why if c.isprintable()) for name, why in imports.items()}
    return Survey(
        python=str(said.get("version", "")),
        installed=tuple(installed),
        imports=tuple(imports.items()),
        tools=tuple(told(execution.output).items()),
    )


def _in_typescript(files: Sequence[str]) -> bool:
    """Whether more sources are TypeScript's than JavaScript's; declarations of types and configuration are none."""
    suffixes = [
        PurePosixPath(path).suffix for path in files if not path.endswith(".d.ts") and not is_configuration(path)
    ]
    return sum(one in (".ts", ".tsx", ".mts", ".cts") for one in suffixes) > sum(
        one in (".js", ".jsx", ".mjs", ".cjs") for one in suffixes
    )


def own_packages(files: Sequence[str], declared: Declared) -> tuple[str, ...]:
    """What users of the repository import, the likeliest first, at most a few: packages, else modules. Pure.

    Folders that only serve its maintenance are none, unless a manifest names its project like that.
    """
    packages: Counter[str] = Counter()
    modules: Counter[str] = Counter()
    known = set(files)
    wanted = {_plain(name) for name in declared.projects or _NAME.findall(declared.text)[:1]}
    for path in files:
        if not path.endswith(".py") or is_test(path) or is_configuration(path):
            continue
        root = max((one for one in declared.roots if not one or path.startswith(f"{one}/")), key=len, default="")
        parts = PurePosixPath(path).parts
        above = len(PurePosixPath(root).parts) if root else 0
        first = next((i for i in range(above, len(parts)) if "/".join((*parts[: i + 1], "__init__.py")) in known), None)
        if first is None or first + 1 == len(parts):
            stem = PurePosixPath(path).stem
            if len(parts) == above + 1 and stem.isidentifier() and (stem not in _NOT_MODULES or stem in wanted):
                modules[stem] += 1
            continue
        # folders above a package are places to import from, but for those of a namespace
        name = ".".join((*(parts[above:first] if root else ()), parts[first]))
        serves = _NOT_PACKAGES.intersection(parts[above : first + 1]) and _plain(name) not in wanted
        if not serves and all(part.isidentifier() for part in name.split(".")):
            packages[name] += 1
    counted = packages or modules
    return tuple(sorted(counted, key=lambda name: (_plain(name) not in wanted, -counted[name], name))[:_PACKAGES])


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


# -- for the prompts, and for the report -----------------------------------------------------------------------------


def for_models(found: Survey, declared: Declared, *, servers: str = "", asks: bool = False) -> str:
    """The text for the prompts; "" where nothing is known. What the manifests require comes first.

    `servers`: those beside tests, in words.
    `asks`: whether the model may ask the sandbox itself, and so needs no list of what the repository does not mention.
    """
    said = []
    if found.python:
        said.append(
            f"Python {found.python}. Scripts are run as `python3 test_issue.py`, started in the root of the "
            f"repository, which is on `sys.path`{_also(declared.roots)}."
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
        if declared.compiles:
            said.append(_COMPILED)
        own, others, more = _named(found.installed, declared, _LEAST if asks else _LISTED)
        if own:
            said.append(f"Of what the repository depends on, these are installed: {', '.join(own)}.")
        if found.missing:
            cut = [*found.missing[:_LISTED], *(["..."] if len(found.missing) > _LISTED else [])]
            said.append(f"Declared, but not installed: {', '.join(cut)}. What imports one of them can't be tested.")
        if others:
            beside = "Installed besides" if own else "Beside the standard library there are"
            rest = f" and {more} more, which the repository does not mention" if more else "; nothing else is installed"
            said.append(f"{beside}{': ' if own else ' '}{', '.join(others)}{rest}.")
        elif not own:
            said.append("There is nothing beside the standard library: no pytest either.")
    there = [f"{name} ({version})" for name, version in found.tools if version and name not in _OF_NODE]
    absent = [name for name, version in found.tools if not version and name not in _OF_NODE]
    if there:
        said.append(f"Programs: {', '.join(there)}.")
    if absent:
        said.append(f"Not there: {', '.join(absent)}.")
    said += filter(None, [_typescript(dict(found.tools)), servers])
    return "\n".join(said)


def other_contents(checkout: Checkout) -> str:
    """What of the repository's files is not its own, or not here, for the prompts; "" where all is."""

    def named(paths: Sequence[str]) -> str:
        more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
        return ", ".join(escaped(clean(path).text) for path in paths[:_NAMED]) + more

    said = []
    fetched = [path for path in checkout.modules if path not in checkout.empty]
    if fetched:
        said.append(f"Submodules, other repositories that can be used but not changed: {named(fetched)}.")
    if checkout.empty:
        said.append(f"Submodules that were not fetched, so that their folders are empty here: {named(checkout.empty)}.")
    if checkout.pointers:
        said.append(f"Pointers of Git LFS, without their content here: {named(checkout.pointers)}.")
    return "\n".join(said)


_COMPILED = (
    "What the package compiles was compiled from the untouched repository, and is not compiled again for a patch. A "
    "test of a change there is a shell script (`test_issue.sh`) that compiles first (`python3 setup.py -q build_ext "
    "--inplace`, or `cargo build --offline` and a copy of the library to where it is imported from), then runs "
    "`python3 -c`."
)


def _typescript(tools: Mapping[str, str]) -> str:
    """How a test of TypeScript is run here; "" for other repositories."""
    if "tsx" not in tools:
        return ""
    if tools["tsx"]:
        return "A TypeScript script (`test_issue.ts`) runs by the repository's own tsx."
    runner = next((command for name, command in _OF_NODE.items() if command and tools.get(name)), "")
    otherwise = (
        ": write a shell script instead that writes a file of tests beside the repository's own ones, in their form, "
        f"and ends with `npx {runner} FILE`"
    )
    instead = otherwise if runner else ""
    if tools.get("node") and not too_old([_STRIPPING], tools):
        return (
            "A TypeScript script is called `test_issue.mts`: Node runs it as a module, without its types. It imports "
            'files by their whole names (`await import(process.cwd() + "/src/a.ts")`). Where these import others '
            f"without an ending, or have enums or namespaces, that fails{instead}."
        )
    return f"There is no tsx, so a TypeScript script does not run as it is{instead}."


def obstacles(found: Survey, asked: Sequence[Asked] = ()) -> tuple[Obstacle, ...]:
    """What keeps tests from showing much, for the operator and the maintainers; () where all is well."""
    wrong = []
    for name, why in found.broken:
        if found.named and name not in found.named:  # a folder that its users don't import
            continue
        if _elsewhere(why):
            wrong.append(Obstacle(fault=Fault.INSTALLED_COPY, name=name, detail=why.removeprefix(_ELSEWHERE)))
            continue
        built = re.search(rf"No module named '{re.escape(name.split('.')[0])}[.']", why) is not None
        wrong.append(Obstacle(fault=Fault.NOT_BUILT if built else Fault.IMPORT_FAILS, name=name, detail=why))
    if not found.python:
        gone = [name for name, version in found.tools if not version and name in _INTERPRETERS]
        wrong += [Obstacle(fault=Fault.NO_INTERPRETER, name=name) for name in gone]
    old = too_old(asked, {**dict(found.tools), "python3": found.python})
    wrong += [Obstacle(fault=Fault.TOO_OLD, name=image_of(one), detail=words_of(one, has)) for one, has in old]
    return tuple(wrong)


def _elsewhere(why: str) -> bool:
    return why.startswith(_ELSEWHERE)


_OFTEN_WANTED = ("pytest", "hypothesis", "numpy", "attrs", "pytest-asyncio", "pytest-mock")


def _named(installed: Collection[tuple[str, str]], declared: Declared, most: int) -> tuple[list[str], list[str], int]:
    """The distributions that the manifests mention, all of them; the others to name; how many are left out."""
    text = declared.text.lower()
    required, own_names = set(map(normal, declared.required)), set(map(normal, declared.projects))
    dull = {"pip", "setuptools", "wheel"} - required

    def mentioned(name: str) -> bool:
        return normal(name) in required or re.search(rf"(?<![\w-]){re.escape(name.lower())}(?![\w-])", text) is not None

    def rank(one: tuple[str, str]) -> tuple[bool, bool, str]:
        return normal(one[0]) not in required, one[0].lower() not in _OFTEN_WANTED, one[0].lower()

    listed = sorted((one for one in installed if one[0] and normal(one[0]) not in dull | own_names), key=rank)
    own = [one for one in listed if mentioned(one[0])]
    others = [one for one in listed if not mentioned(one[0])]
    shown = others[: max(_LEAST, most - len(own))]
    words = [[f"{name} {version}" for name, version in some] for some in (own, shown)]
    return words[0], words[1], len(others) - len(shown)


def _also(roots: Sequence[str]) -> str:
    """Which folders are on `sys.path` beside the root."""
    named = [f"`{root}`" for root in roots if root][:12]
    return f" (so {'are' if len(named) > 1 else 'is'} {', '.join(named)})" if named else ""
