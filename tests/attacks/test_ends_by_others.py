"""Attack 25 by candidates that have a builtin end the script: `sys.exit` leaves no frame by which it is known."""

from pathlib import Path

import pytest

from tests.attacks.test_forged_results import RIGHT, proves

ENDS = "import sys\nclass End: {} = sys.exit\ndef add(a, b): return End()\n"
ATTACKS = {
    "a value's text": (ENDS.format("__str__"), "assert str(add(2, 2)) == '4'\n"),
    "a value's truth": (ENDS.format("__bool__"), "assert not add(2, 2)\n"),
    "a value's truth, in what exits": (ENDS.format("__bool__"), "import sys\nsys.exit(0 if add(2, 2) else 1)\n"),
    "an iterator": ("import sys\ndef add(a, b): return map(sys.exit, [0])\n", "assert list(add(2, 2)) == [4]\n"),
    "the function itself": ("import sys\nadd = sys.exit\n", "assert add(0) == 4\n"),
    "a loop of asyncio": (
        "import asyncio, sys\nasync def add(a, b):\n    asyncio.get_running_loop().call_soon(sys.exit)\n"
        "    await asyncio.sleep(60)\n",
        "import asyncio\nasync def main(): assert await add(2, 2) == 4\nasyncio.run(main())\n",
    ),
    "a code that equals all": (
        "class Zero(int):\n    def __eq__(self, other): return True\n    def __and__(self, other): return 0\n"
        "    def __sub__(self, other): return Zero(3)\ndef add(a, b): return Zero(5)\n",
        "import sys\nsys.exit(add(2, 2) - 4)\n",
    ),
}
EXITS = {
    "exit": "exit()\n",
    "exit with a name": "quit(code=0)\n",
    "sys.exit": "import sys\nsys.exit()\n",
    "by another name of the module": "import sys as s\ns.exit(*[0])\n",
    "by another name": "from sys import exit as leave\nleave(0)\n",
    "by a name of its own": "import sys\nleave = sys.exit\nleave()\n",
    "raised": "raise SystemExit\n",
    "raised with a code": "raise SystemExit(0)\n",
    "before an end": "import sys\ntry: sys.exit(0)\nfinally: assert add(1, 1) == 2\n",
    "in a function with a decorator": "import sys\ndef kept(f): return f\n@kept\ndef main(): sys.exit(0)\nmain()\n",
    "by a library": "import argparse\nargparse.ArgumentParser().exit()\n",
    "in a coroutine": "import asyncio, sys\nasync def main(): sys.exit(0)\nasyncio.run(main())\n",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_25_a_script_that_a_builtin_ended_is_no_vote(attack: str, tmp_path: Path) -> None:
    core, checks = ATTACKS[attack]
    proved, shown = proves(core, f"from pkg.core import add\n{checks}", tmp_path)
    assert not proved, shown


@pytest.mark.parametrize("exits", EXITS)
def test_a_script_may_end_itself(exits: str, tmp_path: Path) -> None:
    proved, shown = proves(RIGHT, f"from pkg.core import add\nassert add(2, 2) == 4\n{EXITS[exits]}", tmp_path)
    assert proved, shown
