"""The figures in the README: a block between two marks for each model, and its plot below `docs/`."""

import re
import shutil
from pathlib import Path


def put(root: Path, model: str, text: str, plot: Path) -> None:
    """Write the model's block into `root/README.md`, and its plot to `root/docs/`."""
    target = root / "docs" / f"acceptance-{model}.png"
    shutil.copyfile(plot, target)
    picture = f"![Coverage and selected of {model} over the number of trajectories]({target.relative_to(root)})"
    readme = root / "README.md"
    readme.write_text(with_block(readme.read_text(), model, f"{text}\n{picture}\n"))


def with_block(text: str, model: str, block: str) -> str:
    """The README's text with the model's block in the place of the one it has, else after the last one. Pure.

    Raises `ValueError` where the text has no block at all: there is no telling where one should stand.
    """
    marked = f"<!-- acceptance {model} -->\n{block}<!-- /acceptance {model} -->\n"
    mine = re.compile(
        rf"<!-- acceptance {re.escape(model)} -->\n.*?<!-- /acceptance {re.escape(model)} -->\n", re.DOTALL
    )
    if mine.search(text):
        return mine.sub(lambda _: marked, text)
    ends = [m.end() for m in re.finditer(r"<!-- /acceptance \S+ -->\n", text)]
    if not ends:
        raise ValueError("the README has no <!-- acceptance MODEL --> block; make an empty one where it should stand")
    return f"{text[: ends[-1]]}\n{marked}{text[ends[-1] :]}"
