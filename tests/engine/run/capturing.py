"""What a step does, as a CUDA graph would record it, seen without a GPU: each operation and each kernel's launch with
its numbers and the memory that it touches; and what no graph can record.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from triton.runtime.interpreter import GridExecutor

# Operations that wait for the device, or whose result has a size that only the device knows.
WAITING = {
    "_local_scalar_dense": "reads a number from the device",
    "item": "reads a number from the device",
    "is_nonzero": "reads a number from the device",
    "equal": "reads a number from the device",
    "nonzero": "has a result whose size the device decides",
    "masked_select": "has a result whose size the device decides",
    "_unique2": "has a result whose size the device decides",
    "unique_dim": "has a result whose size the device decides",
    "unique_consecutive": "has a result whose size the device decides",
    "bincount": "has a result whose size the device decides",
    "lift_fresh": "makes a tensor from numbers of the host",
    "_pin_memory": "allocates memory of the host",
}
# Calls that do nothing on a CPU, or are not seen below.
CALLS = {"cpu", "cuda", "tolist", "numpy", "pin_memory", "item", "__array__", "from_numpy", "tensor", "as_tensor"}


class Recording:
    """One run of a step."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.faults: list[str] = []
        self.left: int = 0  # tensors made inside that outlive the step, its result not counted
        self._outside: set[int] = set()
        self._made: dict[int, tuple[int, StorageWeakRef]] = {}
        self._all: list[StorageWeakRef] = []

    def note(self, name: str, arguments: Any) -> None:
        """An operation or a launch."""
        self.events.append((name, self._describe(arguments)))

    def made(self, results: Any) -> None:
        """What an operation returned: memory that it allocated, unless it was known."""
        for tensor in _tensors(results):
            storage = tensor.untyped_storage()
            known = self._made.get(storage.data_ptr())
            inside = known is not None and not known[1].expired()
            if not inside and storage.data_ptr() not in self._outside:
                weak = StorageWeakRef(storage)
                self._made[storage.data_ptr()] = (len(self._all), weak)
                self._all.append(weak)

    def end(self, result: Tensor) -> None:
        """The step is over, with this result."""
        gc.collect()  # recording makes cycles
        alive = [weak for weak in self._all if not weak.expired()]
        self.left = len({weak.cdata for weak in alive} - {StorageWeakRef(result.untyped_storage()).cdata})

    def _describe(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            place = value.untyped_storage().data_ptr()
            known = self._made.get(place)
            if known is not None and not known[1].expired():
                memory = ("made", known[0])
            else:
                memory = ("outside", place)
                self._outside.add(place)
            return (memory, value.storage_offset(), tuple(value.shape), value.stride(), value.dtype)
        if isinstance(value, list | tuple):
            return tuple(map(self._describe, value))
        if isinstance(value, dict):
            return tuple((key, self._describe(each)) for key, each in sorted(value.items()))
        return value if isinstance(value, int | float | str | bool | None) else str(value)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)


class _Operations(TorchDispatchMode):
    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        recording, name = self._recording, func.overloadpacket.__name__
        if name in WAITING:
            recording.faults.append(f"{name} {WAITING[name]}")
        if func is torch.ops.aten.where.default:
            recording.faults.append("where of a condition alone has a result whose size the device decides")
        if name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        ):
            recording.faults.append(f"{name} by truth values has a result whose size the device decides")
        recording.note(str(func), (args, kwargs or {}))
        result = func(*args, **(kwargs or {}))
        recording.made(result)
        return result


class _Calls(TorchFunctionMode):
    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in CALLS or (name == "to" and "cpu" in (*args[1:], *(kwargs or {}).values())):
            self._recording.faults.append(f"{name} moves numbers between host and device")
        return func(*args, **(kwargs or {}))


@contextmanager
def recording() -> Iterator[Recording]:
    """Record what runs inside; kernels in Triton's interpreter count as one launch each."""
    found = Recording()
    launch = GridExecutor.__call__

    def launched(self: Any, *args: Any, **kwargs: Any) -> Any:
        name = getattr(self.fn, "__name__", str(self.fn))
        found.note(f"launch {name}", (self.grid, args, kwargs))
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return launch(self, *args, **kwargs)

    GridExecutor.__call__ = launched
    try:
        with _Operations(found), _Calls(found):
            yield found
    finally:
        GridExecutor.__call__ = launch
