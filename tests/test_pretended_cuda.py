"""The code for a GPU on a device that is pretended: what fails there fails here, and the run on a GPU comes to its end.

In processes of their own, for torch is another afterwards.
"""

import subprocess
import sys

import pytest

from tests.gpu import ROOT

pytestmark = pytest.mark.slow
START = """
import tests.pretended_cuda as pretended
pretended.start()
import functools, torch
from torch import Tensor
"""
MISTAKES = """
here, there = torch.ones(3), torch.ones(3, device="cuda")
assert there.is_cuda and there.device.type == "cuda" and not here.is_cuda
assert (there * 2 + 1).is_cuda and there.to(torch.float16).is_cuda and not there.cpu().is_cuda
assert here.to(there).is_cuda and here.cuda().to("cpu").tolist() == [1.0] * 3

def fails(run, words):
    try:
        run()
    except (RuntimeError, TypeError, ValueError) as error:
        assert words in str(error), error
    else:
        raise AssertionError(words)

fails(lambda: here + there, "same device")
fails(lambda: there.numpy(), "can't convert")
fails(lambda: torch.randn(3, device="cuda", generator=torch.Generator()), "generator")

from kernels.silu_mul.triton import silu_mul
fails(lambda: silu_mul(torch.ones(2, 8)), "cpu tensor?")
assert silu_mul(torch.ones(2, 8, device="cuda")).is_cuda

def captured(run):
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph, result

for run in (lambda: there.sum().item(), lambda: there[there > 0], lambda: here.to("cuda"), lambda: there.tolist(),
            lambda: torch.tensor([1.0], device="cuda"), lambda: torch.empty(3, pin_memory=True), torch.cuda.synchronize,
            lambda: there.copy_(here)):
    fails(lambda: captured(run), "capturing")
number = 2.0
graph, result = captured(lambda: silu_mul((there * number).repeat(2)))
there.fill_(2.0)
number = 5.0
graph.replay()
assert torch.allclose(result, torch.nn.functional.silu(torch.tensor(4.0)).cuda() * 4.0), "numbers of then"
"""
FIGURES = """
from engine.run.runner import RunOptions
from kernels.tree_attention.calibrate import Grid, measure
from kernels.tree_attention.heads import Heads
from tests.bench import engine_gpu, gpu_timing
from tests.bench.attention_trees import Shape
from tests.bench.gpu_rows import Plan
from tests.bench.test_bench_gpu import LAYERS, TINY
import engine.model.backends as backends

gpu_timing.Gpu.copied, gpu_timing.Gpu.square, gpu_timing.CACHE = 1 << 12, 16, 64
grid = lambda given: Grid((2,), (16, 32), 1, given.recorded, given.in_place)
backends.measure = lambda *args, **more: measure(*args, **more | {"grid": grid(more["grid"])})
engine_gpu.RunOptions, engine_gpu.WARM = functools.partial(RunOptions, steady=2), 1
plan = Plan({"small": TINY}, ((3, 20),), 5, (2, 16, 3), ((2, 8, 5),), LAYERS)
trees = [Shape("one", ((1, 16),), 2, 3, Heads(2, 1, 16, 2))]
found = {row.name: row.run() for row in plan.rows(trees, trees) if row.name.startswith(("att", "eng", "exp", "del"))}
seconds = found["attention, one"]["seconds"]
assert all(isinstance(each, float) for each in seconds.values()), seconds
steps = found["engine, small, 3 over 20"]
assert steps["replays"] >= steps["steps"] >= 1 and "model_milliseconds" in steps, steps
assert isinstance(steps["no_attention"], dict), steps
assert all(isinstance(each, float) for each in found["experts, 3 rows"]["seconds"].values()), found
rule = found["delta rule, qwen3_next, 3 texts"]["seconds"]
assert isinstance(rule["ours"], float) and isinstance(rule["torch"], float), rule
"""


@pytest.mark.parametrize("program", [MISTAKES, FIGURES], ids=["mistakes", "figures"])
def test_on_a_pretended_gpu(program: str):
    subprocess.run([sys.executable, "-W", "ignore", "-c", START + program], cwd=ROOT, check=True)


TESTS = {
    "engine/model/test_rotary.py": "store_alone",
    "kernels/test_tree_attention_triton.py": "bfloat16 and levels0 or without_keys",
    "kernels/test_delta_rule.py": "bfloat16 and odd-keys",
    "kernels/test_expert_linear.py": "bfloat16 and few and (fp8-blocks or int4-short)",
}


def test_tests_of_the_gpu_run_there():
    """A few of them: all take minutes in the interpreter."""
    files, words = [f"tests/{name}" for name in TESTS], " or ".join(TESTS.values())
    argv = ["-m", "pytest", "-q", "-p", "tests.pretended_cuda", "-p", "no:cacheprovider", "-m", "gpu", "-k", words]
    subprocess.run([sys.executable, *argv, *files], cwd=ROOT, check=True)
