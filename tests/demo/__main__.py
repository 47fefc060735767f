"""`python -m tests.demo NUMBER`: one demo as a JSON object, for `troop demo`."""

import argparse
import json

from tests.demo import COUNT, load


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("number", type=int, choices=range(1, COUNT + 1))
    case = load(parser.parse_args().number)
    shown = {"name": case.name, "title": case.issue.title, "body": case.issue.body}
    print(json.dumps(shown | {"files": case.files, "check": case.check}))


if __name__ == "__main__":
    main()
