"""The base copy of a repository's tree, and which changes may be made to a copy of it."""

import contextlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bot.patch import protected_files
from bot.patch.paths import link_stays_within, path_problem
from bot.recipe.import_roots import import_roots
from bot.records import FileChange

_LOOKS = re.compile(
    r"_getframe|currentframe|_frame\b|\bf_(?:back|code|globals|locals)\b|extract_stack|walk_stack"
    r"|\binspect\.(?:stack|trace)\b|__main__['\"]\]|import __main__|__code__"
)


def copy_tree(source: Path, target: Path) -> int:
    """Copy a repository's plain files to `target` (created); the number of bytes.

    Left out: `.git`, virtual environments, byte code, sockets and other special files, and symbolic links that lead
    out of the tree. Raises `OSError` where a file can't be read.
    """
    root = os.path.realpath(source)
    total = 0
    target.mkdir(parents=True)
    target.chmod(0o755)
    for folder, folders, files in os.walk(root):
        here = target / os.path.relpath(folder, root)
        for name in list(folders):
            path = os.path.join(folder, name)
            if os.path.islink(path):
                files.append(name)
                folders.remove(name)
            elif name in (".git", "__pycache__") or os.path.exists(os.path.join(path, "pyvenv.cfg")):
                folders.remove(name)
            else:
                (here / name).mkdir()
                (here / name).chmod(0o755)  # readable by the job's user, whatever the umask
        for name in files:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                if link_stays_within(path, root):
                    os.symlink(os.readlink(path), here / name)
            elif stat.S_ISREG(mode) and name != ".git":
                shutil.copyfile(path, here / name)
                shutil.copystat(path, here / name)
                os.chmod(here / name, 0o755 if mode & 0o111 else 0o644)
                total += os.path.getsize(path)
    return total


def exists_in(base: Path, path: str) -> bool:
    """Whether the base copy has that file (or link)."""
    return os.path.lexists(base / path)


def text_in(base: Path, path: str) -> str | None:
    """The text of a plain file of the base copy; None where there is none, or it is no UTF-8."""
    try:
        return None if (base / path).is_symlink() else (base / path).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def trusted(base: Path, changes: Sequence[FileChange]) -> tuple[FileChange, ...]:
    """The changes that are made to a copy of `base`: all but those of what judges them."""
    return protected_files.trusted(changes, lambda path: exists_in(base, path), lambda path: text_in(base, path))


def looking_before(base: Path, changes: Sequence[FileChange]) -> tuple[str, ...]:
    """Paths of changed files that looked at frames, or at the program's main module, before they were changed."""
    return tuple(change.path for change in changes if _LOOKS.search(text_in(base, change.path) or ""))


def refused(base: Path, changes: Sequence[FileChange]) -> str:
    """Why the changes can't be made to a copy of `base`, or "". Only reads `base`.

    Beside `path_problem`, a path must pass through no symbolic link: what is written is always written in the copy.
    """
    gone = {change.path for change in changes if change.text is None}
    seen = set()
    for change in changes:
        path = change.path
        parts = path.split("/")
        if problem := path_problem(path):
            return f"the path {path!r} {problem}"
        if path in seen:
            return f"the path {path!r} is changed twice"
        seen.add(path)
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if os.path.islink(base / above):
                return f"the path {path!r} passes through the symbolic link {above!r}"
            if (base / above).is_file() and above not in gone:
                return f"the path {path!r} is below the file {above!r}"
        if (base / path).is_dir() and not os.path.islink(base / path):
            return f"the path {path!r} is a folder"
    for path in seen - gone:
        if any(str(above) in seen - gone for above in PurePosixPath(path).parents):
            return f"the path {path!r} is below another new file"
    return ""


def roots_of(base: Path) -> tuple[str, ...]:
    """The folders of the tree from which its Python packages are imported: `bot.recipe.import_roots`."""
    files = []
    for folder, folders, names in os.walk(base):
        folders[:] = [name for name in folders if name != "node_modules" and not name.startswith(".")]
        above = os.path.relpath(folder, base)
        files += [name if above == "." else f"{above}/{name}" for name in names]

    def read(path: str) -> str | None:
        try:
            return (base / path).read_text(encoding="utf-8-sig", errors="replace")
        except OSError:
            return None

    return import_roots(sorted(files), read)


def python_path(roots: Sequence[str], root: str) -> str:
    """PYTHONPATH for a copy of a tree at `root`, before any installed version of the same package."""
    return os.pathsep.join(f"{root}/{name}" if name else root for name in roots)


def remove_tree(path: Path) -> None:
    """Remove a folder, even if a job changed its permissions, or made folders in each other beyond what Python walks
    through. Never follows links, never raises."""
    try:
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)  # before `walk` lists the folder
        shutil.rmtree(path, ignore_errors=True)
    except RecursionError:
        for command in (("chmod", "-R", "u+rwx"), ("rm", "-rf")):
            with contextlib.suppress(OSError):
                subprocess.run([*command, "--", str(path)], check=False, capture_output=True)
