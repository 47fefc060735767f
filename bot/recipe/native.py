"""C and C++ that CMake or autotools build."""

import re
from collections.abc import Sequence

from bot.recipe.recipe import Layer, Part, Read

_FOLDER = "troop-build"  # for CMake, apart from what a repository has of that kind
_TESTED = re.compile(r"^[^#\n]*\b(?:enable_testing|add_test|\w+_discover_tests|include\s*\(\s*CTest\b)", re.I | re.M)
_OPTION = re.compile(r"^[^#\n]*\boption\s*\(\s*(\w*TEST\w*)", re.IGNORECASE | re.MULTILINE)
_OTHER = re.compile(r"DISABLE|SKIP|WITHOUT|NO_|COVERAGE|INSTALL|FUZZ|BENCH|PERF", re.IGNORECASE)
_MOST_OPTIONS = 8
_MOST_FILES = 200  # of CMake's that are read
# Jobs copy what was compiled, so what would not fit into their memory is dropped, as of Rust.
_DROP = f'if [ "$(du -sk {_FOLDER} | cut -f1)" -gt 400000 ]; then rm -rf {_FOLDER}; fi'


def native(files: Sequence[str], read: Read) -> Part | None:
    """None where neither is there, or CMake's files name no tests. The programs that it takes are installed as they
    are missed: no image has them all."""
    if "CMakeLists.txt" in files:
        return _cmake(files, read)
    known = {"configure", "configure.ac", "configure.in"} & set(files)
    if known and {"Makefile.am", "Makefile.in"} & set(files):
        return _autotools(files, min(known))
    return None


def _cmake(files: Sequence[str], read: Read) -> Part | None:
    listed = [path for path in files if path.rpartition("/")[2] == "CMakeLists.txt"][:_MOST_FILES]
    texts = [read(path) or "" for path in listed]
    if not any(map(_TESTED.search, texts)):
        return None
    # Many a project builds its tests only where it is asked to.
    options = dict.fromkeys(name for text in texts for name in _OPTION.findall(text) if not _OTHER.search(name))
    asked = "".join(f" -D{name}=ON" for name in list(options)[:_MOST_OPTIONS])
    configure = f"cmake -S . -B {_FOLDER}{asked}"
    compile_ = f"cmake --build {_FOLDER}"
    test = f"{{ [ -d {_FOLDER} ] || {configure}; }} && {compile_} && cd {_FOLDER} && ctest --output-on-failure"
    return _part("CMakeLists.txt", (configure, f'{compile_} -j "$(nproc)"', _DROP), ("sh", "-c", test))


def _autotools(files: Sequence[str], source: str) -> Part:
    commands = ["./configure", 'make -j "$(nproc)"']
    if "configure" not in files:
        commands.insert(0, "autoreconf -fi")
    return _part(source, commands, ("make", "check"))


def _part(source: str, commands: Sequence[str], test: tuple[str, ...]) -> Part:
    layer = Layer(name="compiled program", source=source, commands=tuple(commands), whole_tree=True, optional=True)
    return Part(language="C", sources=(source,), layers=(layer,), tests=(test,), setup=" && ".join(commands[:2]))
