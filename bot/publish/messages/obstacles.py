"""What is wrong in the sandbox, in words for the operator and the maintainers, each with how to fix it."""

from typing import assert_never

from bot.records import Fault, Obstacle


def words_of(obstacle: Obstacle) -> str:
    """A sentence or two."""
    name, detail = obstacle.name, obstacle.detail
    match obstacle.fault:
        case Fault.IMPORT_FAILS:
            return (
                f"`import {name}` fails in the sandbox ({detail}), so tests show little about the candidates: install "
                "what it depends on, with a `setup` command in .troop.toml or an image that holds it (Docker), or "
                "where `python3` finds it (processes; a .venv in the checkout is used)."
            )
        case Fault.NOT_BUILT:
            return (
                f"`import {name}` fails in the sandbox ({detail}), so tests show little about the candidates: a file "
                "that the repository's build writes is missing. Build it in the checkout first (what git ignores is "
                "copied too), or with a `setup` command in .troop.toml (Docker)."
            )
        case Fault.INSTALLED_COPY:
            return (
                f"`import {name}` in the sandbox finds an installed copy ({detail}), not the repository's own, so "
                "tests show nothing about the candidates: uninstall it there."
            )
        case Fault.NO_INTERPRETER:
            return (
                f"{name} is not in the sandbox, so tests can't be run: name an image that holds it in .troop.toml or "
                "TROOP_SANDBOX_IMAGE, or install it on this machine (processes)."
            )
        case Fault.TOO_OLD:
            newer = f'as `image = "{name}"`' if name else "that has a newer one"
            return (
                f"{detail}, so what fails in the sandbox may fail for that alone: name an image {newer} in .troop.toml "
                "(or TROOP_SANDBOX_IMAGE), or install it on this machine (processes)."
            )
        case _:
            assert_never(obstacle.fault)
