"""A file of tests with one more test, which must fail, for runners of tests that a config names. Pure.

What such a runner (jest, mocha, vitest, `node --test`, `cargo test`, `go test`) says is said by the process that the
candidate shares: it may end it with 0, or replace `expect`. A run that ends well with a test that can't hold proves
nothing about the others.
"""

import re
import secrets
from pathlib import PurePosixPath

_ENDINGS = (".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx")
_CALLED = re.compile(r"(?:^|[;{}])[ \t]*(?:await[ \t]+)?(test|it)(?:\.\w+)*\(", re.MULTILINE)
_CHECKS = re.compile(r"\bexpect\([^\n]{0,500}?\)((?:\.(?:to|be|deep))*\.(?:toBe|toEqual|toStrictEqual|equal|eql|eq))\(")
_ASSERTS = re.compile(r"\b(assert\.(?:strictEqual|equal|deepStrictEqual|deepEqual|is|same))\(")
_RUST_TEST = re.compile(r"^#\[test\]", re.MULTILINE)
_GO_TEST = re.compile(r"^func Test\w*\(\w+ \*testing\.T\)", re.MULTILINE)


def with_failing(path: str, text: str) -> str | None:
    """The file with the test; None where it is not known how its tests are written."""
    ending, name = PurePosixPath(path.lower()).suffix, f"troop{secrets.token_hex(4)}"
    if ending == ".rs" and _RUST_TEST.search(text):
        return f"{text.rstrip()}\n\n#[test]\nfn {name}() {{\n    panic!();\n}}\n"
    if ending == ".go" and _GO_TEST.search(text):
        return f"{text.rstrip()}\n\nfunc Test_{name}(t *testing.T) {{\n\tt.FailNow()\n}}\n"
    return _javascript(text) if ending in _ENDINGS else None


def _javascript(text: str) -> str | None:
    found = _CALLED.search(text)
    if found is None or re.search(r"\b(?:test|it)\.only\(", text):
        return None
    one, other = f'"{secrets.token_hex(4)}"', f'"{secrets.token_hex(4)}"'
    controls = [f"() => expect({one}){how}({other})" for how in dict.fromkeys(_CHECKS.findall(text))]
    controls += [f"() => {name}({one}, {other})" for name in dict.fromkeys(_ASSERTS.findall(text))]
    held = (
        "{ let held = 0; for (const one of [" + ", ".join(controls) + "]) { try { one(); held += 1; } catch (_) {} } "
    )
    return f"{text.rstrip()}\n;{found[1]}({one}, () => {held}if (held === 0) throw new Error({other}); }});\n"
