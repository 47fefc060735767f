"""Make deploy/locks/: the exact versions and files that `make install` and the image take, from plain PyPI.

    make lock                            # what pyproject.toml demands anew; versions that still fit stay
    make lock LOCK="--upgrade"           # the newest versions that fit
    make lock LOCK="--torch 2.13.0"      # another torch, with its CPU builds; needs PyTorch's own index

One resolution covers everything, every Python from 3.11 on and every platform, so that no two locks disagree. It is
then split, so that nobody downloads what they don't need:

- `run.txt`: what the command needs, with the extras `postgres` and `gpu`; all but torch.
- `bot.txt`: what of it the GitHub side and the solver need, without the engine: the image `bot`.
- `dev.txt`: what every other extra but `bench` and `recurrent` adds to it.
- `cluster.txt`: what the extra of that name adds to run.txt; dev.txt has it, too.
- `recurrent.txt`: the same of kernels that run on a GPU alone.
- `build.txt`, `bench.txt`: the tools that build llama.cpp, and llama.cpp.
- `torch.txt`: torch as PyPI has it, with the CUDA libraries that it demands on Linux.
- `torch-cpu.txt`: the CPU builds of the same torch, from PyTorch's own index.
- `tools.txt`: what this script and deploy/check_install.py run.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "deploy" / "locks"
PYPI = "https://pypi.org/simple"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BUILD_TOOLS = ("cmake", "ninja", "scikit-build-core")  # llama-cpp-python's, which it doesn't pin
TOOLS = ("pip", "uv")
RUN_EXTRAS = ("postgres", "gpu")
# What `bot` never imports.
ENGINE = ("accelerate", "gguf", "llguidance", "safetensors", "torch", "transformers", "triton")
CUDA = re.compile(r"(torch|triton|(nvidia|cuda)-.*)==")  # torch and what only its CUDA build demands
HEADER = "# Made by deploy/lock.py; see there. `make lock` makes it anew.\n"
CPU_HEADER = f"""\
# The CPU builds of torch: 200 MB, where PyPI's build for Linux brings 3 GB with its CUDA libraries. They are not on
# PyPI: pip finds them where its configuration names them (PIP_FIND_LINKS, ...), or at {CPU_INDEX}.
# Wherever a file comes from, it must be one of these. `make lock LOCK="--torch VERSION"` asks that index for hashes.
"""


def blocks(text: str) -> dict[str, str]:
    """The entries of a lock, each with its lines of hashes: `NAME==VERSION ; MARKER` -> text."""
    found = re.findall(r"^[a-z0-9].*(?:\n[ ]+--hash=.*)*\n", text, re.MULTILINE)
    return {entry.split("\n")[0].rstrip("\\ "): entry for entry in found}


def pinned_torch() -> str:
    """The version of torch in torch-cpu.txt, without `+cpu`."""
    found = re.search(r"^torch==([^+\s]+)\+cpu", (LOCKS / "torch-cpu.txt").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("deploy/locks/torch-cpu.txt names no torch==VERSION+cpu")
    return found[1]


def compile_lock(folder: Path, requirements: str, *options: str, index: str = PYPI, known: str = "") -> str:
    """What uv resolves `requirements` (lines of a requirements file) to, as the text of a lock.

    `known` is a lock whose versions stay where they still fit. Ends the program with uv's words where nothing fits.
    """
    source, out = folder / "source.in", folder / "out.txt"
    source.write_text(requirements)
    out.write_text(known)
    uv = Path(sys.executable).with_name("uv")
    argv = [str(uv), "pip", "compile", str(source), "--no-config", "--default-index", index, "--output-file", str(out)]
    argv += ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    # uv's own variables could name another index; pip's it does not read.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    done = subprocess.run([*argv, *options], cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return out.read_text()


def project(*extras: str) -> str:
    """This project with these extras, as a line of a requirements file."""
    return f"{ROOT}[{','.join(extras)}]\n"


def lock_all(folder: Path, upgrade: bool) -> dict[str, str]:
    """The text of each lock but torch-cpu.txt, by file name."""
    torch = f"torch=={pinned_torch()}\n"
    known = (
        "" if upgrade else "".join(path.read_text() for path in sorted(LOCKS.glob("*.txt")) if "cpu" not in path.name)
    )
    everything = torch + "\n".join(BUILD_TOOLS)
    whole = compile_lock(folder, everything, "--all-extras", str(ROOT / "pyproject.toml"), known=known)
    everywhere = folder / "whole.txt"
    everywhere.write_text("\n".join(blocks(whole)))  # without hashes it serves as constraints

    def part(requirements: str) -> dict[str, str]:
        return blocks(compile_lock(folder, requirements, "--constraint", str(everywhere)))

    with_torch = part(torch)
    bot = part("\n".join(without_engine()))
    run = {name: text for name, text in part(project(*RUN_EXTRAS) + torch).items() if not CUDA.match(name)}
    build = part("\n".join(BUILD_TOOLS))
    extras = [name for name in optional_extras() if name not in ("bench", "recurrent")]
    dev = {name: text for name, text in part(project(*extras)).items() if name not in run and not is_torch(name)}
    bench, cluster, recurrent = (
        {name: text for name, text in part(project(extra)).items() if name not in run and not CUDA.match(name)}
        for extra in ("bench", "cluster", "recurrent")
    )
    parts = {
        "run.txt": run,
        "bot.txt": bot,
        "dev.txt": dev,
        "cluster.txt": cluster,
        "recurrent.txt": recurrent,
        "build.txt": build,
        "bench.txt": bench,
        "torch.txt": {name: text for name, text in with_torch.items() if CUDA.match(name)},
        "tools.txt": blocks(compile_lock(folder, "\n".join(TOOLS), known=known)),
    }
    return {name: HEADER + "".join(entries.values()) for name, entries in parts.items()}


def is_torch(name: str) -> bool:
    """Whether an entry comes with torch alone; the extra `dev` names triton itself, for a machine without CUDA too."""
    return CUDA.match(name) is not None and not name.startswith("triton==")


def optional_extras() -> list[str]:
    """The names of the extras in pyproject.toml."""
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        return sorted(tomllib.load(file)["project"]["optional-dependencies"])


def without_engine() -> list[str]:
    """What pyproject.toml demands, with `RUN_EXTRAS`, but for `ENGINE`, and with what builds the wheel."""
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    demanded = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    for extra in RUN_EXTRAS:
        demanded += project["project"]["optional-dependencies"][extra]
    return [one for one in demanded if re.split(r"[^A-Za-z0-9_-]", one)[0] not in ENGINE]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    parser.add_argument(
        "--torch", metavar="VERSION", help="pin this torch, with the CPU builds that PyTorch's index has"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.torch:
            found = compile_lock(folder, f"torch=={arguments.torch}+cpu", "--no-deps", index=CPU_INDEX)
            (LOCKS / "torch-cpu.txt").write_text(CPU_HEADER + found)
        for file, text in lock_all(folder, arguments.upgrade).items():
            (LOCKS / file).write_text(text)
            print(f"deploy/locks/{file}: {len(blocks(text))} packages")


if __name__ == "__main__":
    main()
