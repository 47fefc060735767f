"""What the model itself must know of an operator's choices. Needs no package, so that the model runs wherever torch and
transformers are; `engine.settings` has all of them.
"""

from pathlib import Path
from typing import Literal, NamedTuple

BUNDLED_MODEL = Path(__file__).parent / "checkpoints" / "capuchin"

quantizations = Literal["none", "int8", "int4"]
ways = Literal["auto", "native", "dequantized"]


class WeightNumbers(NamedTuple):
    """In which numbers the linears' weights are kept."""

    quantization: quantizations = "none"  # what plain ones are rounded to, see `engine.model.quantize`
    way: ways = "auto"  # what becomes of a quantised checkpoint's, see `engine.model.quantized_linear.kept_kinds`


USUAL = WeightNumbers()
