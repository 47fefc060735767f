"""A shell script whose good end is told by an exit code, and by no other. Pure.

What the script loads shares its process: it may end it, trap its end, replace `test` or `[` by a function or an alias,
switch off `set -e`, skip commands by a DEBUG trap, or keep variables and functions from being set. So the script is
given a function, under a name drawn by lot, through which its last statement and its own `exit 0` go: where the status
is 0 and none of that happened, it ends with the code. In POSIX mode no function stands before a special builtin, and
behind a backslash no alias does. The script's file is removed first, so that nothing reads the code from it, and the
function has other codes beside the one that counts.
"""

import re
import secrets
from collections.abc import Iterator

SHELLS = ("sh", "bash", "dash", "ash", "ksh", "mksh")
CODES = range(40, 110)  # which mean nothing to a shell
LONGEST = 2_000  # characters before an exit in its line: each exit looks at them all
_JUDGING = ("test", "[", "exit", "false", "eval", "set", "return")  # no library has functions of these names
_READING = ("read", "printf", "mapfile", "readarray", "let", "true")  # these, where the script uses them
_HEREDOC = re.compile(r"<<-?[ \t]*(?:\\?([\w.]+)|'([^'\n]+)'|\"([^\"\n]+)\")")
_EXIT = re.compile(r"(?<![\w$-])exit(?![\w=-])")
_BEGINS_WITH_EXIT = re.compile(r"[ \t]*exit\b")
_BEFORE = re.compile(r"(?:^|&&|\|\||[;{)]|\b(?:then|else|do))[ \t]*$")  # in its line
_STATUS = r"(?:\$\(\([^\n]*?\)\)|\$\{[^}\n]*\}|[^\s;&|{}()#])*"
_AFTER = re.compile(rf"[ \t]*({_STATUS})[ \t]*(?:$|[;}}#])", re.M)
_FAILING = re.compile(r"[ \t]+[1-9]\d*[ \t]*(?:$|[;}&|)#])", re.M)
# Processes of its own may end with 0 without ending the script.
_APART = re.compile(
    r"(?:\bdone|\bfi|\}|\besac)[ \t]*[|&](?![|&])|(?<!\|)\|[ \t\n]*(?:while|until|for|if|case|\{)|\([ \t]*$", re.M
)
# It ends itself, or a harness for tests does so.
_ENDS = re.compile(
    r"\b(?:shunit2?|sharness|test_done|bats|bashunit|bash_unit|assert_end|shellspec)\b"
    r"|\b(?:builtin|command)[ \t]+(?:exit|exec)\b|\b(?:eval|trap)\b[^\n]*\bexit\b|\bset[ \t]+-[a-z]*n"
)
_EXEC = re.compile(r"(?:^|[;&|{(]|\bthen|\belse|\bdo)[ \t]*exec[ \t]+(?!\d*[<>]|\{)", re.M)
_READS_ITSELF = re.compile(
    r"\b(?:cat|sed|awk|grep|tail|head|cp|bash|sh|exec|source|wc)\b[^\n]*(?:\$0|\$\{0|BASH_SOURCE)|<[ \t]*\"?\$0"
)
_STRICT = re.compile(r"^#![^\n]*\s-[a-z]*e|^[ \t]*set[ \t]+(?:-[a-z]+[ \t]+)*(?:-[a-z]*e|-o[ \t]+errexit)", re.M)
_LAX = re.compile(r"\bset[ \t]+(?:\+[a-z]*e|\+o[ \t]+errexit)")
_FUNCTION = re.compile(r"^[ \t]*(?:function[ \t]+([\w-]+)|([\w-]+)[ \t]*\(\))", re.M)
_ASSIGNED = re.compile(r"(?:^|;|\bthen|\bdo|\belse|\|\||&&)[ \t]*([A-Za-z_]\w*)=", re.M)
_FIXED = re.compile(r"\b(?:readonly|declare|typeset|local)\b")
_WORD = re.compile(r"(?<![\w$-])(?:\[\[?(?=\s)|[A-Za-z_][\w-]*)")
_CONTROLS = {  # what must not hold, where the script uses the word; with two words that are not the same
    "[[": "[[ {0} == {1} ]] || [[ x{0} == X{0} ]]",
    "grep": "grep -q {0} <<{2}\n{1}\n{2}\n",
    "diff": "diff /dev/null - <<{2}\n{1}\n{2}\n",
    "cmp": "cmp -s /dev/null - <<{2}\n{1}\n{2}\n",
    "expr": "expr {0} = {1}",
}


def with_end(text: str, code: int, *, bash: bool = False) -> str | None:
    """The script; None where it can't be told whether it ends itself. `bash`: whether bash runs it."""
    plain = _plain(text)
    if plain is None or _ENDS.search(text) or _EXEC.search(plain):
        return None
    name = f"troop_{secrets.token_hex(4)}"
    ended = _through(text, plain, name)
    if ended is None:
        return None
    shebang, rest = ended.split("\n", 1) if ended.startswith("#!") and "\n" in ended else ("", ended)
    first = [shebang] if shebang else []
    remove = [] if _READS_ITSELF.search(text) else ['rm -f -- "$0" 2>/dev/null']
    last = [f"{name}=$?", f"case $(\\trap) in *DEBUG*) {name}=1;; esac", f'{name} "${name}"']
    if "DEBUG" in text:
        del last[1]
    return "\n".join([*first, *remove, *_function(name, text, plain, code, bash), rest.rstrip(), *last, ""])


