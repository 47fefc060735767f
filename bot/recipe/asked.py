"""Which versions of which toolchains a repository's files ask for, and which of them an image is too old for. Pure.

Some files say from which version on a project works (`engines`, `requires-python`, the `go` line): these count where
there are any. Others name the one that its authors use (`.nvmrc`, `.tool-versions`): another of the same line will do.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from bot.recipe.recipe import Asked, Read, folders_with

_MOST = 100  # characters of what is asked for; an issue is told them
MARK = "troop-tool"  # begins each line of what `telling` prints


class Tool(NamedTuple):
    """One that versions are asked of."""

    name: str  # for people
    says: str  # the command that prints its version
    image: str  # that holds a version of a line, see `line`
    line: int  # numbers of a version within which versions suit each other


TOOLS = {
    "python3": Tool("Python", "python3 --version", "python:{}", 2),
    "node": Tool("Node", "node --version", "node:{}", 1),
    "go": Tool("Go", "go version 2>/dev/null || GOTOOLCHAIN=local go version", "golang:{}", 2),
    "cargo": Tool("Rust", "cargo --version", "rust:{}", 2),
    "ruby": Tool("Ruby", "ruby --version", "ruby:{}", 2),
    "php": Tool("PHP", "php --version", "php:{}-cli", 2),
    "java": Tool("Java", "java --version", "eclipse-temurin:{}", 1),
    "elixir": Tool("Elixir", "elixir --short-version", "elixir:{}", 2),
    "cmake": Tool("CMake", "cmake --version", "", 2),
}


class _Place(NamedTuple):
    tool: str
    name: str  # of the file, a pattern
    wanted: str  # a pattern of which the first group is what is asked for
    pins: bool = False  # it names the version that is used, not the oldest that will do


_PLAIN = r"^[^\S\n]*v?(\d[\d.]*)[^\S\n]*$"
_XML_NUMBER = r">\s*([\d.]+)\s*<"
_PLACES: tuple[_Place, ...] = (
    _Place("python3", r"pyproject\.toml", r"""^[^\S\n]*requires-python\s*=\s*["']([^"'\n]+)["']"""),
    _Place("python3", r"pyproject\.toml", r"""^[^\S\n]*python\s*=\s*["']([<>^~][^"'\n]+)["']"""),  # Poetry's
    _Place("python3", r"setup\.(?:cfg|py)", r"""^[^#\n]*\bpython_requires\s*=\s*["']?([^"'#\n]+)"""),
    _Place("python3", r"\.python-version", _PLAIN, pins=True),
    _Place("node", r"package\.json", r'"engines"\s*:\s*\{[^{}]*"node"\s*:\s*"([^"]+)"'),
    _Place(
        "node",
        r"package\.json",
        r'"devEngines"\s*:\s*\{[^\0]{0,400}?"name"\s*:\s*"node"\s*,\s*"version"\s*:\s*"([^"]+)"',
    ),
    _Place("node", r"\.nvmrc|\.node-version", _PLAIN, pins=True),
    _Place("go", r"go\.(?:mod|work)", r"^go[^\S\n]+(\d[\d.]*)"),
    _Place("cargo", r"Cargo\.toml", r'^[^\S\n]*rust-version\s*=\s*"([^"\n]+)"'),
    _Place(
        "cargo", r"rust-toolchain(?:\.toml)?", r'^[^\S\n]*(?:channel\s*=\s*)?"?(\d+\.\d[\d.]*)"?[^\S\n]*$', pins=True
    ),
    _Place("ruby", r"[^/]+\.gemspec", r"^[^#\n]*\brequired_ruby_version\b\s*=([^\n]+)"),
    _Place("ruby", r"Gemfile", r"""^[^\S\n]*ruby[^\S\n(]+(["'][^\n]*\d[^\n]*)"""),
    _Place("ruby", r"\.ruby-version", r"^[^\S\n]*(?:ruby-)?(\d[\d.]*)", pins=True),
    _Place("php", r"composer\.json", r'"require"\s*:\s*\{[^{}]*"php"\s*:\s*"([^"]+)"'),
    _Place("java", r"pom\.xml", r"<(?:maven\.compiler\.(?:release|source)|java\.version|release)" + _XML_NUMBER),
    _Place("java", r"build\.gradle(?:\.kts)?", r"\bJavaLanguageVersion\.of\(\s*(\d+)|\bVERSION_(\d[\d_]*)"),
    _Place("java", r"build\.gradle(?:\.kts)?", r"""\b(?:source|target)Compatibility\s*=?\s*["']?([\d.]+)"""),
    _Place("java", r"\.java-version", r"^[^\S\n]*(\d[\d.]*)", pins=True),
    _Place("elixir", r"mix\.exs", r'\belixir:\s*"([^"]+)"'),
    _Place("cmake", r"CMakeLists\.txt", r"(?i)^[^\S\n]*cmake_minimum_required\s*\(\s*VERSION\s+(\d+(?:\.\d+)*)"),
)
# What `.tool-versions` and `mise.toml` call them.
_CALLED = {"python3": "python", "node": "node(?:js)?", "go": "go(?:lang)?", "cargo": "rust"}
_CALLED |= {tool: tool for tool in ("ruby", "php", "java", "elixir", "cmake")}
_PLACES += tuple(
    _Place(tool, name, begin.format(called) + r"(?:[a-z]+-)?(\d[\d.]*)", pins=True)
    for tool, called in _CALLED.items()
    for name, begin in (
        (r"\.tool-versions", r"^{}[^\S\n]+"),
        (r"\.?mise\.toml", r"""^["']?{}["']?[^\S\n]*=[^\S\n]*[\[{{]?[^\S\n]*(?:version[^\S\n]*=[^\S\n]*)?["']"""),
    )
)
_NAMES = re.compile("|".join(f"(?:{place.name})" for place in _PLACES))


