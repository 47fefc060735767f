"""Changes of files in git's binary format, which `git apply` takes whatever bytes they have. Pure.

A copy of what the beginning and the end have in common, and the bytes in between: see `patch-delta.c` and `base85.c`
of git. The ids of the old and the new content, which git asks for, are those of SHA-1 repositories.
"""

import base64
import hashlib
import zlib

_NONE = "0" * 40
_A_LINE = 52  # bytes
_COPIED, _INSERTED = 0xFFFF, 127  # bytes of one instruction at most


def binary_diff(old: bytes, new: bytes | None, mode: str) -> str:
    """What follows `diff --git a/PATH b/PATH`: from the old to the new content; None: the file is deleted."""
    head = f"deleted file mode {mode}\n" if new is None else ""
    index = f"index {_id(old)}..{_NONE if new is None else _id(new)}" + ("" if new is None else f" {mode}")
    if new is None:
        return f"{head}{index}\nGIT binary patch\nliteral 0\n{_encoded(b'')}\n"
    delta = _delta(old, new)
    return f"{index}\nGIT binary patch\ndelta {len(delta)}\n{_encoded(delta)}\n"


def _id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _encoded(data: bytes) -> str:
    packed = zlib.compress(data)
    return "".join(_line(packed[at : at + _A_LINE]) for at in range(0, len(packed), _A_LINE))


def _line(part: bytes) -> str:
    length = chr(ord("A") + len(part) - 1) if len(part) <= 26 else chr(ord("a") + len(part) - 27)
    return length + base64.b85encode(part, pad=True).decode() + "\n"


def _delta(old: bytes, new: bytes) -> bytes:
    shorter = min(len(old), len(new))
    head = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    tail = next((i for i in range(shorter - head) if old[-1 - i] != new[-1 - i]), shorter - head)
    middle = new[head : len(new) - tail]
    inserted = (middle[at : at + _INSERTED] for at in range(0, len(middle), _INSERTED))
    return b"".join(
        [_size(len(old)), _size(len(new)), _copy(0, head), *(bytes([len(part)]) + part for part in inserted),
         _copy(len(old) - tail, tail)]
    )  # fmt: skip


def _copy(start: int, count: int) -> bytes:
    made = b""
    for at in range(start, start + count, _COPIED):
        length = min(_COPIED, start + count - at)
        made += b"\xbf" + at.to_bytes(4, "little") + length.to_bytes(2, "little")
    return made


def _size(number: int) -> bytes:
    made = b""
    while number >= 0x80:
        made += bytes([number & 0x7F | 0x80])
        number >>= 7
    return made + bytes([number])
