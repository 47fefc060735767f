"""Node: package.json with the locks of npm, pnpm, yarn and bun."""

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from bot.patch.formats import of_json
from bot.recipe.groups import table_at
from bot.recipe.recipe import Layer, Part, Read, folders_with, sources_of

# Where peers do not suit each other (of which some npm crash), or the lock file and package.json do not agree: older
# npm installed those, and repositories of that time are still tested so.
_IN_SPITE = (
    """{ grep -qsE "code (ERESOLVE|EUSAGE)|null .reading 'edgesOut'" "$HOME"/.npm/_logs/*.log """
    "&& npm install --ignore-scripts --legacy-peer-deps; }"
)
_OF_NPM = ("package-lock.json", "npm-shrinkwrap.json")
_OF_BUN = ("bun.lock", "bun.lockb")
_SETTINGS = (".npmrc", ".yarnrc", ".yarnrc.yml", "pnpm-workspace.yaml", ".pnpmfile.cjs")
_BUILT = re.compile(r"^(\./)?(dist|lib|build|out|es|esm|cjs|umd|types)/")


def node(files: Sequence[str], read: Read) -> Part | None:
    """None where there is no package.json."""
    folders = folders_with(files, ("package.json",))
    if not folders:
        return None
    known = frozenset(files)
    layers: list[Layer] = []
    notes: list[str] = []
    setups = []
    for folder in folders:
        text = read(f"{folder}package.json") or ""
        try:
            package = of_json(text.lstrip("\ufeff"))
        except ValueError:
            package = None
        if not isinstance(package, dict):
            notes.append(f"{folder}package.json is not a JSON object, so nothing of it was installed")
            continue
        if not any(
            package.get(key) for key in ("dependencies", "devDependencies", "workspaces", "optionalDependencies")
        ):
            continue
        manager = _Manager(folder, known, read, package)
        notes += manager.notes
        setups.append(manager.setup)
        manifests = [path for path in files if path.startswith(folder) and _is_manifest(path)]
        layers.append(
            Layer(
                name="dependencies",
                source=f"{folder}package.json" + (f", {manager.lock}" if manager.lock else ""),
                commands=manager.commands,
                keyed_by=tuple(manifests),
                programs=manager.programs,
            )
        )
        if build := _build(folder, known, package):
            layers.append(build)
    return Part(language="Node", sources=sources_of(layers) or tuple(f"{folder}package.json" for folder in folders),
                layers=tuple(layers), setup=" && ".join(setups), notes=tuple(notes))  # fmt: skip


def _is_manifest(path: str) -> bool:
    name = path.rpartition("/")[2]
    locks = ("package.json", *_OF_NPM, *_OF_BUN, "pnpm-lock.yaml", "yarn.lock")
    return "node_modules/" not in path and name in (*locks, *_SETTINGS)


