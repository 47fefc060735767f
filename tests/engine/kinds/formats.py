"""The table of checkpoint formats in `docs/models.md`: a weight of each is made, and read as a checkpoint's is."""

import torch
from torch import Tensor
from transformers import LlamaConfig

from engine.model.dequantize import method_of, packing_of
from engine.model.formats import FORMATS
from engine.model.quantized import Packed, Quantized, Tabled
from tests.engine.model.test_dequantize import FORMS

NAMES = {  # of each of `FORMS`, in words
    "fp8-blocks": "FP8, a scale a block",
    "fp8-tensor": "FP8, a scale a tensor",
    "fp8-powers": "FP8 of DeepSeek V4, a scale a block that is a power of two",
    "fp4-powers": "FP4 of DeepSeek V4's experts, a scale for 32",
    "compressed-fp8": "FP8 of compressed-tensors, a scale a row",
    "compressed-int4": "4 bits of compressed-tensors, symmetric",
    "compressed-int4-zeros": "4 bits of compressed-tensors, with zero points",
    "compressed-int8-packed": "8 bits of compressed-tensors, in groups",
    "compressed-int8": "8 bits of compressed-tensors, a scale a row",
    "gptq": "GPTQ in 4 bits, in any order of inputs",
    "awq": "AWQ in 4 bits, GEMM's layout",
    "bitsandbytes": "bitsandbytes in 8 bits",
    "bitsandbytes-nf4": "bitsandbytes in 4 bits (NF4, FP4)",
}
KERNELS = {
    "fp8": "`torch._scaled_mm`, scales by rows",
    "fp8-blocks": "`torch.nn.functional.scaled_mm`, blocks of 128",
    "int8": "`torch._weight_int8pack_mm`",
    "int4": "`torch._weight_int4pack_mm`",
    "table4": "our kernel for experts, as of one",
}
REST = (
    "| experts of FP8, of 8 bits with a scale a row, of 4 bits, but for orders of their own | our kernel for experts |",
    "| experts of MXFP4 (gpt-oss) | our kernel for experts |",
    "| torchao | by torchao, which must be installed |",
    "| GGUF | converted once; on a CPU weights of 4 and 6 bits are multiplied as such |",
)
BEGINNING = """
## Formats of checkpoints

Linears whose weights are multiplied by a kernel are kept as they are on a GPU that runs it, and with `--weights native`
everywhere; else, and with `--weights dequantized`, they are widened to the model's dtype while they are read.

| format | multiplied by |
|---|---|
"""


def section() -> str:
    """The section of the page."""
    rows = []
    for form, (quantizer, fields) in FORMS.items():
        packed = _read(quantizer(torch.randn(64, 64))[0], fields)
        rows.append(f"| {NAMES[form]} | {'dequantised' if packed is None else KERNELS[packed.kind]} |")
    return BEGINNING + "\n".join([*rows, *REST, ""])


def _read(parts: dict[str, Tensor], fields: dict[str, object]) -> Packed | None:
    """How the weight with these parts is kept."""
    config = LlamaConfig(quantization_config=fields)
    for form in FORMATS[method_of(config)]:
        if form.ends[0] in parts:
            found = form.read(parts, packing_of(config))
            return found.pack() if isinstance(found, Quantized | Tabled) else None
    raise ValueError(f"no format has the parts {sorted(parts)}")
