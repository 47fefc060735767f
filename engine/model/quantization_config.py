"""What `quantization_config` of a checkpoint's `config.json` says, as far as it matters to the engine: the weights'
shapes say the rest, such as the size of groups.
"""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, ValidationError

from engine.errors import LoadError, UnsupportedModelError
from engine.model.formats import FORMATS, Packing

BITS = (2, 4, 8)

Size = Annotated[int, Field(ge=1)]
Bits = Annotated[int, Field(ge=1, strict=True)]


def _sides(value: Any) -> Any:
    """`128x128`, as older versions of compressed-tensors write a block."""
    return value.split("x") if isinstance(value, str) else value


Block = Annotated[tuple[Size, Size], BeforeValidator(_sides)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Weights(_Part):
    num_bits: Bits | None = None
    type: StrictStr | None = None
    block_structure: Block | None = None


class _Group(_Part):
    weights: _Weights | None = None


class _Dynamic(_Part):
    bits: Bits | None = None


class Quantization(_Part):
    """The fields of all methods."""

    quant_method: StrictStr
    bits: Bits | None = None
    w_bit: Bits | None = None
    format: StrictStr | None = None  # of compressed-tensors, as the groups
    config_groups: dict[str, _Group] | None = None
    weight_block_size: Block | None = None  # of FP8
    version: StrictStr | None = None  # of AWQ
    checkpoint_format: StrictStr | None = None  # of GPTQ, as the next
    dynamic: dict[str, _Dynamic] | None = None

    @property
    def weights(self) -> list[_Weights]:
        """Of compressed-tensors: what it says about the weights of each group of modules."""
        return [group.weights or _Weights() for group in (self.config_groups or {}).values()]


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
    try:
        return Quantization.model_validate(found.to_dict() if hasattr(found, "to_dict") else found)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["quantization_config", *(str(part) for part in first["loc"])])
        said = "" if first["type"] == "missing" else f" is {first['input']!r:.80}"
        raise LoadError(
            f"config.json: {place}{said} ({first['msg']}): correct it, or fetch the checkpoint's own config.json again"
        ) from error


def method_of(config: Any) -> str:
    """Which format of `FORMATS` a checkpoint is in; empty if it is not quantised, or by a method that is not there.

    Raises:
        UnsupportedModelError: it is a variant that is not implemented.
        LoadError: see `quantization_of`.
    """
    found = quantization_of(config)
    if found is None:
        return ""
    name = found.quant_method
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
    weights = found.weights or [_Weights()]
    bits = {each.num_bits or found.bits or found.w_bit or 4 for each in weights}
    if len(bits) > 1:
        raise UnsupportedModelError("weights quantised to different numbers of bits", str(sorted(bits)))
    if min(bits) not in BITS:
        raise UnsupportedModelError(f"weights quantised to {min(bits)} bits")
    if any(each.bits for each in (found.dynamic or {}).values()):
        raise UnsupportedModelError("weights quantised to numbers of bits of their own, as GPTQ's `dynamic` says")
    offset = 0 if found.checkpoint_format == "gptq_v2" else 1
    return Packing(min(bits), block=found.weight_block_size or weights[0].block_structure, zero_offset=offset)
