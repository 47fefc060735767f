"""`python -m engine`."""

import os
import sys

if __name__ == "__main__":
    # Threads of torch that wait for work by spinning starve each other wherever cores are shared with sandboxes or
    # other programs: a step then takes ten times as long. Must be set before torch loads its OpenMP library.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    from engine.cli import main

    sys.exit(main())
