"""`python -m tests.engine.kinds [KIND ...]`: try all kinds, or some of them, and write `docs/models.md` if it was all."""

import json
import logging
import sys
import time
import warnings

import torch

from engine.text.tokenizer import Tokenizer
from tests.engine.conftest import make_tokenizer
from tests.engine.kinds.attempt import attempt
from tests.engine.kinds.tiny import KINDS


def main(chosen: list[str]) -> int:
    """Print what became of each; 1 if one failed."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    tokenizer = Tokenizer(make_tokenizer())
    outcomes = {}
    for kind in chosen or KINDS:
        begin = time.perf_counter()
        outcomes[kind] = attempt(kind, tokenizer)
        seconds = time.perf_counter() - begin
        print(f"{kind:28} {outcomes[kind].status:8} {outcomes[kind].words}  ({seconds:.1f} s)", flush=True)
    counts = {status: sum(o.status == status for o in outcomes.values()) for status in ("served", "refused", "untried", "failed")}
    print(json.dumps(counts), len(outcomes))
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
