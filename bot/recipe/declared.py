"""What a repository's manifests say that its Python needs. Pure."""

import re
from collections.abc import Iterable, Sequence

from bot.recipe.groups import normal
from bot.recipe.import_roots import import_roots
from bot.recipe.python import requirements_of
from bot.recipe.recipe import Read
from bot.records import Record

_NAME = re.compile(r"\s*([A-Za-z0-9][\w.-]*)")
_NAMED = re.compile(r"""^[^\S\n]*name\s*=\s*["']?([\w.-]+)""", re.MULTILINE)
_BUILD_FILES = re.compile(r"pyproject\.toml|setup\.(cfg|py)|tox\.ini|requirements[^/]*\.txt|package\.json")
# A package with an extension in another language, by what builds it.
_COMPILES = re.compile(
    r"""^[^#\n]*(?:build-backend\s*=\s*["'](?:maturin|mesonpy|scikit_build_core|setuptools_rust|py_build_cmake)\b"""
    r"""|\b(?:ext_modules|rust_extensions|cffi_modules)\s*=|\bcythonize\s*\(|\[\[?tool\.(?:setuptools\.ext-modules|setuptools-rust))""",
    re.MULTILINE,
)
_COMPILED = (".rs", ".c", ".cc", ".cpp", ".cxx", ".h", ".hpp", ".pyx", ".pxd", ".f90")
_MANIFESTS = re.compile(r"(?:.*/)?(?:pyproject\.toml|setup\.(?:cfg|py))")
_MOST = 1_000_000  # characters
_PROJECTS = 40


class Declared(Record):
    """What the manifests declare."""

    text: str = ""  # of the build files at the root
    roots: tuple[str, ...] = ("", "src", "lib")  # folders that Python packages are imported from
    projects: tuple[str, ...] = ()  # names of the repository's own distributions
    # Distributions that these and their tests need on every platform, by their names as written.
    required: tuple[str, ...] = ()

    @property
    def compiles(self) -> bool:
        """Whether a build compiles a part of the Python package, which nothing compiles again for a patch."""
        return _COMPILES.search(self.text) is not None

    def uncompiled(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Why tests may show nothing of a change of these files, for people; () where they do."""
        found = sorted(path for path in set(paths) if path.endswith(_COMPILED)) if self.compiles else []
        return tuple(
            f"{path} is compiled with the image and not again for a candidate: tests that don't compile it themselves, "
            "as the repository's own, show nothing of a change there"
            for path in found[:1]
        )


def declared(files: Sequence[str], read: Read) -> Declared:
    """What the repository's files declare. `read`: the text of one."""
    text = "\n".join(filter(None, (read(path) for path in files if _BUILD_FILES.fullmatch(path))))[:_MOST]
    manifests = [path for path in files if _MANIFESTS.fullmatch(path) and path.count("/") < 4][:_PROJECTS]
    projects = [name for path in manifests for name in _NAMED.findall(read(path) or "")[:1]]
    required = []
    for one in requirements_of(files, read):
        found = _NAME.match(one)
        if found and ";" not in one:  # with a marker it may not be for this platform
            required.append(found[1].rstrip(".-"))
    return Declared(
        text=text,
        roots=import_roots(files, read),
        projects=tuple(dict.fromkeys(projects)),
        required=tuple({normal(name): name for name in required if normal(name) not in map(normal, projects)}.values()),
    )
