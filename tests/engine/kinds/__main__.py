"""`python -m tests.engine.kinds [--write] [KIND ...]`: try these kinds, or all of them and write `docs/models.md`. With
`--write`, the page is also written after some, and what it says of the others stays.
"""

import logging
import sys
import time
import warnings

import torch
import transformers

from engine.text.tokenizer import Tokenizer
from tests.engine.conftest import make_tokenizer
from tests.engine.kinds.attempt import attempt
from tests.engine.kinds.table import PAGE, counts, page, read
from tests.engine.kinds.tiny import KINDS


def main(chosen: list[str]) -> int:
    """Print what became of each; 1 if one failed."""
    write = not chosen or "--write" in chosen
    chosen = [kind for kind in chosen if kind != "--write"]
    version, known = read()
    if chosen and write and version != transformers.__version__:
        print(f"the page is about transformers {version}, not {transformers.__version__}: try all kinds")
        return 1
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
    print(counts(outcomes))
    if write:
        PAGE.write_text(page(known | outcomes if chosen else outcomes))
    return int(any(outcome.status == "failed" for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
