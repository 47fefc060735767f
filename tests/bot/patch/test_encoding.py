"""Files are edited in their own encoding."""

import codecs
import random
import re
import subprocess
from pathlib import Path

import pytest

from bot.patch.apply import Block, Create, Delete, FileEdit, Problem, Replace, apply, apply_onto
from bot.patch.encoding import decoded, unencodable
from bot.patch.reader import checkout_reader, encoding_of
from bot.records import Patch


@pytest.mark.parametrize(
    ("raw", "text", "encoding"),
    [
        (b"", "", "utf-8"),
        ("é\r\n".encode(), "é\r\n", "utf-8"),
        ("José\n".encode("latin-1"), "José\n", "iso8859-1"),
        ("José said “no”\n".encode("cp1252"), "José said “no”\n", "cp1252"),
        ("# -*- coding: euc-jp -*-\nx = '日本'\n".encode("euc-jp"), "# -*- coding: euc-jp -*-\nx = '日本'\n", "euc_jp"),
        ("#!/usr/bin/python\n# vim: set fileencoding=cp1251 :\nx = 'да'\n".encode("cp1251"), None, "cp1251"),
        ('<?xml version="1.0" encoding="ISO-8859-2"?>\n<a>ž</a>\n'.encode("iso8859-2"), None, "iso8859-2"),
        (b"# -*- coding: latin-1 -*-\nx = 1\n", None, "iso8859-1"),  # what is added is read so
        (b'encoding = "latin-1"\nx = 1\n', None, "utf-8"),
        ("# coding: rot13\nx = 'é'\n".encode("latin-1"), None, "iso8859-1"),
        ("\ufeffx = 'é→'\r\n".encode("utf-16-le"), "\ufeffx = 'é→'\r\n", "utf-16-le"),
        ("\ufeffx = '日本 😀'\n".encode("utf-16-be"), "\ufeffx = '日本 😀'\n", "utf-16-be"),
        ("\ufeffx = 1\n".encode("utf-32-le"), "\ufeffx = 1\n", "utf-32-le"),
        (codecs.BOM_UTF16_LE, "\ufeff", "utf-16-le"),
        ("# coding: nothing-8859\nx = 'é'\n".encode("latin-1"), None, "iso8859-1"),
    ],
)
def test_encodings(raw: bytes, text: str | None, encoding: str) -> None:
    found = decoded(raw)
    assert found is not None
    assert found[1] == encoding
    assert text is None or found[0] == text
    assert found[0].encode(encoding) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"a\0b",
        bytes(range(128, 160)) * 9,
        "x = 1\n".encode("utf-16-le"),  # nothing says that it is text
        codecs.BOM_UTF16_LE + b"odd",
        codecs.BOM_UTF16_LE + "a\0b".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + b"\xd8\x00" * 9,
        codecs.BOM_UTF16_LE + "\1\2ab".encode("utf-16-le") * 9,
        codecs.BOM_UTF16_LE + random.Random(1).randbytes(600),
    ],
)
def test_binary_files_have_none(raw: bytes) -> None:
    assert decoded(raw) is None


def test_what_an_encoding_has_no_bytes_for() -> None:
    assert unencodable("aé→", "iso8859-1") == "→"
    assert unencodable("aé→", "utf-8") == ""


LATIN = "# -*- coding: latin-1 -*-\nNAME = 'José'\n\n\ndef greet():\n    return 'Olá ' + NAME\n"


def replace(search: str, new: str) -> FileEdit:
    return Replace(path="m.py", blocks=(Block(search=search, replace=new),))


@pytest.mark.parametrize(
    ("edit", "was", "becomes"),
    [
        (replace("NAME = 'José'", "NAME = 'José Müller'"), "José", "José Müller"),
        (replace("    return 'Olá ' + NAME", "    return 'Olá, ' + NAME"), "Olá", "Olá,"),
        (Create(path="m.py", text=LATIN.replace("Olá", "Até")), "Olá", "Até"),
    ],
)
def test_a_latin_1_file_stays_one(tmp_path: Path, edit: FileEdit, was: str, becomes: str) -> None:
    (tmp_path / "m.py").write_bytes(LATIN.encode("latin-1"))
    patch = apply([edit], checkout_reader(tmp_path), encoding=encoding_of(tmp_path))
    assert isinstance(patch, Patch), patch
    assert patch.changes[0].content == LATIN.replace(was, becomes).encode("latin-1")
    further = apply_onto(patch, [replace("def greet():", "def greet(ñ=0):")], checkout_reader(tmp_path))
    assert isinstance(further, Patch), further
    assert further.changes[0].content == LATIN.replace(was, becomes).replace("()", "(ñ=0)").encode("latin-1")
    assert Patch.model_validate_json(further.model_dump_json()) == further


