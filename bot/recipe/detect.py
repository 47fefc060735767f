"""From a repository's files to its recipe."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from bot.recipe import compiled
from bot.recipe.asked import asked
from bot.recipe.ci import hints
from bot.recipe.deno import deno
from bot.recipe.devcontainer import devcontainer
from bot.recipe.native import native
from bot.recipe.node import node
from bot.recipe.python import python
from bot.recipe.recipe import Hints, Layer, Part, Read, Recipe
from bot.recipe.tox_ini import tests_of_tox
from bot.repo_config import FILE_NAME, RepoConfig

_ENDINGS = {
    "Python": (".py",),
    "Node": (".js", ".mjs", ".cjs", ".ts", ".tsx", ".jsx", ".vue", ".svelte"),
    "Deno": (".js", ".mjs", ".ts", ".tsx", ".jsx"),
    "Go": (".go",),
    "Rust": (".rs",),
    "Ruby": (".rb",),
    "PHP": (".php",),
    "C": (".c", ".cc", ".cpp", ".cxx", ".h", ".hpp"),
    "Java": (".java", ".kt", ".scala", ".groovy"),
}


def detect(
    files: Sequence[str], read: Read, config: RepoConfig, *, may_use: Callable[[str], bool] = lambda image: False
) -> Recipe:
    """How the image for this repository is made. Pure.

    `files`: its paths; `read`: the text of one. `may_use`: whether the server allows an image that the repository
    names. A `setup` in `.troop.toml` is all that is done where it is given; `setup = "true"` uses the image as it is.
    """
    return _told(files, read, config, may_use).model_copy(update={"asked": asked(files, read)})


def _told(files: Sequence[str], read: Read, config: RepoConfig, may_use: Callable[[str], bool]) -> Recipe:
    if config.setup.strip() == "true":
        return Recipe(found=f"`setup` in {FILE_NAME}: the image as it is", image=config.image, setup=config.setup)
    if config.setup:
        return of_setup(config.setup, FILE_NAME).model_copy(update={"image": config.image})
    told = hints(files, read)
    told = told.model_copy(update={"tests": tuple(dict.fromkeys((*told.tests, *tests_of_tox(files, read))))})
    container = devcontainer(files, read)
    notes: tuple[str, ...] = ()
    if container is not None:
        notes = container.notes
        image = config.image or container.image
        if container.layers and (not container.image or may_use(container.image)):
            return container.model_copy(update={"image": image, "tests": told.tests})
        if container.image and not may_use(container.image):
            notes += (
                f"{container.found} names the image {container.image}, which this server does not allow "
                "(TROOP_SANDBOX_IMAGES_ALLOWED): the manifests decide what is installed",
            )
            image = config.image
        return _of_manifests(files, read, told).model_copy(update={"image": image, "notes": notes})
    return _of_manifests(files, read, told).model_copy(update={"image": config.image})


def of_setup(setup: str, source: str) -> Recipe:
    """What these shell commands come to. `source`: where they were read, for people."""
    layer = Layer(name="setup", source=source, commands=(f"(\n{setup}\n) || exit $?",), whole_tree=True)
    return Recipe(found=f"`setup` in {source}", layers=(layer,), setup=setup)


def _of_manifests(files: Sequence[str], read: Read, told: Hints) -> Recipe:
    """What the manifests of all languages come to. What only a lesser language needs is optional."""
    parts = [
        part
        for part in (
            python(files, read, told),
            node(files, read),
            deno(files),
            compiled.go(files, read),
            compiled.rust(files, read),
            compiled.ruby(files, read),
            compiled.php(files, read),
            compiled.java(files, read),
        )
        if part is not None and (part.layers or part.notes)
    ]
    if not parts:
        # What another language's package compiles is that package's matter.
        compiles = native(files, read)
        if compiles is None:
            return Recipe(tests=told.tests)
        parts = [compiles]
    main = _main_language(files, parts)
    parts.sort(key=lambda part: part.language != main)
    layers = tuple(
        layer if part.language == main else layer.model_copy(update={"optional": True})
        for part in parts
        for layer in part.layers
    )
    named = [f"{part.language} ({', '.join(part.sources)})" for part in parts if part.layers]
    if told.source:
        named.append(f"hints in {told.source}")
    return Recipe(
        found="; ".join(named),
        layers=layers,
        tests=tuple(dict.fromkeys((*told.tests, *(test for part in parts for test in part.tests)))),
        setup=_system(told) + parts[0].setup,
        notes=tuple(note for part in parts for note in part.notes),
    )


def _system(told: Hints) -> str:
    """What CI installs of the system, to be installed first."""
    if not told.packages:
        return ""
    return f"apt-get update && apt-get install -y --no-install-recommends {' '.join(told.packages[:20])} && "


def _main_language(files: Sequence[str], parts: Sequence[Part]) -> str:
    """The one with the most source files among those with a manifest."""
    endings = Counter(PurePosixPath(path).suffix.lower() for path in files if "node_modules/" not in path)

    def weight(part: Part) -> int:
        return sum(endings[ending] for ending in _ENDINGS[part.language])

    return max(parts, key=weight).language
