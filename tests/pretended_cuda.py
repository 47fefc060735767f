"""A CUDA device where there is none: code for a GPU runs on the CPU as it would there, up to the kernels' machine code.

    python -m pytest -p tests.pretended_cuda $(files of `tests.gpu.selection`) -m gpu

Tensors "on the GPU" are a CPU's, remembered by their storage. Operations over tensors of both places fail as they do
with CUDA, and so do kernels over a CPU's tensors; kernels run in Triton's interpreter. A graph keeps each operation and
each launch with its numbers as they were when it was captured, and replays them over the same memory; what waits for
the device or copies from the host's unpinned memory cannot be captured. There is one stream, and no time.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten
from triton.runtime import interpreter

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
WAITING = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "bincount"}
MOVES = {"copy_", "_to_copy"}  # between places
_times = itertools.count(1.0)
PROCESSORS = 2  # few, for the interpreter's sake


class Device:
    """What is on it, and what is being captured."""

    def __init__(self) -> None:
        self._marks: dict[int, StorageWeakRef] = {}
        self._pinned: dict[int, StorageWeakRef] = {}
        self.capture: list[Callable[[], Any]] | None = None

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is there."""
        return tensor.untyped_storage()._cdata in self._marks

    def take(self, tensor: Tensor) -> None:
        """From now on, it is."""
        weak = StorageWeakRef(tensor.untyped_storage())
        self._marks[weak.cdata] = weak  # which keeps its address from being used again

    def pin(self, tensor: Tensor) -> None:
        """Of the host's memory: copies from it need not be waited for."""
        weak = StorageWeakRef(tensor.untyped_storage())
        self._pinned[weak.cdata] = weak

    def pinned(self, tensor: Tensor) -> bool:
        """See `pin`."""
        return tensor.untyped_storage()._cdata in self._pinned

    def waits(self, what: str) -> None:
        """Refuse it in a capture."""
        if self.capture is not None:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({what})")


device = Device()


def tensors_of(value: Any) -> list[Tensor]:
    """All in lists, tuples and dictionaries."""
    return [each for each in tree_flatten(value)[0] if isinstance(each, Tensor) and not each.is_mkldnn]


