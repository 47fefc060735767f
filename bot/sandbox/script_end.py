"""A test script that ends with a code where it ended well, in languages other than shells. Pure.

Its last statement, and its own exits with the status 0, go through a function that ends it with the code: not where the
script did not reach its end, nor where what it judges by was replaced meanwhile. The functions are in `ends/`.
"""

import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bot.sandbox.script_command import BESIDE
from bot.sandbox.shell_end import CODES, LONGEST

_ENDS = Path(__file__).parent / "ends"
_PLACE = re.compile(r"@([A-Z]+)@")
_PERL_EXIT = re.compile(r"(?<![\w:>$@%&{'-])exit(?!\w|\s*=>|')")
_PERL_BEFORE = re.compile(r"(?:^|[;{}?:(]|&&|\|\||\b(?:or|and|then|else|do))\s*$")
_PHP_EXIT = re.compile(r"(?<![\w:>$\\])(?<!function )(?:exit|die)\b")
# It reads or starts itself, so that its file stays.
_RUBY_ITSELF = re.compile(
    r"\bDATA\b|(?:read|open|realpath|system|spawn|popen\w*|load)\b[^\n]*(?:__FILE__|\$0|PROGRAM_NAME)"
)
_PERL_ITSELF = re.compile(r"(?:open|system|exec|qx|`)[^\n]*(?:\$0|__FILE__)|FindBin")
_TYPESCRIPT_ITSELF = re.compile(r"\b__filename\b|\bimport\.meta\b|\bargv\b")
_PHP_ITSELF = re.compile(
    r"(?:file|open|exec|system|read|include|require)\w*\b[^\n]*(?:__FILE__|argv\[0\]|SCRIPT_FILENAME)"
)
PHP_HEAD = re.compile(
    r"(?:#![^\n]*\n)?<\?php\s+(?:(?:/\*(?:[^*]|\*(?!/))*\*/|//[^\n]*\n|#[^\n]*\n|declare\s*\([^)]*\)\s*;|namespace\s+[\w\\]+\s*;)\s*)*"
)
_COMMENT = re.compile(r"^\s*(?:#|//|--|\*)")
_FAILING = re.compile(r"\s*+\(?\s*+[1-9]\d*+\s*+(?:\)\s*+)?(?:;|$|\bif\b|\bunless\b|\})")
_ASSERT = r"import\s+(?:\*\s+as\s+)?(\w+)\s+from\s+[\"'](?:node:)?assert(?:/strict)?[\"']"
_STRICT = r"import\s+\{\s*strict\s+as\s+(\w+)\s*\}\s+from\s+[\"'](?:node:)?assert[\"']"
_GO_MAIN = re.compile(r"^func main\(\)", re.MULTILINE)
_GO_PACKAGE = re.compile(r"^package[ \t]+main\b.*$", re.MULTILINE)
_USUAL = {
    **{"ruby": ".rb", "perl": ".pl", "php": ".php", "lua": ".lua", "tclsh": ".tcl"},
    **{"Rscript": ".r", "julia": ".jl", "elixir": ".exs"},
}
_SIMPLE = {  # the last statement, and what tells that the script ends itself
    ".tcl": (
        "exit [expr {{[llength [concat [info procs if] [info procs error] [info procs exit]]] ? 1 : {}}}]",
        r"\bexit\b(?!\s+[1-9])",
    ),
    ".r": ("quit(status = {})", r"\b(?:quit|q)\((?!.*status\s*=\s*[1-9])"),
    ".jl": ("exit({})", r"\bexit\((?!\s*[1-9])"),
    # ExUnit runs its tests behind the last statement.
    ".exs": ("System.halt({})", r"\b(?:System\.(?:halt|stop)\b(?![\s(]*[1-9])|ExUnit\.start)"),
}


