"""The model and what a GPU is tested with need few packages: a machine with a GPU often has no others, and no way to
get them.
"""

import subprocess
import sys

from tests.gpu import ROOT, selection

PROGRAM = """
import importlib.abc, sys
ABSENT = {"pydantic", "fastapi", "starlette", "uvicorn", "llguidance", "gguf", "openai", "ray", "docker", "sqlmodel"}
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import pytest
plugins = [part for name in ("asyncio", "schemathesis") for part in ("-p", f"no:{name}")]
code = pytest.main([*sys.argv[1:], *plugins, "--collect-only"])
import tests.bench.bench_gpu, tests.bench.engine_gpu
sys.exit(code)
"""


def test_a_gpu_is_tested_and_measured_with_torch_and_transformers_alone():
    argv = [sys.executable, "-c", PROGRAM, *selection()]
    found = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]
    for name in ("test_decode_steps_as_graphs", "test_decode_over_trees", "test_rms_norm", "test_logits_stay"):
        assert name in found.stdout