def asked(files: Sequence[str], read: Read) -> tuple[Asked, ...]:
    """What the files ask for, once for each toolchain. `read`: the text of one."""
    found: dict[str, tuple[bool, Asked]] = {}
    known = {path: path.rpartition("/")[2] for path in files if _NAMES.fullmatch(path.rpartition("/")[2])}
    for place in _PLACES:
        names = sorted({name for name in known.values() if re.fullmatch(place.name, name)})
        for source in (f"{folder}{name}" for folder in folders_with(tuple(known), names) for name in names):
            matches = re.finditer(place.wanted, (read(source) or "") if source in known else "", re.MULTILINE)
            wanted = " || ".join(dict.fromkeys(next(filter(None, match.groups())).strip() for match in matches))
            wanted = wanted[:_MOST]
            least = _oldest(place.tool, wanted)
            if place.pins:
                least = least[: TOOLS[place.tool].line]
            before = found.get(place.tool)
            if least and (before is None or (before[0] == place.pins and least > before[1].least)):
                found[place.tool] = place.pins, Asked(tool=place.tool, wanted=wanted, source=source, least=least)
    return tuple(one for _, one in found.values())


def _oldest(tool: str, wanted: str) -> tuple[int, ...]:
    """The oldest version that suits, as all package managers write ranges; () where any may."""
    oldest = []
    for either in re.split(r"\|+|\bor\b", wanted):
        words = re.findall(r"(<=?|!=)?[^\S\n]*(?<![\d._])v?(\d+(?:[._]\d+)*)", re.sub(r"\s-\s.*", "", either))
        oldest.append(max((_version(tool, word) for below, word in words if not below), default=()))
    return min(oldest, default=())


def _version(tool: str, text: str) -> tuple[int, ...]:
    numbers = tuple(int(number[:9]) for number in re.findall(r"\d+", text))
    return numbers[1:] if tool == "java" and numbers[0] == 1 else numbers  # 1.8 is 8


def telling(tools: Iterable[str]) -> str:
    """Lines of shell that print `MARK NAME VERSION` for each command, its version empty where it is not there."""
    return "\n".join(f'printf "\\n{MARK} {tool.split()[0]} "; {tool} 2>/dev/null | head -n 1' for tool in tools)


def told(output: str) -> dict[str, str]:
    """What `telling` printed: versions by names."""
    return {
        name: " ".join(version.split())[:60] for name, version in re.findall(rf"^{MARK} (\S+) ?(.*)$", output, re.M)
    }


def without(output: str) -> str:
    """The output without what `telling` printed."""
    return re.sub(rf"\n*^{MARK} .*$", "", output, flags=re.M).strip()


def too_old(wanted: Sequence[Asked], versions: Mapping[str, str]) -> tuple[tuple[Asked, str], ...]:
    """What is asked for and not there, with the version that is. Of what is missing altogether nothing is said."""
    found = []
    for one in wanted:
        there = re.search(r"\d+(?:\.\d+)*", versions.get(one.tool, ""))
        has = _version(one.tool, there[0]) if there else ()
        if there and has + (0,) * (len(one.least) - len(has)) < one.least:
            found.append((one, there[0]))
    return tuple(found)


def words_of(one: Asked, has: str) -> str:
    """What is asked for, and what is there."""
    return f"{one.source} asks for {TOOLS[one.tool].name} {one.wanted}, and {has} is there"


def image_of(one: Asked) -> str:
    """A well-known image that holds it; "" where there is none."""
    tool = TOOLS[one.tool]
    return tool.image and tool.image.format(".".join(map(str, one.least[: tool.line])))
