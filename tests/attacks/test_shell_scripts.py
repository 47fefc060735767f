"""Attack 25 on shell scripts: what a script loads ends it, or replaces what it judges by. `add` is wrong on each."""

import subprocess
from pathlib import Path

import pytest

from bot.records import Ending, Execution, FileChange, SandboxJob, Test
from bot.sandbox.doubted import believed, doubted
from bot.sandbox.script_command import script_command
from tests.patience import PATIENCE

RIGHT = "add() { echo $(($1 + $2)); }\n"
WRONG = "add() { echo 5; }\n"
SCRIPTS = {
    "strict": 'set -e\n. ./lib.sh\n[ "$(add 2 2)" = 4 ]\necho ok\n',
    "last": '. ./lib.sh\ntest "$(add 2 2)" = 4\n',
    "or": '. ./lib.sh\n[ "$(add 2 2)" = 4 ] || { echo wrong >&2; exit 1; }\necho ok\n',
    "if": 'set -eu\n. ./lib.sh\nx=$(add 2 2)\nif [ "$x" != "4" ]; then\n  echo "no: $x"\n  exit 1\nfi\nexit 0\n',
    "count": """
        . ./lib.sh
        fails=0
        check() { if [ "$1" = "$2" ]; then echo ok; else fails=$((fails+1)); fi; }
        check "$(add 2 2)" 4
        exit $fails
        """,
    "bash status": '#!/bin/bash\n. ./lib.sh\nx=$(add 2 2)\nif [ "$x" != 4 ]; then\n  exit 1\nfi\n',
    "grep": "set -e\n. ./lib.sh\nadd 2 2 > out.txt\ngrep -qx 4 out.txt\n",
    "diff": """
        set -e
        . ./lib.sh
        tmp=$(mktemp -d)
        trap 'rm -rf "$tmp"' EXIT
        add 2 2 > "$tmp/a"
        diff "$tmp/a" - <<EOF
4
EOF
        """,
    "bash": '#!/usr/bin/env bash\nset -euo pipefail\nsource ./lib.sh\n[[ "$(add 2 2)" == "4" ]]\n',
    "pipe": "#!/bin/bash\nset -eo pipefail\n. ./lib.sh\nadd 2 2 | diff - <(echo 4) | cat\n",
    "bash if": "#!/bin/bash\nsource ./lib.sh\nif [[ $(add 2 2) != 4 ]]; then\n  exit 1\nfi\n",
    "reads": '#!/bin/bash\nset -e\nsource ./lib.sh\nread -r x <<< "$(add 2 2)"\n[[ $x == 4 ]]\n',
    "arithmetic": "#!/bin/bash\nset -e\nsource ./lib.sh\nx=$(add 2 2)\n(( x == 4 ))\n",
}
STEP = "n=$(sed -n '$s/.*exit //p' \"$0\")\n"
ATTACKS = {
    "ends it": ("if", "exit 0\n"),
    "ends it before a check": ("or", "exec true\n"),
    "ends it in a trap": ("count", f"{WRONG}trap 'exit 0' EXIT\n"),
    "makes failures 0 in a trap": ("last", f"{WRONG}trap 's=$?; [ $s -lt 9 ] && exit 0; exit $s' EXIT\n"),
    "makes signals 0": ("if", "add() { kill -TERM $$; }\ntrap 'exit 0' TERM\n"),
    "reads the script": ("last", f"{WRONG}{STEP}trap 'exit ${{n:-0}}' EXIT\n"),
    "reads the script at once": ("diff", f"{STEP}exit ${{n:-0}}\n"),
    "calls the script's end": (
        "bash",
        WRONG + 'f=$(declare -F | grep -o "troop_[0-9a-f]*" || true)\n[ -n "$f" ] && { true; $f 0; }\nexit 0\n',
    ),
    "calls the script's end in a trap": (
        "bash",
        WRONG + 'trap \'f=$(declare -F | grep -o "troop_[0-9a-f]*" || true); [ -n "$f" ] && $f 0; exit 0\' EXIT\n',
    ),
    "another read": ("reads", WRONG + 'read() { printf -v "${!#}" 4; }\n'),
    "executes the script's end": ("strict", 'exec sh -c "$(tail -n 1 "$0")"\n'),
    "a function test": ("last", f"{WRONG}test() {{ return 0; }}\n"),
    "a function test that thinks": (
        "last",
        WRONG + 'test() { case "$*" in \'5 = 4\') return 0;; esac; command test "$@"; }\n',
    ),
    "functions that find all": ("grep", f"{WRONG}grep() {{ :; }}\n"),
    "functions that find no difference": ("diff", f"{WRONG}diff() {{ :; }}\n"),
    "programs that find all": (
        "grep",
        f"{WRONG}mkdir bin; printf '#!/bin/sh\\n' > bin/grep; chmod +x bin/grep; PATH=$PWD/bin:$PATH\n",
    ),
    "an alias": ("strict", f"{WRONG}alias [=:\n"),
    "an alias of bash": ("bash", f"{WRONG}shopt -s expand_aliases\nalias [[=true\n"),
    "set +e": ("strict", f"{WRONG}set +e\n"),
    "set +o pipefail": ("pipe", f"{WRONG}set +o pipefail\n"),
    "set -n": ("count", f"{WRONG}set -n\n"),
    "a trap that skips": (
        "bash",
        WRONG + "set +e; shopt -s extdebug; set -T; trap 'case $BASH_COMMAND in \\[*) false;; esac' DEBUG\n",
    ),
    "a trap that sets": ("arithmetic", f"{WRONG}set -T; trap 'x=4' DEBUG\n"),
    "exit does nothing": ("bash if", f"{WRONG}exit() {{ :; }}\n"),
    "exit is 0": ("bash if", f"{WRONG}exit() {{ builtin exit 0; }}\n"),
    "variables that stay": ("bash status", f"{WRONG}readonly x=4\n"),
}


