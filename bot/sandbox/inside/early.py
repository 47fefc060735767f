"""`runner.py` for Pythons before 3.8, which have no audit hooks. Standard library only, Python 3.5+.

    python3 early.py REPORT_FD CHANGED_FILE PYTHONPATH SCRIPT              (key and nonce come on standard input)

It proves, in the same lines, that the script reached its end, so that `os._exit(0)`, or `sys.exit(0)` in a changed
file, is no pass. Nothing watches a candidate that looks for the nonce, or changes what the script judges by.
"""

import os
import sys
import traceback


def cut_short(error: SystemExit, changed: "set[str]") -> bool:
    """Whether the exit came through code of a changed file."""
    frames = traceback.walk_tb(error.__traceback__)
    return any(os.path.realpath(frame.f_code.co_filename) in changed for frame, _ in frames)


def execute(script: str, path: str, changed: "set[str]") -> "bytes | int":
    """The script's exit code, or `cut`."""
    main = type(sys)("__main__")
    main.__dict__.update(__builtins__=__builtins__, __file__=script)
    sys.argv[:] = [script]
    sys.path[:1] = [os.path.dirname(script), *filter(None, path.split(os.pathsep))]
    sys.modules["__main__"] = main
    os.environ["PYTHONPATH"] = path  # for the processes that the script starts
    try:
        with open(script, "rb") as file:
            program = compile(file.read(), script, "exec", dont_inherit=True)
        exec(program, main.__dict__)  # noqa: S102 - that is what this file is for
    except SystemExit as error:
        code = error.code
        if code is None or code == 0:
            return b"cut" if cut_short(error, changed) else 0
        if not isinstance(code, int):
            sys.stderr.write(str(code) + "\n")
        return code & 0xFF if isinstance(code, int) else 1
    except BaseException as error:
        below = error.__traceback__ and error.__traceback__.tb_next  # as it would look without us
        sys.excepthook(type(error), error.with_traceback(below), below)
        return 1
    return 0


def main(report: int, changed_file: str, path: str, script: str) -> int:
    owner = os.getpid()
    given = os.read(0, 4096)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    key, nonce = given[:32], given[32:]
    os.set_inheritable(report, False)
    os.write(report, b"\n" + key + b" 0 begin\n")
    with open(changed_file, "rb") as file:
        changed = {os.path.realpath(os.fsdecode(line.partition(b"\t")[0])) for line in file.read().splitlines()}
    code = execute(script, path, changed)
    if os.getpid() != owner:  # a fork that goes on with the script proves nothing
        os._exit(1)
    sys.stdout.flush()
    shown = code if isinstance(code, bytes) else str(code).encode()
    os.write(report, b"\n" + key + b" 1 end\n\n" + nonce + b" " + shown + b" 2\n")
    return 0 if isinstance(code, bytes) else code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
