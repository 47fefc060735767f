"""What runs inside a sandbox, in the process of a test: it proves the end, and notices who changes what judges there.

`FILES` are copied there, beside each other, and import nothing of Troop's; here they are read and never imported. A
sandbox starts `runner.py` (`early.py` under Pythons before 3.8, `runner.cjs` under node), which executes the others.
"""

import base64
import functools
import marshal
from importlib.util import MAGIC_NUMBER
from pathlib import Path

FILES = {  # text by name
    file.name: file.read_text()
    for file in sorted(Path(__file__).parent.iterdir())
    if file.suffix in (".py", ".cjs") and file.name != "__init__.py"
}
MAGIC = MAGIC_NUMBER.hex()  # of the Pythons that can use what is `compiled`


@functools.cache
def compiled(folder: str) -> dict[str, str]:
    """The files in Python as `.pyc` files (PEP 552), in base64, by name. `folder`, and what names begin with: where
    they are.

    Beside a script that a candidate's changes are seen by, compiling them takes 40 ms, most of the job.
    """
    return {
        f"{name}c": base64.b64encode(
            MAGIC_NUMBER
            + bytes(12)
            + marshal.dumps(compile(text, f"{folder}{name}", "exec", dont_inherit=True, optimize=0))
        ).decode()
        for name, text in FILES.items()
        if name.endswith(".py")
    }
