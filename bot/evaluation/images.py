"""The image that a task of a benchmark brings, and what makes it one that tests of this solver can run in.

Source: SWE-bench's `harness/test_spec`: its images (`swebench/sweb.eval.x86_64.ID`) hold the repository, built, in
/testbed, and its Python in a conda environment of that name. SWE-Gym, SWE-smith and SWE-rebench have the same form.
"""

import re
from collections.abc import Mapping

from bot.errors import EvaluationError
from bot.evaluation.tasks import RepositoryTask
from bot.settings import Settings
from bot.settings.image_names import image_name

# The environment's programs are those on PATH, and what was built in place is beside the files that are tested. Base
# and environment may share a file by hard links, so that nothing is written into one that is there.
SETUP = """\
environment=/opt/miniconda3/envs/testbed/bin
if [ -d $environment ]; then
    for program in $environment/*; do
        own=/opt/miniconda3/bin/${program##*/}
        rm -rf "$own"
        printf '#!/bin/sh\\nexec "%s" "$@"\\n' "$program" >"$own"
        chmod 755 "$own"
    done
fi
if [ -d /testbed ]; then tar -C /testbed --exclude=./.git --exclude=./build -cf - . | tar --skip-old-files -xf -; fi
"""
_FIELD = re.compile(r"\{(\w+)\}")


def with_image(settings: Settings, task: RepositoryTask, template: str) -> Settings:
    """The settings with the task's own image, prepared by `SETUP` unless they have a `setup`; as they are where the
    template is "".

    `template`: a name with `{id}`, the task's id as the names of SWE-bench's images have it, or with fields of the
    task's line. Raises `EvaluationError`.
    """
    if not template:
        return settings
    known = {**task.fields, "id": task.id.lower().replace("__", "_1776_")}
    try:
        image = image_name(_FIELD.sub(lambda found: known[found[1]], template))
    except KeyError as error:
        raise EvaluationError(f"{task.id}: --images names {error}, and the task has {_listed(known)}") from None
    except ValueError as error:
        raise EvaluationError(f"{task.id}: {error}") from None
    changes = {"kind": "docker", "image": image, "setup": settings.sandbox.setup or SETUP}
    return settings.model_copy(update={"sandbox": settings.sandbox.model_copy(update=changes)})


def _listed(known: Mapping[str, str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(known))
