"""The scenario's model for a run during which something is killed: some calls wait until the test lets them go on.

For `python -m tests.scripted_endpoint --script`. The folder /holds, which test and model share, has a file for each
part of a run that waits; the model adds NAME.reached when it is asked, and answers once the test has removed NAME.
"""

import re
import time
from collections.abc import Sequence
from pathlib import Path

from bot.records import Message
from tests.integration.scenario import script

HOLDS = Path("/holds")
# Name -> the calls that wait.
PARTS = {
    "tests": r"^trajectory/0/test/1$",
    "edits": r"^trajectory/1/edit/1$",
    "more edits": r"^trajectory/2/edit/1$",
    "description": r"^description/1$",
}


def reply(key: str, messages: Sequence[Message]) -> str:
    for name, pattern in PARTS.items():
        if re.search(pattern, key) and (HOLDS / name).exists():
            (HOLDS / f"{name}.reached").touch()
            while (HOLDS / name).exists():
                time.sleep(0.05)
    return script(key, messages)
