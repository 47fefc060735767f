"""Which tests do not pass under a runner that prints a line for each, `test_b ok`, as SymPy's `bin/test` does.

Executed inside a sandbox, never imported. Standard library only, Python 3.5+.
"""

import subprocess
import sys


def lacking(wanted: "list[str]", argv: "list[str]") -> "list[str]":
    ran = subprocess.Popen([sys.executable, *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = ran.communicate()[0].decode("utf-8", "replace")
    print(output)
    passed = {}
    for words in map(str.split, output.splitlines()):
        if len(words) > 1 and words[0].startswith("test_"):
            passed[words[0]] = words[1] == "ok"  # behind a file's last test is what became of the file
    return [name for name in wanted if not passed.get(name)]