def with_end(ending: str, text: str, code: int, changed: Sequence[str]) -> str | None:
    """The script; None where it can't be told whether it ends itself.

    `ending`: of the file's name, which tells the language. `changed`: the paths of the candidate's files.
    """
    if ending in _SIMPLE:
        statement, ends_itself = _SIMPLE[ending]
        return None if re.search(ends_itself, text, re.MULTILINE) else f"{text.rstrip()}\n{statement.format(code)}\n"
    made = {".rb": _ruby, ".pl": _perl, ".php": _php, ".lua": _lua, ".ts": _typescript, ".go": _go}.get(ending)
    return None if made is None else made(text, code, changed)


def filled(name: str, function: str, code: int, **more: str) -> str:
    """A file of `ends/` for this function and code."""
    other = secrets.choice([one for one in CODES if one != code])
    values = {"NAME": function, "CODE": str(code), "OTHER": str(other), **more}
    return _PLACE.sub(lambda found: values[found[1]], (_ENDS / name).read_text())


def _said(pattern: re.Pattern[str], text: str) -> str:
    return "true" if pattern.search(text) else "false"


def _name() -> str:
    return f"troop_{secrets.token_hex(4)}"


def _quoted(changed: Sequence[str]) -> str:
    """Ends of paths, as Perl and Ruby write texts."""
    return ", ".join("'" + f"/{path}".replace("\\", "\\\\").replace("'", "\\'") + "'" for path in changed)


def _behind_comments(text: str, first: str) -> str:
    """The script with that in front, behind what must come before all else: a shebang, an encoding."""
    lines = text.split("\n")
    at = next((n for n, line in enumerate(lines) if not line.startswith("#")), 0)
    return "\n".join([*lines[:at], first, *lines[at:]])


def _through(text: str, exit_: re.Pattern[str], before: re.Pattern[str] | None, name: str) -> str | None:
    """The script with its exits through the function of that name; None where one of them is not understood."""
    parts, last = [], 0
    for found in exit_.finditer(text):
        line = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
        if len(line) > LONGEST:
            return None
        if _COMMENT.search(line) or _FAILING.match(text, found.end()):
            continue
        quoted = line.count("'") % 2 or line.count('"') % 2 or line.count("`") % 2
        if quoted:
            continue
        if before is not None and not before.search(line):
            return None
        parts += [text[last : found.start()], name]
        last = found.end()
    return "".join([*parts, text[last:]])


def _ruby(text: str, code: int, changed: Sequence[str]) -> str | None:
    if re.search(r"^__END__|^=begin|\bat_exit\b|\bexit!", text, re.MULTILINE):
        return None
    name = _name()
    begin = filled("end.rb", name, code, CHANGED=f"[{_quoted(changed)}]", STAYS=_said(_RUBY_ITSELF, text))
    return f"{_behind_comments(text.rstrip(), begin.rstrip())}\n{name}.call\n"


def _perl(text: str, code: int, changed: Sequence[str]) -> str | None:
    if re.search(r"^__(?:END|DATA)__|^=\w|^package\s", text, re.MULTILINE):
        return None
    name = _name()
    ended = _through(text.rstrip(), _PERL_EXIT, _PERL_BEFORE, name)
    filters = "1" if re.search(r"\bFilter\b|\bSwitch\b", text) else "0"
    stays = "1" if _PERL_ITSELF.search(text) else "0"
    begin = filled("end.pl", name, code, CHANGED=_quoted(changed), STAYS=stays, FILTERS=filters)
    return None if ended is None else f"{_behind_comments(ended, begin.rstrip())}\n;${name}->(1, 0);\n"


