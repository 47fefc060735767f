"""Python: pyproject.toml with extras and dependency groups, requirement files, tox, setup.cfg, setup.py, lock files."""

import configparser
import re
import shlex
from collections.abc import Sequence
from typing import Any

from bot.patch.formats import of_toml, read_ini
from bot.recipe.conda import environments, of_channels, pixi_tables
from bot.recipe.groups import for_tests, normal, poetry_requirements, strings, table_at
from bot.recipe.import_roots import joined, projects
from bot.recipe.pylocks import locked, pinned
from bot.recipe.recipe import Hints, Layer, Part, Read, folders_with, sources_of
from bot.recipe.workspace import members, own_names

_MANIFESTS = ("pyproject.toml", "setup.py", "setup.cfg", "Pipfile", "tox.ini", "pylock.toml", "pixi.toml")
_LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml")
_PLAIN = re.compile(r"[A-Za-z0-9]")  # begins a requirement
_TEST_FILE = re.compile(r"(^|/)(test_[^/]*|[^/]*_test|tests)\.py$")
_NAMED = re.compile(r"^[^\S\n]*(?:-r|-c|--requirement|--constraint)[ =]?[^\S\n]*(\S+)", re.MULTILINE)
_HTTPS = r"['\"]?https?://\S+"
_UNDERSTOOD = re.compile(  # a line of a requirement file that reads no other file than `_NAMED` tells
    rf"\s*(?:\#.*|(?:-r|-c|--requirement|--constraint)[ =]?\s*[\w./'\"-]+|--hash[ =].*"
    rf"|(?:-i|-f|--index-url|--extra-index-url|--find-links)[ =]?\s*{_HTTPS}"
    r"|--(?:trusted-host|no-index|no-binary|only-binary|prefer-binary|pre|require-hashes|use-feature)"
    r"\b[^/\s]*(?:[ ][\w.:,-]+)?"
    r"|[A-Za-z0-9](?:(?!\.(?:whl|zip|tar|tgz))[\w.-])*\s*(?:\[[^]]*\])?\s*(?:[<>=!~(;].*|@\s*(?:git\+)?https?://.*)?)?"
    r"(?:\s+\#.*)?\s*\\?\s*"
)
_FOLDER_LIMIT = 2000
_PIP = "python3 -m pip install"


def python(files: Sequence[str], read: Read, hints: Hints) -> Part | None:
    """None where there is no Python."""
    folders = tuple(dict.fromkeys((*_folders(files), *members(files, read))))
    has_tests = any(_TEST_FILE.search(path) for path in files)
    if not folders and not has_tests:
        return None
    own = own_names(files, read)
    projects = [_Project(files, read, folder, hints, own) for folder in folders]
    layers = [layer for project in projects for layer in project.dependencies()]
    layers += [layer for project in projects for layer in project.installing()]
    declared = "\n".join(project.text for project in projects)
    if has_tests and not re.search(r"(?<![\w-])pytest(?![\w-])", declared):
        command = f"python3 -c 'import pytest' 2>/dev/null || {_PIP} pytest"
        layers.append(Layer(name="pytest", source="the test files", commands=(command,), programs=("python3", "pip"),
                            optional=True))  # fmt: skip
    setup = " && ".join(filter(None, (project.setup() for project in projects)))
    notes = [note for project in projects for note in project.notes]
    if not any(project.requirements or project.requirement_files for project in projects):
        notes += environments(files)
    return Part(language="Python", sources=sources_of(layers), layers=tuple(layers), setup=setup or f"{_PIP} pytest",
                notes=tuple(notes))  # fmt: skip


def requirements_of(files: Sequence[str], read: Read) -> tuple[str, ...]:
    """What the projects and their tests need, as pip takes it; of requirement files the lines that name something."""
    found: list[str] = []
    own = own_names(files, read)
    nested = (f"{folder}/" for folder in projects(files) if folder)
    for folder in dict.fromkeys((*_folders(files), *nested)):
        project = _Project(files, read, folder, Hints(), own)
        found += project.requirements
        for path in project.requirement_files:
            found += filter(_plain, _lines(read(path) or ""))
    return tuple(dict.fromkeys(found))


def _folders(files: Sequence[str]) -> tuple[str, ...]:
    found = folders_with(files, _MANIFESTS)
    if "" not in found and any(_is_requirements(path) for path in files if path.count("/") < 2):
        return ("",)
    return found


def _is_requirements(path: str) -> bool:
    return re.fullmatch(r"([\w.-]*requirements?[\w.-]*|requirements/[\w.-]+)\.(txt|in|pip)", path) is not None


