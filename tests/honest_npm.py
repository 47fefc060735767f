"""Packages of npm's for `python -m tests.honest npm:NAME`: how they are laid out, and what is called of each. Tests'.

A package is a workspace of a folder, as in a repository of several packages: `packages/NAME` holds the files that npm
ships, linked among `node_modules`, where all that it needs is installed without running anything. Few ship their tests,
so that `honest_npm.js` says what is called.
"""

import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bot.records import FileChange
from bot.sandbox import tree

PREFIX = "npm:"
_SOURCE = (".js", ".cjs", ".mjs", ".json")
_LOAD = (
    'const assert = require("assert");\nconst { createRequire } = require("module");\n'
    'const load = createRequire(process.cwd() + "/it.js");\nconst own = load("NAME");\n'
    "const plain = own && own.__esModule && own.default ? own.default : own;\n"
    'const fs = require("fs"), path = require("path");\n'
    "function folder() {  // a new one, with a file\n"
    '    const made = fs.mkdtempSync(path.join(require("os").tmpdir(), "h"));\n'
    '    fs.writeFileSync(path.join(made, "a.txt"), "x");\n    return made;\n}\n'
    'async function serve(answer) {\n    const server = require("http").createServer(answer);\n'
    '    await new Promise((done) => server.listen(0, "127.0.0.1", done));\n'
    "    const close = () => { server.close(); if (server.closeAllConnections) server.closeAllConnections(); };\n"
    "    return { url: `http://127.0.0.1:${server.address().port}/`, close };\n}\n"
)
_SCRIPT = "{load}(async () => {{\n{calls}\n}})().catch((error) => {{ console.error(error); process.exit(1); }});\n"
_SECTION = re.compile(r"^// == (\S+)\n((?:(?!// == ).*\n)*)", re.MULTILINE)
CALLS: dict[str, str] = dict(_SECTION.findall(Path(__file__).with_suffix(".js").read_text()))


def unpacked(names: Sequence[str], folder: Path) -> Path:
    """The folder of the packages, each among its `packages`, with what they need. Raises `CalledProcessError`."""
    root = folder / "npm"
    missing = [name for name in names if not place(root, name).is_dir()]
    for name in missing:
        place(root, name).parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as there:
            subprocess.run(["npm", "pack", "--silent", name], cwd=there, check=True, stdout=subprocess.DEVNULL)
            with tarfile.open(next(Path(there).glob("*.tgz"))) as archive:
                archive.extractall(there, filter="data")
            made = next(one for one in Path(there).iterdir() if one.is_dir()).rename(place(root, name))
            about = json.loads((made / "package.json").read_text())
            for key in ("devDependencies", "workspaces"):  # which npm would look up at length
                about.pop(key, None)
            (made / "package.json").write_text(json.dumps(about, indent=2))
    if missing:
        (root / "package.json").write_text(json.dumps({"private": True, "workspaces": ["packages/*"]}))
        install = ["npm", "install", "--ignore-scripts", "--omit=dev", "--legacy-peer-deps", "--no-audit", "--no-fund"]
        subprocess.run(install, cwd=root, check=True)
    return root


def place(root: Path, name: str) -> Path:
    """Where the package's files are."""
    return root / "packages" / name.removeprefix("@").replace("/", "-")


def files(root: Path, name: str) -> tuple[FileChange, ...]:
    """The package's files, as a candidate that changes each would have them."""
    found = []
    for path in sorted(place(root, name).rglob("*")):
        within = path.relative_to(place(root, name)).parts
        if path.suffix not in _SOURCE or "node_modules" in within or path.is_symlink() or path.name == "package.json":
            continue
        try:
            found.append(FileChange(path=str(path.relative_to(root)), text=path.read_bytes().decode() + "\n"))
        except UnicodeDecodeError:
            continue
    return tree.trusted(root, found)


def script(name: str) -> str:
    """A script that calls the package, as a model would write it; one that only loads it where no calls are known."""
    calls = CALLS.get(name, "assert.ok(own);")
    return _SCRIPT.format(load=_LOAD.replace("NAME", name), calls=calls)
