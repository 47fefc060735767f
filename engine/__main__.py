"""`python -m engine`."""

import os
import sys

if __name__ == "__main__":
    # OpenMP threads that spin while they wait starve each other where cores are shared with sandboxes or other
    # programs: a step then takes ten times as long. Must be set before torch loads its OpenMP library.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from engine.cli import main

    sys.exit(main())