class _Project:
    """One folder with manifests, which is the root or one of a monorepo's."""

    def __init__(self, files: Sequence[str], read: Read, folder: str, hints: Hints, own: frozenset[str]) -> None:
        """`own`: names of the repository's projects, which are no requirements."""
        self._files, self._known, self._read, self._folder = files, frozenset(files), read, folder
        self.notes: list[str] = []
        self.pyproject = self._toml("pyproject.toml")
        self.cfg = self._ini("setup.cfg")
        self.project: dict[str, Any] = table_at(self.pyproject, "project")
        self.poetry: dict[str, Any] = table_at(self.pyproject, "tool", "poetry")
        self.extras = self._extras(hints)
        self.requirement_files = self._requirement_files(hints)
        self.requirements = tuple(
            dict.fromkeys(one for one in filter(_plain, self._requirements()) if _named(one) not in own)
        )
        self.text = "\n".join([*self.requirements, *(self._read(path) or "" for path in self.requirement_files)])

    # -- what the files say

    def _toml(self, name: str) -> dict[str, Any]:
        text = self._read(self._folder + name) if self._folder + name in self._known else None
        try:
            return of_toml((text or "").lstrip("\ufeff"))
        except ValueError as error:
            self.notes.append(f"{self._folder}{name} is not TOML: {str(error)[:200]}")
            return {}

    def _ini(self, name: str) -> configparser.ConfigParser:
        parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
        text = self._read(self._folder + name) if self._folder + name in self._known else None
        try:
            read_ini(parser, text or "")
        except ValueError as error:
            self.notes.append(f"{self._folder}{name} can't be read: {str(error).splitlines()[0][:200]}")
        return parser

    @property
    def installable(self) -> bool:
        """Whether pip can install it: a plain list of dependencies without a build system is none."""
        if self._folder + "setup.py" in self._known:
            return True
        if self.cfg.has_section("metadata") or self.cfg.has_section("options"):
            return self.cfg.has_option("metadata", "name")
        package = self.poetry.get("package-mode", True) and bool(self.project or self.poetry.get("name"))
        return package and "build-system" in self.pyproject

    @property
    def tells_dependencies(self) -> bool:
        """Whether all that it depends on is known without running its build."""
        if self._folder + "setup.py" in self._known and not self.project:
            return self.cfg.has_option("options", "install_requires")
        return "dependencies" not in strings(self.project.get("dynamic"))

    def _extras(self, hints: Hints) -> tuple[str, ...]:
        there = [str(name) for name in table_at(self.project, "optional-dependencies")]
        there += [str(name) for name in table_at(self.poetry, "extras")]
        if self.cfg.has_section("options.extras_require"):
            there += self.cfg.options("options.extras_require")
        if "setup.py" in self._known and not there:
            there += _extras_of_setup(self._read(self._folder + "setup.py") or "")
        return tuple(dict.fromkeys([*for_tests(there), *(name for name in hints.extras if name in there)]))

    def _requirement_files(self, hints: Hints) -> tuple[str, ...]:
        inside = [path[len(self._folder) :] for path in self._files if path.startswith(self._folder)]
        names = sorted(name for name in inside if _is_requirements(name))
        compiled = {name.rsplit(".", 1)[0] for name in names if name.endswith(".txt")}
        names = [name for name in names if not name.endswith(".in") or name[:-3] not in compiled]
        stems = {name: re.sub(r"requirements?|[-_./]|\.(txt|in|pip)$", "", name.rsplit(".", 1)[0]) for name in names}
        base = [name for name, stem in stems.items() if stem in ("", "base", "main", "prod", "production", "install")]
        wanted = for_tests(stems.values())
        tests = [name for name, stem in stems.items() if stem in wanted]
        told = [name for name in hints.requirements if name in names]
        chosen = [self._folder + name for name in dict.fromkeys([*base, *tests, *told])]
        included = {inner for path in chosen for inner in self._closure(path)[1:]}
        return tuple(path for path in chosen if path not in included)

    def _requirements(self) -> list[str]:
        """Every requirement of the project and of its tests, as pip takes them."""
        name = normal(str(self.project.get("name") or self.poetry.get("name") or ""))
        optional = table_at(self.project, "optional-dependencies")
        found = strings(self.project.get("dependencies"))
        for extra in self.extras:
            found += self._of_extra(extra, optional, name, set())
        found += self._groups()
        found += poetry_requirements(self.poetry, self.extras)
        tool = table_at(self.pyproject, "tool")
        found += strings(table_at(tool, "uv").get("dev-dependencies"))
        pdm = table_at(tool, "pdm", "dev-dependencies")
        found += [one for group in for_tests(pdm) for one in strings(pdm[group])]
        environments = table_at(tool, "hatch", "envs")
        for environment in for_tests(environments):
            table = table_at(environments, environment)
            found += strings(table.get("dependencies")) + strings(table.get("extra-dependencies"))
        if self.cfg.has_section("options"):
            found += _lines(self.cfg.get("options", "install_requires", fallback="") or "")
        if self.cfg.has_section("options.extras_require"):
            for extra in self.extras:
                found += _lines(self.cfg.get("options.extras_require", extra, fallback="") or "")
        found += self._pixi()
        if not found and not self.requirement_files and self._folder + "pylock.toml" in self._known:
            found += locked(self._read(self._folder + "pylock.toml") or "")
        pipfile = self._toml("Pipfile")
        for section in ("packages", "dev-packages"):
            found += [_pipfile(key, value) for key, value in table_at(pipfile, section).items()]
        if not any(_named(one) == "pytest" for one in found):
            found += self._tox()
        return found

    def _of_extra(self, extra: str, optional: dict[str, Any], name: str, seen: set[str]) -> list[str]:
        """The requirements of an extra, with those of extras of the project itself that it names."""
        if extra in seen:
            return []
        seen.add(extra)
        found = []
        for one in strings(optional.get(extra)):
            own = re.fullmatch(r"\s*([\w.-]+)\s*\[([^\]]*)\].*", one)
            if own and normal(own[1]) == name:
                for other in own[2].split(","):
                    found += self._of_extra(other.strip(), optional, name, seen)
            else:
                found.append(one)
        return found

    def _groups(self) -> list[str]:
        """Of PEP 735's dependency groups those for tests, with the groups that they include."""
        groups = table_at(self.pyproject, "dependency-groups")
        found, left, seen = [], list(for_tests(groups)), set()
        while left:
            group = left.pop(0)
            if group in seen or not isinstance(groups.get(group), list):
                continue
            seen.add(group)
            for one in groups[group]:
                if isinstance(one, str):
                    found.append(one)
                elif isinstance(one, dict) and isinstance(one.get("include-group"), str):
                    left.append(one["include-group"])
        return found

    def _pixi(self) -> list[str]:
        """What pixi takes from PyPI; what it takes from elsewhere is told."""
        path = "pixi.toml" if self._folder + "pixi.toml" in self._known else "pyproject.toml"
        manifest = self._toml(path) if path == "pixi.toml" else table_at(self.pyproject, "tool", "pixi")
        if told := of_channels(manifest, f"{self._folder}{path}"):
            self.notes.append(told)
        return [_pipfile(name, value) for name, value in pixi_tables(manifest, "pypi-dependencies")]

    def _tox(self) -> list[str]:
        tox = self._ini("tox.ini")
        if not tox.has_section("testenv"):
            legacy = table_at(self.pyproject, "tool", "tox").get("legacy_tox_ini")
            if not isinstance(legacy, str):
                return []
            try:
                read_ini(tox, legacy)
            except ValueError:
                return []
        deps = tox.get("testenv", "deps", fallback="") or ""
        lines = [re.sub(r"\s+#.*", "", line).strip() for line in deps.splitlines()]
        return [
            line for line in lines if _PLAIN.match(line) and "{" not in line and not re.match(r"[\w!,-]+\s*:", line)
        ]

    # -- what is done about it

    def dependencies(self) -> list[Layer]:
        """What the project needs, from manifests and locks alone."""
        locks = [self._folder + name for name in _LOCKS if self._folder + name in self._known]
        pins = pinned(locks[0], self._read(locks[0]) or "") if locks else ()
        plain, closure = [], []
        for path in self.requirement_files:
            reached = self._closure(path)
            if not any(_is_local(self._read(one) or "") for one in reached):
                plain.append(path)
                closure += reached
        if not self.requirements and not plain:
            return []
        commands, words = [], [_PIP]
        if self.requirements:
            commands.append(_written(self.requirements, "/tmp/troop-requirements.txt"))  # noqa: S108 - in the container
            words.append("-r /tmp/troop-requirements.txt")
        if pins:
            commands.append(_written(pins, "/tmp/troop-constraints.txt"))  # noqa: S108
            words.append("-c /tmp/troop-constraints.txt")
        words += [f"-r {shlex.quote(path)}" for path in plain]
        manifests = [self._folder + name for name in _MANIFESTS if self._folder + name in self._known]
        return [
            Layer(
                name="dependencies",
                source=", ".join(dict.fromkeys([*manifests, *plain, *locks[:1]])),
                commands=(*commands, " ".join(words)),
                keyed_by=tuple(dict.fromkeys([*manifests, *closure, *locks])),
                whole_tree=not all(_is_understood(self._read(path) or "") for path in closure),
                programs=("python3", "pip"),
            )
        ]

    def installing(self) -> list[Layer]:
        """The project itself, installed so that it is imported from its own files."""
        local = [p for p in self.requirement_files if any(_is_local(self._read(one) or "") for one in self._closure(p))]
        commands = [f"{_PIP} -r {shlex.quote(path)}" for path in local]
        if self.installable:
            here = f"./{self._folder}".rstrip("/") if self._folder else "."
            extras = f"[{','.join(self.extras)}]" if self.extras else ""
            no_deps = " --no-deps" if self.tells_dependencies and not local else ""
            commands.append(f"{_PIP}{no_deps} -e {shlex.quote(here + extras)}")
        if not commands:
            return []
        built = [name for name in ("setup.py", "build.py", "meson.build", "Cargo.toml", "CMakeLists.txt")
                 if self._folder + name in self._known]  # fmt: skip
        manifests = [
            self._folder + name for name in ("pyproject.toml", "setup.cfg") if self._folder + name in self._known
        ]
        folders = {path.rpartition("/")[0] for path in self._files if path.endswith(".py")}
        return [
            Layer(
                name="project",
                source=", ".join([*manifests, *(self._folder + name for name in built[:1]), *local]),
                commands=tuple(commands),
                keyed_by=tuple(manifests),
                # A declarative project is the same install until its manifest or its packages change.
                whole_tree=bool(built or local) or len(folders) > _FOLDER_LIMIT,
                words=() if built or local else tuple(sorted(folders))[:_FOLDER_LIMIT],
                programs=("python3", "pip"),
            )
        ]

    def setup(self) -> str:
        """A line for `.troop.toml`."""
        words = [f"-r {shlex.quote(path)}" for path in self.requirement_files]
        if self.installable:
            extras = f"[{','.join(self.extras)}]" if self.extras else ""
            words.append(f"-e {shlex.quote((('./' + self._folder).rstrip('/') if self._folder else '.') + extras)}")
        elif self.requirements:
            words += [shlex.quote(one) for one in self.requirements[:20]]
        if not re.search(r"(?<![\w-])pytest(?![\w-])", self.text) or (self.installable and not self.extras):
            words.append("pytest")
        return f"{_PIP} {' '.join(dict.fromkeys(words))}"

    def _closure(self, path: str) -> list[str]:
        """The file and those that it names by `-r` and `-c`, as far as they are in the repository."""
        found: list[str] = []
        left = [path]
        while left:
            one = left.pop()
            if one in found or one not in self._known:
                continue
            found.append(one)
            folder = one.rpartition("/")[0]
            left += [joined(folder, name.strip("'\"")) for name in _NAMED.findall(self._read(one) or "")]
        return found


