"""What a build consists of: layers in their order, each an image that is cached on its own."""

from collections.abc import Callable, Sequence

from pydantic import Field

from bot.records import Record, Service

Read = Callable[[str], str | None]  # the text of a file of the repository; None where it can't be read


class Layer(Record):
    """Commands that run in a copy of the repository, one after the other, until one fails."""

    name: str  # for people: "dependencies"
    source: str  # the files that asked for it, for people: "pyproject.toml, uv.lock"
    commands: tuple[str, ...]  # shell
    keyed_by: tuple[str, ...] = ()  # files: where their content is the same, so is what the commands do
    whole_tree: bool = False  # ... which may depend on every file
    words: tuple[str, ...] = ()  # ... and on this, which is not the content of a file
    programs: tuple[str, ...] = ()  # that must be in the image
    optional: bool = False  # the tests can tell something without it


class Asked(Record):
    """A version of a toolchain that a file asks for."""

    tool: str  # the program: "node"
    wanted: str  # as the file has it: ">=20"
    source: str  # the file
    least: tuple[int, ...]  # the oldest version that will do


class Recipe(Record):
    """How the image for a repository's tests is made. Without `layers` the image will do as it is."""

    found: str = ""  # what was detected and where, a line for people
    layers: tuple[Layer, ...] = ()
    tests: tuple[tuple[str, ...], ...] = ()  # commands that may run the repository's tests
    image: str = ""  # that the repository asks for; the server decides
    setup: str = ""  # a line for `.troop.toml` that does about the same, to begin from
    notes: tuple[str, ...] = ()  # what was seen and is not done, for people
    asked: tuple[Asked, ...] = ()  # versions of toolchains
    services: tuple[Service, ...] = ()  # servers that run beside each test
    variables: dict[str, str] = Field(default_factory=dict)  # that every test finds in its environment
    prepare: str = ""  # shell lines that run before all tests, on the servers' data
    prepare_from: str = ""  # the file that has them
    prepare_optional: bool = False  # tests run without it where it fails


NO_RECIPE = Recipe()


class Hints(Record):
    """What the workflows of CI do before their tests."""

    source: str = ""  # of the first workflow that tells something
    extras: tuple[str, ...] = ()  # of the Python project
    requirements: tuple[str, ...] = ()  # files
    packages: tuple[str, ...] = ()  # of the system, by apt's names
    tests: tuple[tuple[str, ...], ...] = ()


class Part(Record):
    """What one language's files come to."""

    language: str
    sources: tuple[str, ...] = ()
    layers: tuple[Layer, ...] = ()
    tests: tuple[tuple[str, ...], ...] = ()
    setup: str = ""
    notes: tuple[str, ...] = ()


def sources_of(layers: Sequence[Layer]) -> tuple[str, ...]:
    """The files that asked for the layers, each once."""
    return tuple(dict.fromkeys(source for layer in layers for source in layer.source.split(", ")))


def folders_with(files: Sequence[str], names: Sequence[str], *, most: int = 8, depth: int = 2) -> tuple[str, ...]:
    """Folders with one of the files: the root alone where it has one, else those that lie at most `depth` below.

    The root is "", others end with a slash. Those of dependencies, examples and tests are left out.
    """
    found: dict[str, None] = {}
    for path in files:
        folder, _, name = path.rpartition("/")
        if name in names and folder.count("/") < depth and not _FOREIGN.intersection(folder.lower().split("/")):
            found[f"{folder}/" if folder else ""] = None
    if "" in found:
        return ("",)
    return tuple(sorted(found, key=lambda folder: (folder.count("/"), folder))[:most])


_FOREIGN = frozenset(
    (
        *("node_modules", "vendor", "third_party", "example", "examples", "test", "tests", "docs", "doc", "fixtures"),
        *("testdata", "templates", "benchmarks", "bench", "demo", "samples", ".github", ".devcontainer"),
    )
)