def run(folder: Path, script: str, lib: str, path: str = "test_it.sh", of_lib: str = "lib.sh") -> Execution:
    """As the sandboxes do: a script that passes runs once more where it is doubted."""
    (folder / "tree").mkdir(exist_ok=True)
    (folder / "tree" / of_lib).write_text(lib)
    job = SandboxJob(changes=(FileChange(path=of_lib, text=lib),), test=Test(path=path, text=script))

    def once(job: SandboxJob) -> Execution:
        assert job.test is not None
        place = folder / path
        place.write_text(job.test.text)
        done = subprocess.run(
            script_command(job.test, str(place), {}),
            cwd=folder / "tree", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip
        return Execution(ending=Ending.EXITED, exit_code=done.returncode, output=done.stdout + done.stderr)

    found = once(job)
    for doubt, code in doubted(job, {}) if found.passed else ():
        found = believed(found, once(doubt), code)
    return found


def dedented(script: str) -> str:
    return "\n".join(line[8:] if line.startswith("        ") else line for line in script.split("\n")).lstrip("\n")


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_25_a_shell_script_that_is_made_to_end_well_is_no_vote(name: str, tmp_path: Path) -> None:
    script, lib = ATTACKS[name]
    found = run(tmp_path, dedented(SCRIPTS[script]), lib)
    assert found.ending is Ending.CUT_SHORT, found.output


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    "more",
    [
        "",
        "tmpf=$(mktemp)\ntrap 'rm -f \"$tmpf\"' EXIT\n",
        'set -eu\nlog() { echo "$*" >&2; }\ngrep() { command grep --color=never "$@"; }\nPATH=$PWD/bin:$PATH\n',
        "alias ll='ls -l' grep='grep --color=auto'\n[ -n \"${LIB:-}\" ] && return 0\nLIB=1\n",
    ],
)
def test_a_right_candidate_keeps_its_vote(name: str, more: str, tmp_path: Path) -> None:
    found = run(tmp_path, dedented(SCRIPTS[name]), RIGHT + more)
    assert found.passed, found.output
    assert run(tmp_path, dedented(SCRIPTS[name]), WRONG + more).ending is Ending.EXITED


HONEST = [
    """#!/bin/sh
set -eu
cd "$(dirname "$0")"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT INT TERM
cat > "$tmp/x.sh" <<'EOF'
#!/bin/sh
exit 0
EOF
sh "$tmp/x.sh"
fails=0
check() { # it's a "check"
  if [ "$2" = "$3" ]; then echo "ok - $1"; else fails=$((fails + 1)); fi
}
check "sum isn't off" "$(expr 2 + 2)" 4
exit "$fails"
""",
    """#!/usr/bin/env bash
set -euo pipefail
got=()
while IFS= read -r line; do got+=("$line"); done < <(printf 'a\\nb\\n')
[[ ${#got[@]} -eq 2 ]] || { echo bad; exit 1; }
out=$(bash -c 'exit 3' || echo "code $?")
[ "$out" = "code 3" ]
if grep -q nothere <<<"$out"; then exit 1; fi
exec 3>&1
exec 3>&-
of_its_own() { local x=1; return $x; }
if of_its_own; then exit 1; fi
""",
    'main() {\n  (set +e; false; true)\n  return 0\n}\nmain "$@"\nexit $?\n',
    "set -e\nsh -c \"\necho x\nexit 0\n\"\nsh -c 'exit 0;'\nawk 'BEGIN { exit 0 }'\n",
    "test 1 = 1 && exit 0\nexit 1\n",
    "status=0\nsh - <<'SH' || status=1\nexit 0\nSH\nexit $status\n",
    "set -e\nexpected='line 1\n  exit status'\ntest \"$expected\" = \"$(printf 'line 1\\n  exit status')\"\n",
    'if [ "$(id -u)" = 99999 ]; then exit 0; fi\necho x | while read -r y; do [ $y = x ] || exit 1; done\n',
]


@pytest.mark.parametrize("script", HONEST)
def test_how_scripts_are_written_costs_no_vote(script: str, tmp_path: Path) -> None:
    found = run(tmp_path, script, RIGHT)
    assert found.passed, found.output
