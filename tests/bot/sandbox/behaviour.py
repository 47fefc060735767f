"""What every sandbox must do, and the attacks it must hold. Subclassed once a sandbox, with a fixture `sandbox`."""

import asyncio
import os
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from bot.contracts import Sandbox
from bot.records import Ending, Execution, FileChange, SandboxJob, Test
from tests.patience import PATIENCE, eventually, growing

LONG = 10**6  # seconds that a job sleeps which is ended before: longer than any test runs


def make_tree(root: Path) -> Path:
    """A small repository with everything that is awkward in one."""
    files = {
        "pkg/__init__.py": "",
        "pkg/core.py": "def add(a, b):\n    return a - b\n",
        "pkg/cli.py": "import sys\n\ndef main():\n    sys.exit(0)\n",
        "src/inner.py": "WHERE = 'src'\n",
        "tests/test_core.py": "from pkg.core import add\n\ndef test_add():\n    assert add(2, 3) == 5\n",
        "run.sh": "#!/bin/sh\necho run\n",
        ".git/config": "[core]\n",
    }
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "run.sh").chmod(0o755)
    (root / "binary.bin").write_bytes(bytes(range(256)) * 16)
    (root / "latin.txt").write_bytes(b"caf\xe9\n")
    (root / "passwd").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../..")
    (root / "inside").symlink_to("pkg/core.py")
    (root / "folder").symlink_to("pkg")
    os.mkfifo(root / "fifo")
    return root


FIX = FileChange(path="pkg/core.py", text="def add(a, b):\n    return a + b\n")


def python(text: str, *changes: FileChange, timeout: float = PATIENCE) -> SandboxJob:
    return SandboxJob(test=Test(path="test_issue.py", text=text), changes=changes, timeout=timeout)


def command(*argv: str, changes: tuple[FileChange, ...] = (), timeout: float = PATIENCE) -> SandboxJob:
    return SandboxJob(command=argv, changes=changes, timeout=timeout)


def changed(text: str) -> FileChange:
    return FileChange(path="pkg/core.py", text=text)


async def stopped(sandbox: Sandbox, text: str, said: str) -> Execution:
    """How a script ended that never does by itself, once it was given time enough to say `said`."""
    for seconds in growing(1.0):
        result = await sandbox.run(python(text, timeout=seconds))
        if said in result.output:
            return result
    raise AssertionError(f"it never said {said!r}: {result}")


ASSERT = "from pkg.core import add\nassert add(2, 3) == 5\nprint('reached')\n"


