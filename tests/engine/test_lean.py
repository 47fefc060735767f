"""The model and what a GPU is tested with need few packages: a machine with a GPU often has no others, and no way to
get them.
"""

import os
import subprocess
import sys

from tests.gpu import ROOT, selection

PROGRAM = """
import sys
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions, requires
from packaging.requirements import Requirement

def needed(name, found):
    name = name.lower().replace("_", "-")
    if name not in found:
        found.add(name)
        for each in map(Requirement, requires(name) or ()):
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                needed(each.name, found)
    return found

there = set().union(*(needed(name, set()) for name in ("torch", "triton", "transformers", "pytest")))
absent = {
    module
    for module, owners in packages_distributions().items()
    if not there & {owner.lower().replace("_", "-") for owner in owners}
} - {"engine", "kernels", "bot", "tests"} | {"pydantic"}  # which older ones did without

class Lean(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else super().find_spec(name, path, target)

sys.meta_path[:] = [Lean if finder is PathFinder else finder for finder in sys.meta_path]
assert {"hypothesis", "fastapi", "ray"} <= absent, absent
import pytest
code = pytest.main([*sys.argv[1:], "--collect-only"])
import tests.bench.bench_gpu, tests.bench.engine_gpu
sys.exit(code)
"""


def test_a_gpu_is_tested_and_measured_with_torch_and_transformers_alone():
    argv = [sys.executable, "-c", PROGRAM, *selection()]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # plugins are other packages
    found = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    for name in ("test_decode_steps_as_graphs", "test_decode_over_trees", "test_rms_norm", "test_logits_stay"):
        assert name in found.stdout