def _pipfile(name: str, value: object) -> str:
    table = value if isinstance(value, dict) else {"version": value}
    if table.get("path") or table.get("git"):
        return ""
    extras = strings(table.get("extras"))
    version = str(table.get("version") or "*")
    return (f"{name}[{','.join(extras)}]" if extras else name) + ("" if version == "*" else version)


def _extras_of_setup(text: str) -> list[str]:
    """Names that look like extras in a setup.py, which is not run."""
    found = re.search(r"extras_require\s*=\s*(?:dict\()?\{?(.{0,5000})", text, re.DOTALL)
    return re.findall(r"""["']([A-Za-z][\w-]*)["']\s*:""", found[1]) if found else []


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def _named(requirement: str) -> str:
    """The distribution that a requirement names, as it is compared."""
    return normal(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])


def _plain(requirement: str) -> bool:
    return _PLAIN.match(requirement) is not None and "\n" not in requirement and len(requirement) < 500


def _is_local(text: str) -> bool:
    """Whether a requirement file installs something of the repository itself."""
    return re.search(r"^[^\S\n]*(-e\b|--editable\b|\.{1,2}(/|\[|\s|$)|file:)|@\s*file:", text, re.MULTILINE) is not None


def _is_understood(text: str) -> bool:
    """Whether it is known which files of the repository pip reads for it: none but those that `_closure` finds."""
    # Blanks as one: between the parts there may be some in many places, and each run would be shared out in all ways.
    return all(_UNDERSTOOD.fullmatch(" ".join(line.split())) for line in text.splitlines())


def _written(lines: Sequence[str], path: str) -> str:
    return f"printf '%s\\n' {' '.join(shlex.quote(line) for line in lines)} > {path}"
