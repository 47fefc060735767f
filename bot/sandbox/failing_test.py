"""A test file in JavaScript with one more test, which must fail, for runners of tests that a config names. Pure.

What such a runner (jest, mocha, vitest, `node --test`) says is said by the process that the candidate shares: it may
end it with 0, or replace `expect`. A run that ends well with a test that can't hold proves nothing about the others.
"""

import re
import secrets
from pathlib import PurePosixPath

CODE = 1  # with which runners end where one test failed
_ENDINGS = (".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx")
_CALLED = re.compile(r"(?:^|[;{}])[ \t]*(?:await[ \t]+)?(test|it)(?:\.\w+)*\(", re.MULTILINE)
_CHECKS = re.compile(r"\bexpect\([^\n]{0,500}?\)((?:\.(?:to|be|deep))*\.(?:toBe|toEqual|toStrictEqual|equal|eql|eq))\(")
_ASSERTS = re.compile(r"\b(assert\.(?:strictEqual|equal|deepStrictEqual|deepEqual|is|same))\(")


def with_failing(path: str, text: str) -> str | None:
    """The file with the test; None where it is not known how its tests are written."""
    found = _CALLED.search(text)
    if PurePosixPath(path.lower()).suffix not in _ENDINGS or found is None or re.search(r"\b(?:test|it)\.only\(", text):
        return None
    one, other = f'"{secrets.token_hex(4)}"', f'"{secrets.token_hex(4)}"'
    controls = [f"() => expect({one}){how}({other})" for how in dict.fromkeys(_CHECKS.findall(text))]
    controls += [f"() => {name}({one}, {other})" for name in dict.fromkeys(_ASSERTS.findall(text))]
    held = (
        "{ let held = 0; for (const one of [" + ", ".join(controls) + "]) { try { one(); held += 1; } catch (_) {} } "
    )
    return f"{text.rstrip()}\n;{found[1]}({one}, () => {held}if (held === 0) throw new Error({other}); }});\n"