def _plain(text: str) -> str | None:
    """The script with dots for what is quoted, and spaces for comments and here-documents; None where that can't be
    told, or where a quoted line begins with an `exit` that is somebody else's."""
    found, quote, waiting = list(text), "", list[tuple[str, int]]()
    at = 0
    while at < len(text):
        letter = text[at]
        if letter == "\\" and quote != "'":
            at += 2
            continue
        if letter == "\n" and not quote and waiting:
            end = _behind(text, at + 1, [word for word, _ in waiting])
            if end < 0:
                return None
            found[at + 1 : end] = [one if one == "\n" else " " for one in text[at + 1 : end]]
            at, waiting = end, []
            continue
        if quote:
            if letter == quote:
                quote = ""
            elif letter == "\n" and _BEGINS_WITH_EXIT.match(text, at + 1):
                return None
            elif letter != "\n":
                found[at] = "."
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (at == 0 or text[at - 1] in " \t\n;&|()"):
            end = text.find("\n", at)
            end = len(text) if end < 0 else end
            found[at:end] = " " * (end - at)
            at = end
            continue
        elif text.startswith("<<", at) and (here := _HEREDOC.match(text, at)) and text[at - 1 : at] != "<":
            waiting.append((here[1] or here[2] or here[3], at))
            at = here.end()
            continue
        at += 1
    return None if quote or waiting else "".join(found)


def _behind(text: str, at: int, delimiters: list[str]) -> int:
    """Where the here-documents that begin there are over; -1 where one is not."""
    for delimiter in delimiters:
        found = re.compile(rf"^[ \t]*{re.escape(delimiter)}$", re.M).search(text, at)
        if found is None:
            return -1
        at = found.end()
    return at


def _through(text: str, plain: str, name: str) -> str | None:
    """The script with its good exits through that function; None where one is not understood."""
    parts, last = [], 0
    apart = _APART.search(plain) is not None
    for found in _EXIT.finditer(plain):
        if _FAILING.match(plain, found.end()):
            continue
        line = plain[plain.rfind("\n", 0, found.start()) + 1 : found.start()]
        if apart or len(line) > LONGEST or not _BEFORE.search(line) or not _AFTER.match(plain, found.end()):
            return None
        parts += [text[last : found.start()], name]
        last = found.end()
    return "".join([*parts, text[last:]])


def _function(name: str, text: str, plain: str, code: int, bash: bool) -> Iterator[str]:
    """The lines of the function."""
    others = [one for one in CODES if one != code]

    def bad() -> str:
        return f"\\exit {secrets.choice(others)}"

    words = dict.fromkeys(_WORD.findall(plain))
    own = {found[1] or found[2] for found in _FUNCTION.finditer(plain)}
    yield f"{name}() {{"
    yield f"{name}=${{1-$?}}"
    yield f'case ${name} in 0) ;; *) \\exit "${name}";; esac'
    if bash:  # who finds its name calls it from another file, or in a trap, whose line is the first
        yield f'case ${{BASH_SOURCE[1]-}} in "$0") ;; *) {bad()};; esac'
        yield f"case $((BASH_LINENO[0] > 9)) in 1) ;; *) {bad()};; esac"
    yield "POSIXLY_CORRECT=1"
    yield f"\\unset -f type alias || {bad()}"
    if _STRICT.search(text) and not _LAX.search(text):
        yield f"case $- in *e*) ;; *) {bad()};; esac"
    if bash and "pipefail" in plain and "+o pipefail" not in plain:
        yield f"[[ -o pipefail ]] || {bad()}"
    for word in (*_JUDGING, *(one for one in _READING if one in words)):
        if word in own:
            continue
        # From bash 5.3 on, `type` tells of no function that stands behind a special builtin in POSIX mode.
        type_of = f"$(\\unset POSIXLY_CORRECT; \\type {word} 2>&1)"
        yield f"case {type_of} in *function*|*alias*) {bad()};; *builtin*) ;; *) {bad()};; esac"
    if "alias" not in words:
        yield f"for {name} in {' '.join(words)}; do"
        yield f'case $(\\alias "${name}" 2>/dev/null) in "") ;; *=*"${name}"*) ;; *) {bad()};; esac'
        yield "done"
    if not _FIXED.search(plain):
        for variable in dict.fromkeys(found[1] for found in _ASSIGNED.finditer(plain)):
            yield f'{variable}="${{{variable}-}}"'
    for function in own:
        yield f"\\unset -f {function} || {bad()}"
    for word, control in _CONTROLS.items():
        if word in words and word not in own:
            one, other = secrets.token_hex(6), secrets.token_hex(6)
            condition = control.format(f"a{one}", f"b{other}", f"e{one}")
            line, newline, rest = condition.partition("\n")
            yield f"if {line} >/dev/null 2>&1{newline}{rest.rstrip()}"
            yield f"then {bad()}; fi"
    yield f"\\exit {code}"
    yield "}"