def _php(text: str, code: int, _: Sequence[str]) -> str | None:
    text = re.sub(r"\?>\s*\Z", "", text).rstrip()
    in_braces = re.search(r"^[^\S\n]*namespace\b[^;{]{0,500}\{", text, re.MULTILINE)
    if "?>" in text or "__halt_compiler" in text or in_braces:
        return None
    name = _name()
    ended = _through(text, _PHP_EXIT, None, name)
    if ended is None:
        return None
    if not _PHP_ITSELF.search(text) and (head := PHP_HEAD.match(ended)):
        ended = f"{head[0]}@\\unlink(__FILE__);{ended[head.end() :]}"
    asserts = re.search(r"(?<![\w>:$])assert\(", text) and not re.search(r"assert\.|assert_options", text)
    ended = re.sub(rf"({name})(?=\s*(?:;|$))", r"\1()", ended, flags=re.MULTILINE)
    return ended + "\n" + filled("end.php", name, code, ASSERTS="true" if asserts else "false")


def _lua(text: str, code: int, _: Sequence[str]) -> str | None:
    if re.search(r"^return\b", text, re.MULTILINE):
        return None
    name = _name()
    ended = re.sub(r"\bos\.exit\b(?=\s*\()", name, text.rstrip())
    if "os.exit" in ended:
        return None
    begin = filled("end.lua", name, code).rstrip()
    if "arg[0]" not in text:
        begin = f"os.remove(arg[0])\n{begin}"
    return f"{_behind_comments(ended, begin)}\n{name}()\n"


def _typescript(text: str, code: int, _: Sequence[str]) -> str | None:
    name = _name()
    ended = re.sub(r"\bprocess\.exit\b(?=\s*\()", name, text.rstrip())
    if re.search(r"\bprocess\.(?:exit\b|reallyExit|abort|kill)|\bexit\b.{0,500}\bfrom\b", ended):
        return None
    of_assert = re.search(_ASSERT, text) or re.search(_STRICT, text)
    one, other = json.dumps(secrets.token_hex(4)), json.dumps(secrets.token_hex(4))
    used = [
        method
        for method in ("strictEqual", "equal", "deepStrictEqual", "deepEqual")
        if of_assert and f"{of_assert[1]}.{method}(" in text
    ]
    controls = [f"() => {of_assert[1]}.{method}({one}, {other})" for method in used] if of_assert else []
    if of_assert and f"{of_assert[1]}.ok(" in text:
        controls.append(f"() => {of_assert[1]}.ok(false)")
    stays = _TYPESCRIPT_ITSELF.search(text) is not None
    same = f"const {name}_same = () => true;" if stays else f'import {name}_same from "{BESIDE}unseen.cjs";'
    begin = filled("begin.ts", name, code, SAME=same).rstrip()
    return _behind_comments(ended, begin) + "\n" + filled("end.ts", name, code, CONTROLS=", ".join(controls))


def _go(text: str, code: int, _: Sequence[str]) -> str | None:
    main, package = _GO_MAIN.search(text), _GO_PACKAGE.search(text)
    if main is None or package is None:
        return None
    rest = text[package.end() : main.start()] + "func troopMain()" + text[main.end() :]
    rest = re.sub(r"(?<![\w.])os\.Exit(?=\()", "troopExit", rest)
    if "Exit(0)" in rest.replace("troopExit(", ""):
        return None
    # Its text is not there to be read by what it calls.
    remove = (
        "\t_, file, _, _ := troopRuntime.Caller(0)\n\ttroopOS.Remove(file)\n" if "runtime.Caller" not in text else ""
    )
    imports = 'import troopRuntime "runtime"\n' if remove else ""
    uses = "\nvar _ = os.Exit\n" if "troopExit" in rest else ""
    end = (
        f"\nfunc troopExit(code int) {{\n\tif code == 0 {{\n\t\tcode = {code}\n\t}}\n\ttroopOS.Exit(code)\n}}\n{uses}"
        f"\nfunc main() {{\n{remove}\ttroopMain()\n\ttroopExit(0)\n}}\n"
    )
    return f'{text[: package.end()]}\n\nimport troopOS "os"\n{imports}{rest}{end}'


def ending_of(program: str, path: str) -> str:
    """The usual ending of scripts of the program; that of the path where there is none."""
    return _USUAL.get(program, PurePosixPath(path.lower()).suffix)
