"""What the kernel tests share: Triton's interpreter where there is no GPU, and a table of compiled kernels."""

from typing import Any

import pytest
import torch

from tests.kernels.compiling import compiled, table
from tests.kernels.interpreting import interpret

interpret()  # before any test module imports a kernel


@pytest.fixture(autouse=True)
def _few_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if compiled:
        terminalreporter.write_sep("=", "Triton kernels as compiled, in bytes and registers a thread")
        terminalreporter.write_line(table(list(compiled.values())))
