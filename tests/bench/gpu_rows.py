"""The rows of `bench_gpu`: which there are, in the order of what they tell, and what measures each."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tests.bench.attention_trees import Shape, shapes
from tests.bench.qwen_shapes import QWEN
from tests.bench.recurrent_steps import LAYERS, Step


class Experts(NamedTuple):
    """A step of a layer; by default of Qwen3-Coder-30B-A3B."""

    rows: int
    experts: int = 128
    share: int = 8  # experts of a row
    hidden: int = 2048
    inner: int = 768


ENGINE = ((1024, 16_384), (1024, 1024), (256, 16_384), (256, 1024), (1024, 32_768), (256, 32_768))  # samples, prompt
NEW = 128  # tokens of a sample
GENERATE = (128, 1024, 64)  # samples, prompt, new tokens
APART = ((1, 512, 128), (8, 512, 128), (32, 512, 128))  # the same, prompts of their own


EXPERTS = (Experts(64), Experts(1), Experts(1024))
TEXTS = (("qwen3_next", 256), ("nemotron_h", 256), ("qwen3_next", 1), ("nemotron_h", 1), ("kimi_linear", 64))
STATES = tuple(Step(*each) for each in (*TEXTS, ("jamba", 256)))
FIRST = [shapes(quick=True)[1], shapes()[7], shapes()[10], shapes(quick=True)[3]]  # one of each size, and a tree


class Row(NamedTuple):
    """One measurement."""

    name: str
    seconds: float  # that it may take, compiling included: an estimate
    run: Callable[[], dict[str, Any]]


class Plan:
    """What is measured. Models and trees are made when first needed, and dropped for the next."""

    def __init__(
        self,
        sizes: dict[str, dict[str, Any]],
        engine: tuple[tuple[int, int], ...] = ENGINE,
        new: int = NEW,
        generate: tuple[int, int, int] = GENERATE,
        apart: tuple[tuple[int, int, int], ...] = APART,
        layers: tuple[tuple[Experts, ...], tuple[Step, ...]] = (EXPERTS, STATES),
    ) -> None:
        self._sizes, self._engine, self._new, self._generate, self._apart = sizes, engine, new, generate, apart
        self._experts, self._states = layers
        self._held: dict[str, Any] = {}  # one model, one tree

    def rows(self, trees: list[Shape], first: list[Shape]) -> Iterator[Row]:
        """All of them: a few trees; the largest model and then the others over the prompts; experts; layers
        with a state; `generate`; small batches; other kernels over the same few trees; then all other trees.
        """
        for shape in first:
            yield Row(f"attention, {shape.name}", 30, lambda shape=shape: self._ours(shape))  # type: ignore[misc]
        for name in reversed(self._sizes):
            for index, (batch, prefix) in enumerate(self._engine):
                run = lambda name=name, at=(batch, prefix): self._decoding(name, *at)  # noqa: E731
                yield Row(f"engine, {name}, {batch} over {prefix}", 25 if index else 50, run)  # type: ignore[arg-type]
        for step in self._experts:
            yield Row(f"experts, {step.rows} rows", 15, lambda step=step: self._of_experts(step))  # type: ignore[misc]
        for states in self._states:
            run = lambda step=states: self._of_states(step)  # noqa: E731
            yield Row(f"{LAYERS[states.kind][0]}, {states.kind}, {states.texts} texts", 15, run)  # type: ignore[arg-type]
        name = next(iter(self._sizes))
        samples, prompt, new = self._generate
        yield Row(f"generate, {name}, {samples} over {prompt}", 40, lambda: self._generated(name, samples, prompt, new))
        for batch, prompt, new in self._apart[:1]:
            yield self._apart_row(name, batch, prompt, new)
        for shape in first:
            yield Row(f"others, {shape.name}", 30, lambda shape=shape: self._others(shape))  # type: ignore[misc]
        for batch, prompt, new in self._apart[1:]:
            yield self._apart_row(name, batch, prompt, new)
        names = {shape.name for shape in first}
        for shape in trees:
            if shape.name not in names:
                yield Row(f"attention, {shape.name}", 15, lambda shape=shape: self._ours(shape))  # type: ignore[misc]
                if not shape.heads.shared:  # theirs take keys and values apart
                    yield Row(f"others, {shape.name}", 20, lambda shape=shape: self._others(shape))  # type: ignore[misc]

    def _apart_row(self, name: str, batch: int, prompt: int, new: int) -> Row:
        run = lambda: self._decoding_apart(name, batch, prompt, new)  # noqa: E731
        return Row(f"apart, {name}, {batch} of {prompt}", 75, run)  # the baseline compiles

    def drop(self) -> None:
        """Give back the memory of what is held."""
        from tests.bench import gpu_timing as timing

        self._held.clear()
        timing.gpu.free()

    def _hold(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._held:
            self.drop()
            self._held[name] = make()
        return self._held[name]

    def _rates(self) -> Any:
        from tests.bench.attention_gpu import Rates

        if not hasattr(self, "_measured"):
            self._measured = Rates.measure()
        return self._measured

    def _bed(self, shape: Shape) -> Any:
        from tests.bench.attention_gpu import Bed

        return self._hold(shape.name, lambda: Bed(shape))

    def _ours(self, shape: Shape) -> dict[str, Any]:
        from tests.bench.attention_gpu import ours, tiling

        rates = self._rates()
        times = ours(self._bed(shape), rates)
        about = {"seconds": times, "queries_of_a_tile": getattr(tiling(shape.heads), "large", None)}
        return about | {"bytes_per_second": rates.bytes, "flops_per_second": rates.flops}

    def _others(self, shape: Shape) -> dict[str, Any]:
        """With ours once more, so that ratios are of one moment."""
        from tests.bench.attention_gpu import others, ours

        bed = self._bed(shape)
        return {"seconds": ours(bed, self._rates()) | others(bed)}

    def _of_experts(self, step: Experts) -> dict[str, Any]:
        from tests.bench.experts_gpu import measured

        self.drop()
        rates = self._rates()
        return measured(step, rates.bytes, rates.flops)

    def _of_states(self, step: Step) -> dict[str, Any]:
        from tests.bench.delta_gpu import measured

        self.drop()
        return measured(step, self._rates().bytes)

    def _subject(self, name: str) -> Any:
        from tests.bench.engine_gpu import Subject

        return self._hold(name, lambda: Subject.of(self._sizes[name]))

    def _decoding(self, name: str, batch: int, prefix: int) -> dict[str, Any]:
        rates = self._rates()
        found: dict[str, Any] = self._subject(name).shared(batch, prefix, self._new, rates.floor)
        return found

    def _generated(self, name: str, samples: int, prompt: int, new: int) -> dict[str, Any]:
        from tests.bench.engine_gpu import generated

        engine = self._subject(name).whole(samples, prompt, new)
        self.drop()
        tokens = samples * new
        found = {"engine_tokens_per_second": tokens / engine}
        return found | {"generate_tokens_per_second": tokens / generated(self._sizes[name], samples, prompt, new)}

    def _decoding_apart(self, name: str, batch: int, prompt: int, new: int) -> dict[str, Any]:
        from tests.bench.engine_gpu import compiled

        engine = self._subject(name).apart(batch, prompt, new)
        self.drop()
        found: dict[str, Any] = {"engine_tokens_per_second": batch / engine}
        try:
            found["compiled_tokens_per_second"] = batch / compiled(self._sizes[name], batch, prompt, new)
        except Exception as error:  # another's compiler; ours counts
            found["compiled_tokens_per_second"] = f"{type(error).__name__}: {error}"
        return found


class Measured:
    """What a worker's process measures: the rows of a plan, by name."""

    def __init__(self, plan: Plan, trees: list[Shape], first: list[Shape]) -> None:
        self._plan = plan
        self._rows = {row.name: row for row in plan.rows(trees, first)}

    def run(self, name: str) -> dict[str, Any]:
        """See `tests.bench.gpu_worker.Rows`."""
        try:
            return self._rows[name].run()
        except Exception:
            self._plan.drop()
            raise

    def works(self) -> bool:
        """See `tests.bench.gpu_worker.Rows`."""
        from tests.bench import gpu_timing as timing

        return timing.gpu.works()


def standard() -> Measured:
    """The rows of the benchmark."""
    return Measured(Plan(QWEN), shapes(), FIRST)
