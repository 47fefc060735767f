"""How a repository is built, told from its files alone: pure, no program of the repository is run.

`detect` looks, in this order, at `.troop.toml`, `devcontainer.json` with a Dockerfile that it names, the manifests and
lock files of the languages, and the workflows of CI for hints. `bot.sandbox.build` carries the recipe out.
"""

from bot.recipe.detect import detect, of_setup
from bot.recipe.recipe import NO_RECIPE, Layer, Recipe

__all__ = ["NO_RECIPE", "Layer", "Recipe", "detect", "of_setup"]