def test_a_character_that_the_file_can_not_hold_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_bytes(LATIN.encode("latin-1"))
    edit = replace("NAME = 'José'", "NAME = 'José → Ana'")
    found = apply([edit], checkout_reader(tmp_path), encoding=encoding_of(tmp_path))
    assert found == Problem(text="m.py can't hold '→'\nThe file's encoding is iso8859-1: write the edit without it.")


def test_a_new_file_is_utf_8(tmp_path: Path) -> None:
    patch = apply([Create(path="n.py", text="x = 'é'")], checkout_reader(tmp_path), encoding=encoding_of(tmp_path))
    assert isinstance(patch, Patch), patch
    assert patch.changes[0].content == "x = 'é'\n".encode()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_utf_16_file_stays_one_with_its_mark_and_line_ends(tmp_path: Path, encoding: str, end: str) -> None:
    text = "\ufeffname = 'José'\n\n\ndef greet():\n    return 'Olá ' + name\n".replace("\n", end)
    (tmp_path / "m.ps1").write_bytes(text.encode(encoding))
    read, known = checkout_reader(tmp_path), encoding_of(tmp_path)
    for search, new in (("name = 'José'", "name = 'José → 日本'"), ("    return 'Olá ' + name", "    return name")):
        edit = Replace(path="m.ps1", blocks=(Block(search=search, replace=new),))
        patch = apply([edit], read, paths=("m.ps1",), encoding=known)
        assert isinstance(patch, Patch), patch
        assert patch.changes[0].content == text.replace(search, new).encode(encoding)
        assert f"+{new}" in patch.diff.replace("\ufeff", "").replace("\r", "")


LINES = "first = 'Jos\u00e9'\n" + "".join(f"x{i} = {i}\n" for i in range(20)) + "last = 1"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "iso8859-1", "utf-8"])
@pytest.mark.parametrize("change", ["a line", "several", "much", "deleted"])
def test_git_applies_the_diff_of_a_file_in_any_encoding(tmp_path: Path, encoding: str, change: str) -> None:
    mark = "\ufeff" if encoding.startswith("utf-") else ""
    before = (mark + LINES).encode(encoding)
    blocks = {
        "a line": [("x3 = 3", "x3 = 33")],
        "several": [("x3 = 3", "x3 = 33"), ("last = 1", "last = 1\nend = '\u00fc'")],
        "much": [("x3 = 3", "\n".join(f"y{i} = '\u00e9'" for i in range(4_000)))],
    }
    edits: list[FileEdit] = [Create(path="b.txt", text="other\n"), Delete(path="a.txt")]
    if change in blocks:
        made = tuple(Block(search=old, replace=new) for old, new in blocks[change])
        edits[1] = Replace(path="a.txt", blocks=made)
    (tmp_path / "a.txt").write_bytes(before)
    patch = apply(edits, checkout_reader(tmp_path), paths=("a.txt",), encoding=encoding_of(tmp_path))
    assert isinstance(patch, Patch), patch
    expected = patch.changes[0].content
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "apply", "-"], cwd=tmp_path, check=True, input=patch.diff.encode())
    now = (tmp_path / "a.txt").read_bytes() if (tmp_path / "a.txt").exists() else None
    assert (now, (tmp_path / "b.txt").read_text()) == (expected, "other\n")
    told = [line for line in patch.diff.splitlines() if re.match(r"[+-](?![+-]{2})", line)]
    assert told[:2] == ["-x3 = 3", "+x3 = 33"] or change in ("much", "deleted"), "people can read it"
    assert patch.size == sum(len(line) - 1 for line in told)