class Work:
    """What jobs come to."""

    async def test_what_a_job_prints_is_known_while_it_runs(self, sandbox: Sandbox) -> None:
        printed: list[Callable[[], str]] = []
        endless = command("sh", "-c", f"echo begun; exec sleep {LONG}", timeout=LONG)
        job = asyncio.create_task(sandbox.run(endless, printed.append))
        await eventually(lambda: bool(printed) and printed[-1]() == "begun\n")
        assert not job.done()
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job

    async def test_a_test_fails_on_base_and_passes_on_the_fix(self, sandbox: Sandbox) -> None:
        base, fixed = await asyncio.gather(sandbox.run(python(ASSERT)), sandbox.run(python(ASSERT, FIX)))
        assert (base.ending, base.exit_code) == (Ending.EXITED, 1)
        assert fixed.passed, fixed
        assert fixed.output == "reached\n"

    async def test_a_change_in_the_files_own_encoding(self, sandbox: Sandbox) -> None:
        latin = FileChange(path="latin.txt", text="caf\xe9s\n", encoding="iso8859-1")
        seen = await sandbox.run(python("assert open('latin.txt', 'rb').read() == b'caf\\xe9s\\n'", latin))
        assert seen.passed, seen.output

    async def test_a_traceback_looks_as_if_the_script_were_run_by_itself(self, sandbox: Sandbox) -> None:
        result = await sandbox.run(python("def f():\n    raise ValueError('no')\nf()\n"))
        lines = result.output.splitlines()
        assert lines[0] == "Traceback (most recent call last):"
        assert lines[1].endswith('test_issue.py", line 3, in <module>')
        assert lines[-1] == "ValueError: no"
        assert "runner" not in result.output

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ("import sys; sys.exit(0)", 0),
            ("import sys; sys.exit(3)", 3),
            ("raise SystemExit", 0),
            ("raise SystemExit('why')", 1),
            ("def broken(:", 1),
            ("import sys; sys.exit(127)", 127),
            ("import unittest\nclass T(unittest.TestCase):\n    def test(self): pass\nunittest.main()", 0),
            ("import unittest\nclass T(unittest.TestCase):\n    def test(self): self.fail()\nunittest.main()", 1),
            (
                "assert __name__ == '__main__'\nimport sys, __main__\nassert __main__.sys.argv == [__file__]",
                0,
            ),
            ("from __future__ import annotations\nx: Nothing = 1", 0),
            ("import inner; assert inner.WHERE == 'src'", 0),
            ("import subprocess, sys; subprocess.run([sys.executable, '-c', 'import pkg.core'], check=True)", 0),
            ("import sys; assert sys.stdin.read() == ''", 0),
        ],
    )
    async def test_exit_codes_of_python_scripts(self, sandbox: Sandbox, body: str, code: int) -> None:
        result = await sandbox.run(python(body))
        assert (result.ending, result.exit_code) == (Ending.EXITED, code), result

    async def test_shell_scripts_and_commands_run_in_the_tree(self, sandbox: Sandbox) -> None:
        shell = SandboxJob(
            test=Test(path="check.sh", text="test -f pkg/core.py && ./run.sh\nexit 4\n"), timeout=PATIENCE
        )
        result = await sandbox.run(shell)
        assert (result.ending, result.exit_code, result.output) == (Ending.EXITED, 4, "run\n")
        result = await sandbox.run(command("python3", "-c", "import pkg, os; print(os.path.relpath(pkg.__file__))"))
        assert result.output == "pkg/__init__.py\n"

    async def test_a_command_finds_the_test_beside_the_tree(self, sandbox: Sandbox) -> None:
        argv = ("sh", "-c", "python3 ../test/test_issue.py; echo exit $?; ls ../test; touch new.txt")
        job = SandboxJob(test=Test(path="test_issue.py", text=ASSERT), command=argv, timeout=PATIENCE)
        base, fixed = await asyncio.gather(sandbox.run(job), sandbox.run(job.model_copy(update={"changes": (FIX,)})))
        assert base.output.endswith("exit 1\ntest_issue.py\n"), base
        assert fixed.output == "reached\nexit 0\ntest_issue.py\n"
        assert not (await sandbox.run(command("test", "-e", "new.txt"))).passed

    async def test_variables_of_a_command_are_set_and_its_end_is_proved(self, sandbox: Sandbox) -> None:
        code = "import os; print(os.environ['MORE'], os.environ['PYTHONPATH'].split(':')[0])"
        result = await sandbox.run(command("env", "MORE=a b", "PYTHONPATH=pkg", "python3", "-c", code))
        assert (result.output.split()[:2], result.output.strip().endswith("/pkg")) == (["a", "b"], True)
        fake = FileChange(path="pkg/core.py", text="import os\nos._exit(0)\n")
        argv = ("env", "MORE=1", "python3", "-m", "unittest", "pkg.core")
        result = await sandbox.run(SandboxJob(changes=(fake,), command=argv, timeout=PATIENCE))
        assert result.ending is Ending.CUT_SHORT

    async def test_the_environment_is_clean(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CANARY_TOKEN", "canary-value")
        monkeypatch.setenv("https_proxy", "http://canary-value")
        result = await sandbox.run(command("env"))
        assert result.passed
        assert "canary" not in result.output.lower()
        assert "PYTHONHASHSEED=0" in result.output
        assert "PYTHONUNBUFFERED=1" in result.output
        assert "HOME=/tmp" in result.output

    async def test_package_managers_are_told_that_there_is_no_network(self, sandbox: Sandbox) -> None:
        found = await sandbox.run(command("sh", "-c", 'echo "$npm_config_offline $CARGO_NET_OFFLINE $UV_OFFLINE"'))
        assert found.output == "true true 1\n", "else they wait for it, for a minute and more"
        other = await sandbox.run(command("env", "UV_OFFLINE=0", "sh", "-c", "echo $UV_OFFLINE"))
        assert other.output == "0\n", "a config's own word comes last"

    async def test_the_traceback_comes_after_what_was_printed(self, sandbox: Sandbox) -> None:
        result = await sandbox.run(python("for n in range(130):\n    print('case', n)\nassert n < 0, 'last'\n"))
        assert result.output.startswith("case 0\n")
        assert result.output.rstrip().endswith("AssertionError: last")

    async def test_files_are_created_deleted_and_made_executable(self, sandbox: Sandbox) -> None:
        changes = (
            FileChange(path="latin.txt", text=None),
            FileChange(path="new/deep/tool", text="#!/bin/sh\necho tool é\n", executable=True),
            FileChange(path="inside", text="now a file\n"),
        )
        text = "test ! -e latin.txt && ./new/deep/tool && cat inside && test ! -L inside && cat pkg/core.py\n"
        result = await sandbox.run(SandboxJob(test=Test(path="t.sh", text=text), changes=changes, timeout=PATIENCE))
        assert result.passed, result
        assert result.output == "tool é\nnow a file\ndef add(a, b):\n    return a - b\n"

    async def test_a_deleted_file_may_become_a_folder(self, sandbox: Sandbox) -> None:
        changes = (FileChange(path="run.sh", text=None), FileChange(path="run.sh/x", text="x"))
        assert (await sandbox.run(command("cat", "run.sh/x", changes=changes))).output == "x"

    async def test_fresh_copies_do_not_see_each_others_writes(self, sandbox: Sandbox) -> None:
        litter = (
            "import os, pathlib, shutil, tempfile\n"
            "assert not list(pathlib.Path(tempfile.gettempdir()).glob('litter*')), 'litter'\n"
            "assert not list(pathlib.Path('/dev/shm').glob('litter*')), 'shared litter'\n"
            "assert pathlib.Path('pkg/core.py').read_text().startswith('def add')\n"
            "pathlib.Path('pkg/core.py').write_text('ruined')\n"
            "shutil.rmtree('src')\nos.mkdir('src')\nassert os.listdir('src') == []\n"
            "pathlib.Path(tempfile.gettempdir(), 'litter').write_text('x')\n"
            "pathlib.Path('locked').mkdir()\npathlib.Path('locked/x').write_text('')\nos.chmod('locked', 0)\n"
        )
        for result in await asyncio.gather(*(sandbox.run(python(litter)) for _ in range(6))):
            assert result.passed, result

    async def test_jobs_run_side_by_side(self, sandbox: Sandbox) -> None:
        tokens = [str(uuid.uuid4().int)[:15] for _ in range(2)]
        jobs = [asyncio.create_task(sandbox.run(command("sleep", token))) for token in tokens]
        await eventually(lambda: all(running(token) for token in tokens))
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    async def test_output_that_is_no_utf8_is_shown(self, sandbox: Sandbox) -> None:
        result = await sandbox.run(command("cat", "latin.txt"))
        assert result.output == "caf\ufffd\n"
        result = await sandbox.run(command("cat", "binary.bin"))
        assert result.passed

    async def test_what_is_missing_is_unavailable(self, sandbox: Sandbox) -> None:
        missing = [
            SandboxJob(test=Test(path="t.unknown", text="?")),
            SandboxJob(test=Test(path="t", text="#!/usr/bin/env no-such-interpreter\n")),
            command("no-such-command"),
            command("./latin.txt"),
            command("sh", "-c", "no-such-command"),
        ]
        for job in missing:
            assert (await sandbox.run(job)).ending is Ending.UNAVAILABLE, job

    async def test_a_time_out_ends_the_job_and_keeps_its_output(self, sandbox: Sandbox) -> None:
        result = await stopped(sandbox, f"import time; print('so far', flush=True); time.sleep({LONG})", "so far")
        assert result.ending is Ending.TIMED_OUT
        assert result.output == "so far\n"

    async def test_a_high_exit_code_is_no_signal(self, sandbox: Sandbox) -> None:
        result = await sandbox.run(command("sh", "-c", "exit 255"))
        assert (result.ending, result.exit_code) == (Ending.EXITED, 255)

    async def test_a_signal_is_told_apart(self, sandbox: Sandbox) -> None:
        result = await sandbox.run(python("import os; os.kill(os.getpid(), 11)"))
        assert result.ending is Ending.KILLED
        result = await sandbox.run(python("import os; os.kill(os.getpid(), 9)"))
        assert result.ending is Ending.KILLED

    async def test_loopback_works(self, sandbox: Sandbox) -> None:
        body = "import socket\ns = socket.create_server(('127.0.0.1', 0))\n"
        body += "socket.create_connection(('localhost', s.getsockname()[1]))\n"
        result = await sandbox.run(python(body))
        assert result.passed, result


# What forgers share: a proof for each word that looks like a nonce, on each descriptor, and an end with 0.
FORGE = """
import os, re, sys
def prove(*things):
    for thing in things:
        if isinstance(thing, (bytes, bytearray)) and re.fullmatch(rb"[0-9a-f]{32}", thing):
            for number in range(3, 64):
                try: os.write(number, bytes(thing) + b" 0\\n")
                except OSError: pass
            os._exit(0)
def frames(frame):
    while frame is not None:
        yield frame
        frame = frame.f_back
"""
FORGERS = {
    "closure of the prover": "import gc\nfor o in gc.get_objects():\n    if getattr(o, '__closure__', None):\n"
    "        prove(*(c.cell_contents for c in o.__closure__))\n"
    "        if o.__name__ == 'prove' and o is not prove: o(0)\n",
    "stack of a frame": "import gc\nfor f in frames(sys._getframe()):\n    prove(*gc.get_referents(f))\n",
    "referrers": "import gc\nfor f in frames(sys._getframe()):\n    prove(*gc.get_referrers(f))\n"
    "    for o in gc.get_referrers(f): prove(*gc.get_referents(o))\n",
    "another thread": "import gc, threading\nmain = sys._getframe()\ndef look():\n    for f in frames(main):\n"
    "        prove(*gc.get_referents(f))\nt = threading.Thread(target=look)\nt.start(); t.join()\n",
    "code under a false name": "text = 'import gc\\nfor f in frames(sys._getframe()): prove(*gc.get_referents(f))'\n"
    "exec(compile('def add(a, b):\\n    ' + text.replace(chr(10), chr(10) + '    '), os.__file__, 'exec'))\n",
    "own memory": "import mmap\nseen = set()\nmaps = open('/proc/self/maps').read()\n"
    "memory = open('/proc/self/mem', 'rb', 0)\n"
    "for low, high in re.findall('^([0-9a-f]+)-([0-9a-f]+) rw', maps, re.M):\n    try:\n"
    "        memory.seek(int(low, 16))\n        data = memory.read(int(high, 16) - int(low, 16))\n"
    "    except (OSError, ValueError, OverflowError): continue\n"
    "    seen |= set(re.findall(rb'(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])', data))\n"
    "for word in seen:\n    for number in range(3, 64):\n        try: os.write(number, word + b' 0\\n')\n"
    "        except OSError: pass\nos._exit(0)\n",
    "raw memory": "import ctypes\nplace = id(sys.argv) & ~0xfffff\nfor at in range(place, place + 0x100000, 4096):\n"
    "    for m in re.findall(rb'[0-9a-f]{32}', ctypes.string_at(at, 4096)): prove(m)\n",
    "builtins replaced": "import builtins\nbuiltins.str = lambda *a: '0'\nbuiltins.isinstance = lambda *a: False\n"
    "def add(a, b): return 0\n",
    "two proofs": "def look(frame, event, arg):\n    prove(*frame.f_locals.values())\nsys.setprofile(look)\n"
    "def add(a, b): return 0\n",
}


class Attacks:
    """Numbered as in the list of attacks."""

    @pytest.mark.parametrize(
        "path",
        [
            *("../escape", "/etc/escape", "a/../../escape", ".git/hooks/pre-commit", "x/.GIT/config", "folder/new.py"),
            *("pkg", "run.sh/x", "", ".", "./a", "a//b", "a\nb", "..\\escape"),
        ],
    )
    async def test_attack_17_a_path_that_leads_out_is_refused(self, sandbox: Sandbox, path: str) -> None:
        result = await sandbox.run(python("pass", FileChange(path=path, text="x")))
        assert result.ending is Ending.UNAVAILABLE
        assert result.output.startswith("refused: the path")

    async def test_attack_17_links_that_lead_out_and_git_are_not_copied(self, sandbox: Sandbox) -> None:
        body = "import os; print(sorted(os.listdir()), os.readlink('inside'))"
        listed = (await sandbox.run(python(body))).output
        for name in ("passwd", "up", "fifo", ".git"):
            assert f"'{name}'" not in listed
        assert "'inside'" in listed
        assert listed.endswith("pkg/core.py\n")

    async def test_attack_21_secrets_network_and_sockets_are_out_of_reach(self, sandbox: Sandbox) -> None:
        canary = f"canary-{uuid.uuid4()}"
        body = (
            "import glob, os, socket, pathlib\n"
            "for path in glob.glob('/proc/*/environ') + glob.glob('/proc/*/cmdline'):\n"
            "    try: text = pathlib.Path(path).read_bytes()\n"
            "    except OSError: continue\n"
            "    print(path, text)\n"
            "for address in [('169.254.169.254', 80), ('1.1.1.1', 53)]:\n"
            "    try: socket.create_connection(address, 2)\n"
            "    except OSError: pass\n"
            "    else: raise SystemExit('reached %s' % (address,))\n"
            "try: socket.getaddrinfo('github.com', 443)\n"
            "except OSError: pass\n"
            "else: raise SystemExit('resolved a name')\n"
            "for path in ('/var/run/docker.sock', '/run/docker.sock', '/run/containerd/containerd.sock'):\n"
            "    if os.path.exists(path): raise SystemExit('there is ' + path)\n"
        )
        environment = {"PATH": os.environ["PATH"], "CANARY": canary}
        sleeper = await asyncio.create_subprocess_exec("sleep", str(LONG), env=environment)
        try:
            result = await sandbox.run(python(body))
        finally:
            sleeper.kill()
            await sleeper.wait()
        assert result.passed, result.output[-2000:]
        assert canary not in result.output

    async def test_attack_22_a_fork_bomb_leaves_neighbours_alone(self, sandbox: Sandbox) -> None:
        bomb = (
            "import os, time\n"
            "while True:\n"
            "    try: os.fork()\n"
            f"    except OSError: os.write(1, b'limit\\n'); time.sleep({LONG})\n"
        )
        bombed, neighbour = await asyncio.gather(
            stopped(sandbox, bomb, "limit"), sandbox.run(python("import os; os.wait() if os.fork() else 0"))
        )
        assert not bombed.passed
        assert neighbour.passed
        assert (await sandbox.run(python("pass"))).passed

    async def test_attack_23_endless_output_is_capped_and_stopped(self, sandbox: Sandbox) -> None:
        body = "import os\nprint('first', flush=True)\nwhile True: os.write(1, b'x' * 65536)\n"
        result = await sandbox.run(python(body))
        assert result.ending is Ending.KILLED
        assert result.truncated
        assert result.output.startswith("first\n")
        assert len(result.output) < 210_000

    async def test_attack_23_a_full_disk_is_the_jobs_own(self, sandbox: Sandbox) -> None:
        body = (
            "import os, tempfile\n"
            "full = 0\n"
            "try:\n"
            "    with open(tempfile.gettempdir() + '/fill', 'wb', 0) as file:\n"
            "        for _ in range(4096): file.write(b'x' * (1 << 20))\n"
            "except OSError as error: full = error.errno\n"
            "print('full', full)\n"
        )
        result = await sandbox.run(python(body))
        assert result.output.startswith("full 2") or result.ending is Ending.OUT_OF_MEMORY, result
        assert (await sandbox.run(python("import tempfile; tempfile.NamedTemporaryFile().write(b'x' * 9999)"))).passed

    async def test_attack_23_a_memory_bomb_is_held(self, sandbox: Sandbox) -> None:
        bomb = (
            "import os\nfor _ in range(2): os.fork()\nkept = []\nwhile True: kept.append(bytearray(b'x' * (1 << 22)))\n"
        )
        result = await sandbox.run(python(bomb))
        assert not result.passed
        assert result.ending in (Ending.OUT_OF_MEMORY, Ending.KILLED) or "MemoryError" in result.output, result
        assert (await sandbox.run(python("pass"))).passed

    async def test_attack_24_a_daemon_that_ignores_everything_is_killed_on_time(self, sandbox: Sandbox) -> None:
        token = str(uuid.uuid4().int)[:16]
        body = (
            "import os, signal, time\n"
            "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)\n"
            "if os.fork() == 0:\n"
            "    os.setsid()\n"
            f"    if os.fork() == 0: os.execvp('sleep', ['sleep', '{token}'])\n"
            "    os._exit(0)\n"
            "print('begun', flush=True)\n"
            f"time.sleep({LONG})\n"
        )
        result = await stopped(sandbox, body, "begun")
        assert result.ending is Ending.TIMED_OUT
        await eventually(lambda: not running(token))

    async def test_attack_24_a_daemon_left_by_a_passing_test_is_killed(self, sandbox: Sandbox) -> None:
        token = str(uuid.uuid4().int)[:16]
        body = f"import subprocess\nsubprocess.Popen(['sleep', '{token}'], start_new_session=True)\nprint('end')\n"
        result = await sandbox.run(python(body))
        assert (result.ending, result.output) == (Ending.EXITED, "end\n")
        await eventually(lambda: not running(token))  # a container may be destroyed behind the answer
        assert (await sandbox.run(python("pass"))).passed

    async def test_attack_31_a_program_that_a_candidate_starts_reaches_no_memory_of_its_judge(
        self, sandbox: Sandbox
    ) -> None:
        looks = "import os; open(f'/proc/{os.getppid()}/mem', 'r+b').write(b'')"
        starts = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {looks!r}])\n{FIX.text}"
        result = await sandbox.run(python(ASSERT, changed(starts)))
        assert result.passed, result
        assert "PermissionError" in result.output, result
        opens = f"import ctypes\nctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n{starts}"
        result = await sandbox.run(python(ASSERT, changed(opens)))
        assert (result.ending, result.unproven) == (Ending.CUT_SHORT, "ctypes.dlsym"), result

    async def test_attack_25_why_a_proof_was_withdrawn_is_told(self, sandbox: Sandbox) -> None:
        looks = changed("import gc\ndef add(a, b):\n    return len(gc.get_objects()) * 0 + a + b\n")
        result = await sandbox.run(python(ASSERT, looks))
        assert (result.ending, result.unproven) == (Ending.CUT_SHORT, "gc.get_objects"), result
        assert (await sandbox.run(python(ASSERT, FIX))).unproven == ""

    @pytest.mark.parametrize(
        "fake",
        {
            "os._exit": "import os; os._exit(0)",
            "sys.exit": "import sys\ndef add(a, b): sys.exit(0)",
            "exit": "def add(a, b): exit()",
            "dynamic code": "def add(a, b): exec('raise SystemExit(0)')",
            "exit hook": "import atexit, os\natexit.register(os._exit, 0)\ndef add(a, b): return 0",
            "excepthook": "import os, sys\nsys.excepthook = lambda *_: os._exit(0)\ndef add(a, b): return 0",
            "thread": "import os, threading\nthreading.Timer(0.1, os._exit, (0,)).start()\nimport time; time.sleep(99)",
            "child lives on": "import os\nif os.fork(): os._exit(0)\ndef add(a, b): return 5",
            "exec": "import os\nos.execvp('true', ['true'])",
            "signal": "import os, signal\nsignal.signal(15, lambda *_: os._exit(0))\nos.kill(os.getpid(), 15)",
            "forged report": "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'0 0\\nstatus 0\\n')\n"
            "    except OSError: pass\nos._exit(0)",
        }.items(),
        ids=lambda item: item[0],
    )
    async def test_attack_25_a_faked_exit_code_is_no_vote(self, sandbox: Sandbox, fake: tuple[str, str]) -> None:
        result = await sandbox.run(python(ASSERT, changed(fake[1])))
        assert not result.passed, result
        if fake[0] not in ("exit hook", "excepthook"):
            assert result.ending is Ending.CUT_SHORT, result

    @pytest.mark.parametrize("forger", FORGERS.items(), ids=lambda item: item[0])
    async def test_attack_31_a_nonce_that_is_looked_for_proves_nothing(
        self, sandbox: Sandbox, forger: tuple[str, str]
    ) -> None:
        """Each finds the nonce among what it reaches, writes the proof and ends with 0 (or would, were it there)."""
        result = await sandbox.run(python(ASSERT, changed(FORGE + forger[1])))
        assert not result.passed, result

    async def test_attack_31_an_honest_use_of_the_collector_costs_nothing(self, sandbox: Sandbox) -> None:
        body = "import gc\nfrom pkg.core import add\nassert add(2, 3) == 5 and len(gc.get_objects()) > 9\n"
        assert (await sandbox.run(python(body, FIX))).passed

    async def test_attack_31_no_other_process_of_a_job_holds_a_secret(self, sandbox: Sandbox) -> None:
        """Whatever the candidate's user may read of other processes, memory and descriptors included."""
        body = (
            "import glob, os, re\n"
            "for folder in glob.glob('/proc/[0-9]*'):\n"
            "    if folder == '/proc/%d' % os.getpid(): continue\n"
            "    try:\n"
            "        maps = open(folder + '/maps').read()\n"
            "        memory = open(folder + '/mem', 'rb', 0)\n"
            "    except OSError: continue\n"
            "    for low, high in re.findall('^([0-9a-f]+)-([0-9a-f]+) rw', maps, re.M):\n"
            "        try:\n"
            "            memory.seek(int(low, 16))\n"
            "            data = memory.read(int(high, 16) - int(low, 16))\n"
            "        except (OSError, ValueError, OverflowError): continue\n"
            "        for word in set(re.findall(rb'(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])', data)):\n"
            "            for number in range(3, 9):\n"
            "                for line in (word + b' 0\\n', word + b' status 0 0 0\\n'):\n"
            "                    for place in (folder + '/fd/%d' % number, '/proc/self/fd/%d' % number):\n"
            "                        try: os.write(os.open(place, os.O_WRONLY), line)\n"
            "                        except OSError: pass\n"
            "def add(a, b): os._exit(0)\n"
        )
        result = await sandbox.run(python(ASSERT, changed(body)))
        assert not result.passed, result

    @pytest.mark.parametrize(
        "path", ["sitecustomize.py", "usercustomize.py", "src/sitecustomize.py", "os.py", "encodings/x.py"]
    )
    async def test_attack_25_nothing_of_the_candidate_runs_before_the_test(self, sandbox: Sandbox, path: str) -> None:
        change = FileChange(path=path, text="import posix\nposix._exit(0)\n")
        result = await sandbox.run(python("raise SystemExit(5)", change))
        assert (result.ending, result.exit_code) == (Ending.EXITED, 5)

    async def test_attack_25_conftest_and_edited_tests_are_not_applied(self, sandbox: Sandbox) -> None:
        changes = (
            FileChange(path="conftest.py", text="import os; os._exit(0)\n"),
            FileChange(path="tests/test_core.py", text="def test_add(): pass\n"),
            FileChange(path="tests/test_more.py", text="def test_more(): pass\n"),
        )
        text = "test ! -e conftest.py && test -e tests/test_more.py && grep -q 'add(2, 3) == 5' tests/test_core.py"
        result = await sandbox.run(SandboxJob(test=Test(path="t.sh", text=text), changes=changes, timeout=PATIENCE))
        assert result.passed, result

    async def test_attack_25_the_repositorys_own_tests_prove_their_end_too(self, sandbox: Sandbox) -> None:
        own = ("python3", "-m", "unittest", "tests.test_unit")
        body = "def test(self):\n        from pkg.core import add\n        self.assertEqual(add(2, 3), 5)\n"
        text = f"import unittest\nclass A(unittest.TestCase):\n    {body}"
        test = FileChange(path="tests/test_unit.py", text=text)
        assert (await sandbox.run(command(*own, changes=(FIX, test)))).passed
        assert (await sandbox.run(command(*own, changes=(test,)))).exit_code == 1
        faked = await sandbox.run(command(*own, changes=(test, changed("import os; os._exit(0)"))))
        assert faked.ending is Ending.CUT_SHORT

    async def test_attack_25_the_script_cannot_be_rewritten(self, sandbox: Sandbox) -> None:
        body = "open(__file__, 'w')"
        result = await sandbox.run(python(f"import os, pathlib\ntry: {body}\nexcept OSError: print('refused')\n"))
        assert self.script_may_be_written or result.output == "refused\n"

    script_may_be_written = False  # a plain process can't keep a file from its own user


def running(token: str) -> list[int]:
    """Processes of this machine (those in containers too) with the token among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if token.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
