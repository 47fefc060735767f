"""The base copy of a repository's tree, and which changes may be made to a copy of it."""

import errno
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bot.patch import protected_files
from bot.patch.paths import link_stays_within, path_problem
from bot.recipe.import_roots import import_roots
from bot.records import FileChange

_NOT_HERE = (errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)
_MANIFEST = 1_000_000  # bytes of a manifest that are read
_TRACES = (
    r"\bset(?:trace|profile)\b|\bsys\.monitoring\b|\bcProfile\b|\b(?:import|from) (?:bdb|pdb|coverage|profile|trace)\b"
)
_MARKS = {  # what a file did before: `runner.py` says what each is
    "f": re.compile(
        r"_getframe|currentframe|_frame\b|\bf_(?:back|code|globals|locals)\b|extract_stack|walk_stack|\bgetsource"
        r"|\b[gca][irg]_code\b"
        rf"|\blinecache\b|\binspect\.(?:stack|trace)\b|__main__['\"]\]|import __main__|__code__|{_TRACES}"
    ),
    "c": re.compile(r"\bgc\.get_(?:objects|referrers|referents)\b"),
    "t": re.compile(_TRACES),
    "p": re.compile(r"\bctypes\b"),
    "m": re.compile(r"\bsys\.modules(?:\[|\.get\()(?!['\"])"),  # as who resolves annotations does
}
_SET = re.compile(  # attributes of modules and classes that a file sets
    r"""^[^\S\n]*(?!self\.|cls\.)(?:\w+\.)*(?P<owner>\w+)\.(?P<name>\w+)[^\S\n]*=(?!=)"""
    r"""|\bsetattr\([^\S\n]*(?:\w+\.)*(?P<of>\w+),\s*['"](?P<called>\w+)""",
    re.MULTILINE,
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
    stack = [(root, str(target))]
    while stack:
        folder, here = stack.pop()
        for entry in _entries(folder):
            copy = f"{here}/{entry.name}"
            if entry.name == ".git":
                continue
            if entry.is_symlink():
                if link_stays_within(entry.path, root):
                    os.symlink(os.readlink(entry.path), copy)
            elif entry.is_dir():
                if entry.name != "__pycache__" and not os.path.exists(os.path.join(entry.path, "pyvenv.cfg")):
                    os.mkdir(copy)
                    os.chmod(copy, 0o755)  # noqa: S103 - readable by the job's user, whatever the umask
                    stack.append((entry.path, copy))
            elif entry.is_file():
                total += _copy_file(entry.path, copy)
    return total


def _entries(folder: str) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except PermissionError:
        return []


def _copy_file(source: str, target: str) -> int:
    """Content, times, and whether it may be run; the number of bytes. Several times as fast as `shutil.copy2`."""
    with open(source, "rb") as old, open(target, "xb") as new:
        status = os.fstat(old.fileno())
        if not _shared_copy(old.fileno(), new.fileno(), status.st_size):
            shutil.copyfileobj(old, new, 1 << 20)
            new.flush()
        os.fchmod(new.fileno(), 0o755 if status.st_mode & 0o111 else 0o644)
        os.utime(new.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))
    return status.st_size


def _shared_copy(old: int, new: int, size: int) -> bool:
    """Copy within the kernel, which shares the blocks where the file system can; whether this kernel does that here."""
    try:
        while size > 0 and (copied := os.copy_file_range(old, new, size)):
            size -= copied
    except OSError as error:
        if error.errno not in _NOT_HERE:
            raise
        return False
    return True


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


def marks_of(base: Path, changes: Sequence[FileChange]) -> dict[str, str]:
    """What changed files did before they were changed that costs a proof elsewhere, by path: a letter for each kind.

    `f`: they looked at frames, at code, or at the program's main module. `c`: they asked the garbage collector for
    objects. `t`: they traced or profiled, which hands them frames, too. `p`: they followed pointers. Behind a tab are
    names of attributes that they set, as `Pdb.__init__`.
    """
    texts = {change.path: text_in(base, change.path) or "" for change in changes}
    found = {}
    for path, text in texts.items():
        marks = "".join(mark for mark, does in _MARKS.items() if does.search(text))
        names = {f"{one['owner'] or one['of']}.{one['name'] or one['called']}" for one in _SET.finditer(text)}
        if marks or names:
            found[path] = f"{marks}\t{' '.join(sorted(names))}".rstrip()
    return found


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
            with open(base / path, "rb") as file:
                return file.read(_MANIFEST).decode("utf-8-sig", "replace")
        except OSError:
            return None

    return import_roots(sorted(files), read)


def python_path(roots: Sequence[str], root: str) -> str:
    """PYTHONPATH for a copy of a tree at `root`, before any installed version of the same package."""
    return os.pathsep.join(f"{root}/{name}" if name else root for name in roots)
