"""Rows of `make bench`'s table, of what `bench_gpu` has measured: each figure beside its baseline of the same run."""

import math
from collections.abc import Iterator
from typing import Any


def summary(rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All of them, of figures by the names of their rows."""
    yield from _attention(rows)
    for name, row in rows.items():
        if name.startswith("engine"):
            yield from _steps(name, row)
        elif name.startswith("experts"):
            yield from _experts(name, row)
        elif name.startswith(("delta rule", "state space")):
            yield from _delta(name, row)
        elif name.startswith("generate"):
            yield _rates(name, row, "generate", "transformers.generate")
        elif name.startswith("apart") and isinstance(row["compiled_tokens_per_second"], float):
            yield _rates(name, row, "compiled", "transformers, static cache, compiled") | {"goal": ">= 1.0"}


def _attention(rows: dict[str, Any]) -> Iterator[dict[str, Any]]:
    cascades = []
    for name, row in rows.items():
        times, shape = row.get("seconds", {}), name.partition(", ")[2]
        if name.startswith("attention"):
            ours, floor = times["ours, in a graph"], times["floor"]
            text = {"figure": f"{ours * 1e6:.0f} us", "baseline": f"floor: {floor * 1e6:.0f} us"}
            yield {"name": name, **text, "ratio": floor / ours, "goal": ">= 0.7"}
        elif name.startswith("others") and isinstance(theirs := times["flashinfer cascade"], float):
            cascades.append(theirs / times["ours"])
            baseline = f"FlashInfer's cascade: {theirs * 1e6:.0f} us"
            text = {"figure": f"{times['ours'] * 1e6:.0f} us", "baseline": baseline}
            yield {"name": f"attention, {shape}", **text, "ratio": cascades[-1], "goal": ">= 1.0"}
    if cascades:
        mean = math.exp(sum(map(math.log, cascades)) / len(cascades))
        text = {"figure": f"{len(cascades)} trees", "baseline": "FlashInfer's cascade"}
        yield {"name": "attention, geometric mean", **text, "ratio": mean, "goal": ">= 1.5"}


def _experts(name: str, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each kind of weights against its floor; plain ones against torch's grouped product, too."""
    times = row["seconds"]
    for kind, floor in row["floors"].items():
        text = {"figure": f"{times[kind] * 1e6:.0f} us", "baseline": f"floor: {floor * 1e6:.0f} us"}
        yield {"name": f"{name}, {kind}", **text, "ratio": floor / times[kind], "goal": ""}
    if isinstance(theirs := times["torch"], float):
        text = {"figure": f"{times['plain'] * 1e6:.0f} us", "baseline": f"torch's grouped_mm: {theirs * 1e6:.0f} us"}
        yield {"name": f"{name}, plain", **text, "ratio": theirs / times["plain"], "goal": ""}


def _delta(name: str, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Against the floor, and against what copies states."""
    times, figure = row["seconds"], f"{row['seconds']['ours'] * 1e6:.0f} us"
    baselines = {"floor": row["floor"], "torch": times["torch"], "package": times["package"]}
    for words, theirs in baselines.items():
        if isinstance(theirs, float):
            text = {"figure": figure, "baseline": f"{words}: {theirs * 1e6:.0f} us", "goal": ""}
            yield {"name": name, **text, "ratio": theirs / times["ours"]}
    layer, copied = times["layer"], times["layer, copied"]
    text = {"figure": f"{layer * 1e6:.0f} us", "baseline": f"states copied: {copied * 1e6:.0f} us", "goal": ""}
    yield {"name": f"{name}, layer", **text, "ratio": copied / layer}


def _steps(name: str, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A step against one without attention and the floor of attention, and how much of the host's time is hidden."""
    step = row["step_milliseconds"]
    figure = f"{row['tokens_per_second']:,.0f} tokens/s, {step:.2f} ms a step"
    bare, floor = row["no_attention"], row["attention_floor_milliseconds"]
    if isinstance(bare, dict):
        least = bare["step_milliseconds"] + floor
        baseline = f"no attention: {least - floor:.2f} ms, and its floor: {floor:.2f} ms"
        yield {"name": name, "figure": figure, "baseline": baseline, "ratio": least / step, "goal": ">= 0.85"}
    if "host_hidden" in row:
        text = {"figure": f"{row['host_milliseconds']:.2f} ms of the host a step", "baseline": "hidden by the GPU's"}
        goal = ">= 0.9" if " 1024 over" in name else ""
        yield {"name": f"{name}, host", **text, "ratio": row["host_hidden"], "goal": goal}


def _rates(name: str, row: dict[str, Any], theirs: str, words: str) -> dict[str, Any]:
    ours, other = row["engine_tokens_per_second"], row[f"{theirs}_tokens_per_second"]
    text = {"figure": f"{ours:,.0f} tokens/s", "baseline": f"{words}: {other:,.0f} tokens/s"}
    return {"name": f"engine{name[name.index(',') :]}", **text, "ratio": ours / other, "goal": ""}