class _Manager:
    """Which package manager, and what it is told."""

    def __init__(self, folder: str, known: frozenset[str], read: Read, package: dict[str, Any]) -> None:
        self.notes: list[str] = []
        self.lock = ""
        self.programs: tuple[str, ...] = ("node", "npm")
        at = f"cd {shlex.quote(folder)} && " if folder else ""
        of_developers = table_at(package, "devEngines", "packageManager")
        manager = package.get("packageManager") or f"{of_developers.get('name')}@{of_developers.get('version', '')}"
        # A range, which `devEngines` may have, names no version to install.
        named = re.fullmatch(r"(npm|pnpm|yarn|bun)@(?:(\d[\w.-]*+)(?:\+.*)?|.*)", str(manager))
        wanted = (named[2] or "") if named else ""
        of_pnpm = {folder + "pnpm-lock.yaml", folder + "pnpm-workspace.yaml"} & known
        if of_pnpm or (named and named[1] == "pnpm"):
            self.lock = self._lock(folder, known, "pnpm-lock.yaml")
            version = wanted or _pnpm_version(read(self.lock) or "" if self.lock else "")
            install = f"pnpm install{' --frozen-lockfile' if self.lock else ''}"
            self.commands = _with("pnpm", f"pnpm@{version}", f"{at}{install} --ignore-scripts", "pnpm rebuild || true")
            self.setup = f"npm install -g pnpm@{version} && {at}{install}"
        elif folder + "yarn.lock" in known or (named and named[1] == "yarn"):
            self.lock = self._lock(folder, known, "yarn.lock")
            modern = folder + ".yarnrc.yml" in known or (wanted and not wanted.startswith("1."))
            tool = f"@yarnpkg/cli-dist@{wanted or 4}" if modern else f"yarn@{wanted or 1}"
            frozen = ("--immutable" if modern else "--frozen-lockfile") if self.lock else ""
            install = f"yarn install {frozen}".strip()
            if modern:  # its default is no node_modules, where Node finds nothing without yarn
                loose = "" if self.lock else "YARN_ENABLE_IMMUTABLE_INSTALLS=false "
                install = f"YARN_NODE_LINKER=node-modules YARN_ENABLE_GLOBAL_CACHE=false {loose}{install}"
            self.commands = _with("yarn", tool, at + install)
            self.setup = f"npm install -g {tool} && {at}{install}"
        elif (named and named[1] == "bun") or (_first(_OF_BUN, folder, known) and not _first(_OF_NPM, folder, known)):
            self.lock = _first(_OF_BUN, folder, known)
            install = f"bun install{' --frozen-lockfile' if self.lock else ''}"
            tool, self.programs = f"bun@{wanted or 1}", ()  # its own image has neither
            self.commands = _with("bun", tool, f"{at}{install} --ignore-scripts", "bun pm trust --all || true")
            self.setup = f"npm install -g {tool} && {at}{install}"
        else:
            self.lock = _first(_OF_NPM, folder, known)
            verb = "ci" if self.lock else "install"
            # Scripts of the root may need files that decide nothing here; those of dependencies run behind.
            commands = [f"{at}{{ npm {verb} --ignore-scripts || {_IN_SPITE}; }}"]
            if not self.lock or '"hasInstallScript": true' in (read(self.lock) or ""):
                commands.append("npm rebuild || true")  # in the same folder
            self.commands = tuple(commands)
            self.setup = f"{at}npm {verb}"

    def _lock(self, folder: str, known: frozenset[str], name: str) -> str:
        return folder + name if folder + name in known else ""


def _first(names: Sequence[str], folder: str, known: frozenset[str]) -> str:
    """The first of the files that is in the folder; "" where none is."""
    return next((folder + name for name in names if folder + name in known), "")


def _with(program: str, package: str, *commands: str) -> tuple[str, ...]:
    return (f"command -v {program} >/dev/null 2>&1 || npm install -g {package}", *commands)


def _pnpm_version(lock: str) -> str:
    """The newest pnpm that writes this form of lock."""
    found = re.search(r"^lockfileVersion:\s*['\"]?(\d+)", lock, re.MULTILINE)
    return {"5": "7", "6": "8"}.get(found[1] if found else "", "9")


def _build(folder: str, known: frozenset[str], package: dict[str, Any]) -> Layer | None:
    """The package's own build, where what it exports is not in the repository."""
    scripts = package.get("scripts")
    if not isinstance(scripts, dict) or not isinstance(scripts.get("build"), str):
        return None
    text = json.dumps([package.get(key) for key in ("main", "module", "exports", "bin")])
    targets = [target for target in re.findall(r'"([^"]+)"', text) if _BUILT.match(target)]
    if not targets or any(folder + target.removeprefix("./") in known for target in targets):
        return None
    at = f"cd {shlex.quote(folder)} && " if folder else ""
    return Layer(name="build", source=f"{folder}package.json", commands=(f"{at}npm run build",), whole_tree=True,
                 programs=("npm",), optional=True)  # fmt: skip
