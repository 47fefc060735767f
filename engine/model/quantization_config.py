"""What `quantization_config` of a checkpoint's `config.json` says, as far as it matters to the engine: the weights'
shapes say the rest, such as the size of groups.
"""

from dataclasses import dataclass
from typing import Any

from engine.errors import LoadError, UnsupportedModelError
from engine.model.formats import FORMATS, Packing

BITS = (2, 4, 8)

Block = tuple[int, int]


class _Fields:
    """A JSON object whose fields are looked at by type; `None` where one is null or missing."""

    def __init__(self, said: Any, place: str) -> None:
        if not isinstance(said, dict):
            raise _wrong(place, said, "an object")
        self._said = said
        self._place = place

    def text(self, name: str) -> str | None:
        value = self._said.get(name)
        if value is not None and not isinstance(value, str):
            raise self.wrong(name, "a text")
        return value

    def bits(self, name: str) -> int | None:
        value = self._said.get(name)
        if value is not None and (type(value) is not int or value < 1):
            raise self.wrong(name, "a number of bits")
        return value

    def block(self, name: str) -> Block | None:
        """Rows and columns; `128x128`, as older versions of compressed-tensors write it, too."""
        value = self._said.get(name)
        if value is None:
            return None
        sides = value.split("x") if isinstance(value, str) else value
        try:
            rows, columns = map(int, sides)
        except (TypeError, ValueError):
            rows = columns = 0
        if min(rows, columns) < 1:
            raise self.wrong(name, "two numbers, of rows and columns")
        return rows, columns

    def objects(self, name: str) -> list["_Fields"]:
        """The objects in an object."""
        value = self._said.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "an object")
        return [_Fields(one, f"{self._place}.{name}.{key}") for key, one in (value or {}).items()]

    def inner(self, name: str) -> "_Fields":
        """An object in it; empty where there is none."""
        value = self._said.get(name)
        return _Fields({} if value is None else value, f"{self._place}.{name}")

    def wrong(self, name: str, wanted: str) -> LoadError:
        return _wrong(f"{self._place}.{name}", self._said.get(name), wanted)


def _wrong(place: str, said: Any, wanted: str) -> LoadError:
    return LoadError(
        f"config.json: {place} is {said!r:.80}, not {wanted}: correct it, or fetch the checkpoint's own file again"
    )


@dataclass(frozen=True)
class _Weights:
    """What is said of the weights of a group of modules."""

    bits: int | None
    type: str | None = None
    block: Block | None = None


@dataclass(frozen=True)
class Quantization:
    """The fields of all methods."""

    method: str
    bits: int | None
    format: str | None  # of compressed-tensors
    weights: tuple[_Weights, ...]  # of its groups
    block: Block | None  # of FP8
    version: str | None  # of AWQ
    checkpoint_format: str | None  # of GPTQ
    mixed: bool  # GPTQ's `dynamic` gives some weights bits of their own


def quantization_of(config: Any) -> Quantization | None:
    """What a configuration says; `None`: it is not quantised.

    Args:
        config: of `transformers`.

    Raises:
        LoadError: a field that matters is missing, or has another type than it should.
    """
    found = getattr(config, "quantization_config", None)
    if not found:
        return None
    said = _Fields(found.to_dict() if hasattr(found, "to_dict") else found, "quantization_config")
    method = said.text("quant_method")
    if method is None:
        raise said.wrong("quant_method", "a text")
    groups = [group.inner("weights") for group in said.objects("config_groups")]
    return Quantization(
        method,
        said.bits("bits") or said.bits("w_bit"),
        said.text("format"),
        tuple(_Weights(one.bits("num_bits"), one.text("type"), one.block("block_structure")) for one in groups),
        said.block("weight_block_size"),
        said.text("version"),
        said.text("checkpoint_format"),
        any(one.bits("bits") for one in said.objects("dynamic")),
    )


def method_of(config: Any) -> str:
    """Which format of `FORMATS` a checkpoint is in; empty if it is not quantised, or by a method that is not there.

    Raises:
        UnsupportedModelError: it is a variant that is not implemented.
        LoadError: see `quantization_of`.
    """
    found = quantization_of(config)
    if found is None:
        return ""
    name = found.method
    if name == "compressed-tensors":
        if found.format in ("float-quantized", "naive-quantized"):
            kinds = {weights.type for weights in found.weights}
            return "compressed-float" if kinds == {"float"} else "compressed-int"
        if found.format in ("pack-quantized", "int-quantized"):
            return "compressed-int"
        raise UnsupportedModelError(f"weights quantised by compressed-tensors as {found.format}")
    if name == "awq" and (found.version or "gemm").lower() != "gemm":
        raise UnsupportedModelError(f"weights quantised by AWQ, version {found.version}")
    return name if name in FORMATS else ""


def packing_of(config: Any) -> Packing:
    """What a configuration says about all weights, 4 bits where it says none.

    Raises:
        UnsupportedModelError: they have a number of bits that is not implemented.
        LoadError: see `quantization_of`.
    """
    found = quantization_of(config)
    if found is None:
        return Packing()
    weights = found.weights or (_Weights(None),)
    bits = {each.bits or found.bits or 4 for each in weights}
    if len(bits) > 1:
        raise UnsupportedModelError("weights quantised to different numbers of bits", str(sorted(bits)))
    if min(bits) not in BITS:
        raise UnsupportedModelError(f"weights quantised to {min(bits)} bits")
    if found.mixed:
        raise UnsupportedModelError("weights quantised to numbers of bits of their own, as GPTQ's `dynamic` says")
    offset = 0 if found.checkpoint_format == "gptq_v2" else 1
    return Packing(min(bits), block=found.block or weights[0].block, zero_offset=offset)
