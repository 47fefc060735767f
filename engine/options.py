"""The options of `python -m engine`, read before anything heavy is imported, so that `--help` and a wrong option answer
at once.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from engine.settings import BUNDLED_MODEL, Settings

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
MODEL_CACHE = "TROOP_MODEL_CACHE"


def read(argv: Sequence[str] | None = None) -> Settings:
    """Settings from the command line.

    Raises:
        SystemExit: with 2, after a line that says what is wrong; with 0 after `--help`.
    """
    try:
        return parse(argv)
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(part).replace("_", "-") for part in first["loc"])
        print(f"troop engine: --{name}: {first['msg']}", file=sys.stderr)
        raise SystemExit(2) from None


def parse(argv: Sequence[str] | None = None) -> Settings:
    """Settings from the command line; the key comes from `TROOP_ENGINE_API_KEY`, so that no process list shows it.

    Raises:
        ValidationError: a value is out of range.
    """
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="troop engine", description="Serve a language model, sharing prompt prefixes."
    )
    add = parser.add_argument
    add(
        "--model",
        default=str(BUNDLED_MODEL),
        metavar="FOLDER|FILE.gguf|NAME",
        help="a model's folder, a GGUF file (converted once), or a name on the hub (default: the bundled model)",
    )
    add(
        "--model-cache",
        type=Path,
        default=os.environ.get(MODEL_CACHE) or None,
        metavar="DIR",
        help=f"where converted GGUF files are kept (default: ${MODEL_CACHE}, else ~/.cache/troop/models)",
    )
    add("--served-model-name", help="name under which it is served (default: that of the folder or file)")
    add("--host", default=defaults.host)
    add("--port", type=int, default=defaults.port, help="0 takes any free port (default: %(default)s)")
    add("--follow-stdin", action="store_true", help="end when standard input closes, with whoever started the engine")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    add(
        "--dtype",
        choices=("auto", "float32", "bfloat16", "float16"),
        default="auto",
        help="auto is the checkpoint's own on a GPU, on a CPU that or float32, whichever a trial finds faster",
    )
    add("--quantization", choices=("none", "int8", "int4"), default="none", help="weights of linears, by torchao")
    add("--tensor-parallel", type=int, default=1, metavar="N", help="split the model over N processes, one GPU each")
    add("--threads", type=int, help="threads of torch (default: the cores this process may use)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--cache-tokens", type=int, help="tokens that the cache holds")
    size.add_argument("--cache-memory", type=parse_size, help="default: 2GiB on CPU")
    add("--gpu-memory-share", type=float, default=defaults.gpu_memory_share, help="of a GPU, where no size is given")
    add("--max-model-len", type=int, help="longest prompt and answer in tokens (default: the model's context)")
    add("--max-batch", type=int, default=defaults.max_batch, help="sequences at once (default: %(default)s)")
    add("--max-waiting", type=int, default=defaults.max_waiting, help="sequences that may wait (default: %(default)s)")
    add("--prefill-chunk", type=int, default=defaults.prefill_chunk, help="prompt tokens a step (default: %(default)s)")
    add("--block-size", type=int, default=defaults.block_size, help="tokens per cache block (default: %(default)s)")
    add("--lease-seconds", type=float, default=defaults.lease_seconds, help="how long a finished prefix is pinned")
    add("--speculation", choices=("auto", "off"), default="auto", help="try guessed tokens where it pays, or never")
    add("--max-draft", type=int, default=defaults.max_draft, help="tokens guessed at once (default: %(default)s)")
    add("--batch-invariant", action="store_true", help="the same bits whatever else runs; slower: for comparing")
    add("--attention-backend", choices=("auto", "torch", "triton"), default="auto", help="auto is triton on a GPU")
    add("--calibrate", action="store_true", help="measure now what attention costs, rather than once per GPU")
    add("--no-cuda-graphs", action="store_false", dest="cuda_graphs", help="launch each decode step kernel by kernel")
    given = parser.parse_args(argv)
    return Settings(**vars(given), api_key=os.environ.get("TROOP_ENGINE_API_KEY") or None)


def parse_size(text: str) -> int:
    """Bytes of `2GiB`, `500MB`, `1000`.

    Raises:
        ArgumentTypeError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?i?)b?", text.strip().lower())
    if not found or found[2] == "i":
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 2GiB or 500MB")
    return int(float(found[1]) * UNITS[found[2]])
