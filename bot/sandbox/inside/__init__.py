"""What runs inside a sandbox, in the process of a test: it proves the end, and notices who changes what judges there.

`FILES` are copied there, beside each other, and import nothing of Troop's; here they are read and never imported. A
sandbox starts `runner.py` (`early.py` under Pythons before 3.8, `runner.cjs` under node), which executes the others.
"""

from pathlib import Path

FILES = {  # text by name
    file.name: file.read_text()
    for file in sorted(Path(__file__).parent.iterdir())
    if file.suffix in (".py", ".cjs") and file.name != "__init__.py"
}
