"""`python -m engine`."""

import os
import sys

if __name__ == "__main__":
    # Threads of torch that wait for work by spinning starve each other wherever cores are shared with sandboxes or
    # other programs: a step then takes ten times as long. Must be set before torch loads its OpenMP library.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    # Before torch is imported, which takes seconds: wrong options and a model that is not there are told at once.
    from engine.errors import LoadError, one_line
    from engine.options import read
    from engine.weights.checkpoint import look

    settings = read()
    try:
        look(settings.model)
    except LoadError as error:
        print(f"troop engine: {one_line(error)}", file=sys.stderr)
        sys.exit(1)

    from engine.cli import serve

    sys.exit(serve(settings))
