"""Weights quantised by bitsandbytes, and what it makes of them again: `model.safetensors` beside this.

    python -m venv /tmp/bitsandbytes && /tmp/bitsandbytes/bin/pip install bitsandbytes==0.50.2 safetensors torch
    /tmp/bitsandbytes/bin/python tests/data/bitsandbytes/make.py

The package is 120 MB of kernels for GPUs, so tests read its numbers from the file instead of needing it.
"""

from pathlib import Path

import torch
from bitsandbytes import functional, nn  # type: ignore[import-not-found]
from safetensors.torch import save_file
from torch import Tensor

SHAPE = (8, 64)
LARGE = (129, 128)  # more than one block of scales, which double quantisation takes 256 at a time


def main() -> None:
    torch.manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for kind in ("nf4", "fp4"):
        for nested in (False, True):
            for storage in (torch.uint8, torch.bfloat16) if kind == "nf4" and not nested else (torch.uint8,):
                weight = torch.randn(LARGE if nested and kind == "nf4" else SHAPE, dtype=torch.bfloat16)
                packed, state = functional.quantize_4bit(
                    weight, blocksize=64, compress_statistics=nested, quant_type=kind, quant_storage=storage
                )
                name = f"{kind}{'_double' * nested}{'_in_bfloat16' * (storage == torch.bfloat16)}"
                tensors[f"{name}.weight"] = packed
                tensors |= {f"{name}.weight.{end}": part for end, part in state.as_dict(packed=True).items()}
                tensors[f"{name}.expected"] = functional.dequantize_4bit(packed, state)
    layer = nn.Linear8bitLt(SHAPE[1], SHAPE[0], bias=False, has_fp16_weights=False)
    layer.load_state_dict({"weight": torch.randn(SHAPE, dtype=torch.float16)})
    tensors |= {f"int8.{end}": part for end, part in layer.to("cpu").state_dict().items()}
    tensors["int8.expected"] = functional.int8_vectorwise_dequant(tensors["int8.weight"], tensors["int8.SCB"])
    save_file(
        {name: part.contiguous() for name, part in tensors.items()}, Path(__file__).with_name("model.safetensors")
    )


if __name__ == "__main__":
    main()