class _Operations(TorchDispatchMode):
    """Each operation, below torch's own functions."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        given = tensors_of((args, kwargs))
        here = [device.has(each) for each in given]
        if any(here):
            self._check(func, name, args, given, here)
        if name == "histc" and not args[0].is_floating_point():  # which a CPU does not count
            args = (args[0].float(), *args[1:])
        before = {each.untyped_storage()._cdata for each in given}
        result = func(*args, **kwargs)
        made = [each for each in tensors_of(result) if each.untyped_storage()._cdata not in before]
        if any(here) and name != "_local_scalar_dense":
            for each in made:
                device.take(each)
            if device.capture is not None:
                device.capture.append(lambda: _again(func, args, kwargs, made))
        return result

    @staticmethod
    def _check(func: Any, name: str, args: Any, given: list[Tensor], here: list[bool]) -> None:
        if name in WAITING or func is torch.ops.aten.where.default:
            device.waits(name)
        elsewhere = [each for each, on in zip(given, here, strict=True) if not on and each.ndim]
        if name == "copy_":
            target, source = args[0], args[1]
            direct = device.pinned(source) or device.pinned(target) or not source.ndim
            if device.has(source) != device.has(target) and not direct:
                device.waits("a copy between the host and the device")
            return
        if name in ("index", "index_put", "index_put_"):
            masks = [i for i in args[1] if i is not None and i.dtype in (torch.bool, torch.uint8)]
            if masks:
                device.waits(f"{name} by truth values")
            if device.has(args[0]):
                elsewhere = [each for each in elsewhere if not any(each is index for index in args[1])]
        if elsewhere:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu ({func})")


def _again(func: Any, args: Any, kwargs: Any, made: list[Tensor]) -> None:
    """An operation of a graph: its results go where they were."""
    with _disable_current_modes(), torch.inference_mode():
        found = func(*args, **kwargs)
        places = {each.untyped_storage()._cdata for each in made}
        fresh = [each for each in tensors_of(found) if each.untyped_storage()._cdata not in places]
        for target, source in zip(made, fresh[-len(made) :] if made else [], strict=True):
            target.copy_(source)


def _is_cuda(value: Any) -> bool:
    return isinstance(value, str | torch.device) and torch.device(value).type == "cuda"


class _Functions(TorchFunctionMode):
    """torch's functions and methods: what they say of devices, and what they are told."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        if name == "__get__":
            return self._property(func, args)
        if name in ("numpy", "__array__") and device.has(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy it first.")
        if name == "tolist" and device.has(args[0]):
            device.waits("tolist")
        if name in ("cuda", "cpu", "to"):
            return self._moved(func, name, args, kwargs)
        if name == "pin_memory":
            device.waits("pin_memory")
            found = args[0].clone()
            device.pin(found)
            return found
        if name == "is_pinned":
            return device.pinned(args[0])
        return self._made(func, name, args, kwargs)

    @staticmethod
    def _property(func: Any, args: Any) -> Any:
        owner = getattr(func, "__self__", None)
        if owner is Tensor.device:
            return CUDA if device.has(args[0]) else CPU
        if owner is Tensor.is_cuda:
            return device.has(args[0])
        if owner is Tensor.is_cpu:
            return not device.has(args[0])
        return func(*args)

    @staticmethod
    def _moved(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        tensor, rest = args[0], list(args[1:])
        target: Any = {"cuda": CUDA, "cpu": CPU}.get(name)
        if name == "to":
            target, kind = kwargs.pop("device", None), kwargs.pop("dtype", None)
            other = kwargs.pop("other", None)
            if rest and isinstance(rest[0], Tensor):
                other = rest.pop(0)
            elif rest and isinstance(rest[0], torch.dtype):
                kind = rest.pop(0)
            elif rest:
                target = rest.pop(0)
                if rest and (rest[0] is None or isinstance(rest[0], torch.dtype)):
                    kind = rest.pop(0)
            if other is not None:
                target, kind = (CUDA if device.has(other) else CPU), other.dtype
            rest = [kind or tensor.dtype, *rest]
        to_cuda = device.has(tensor) if target is None else _is_cuda(target)
        found = Tensor.to(tensor, *rest, **kwargs) if name == "to" else tensor
        if to_cuda != device.has(tensor):
            if not to_cuda or not device.pinned(tensor):
                device.waits(f"{name} between the host and the device")
            if found.untyped_storage()._cdata == tensor.untyped_storage()._cdata or device.has(found) != to_cuda:
                with _disable_current_modes():
                    found = found.detach().clone()
            if to_cuda:
                device.take(found)
        return found

    @staticmethod
    def _made(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
        wanted, generator = kwargs.get("device"), kwargs.get("generator")
        pinned = kwargs.pop("pin_memory", False)
        if pinned:
            device.waits("an allocation of the host's memory")
        on = _is_cuda(wanted)
        if wanted is not None and generator is not None and (generator.device.type == "cuda") != on:
            raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{generator.device}'")
        if on:
            return _made_there(func, name, args, kwargs | {"device": "cpu"})
        result = func(*args, **kwargs)
        if name in ("new_tensor", "__deepcopy__") and device.has(args[0]):
            for each in tensors_of(result):
                device.take(each)
        if pinned:
            device.pin(result)
        return result


def _made_there(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    """A tensor out of nothing, on the device."""
    if name in ("tensor", "as_tensor"):
        device.waits("a tensor of the host's numbers")
    result = func(*args, **kwargs)
    made = tensors_of(result)
    for each in made:
        device.take(each)
    if device.capture is not None and not name.startswith("empty"):
        device.capture.append(lambda: _again(func, args, kwargs, made))
    return result


# -- torch.cuda --------------------------------------------------------------------------------------------------------


class Event:
    """Has come as soon as it is recorded."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._recorded = False

    def record(self, *args: Any) -> None:
        self._recorded = True

    def synchronize(self) -> None:
        device.waits("an event")

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: "Event") -> float:
        assert self._recorded
        assert other._recorded
        return 1e3


class Stream:
    """The only one."""

    cuda_stream = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def wait_stream(self, other: Any) -> None: ...

    def synchronize(self) -> None:
        device.waits("a stream")

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *args: Any) -> None: ...


class Graph:
    """What was captured."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.steps: list[Callable[[], Any]] = []

    def replay(self) -> None:
        for step in self.steps:
            step()

    def pool(self) -> Any:
        return (0, 1)


@contextlib.contextmanager
def capture(graph: Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> Iterator[None]:
    """`torch.cuda.graph`."""
    assert device.capture is None
    device.capture = graph.steps
    try:
        yield
    finally:
        device.capture = None


class Generator(torch.Generator):
    """Random numbers of either place."""

    def __new__(cls, device: Any = "cpu") -> "Generator":
        made = torch._C.Generator.__new__(cls, "cpu")
        made.place = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place


PROPERTIES = SimpleNamespace(
    name="pretended",
    major=9,
    minor=0,
    multi_processor_count=PROCESSORS,
    total_memory=80 << 30,
    warp_size=32,
    shared_memory_per_multiprocessor=228 << 10,
)


def _fakes() -> dict[str, Any]:
    def nothing(*args: Any, **kwargs: Any) -> None:
        """Does nothing."""

    def waits(*args: Any, **kwargs: Any) -> None:
        device.waits("synchronize")

    found: dict[str, Any] = dict.fromkeys(
        ("empty_cache", "reset_peak_memory_stats", "_sleep", "set_device", "set_stream"), nothing
    )
    found |= dict.fromkeys(("is_available", "is_initialized", "is_bf16_supported"), lambda *_: True)
    found |= dict.fromkeys(("memory_allocated", "max_memory_allocated", "current_device"), lambda *_: 0)
    return found | {
        "synchronize": waits,
        "device_count": lambda: 1,
        "get_device_properties": lambda *_: PROPERTIES,
        "get_device_name": lambda *_: PROPERTIES.name,
        "get_device_capability": lambda *_: (9, 0),
        "mem_get_info": lambda *_: (64 << 30, 80 << 30),
        "Event": Event,
        "Stream": Stream,
        "stream": lambda stream: stream,
        "current_stream": Stream,
        "CUDAGraph": Graph,
        "graph": capture,
        "is_current_stream_capturing": lambda: device.capture is not None,
    }


def _launch_checked() -> None:
    launch = interpreter.GridExecutor.__call__

    def launched(self: Any, *args: Any, **kwargs: Any) -> Any:
        for place, each in enumerate((*args, *kwargs.values())):
            if isinstance(each, Tensor) and not device.has(each):
                raise ValueError(f"Pointer argument (at {place}) cannot be accessed from Triton (cpu tensor?)")
        assert all(0 < size < 2**31 for size in self.grid[:1]), self.grid
        assert all(0 < size < 2**16 for size in self.grid[1:]), self.grid

        def run() -> Any:
            with _disable_current_modes(), torch._C.DisableTorchFunction():
                return launch(self, *args, **kwargs)

        if device.capture is not None:
            device.capture.append(run)
        return run()

    interpreter.GridExecutor.__call__ = launched


def _exact_bfloat16() -> None:
    """The interpreter multiplies their bits, and rounds to them without a carry."""
    dot, convert = interpreter.InterpreterBuilder.create_dot, interpreter._convert_float

    def wide(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def rounded(data: Any, source: Any, target: Any, mode: Any) -> Any:
        if source == tl.float32 and target == tl.bfloat16:
            with _disable_current_modes(), torch._C.DisableTorchFunction():
                found = torch.from_numpy(np.array(data)).to(torch.bfloat16).view(torch.uint16).numpy()
            return found.reshape(np.shape(data))
        return convert(data, source, target, mode)

    interpreter.InterpreterBuilder.create_dot = lambda self, a, b, *rest: dot(self, wide(a), wide(b), *rest)
    interpreter._convert_float = rounded


def _timed(run: Callable[[], Any], rep: int = 20) -> float:
    """`triton.testing.do_bench_cudagraph`: what is asked for first is the fastest."""
    graph = Graph()
    run()
    with capture(graph):
        run()
    graph.replay()
    return next(_times)


def start() -> None:
    """For the rest of the process."""
    import triton.testing

    from tests.kernels import interpreting

    interpreting.DEVICE = "cpu"
    interpreting.interpret()
    import torch._dynamo.trace_rules as rules

    rules.get_torch_obj_rule_map()  # which finds torch's functions by name, once
    for name, fake in _fakes().items():
        setattr(torch.cuda, name, fake)
    torch.Generator = Generator  # type: ignore[misc]
    triton.testing.do_bench_cudagraph = _timed
    _launch_checked()
    _exact_bfloat16()
    interpreting.DEVICE = "cuda"
    interpreting.DTYPES[:] = [torch.float32, torch.float16, torch.bfloat16]
    _Operations().__enter__()
    _Functions().__enter__()


def pytest_configure() -> None:
    """As a plugin."""
    start()
