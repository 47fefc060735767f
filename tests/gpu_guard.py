"""A plugin of `tests.gpu`: what fails is told at once, for the run may be ended at its limit; and a process whose GPU
context broke ends, so that pytest-xdist goes on in a new one. After an illegal access every later test of a process
would fail, whatever it tests.
"""

import os

import pytest
import torch

from tests.bench.gpu_timing import gpu

BROKEN = 70  # exit status
WORDS = 2000  # characters of a failure


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failure, in the process that has the output."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nFAILED {report.nodeid}\n{report.longreprtext[-WORDS:]}", flush=True)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """End a worker of pytest-xdist that can use the GPU no more; a process alone goes on, for its report."""
    if "PYTEST_XDIST_WORKER" in os.environ and torch.cuda.is_initialized() and not gpu.works():
        os._exit(BROKEN)
