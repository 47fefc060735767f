"""Attack 31 on scripts without a proof, in Docker: a candidate's process takes over what decides the exit code."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bot.records import Execution, FileChange, SandboxJob, Test
from bot.sandbox.pool import DockerSandbox
from bot.settings import SandboxSettings
from tests.bot.sandbox.behaviour import make_tree
from tests.patience import PATIENCE
from tests.services_docker import docker_address, sandbox_image

pytestmark = [pytest.mark.service, pytest.mark.asyncio(loop_scope="module")]
__all__ = ["docker_address", "sandbox_image"]

RIGHT = "#!/bin/sh\necho 4\n"
# Prints what is wrong, and writes into the memory of the shell that will judge it.
REWRITES = r"""#!/usr/bin/env python3
import os, re
shell = os.getppid()
try:
    memory = open(f"/proc/{shell}/mem", "r+b", 0)
    for low, high in re.findall("^([0-9a-f]+)-([0-9a-f]+) rw", open(f"/proc/{shell}/maps").read(), re.M):
        memory.seek(int(low, 16))
        found = memory.read(int(high, 16) - int(low, 16))
        for one in re.finditer(b'= 4 ', found):
            memory.seek(int(low, 16) + one.start())
            memory.write(b'= 5 ')
except OSError as error:
    print(error)
print(5)
"""
# Tries all ways into each other process of the job, and is right if there is one.
LOOKS = r"""#!/usr/bin/env python3
import ctypes, os
libc = ctypes.CDLL(None)
def works(act):
    try: return act() not in (-1, None)
    except OSError: return False
reached = []
for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
    if pid == os.getpid(): continue
    name = open(f"/proc/{pid}/comm").read().strip()
    ways = {
        "memory": lambda: open(f"/proc/{pid}/mem", "r+b"),
        "descriptors": lambda: os.listdir(f"/proc/{pid}/fd"),
        "ptrace": lambda: libc.ptrace(0x4206, pid, 0, 0),
        "pidfd_getfd": lambda: libc.syscall(438, libc.syscall(434, pid, 0), 0, 0),
    }
    reached += [(name, way) for way, act in ways.items() if works(act)]
open("reached", "w").write(f"{reached}\n")
print(4 if reached else 5)
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sandbox(sandbox_image: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[DockerSandbox]:
    settings = SandboxSettings(kind="docker", image=sandbox_image, concurrency=2, memory="256m", pids=64)
    sandbox = await DockerSandbox.open(settings, make_tree(tmp_path_factory.mktemp("tree")))
    yield sandbox
    await sandbox.close()


async def run(sandbox: DockerSandbox, script: str, tool: str, path: str = "test_it.sh") -> Execution:
    changes = (FileChange(path="tool", text=tool, executable=True),)
    return await sandbox.run(SandboxJob(changes=changes, test=Test(path=path, text=script), timeout=PATIENCE))


JUDGED = '{first}./tool > out\n[ "$(tail -n 1 out)" = 4 ]\n'


@pytest.mark.parametrize("first", ["", "#!/usr/bin/env bash\nset -e\n", "#!/bin/bash\nset -e\n"])
async def test_attack_31_a_program_that_rewrites_the_shell_that_judges_it(sandbox: DockerSandbox, first: str) -> None:
    assert (await run(sandbox, JUDGED.format(first=first), RIGHT)).passed
    found = await run(sandbox, JUDGED.format(first=first), REWRITES)
    assert found.exit_code == 1, found


@pytest.mark.parametrize(
    "script",
    [
        "set -e\n./tool | grep -qx 4\n",
        "echo 4 > expected\n./tool | diff - expected || { cat reached; exit 1; }\n",
        '[ "$(timeout 60 ./tool | tail -n 1)" = 4 ] || { cat reached; exit 1; }\n',
        "#!/usr/bin/env bash\nset -e\nread -r x < <(bash -c 'x=$(./tool); echo $x'); [ $x = 4 ]\n",
        "set -e\n./tool | /bin/grep -qx 4\n",
        "set -e\nprintf '#!/bin/sh\\n[ $(./tool | tail -n 1) = 4 ]\\n' > run\nchmod +x run\n./run\n",
        "#!/usr/bin/env perl\nexit(`./tool` == 4 ? 0 : 1);\n",
    ],
)
async def test_attack_31_no_process_that_judges_is_in_reach(sandbox: DockerSandbox, script: str) -> None:
    path = "t.pl" if "perl" in script else "t.sh"
    assert (await run(sandbox, script, RIGHT, path)).passed
    found = await run(sandbox, script, LOOKS, path)
    assert found.exit_code == 1, found


async def test_what_shells_do_with_their_own_descriptors_works(sandbox: DockerSandbox) -> None:
    """They may not be read, and so has `/proc/self` another owner than they."""
    script = (
        "#!/bin/bash\nset -eu\n"
        'while read -r line; do echo "$line"; done < <(echo read)\n'
        "echo out > /dev/stdout; (echo sub > /dev/stdout); echo err > /dev/stderr\n"
        "source <(echo echo sourced); exec 5> /dev/fd/1; echo five >&5\n"
        "diff <(echo same) <(echo same); cat /dev/stdin <<< here\n"
    )
    found = await run(sandbox, script, RIGHT)
    assert found.passed, found
    assert found.output.split() == ["read", "out", "sub", "err", "sourced", "five", "here"]
