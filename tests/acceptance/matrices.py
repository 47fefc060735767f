"""The vote matrices of finished bugs in the form of the selection benchmark, as `troop eval run` writes them.

python -m tests.acceptance.matrices RESULTS.jsonl [--out FILE.jsonl[.gz]]

`make acceptance` writes them beside its results when it ends; this makes them of what is done so far.
`python -m tests.bench.bench_selection --data FILE` (and `bench_stopping`, `bench_calibration`) reads them.
"""

import argparse
import gzip
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bot.evaluation.matrices import line_of
from tests.acceptance.results import read
from tests.acceptance.solving import ballot_of


def lines(records: Sequence[dict[str, Any]]) -> list[str]:
    """One line a bug, those without a candidate left out."""
    found = (
        line_of(record["id"], ballot_of(record), [candidate["solves"] for candidate in record["candidates"]])
        for record in records
    )
    return [line for line in found if line]


def write(path: Path, records: Sequence[dict[str, Any]]) -> int:
    """Write the file, gzipped the same way each time where its name says so; how many matrices it holds."""
    found = lines(records)
    data = "".join(f"{line}\n" for line in found).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return len(found)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance.matrices", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("results", type=Path, help="that tests.acceptance wrote")
    parser.add_argument("--out", type=Path, help="default: beside the results")
    arguments = parser.parse_args()
    try:
        records = list(read(arguments.results)[1].values())
    except OSError as error:
        print(f"{arguments.results} can't be read: {error.strerror}", file=sys.stderr)
        return 1
    out = arguments.out or arguments.results.with_suffix(".matrices.jsonl")
    print(f"{out}: {write(out, records)} matrices of {len(records)} bugs")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
