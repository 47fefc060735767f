#!/usr/bin/env python3
"""Make a virtual environment of exactly the versions and files that deploy/locks/ lists.

    deploy/install.py [--venv FOLDER] [--torch auto|cpu|cuda] [--project editable|packed] [--beside FOLDER] [--compile]
                      LOCK...

LOCK is the name of a file in deploy/locks/; deploy/lock.py tells what each holds. The Makefile and the Dockerfile call
this.

Every file is checked against its hash, torch's too, wherever it comes from. `--torch cpu` takes a CPU build: one that
pip's own configuration finds (say PIP_FIND_LINKS), else that of PyTorch's own index, and where that can't be reached
PyPI's build, which brings 3 GB of CUDA libraries. `auto` keeps what is installed, else means `cuda` where an NVIDIA
driver is, else `cpu`.

Bytecode is half of an install's time, and a demo imports a fraction of the files: it is made as they are imported, or
with `--compile` at once. Tests need that, since to them a warning that compiling gives would be an error, and so does
an image, which is read-only.

Old Pythons must be able to read this file, to be told that they are too old: no syntax and no module newer than 3.6's.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys

OLDEST, NEWEST = (3, 11), (3, 14)  # the Pythons that the locks are checked with
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOCKS = os.path.join(ROOT, "deploy", "locks")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
DRIVER = ("/proc/driver/nvidia/version", "/dev/nvidia0", "/usr/lib/wsl/lib/libcuda.so.1")
NOT_FOUND = "No matching distribution found"
# What pip says where it can't have something, and what helps.
MENDS = (
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "pip does not trust its index: name the certificate that your network uses in PIP_CERT",
    ),
    (
        r"Failed to establish a new connection|Read ?Timeout|ProxyError|Connection(?:Reset|Refused)Error",
        "pip can't reach its index: look at the network, or name a proxy (HTTPS_PROXY) or a mirror (PIP_INDEX_URL)",
    ),
    (r"No space left on device", "the disk is full: 1.5 GB are needed, with CUDA 8 GB"),
)
GET = "; to get it: apt-get install {0}-venv, dnf install {0}, or uv python install {0} (docs.astral.sh/uv)"
INSTALLED = """
import importlib.metadata as metadata
try:
    print(metadata.version("torch"))
except metadata.PackageNotFoundError:
    print()
"""


def refusal(version: "tuple[int, ...]") -> str:
    """Why this Python won't do, and which one to take, in one line, or nothing."""
    if OLDEST <= tuple(version[:2]) <= NEWEST:
        return ""
    names = [f"python{NEWEST[0]}.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1)]
    there = next((name for name in names if shutil.which(name)), None)
    return "needs Python {}.{} to {}.{}, this is {}.{}: make install PYTHON={}{}".format(
        *OLDEST, *NEWEST, *version[:2], there or names[0], "" if there else GET.format(names[0])
    )


def mend(said: str) -> str:
    """What helps against what pip said, in one line, or nothing."""
    return next((words for pattern, words in MENDS if re.search(pattern, said)), "")


def lock(name: str) -> str:
    """The path of a lock; SystemExit where there is none."""
    path = os.path.join(LOCKS, name + ".txt")
    if not os.path.exists(path):
        raise SystemExit("no lock {}: deploy/locks/ has {}".format(name, ", ".join(sorted(os.listdir(LOCKS)))))
    return path


def has_nvidia_driver() -> bool:
    return any(os.path.exists(path) for path in DRIVER) or shutil.which("nvidia-smi") is not None


def pinned_torch() -> str:
    """The version of torch that both locks of it pin, without `+cpu`."""
    with open(lock("torch")) as file:
        found = re.search(r"^torch==([^+\s]+)", file.read(), re.MULTILINE)
    if found is None:
        raise SystemExit("deploy/locks/torch.txt pins no torch: make lock")
    return found.group(1)


class Environment:
    """A virtual environment in `folder`, and pip in it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.python = os.path.join(folder, "bin", "python")

    def make(self) -> None:
        """Make it where it is not there; SystemExit where it is of another Python than this one."""
        config = os.path.join(self.folder, "pyvenv.cfg")
        if os.path.exists(config):
            with open(config) as file:
                found = re.search(r"^version\s*=\s*(\d+)\.(\d+)", file.read(), re.MULTILINE)
            if found and (int(found.group(1)), int(found.group(2))) != sys.version_info[:2]:
                raise SystemExit(
                    "{} holds Python {}.{}, this is {}.{}: remove that folder first".format(
                        self.folder, found.group(1), found.group(2), *sys.version_info[:2]
                    )
                )
        if not self.has_pip() and subprocess.call([sys.executable, "-m", "venv", self.folder]):
            raise SystemExit(f"{sys.executable} -m venv {self.folder} failed, see above")

    def has_pip(self) -> bool:
        if not os.path.exists(self.python):
            return False
        return subprocess.call([self.python, "-c", "import pip"], stderr=subprocess.DEVNULL) == 0

    def pip(self, command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        bytecode = ["--no-compile"] if command == "install" else []
        argv = [self.python, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", command]
        return subprocess.run(  # universal_newlines: `text` is newer than 3.6
            [*argv, *bytecode, *arguments], cwd=ROOT, stderr=subprocess.PIPE, universal_newlines=True, check=False
        )

    def install(self, *arguments: str) -> None:
        """What `arguments` of pip name and nothing that it demands: locks are whole, as deploy/check_install.py sees.

        SystemExit with pip's words, and what helps, where it fails.
        """
        done = self.pip("install", "--no-deps", *arguments)
        if done.returncode:
            raise SystemExit(done.stderr + mend(done.stderr))

    def torch(self) -> str:
        """The version of torch that is installed, or nothing."""
        return subprocess.check_output([self.python, "-c", INSTALLED], universal_newlines=True).strip()

    def look_in(self, folder: str) -> None:
        """Have its Python find what is installed in that folder."""
        site = os.path.join(self.folder, "lib", "python{}.{}".format(*sys.version_info[:2]), "site-packages")
        with open(os.path.join(site, "beside.pth"), "w") as file:
            file.write(folder + "\n")


def install_torch(environment: Environment, choice: str) -> None:
    """The pinned torch, of the wanted kind; tells what was chosen and why."""
    version, installed = pinned_torch(), environment.torch()
    if choice == "auto":
        if installed.split("+")[0] == version:
            return
        choice = "cuda" if has_nvidia_driver() else "cpu"
        why = "an NVIDIA driver is here; TORCH=cpu takes less" if choice == "cuda" else "no NVIDIA driver here"
    else:
        why = "TORCH=" + choice
    if sys.platform != "linux":  # PyPI's build is without CUDA there
        print(f"torch {version} from PyPI", flush=True)
    elif choice == "cuda":
        print(f"torch {version} with CUDA ({why}), about 3 GB", flush=True)
    elif installed == version + "+cpu":
        return
    else:
        print(f"torch {version}, CPU build ({why}; TORCH=cuda takes that for GPUs), about 200 MB", flush=True)
        if install_cpu_torch(environment):
            return
        print(
            "no CPU build for this machine can be had, neither by pip's configuration nor from", CPU_INDEX, flush=True
        )
        print("instead: PyPI's build, about 3 GB", flush=True)
    if installed:  # to pip 2.13.0 is there where 2.13.0+cpu is
        environment.pip("uninstall", "--yes", "torch")
    environment.install("--require-hashes", "--only-binary", ":all:", "--requirement", lock("torch"))


def install_cpu_torch(environment: Environment) -> bool:
    """Whether a CPU build was found and installed; SystemExit where the one that was found is not in the lock."""
    locked = ["--require-hashes", "--only-binary", ":all:", "--requirement", lock("torch-cpu")]
    # An index that doesn't answer shall not hold anybody up: there is another way.
    for index in ([], ["--index-url", CPU_INDEX, "--retries", "0", "--timeout", "15"]):
        done = environment.pip("install", "--no-deps", *locked, *index)
        if done.returncode == 0:
            return True
        if NOT_FOUND not in done.stderr or (not index and mend(done.stderr)):
            raise SystemExit(done.stderr + mend(done.stderr))
    return False


def install_locks(environment: Environment, names: "list[str]") -> None:
    for name in names:
        print(f"installing deploy/locks/{name}.txt", flush=True)
        # Only llama.cpp is built here, with the tools of build.txt: an isolated build takes tools that no lock names.
        source = ["--no-build-isolation"] if name == "bench" else ["--only-binary", ":all:"]
        environment.install("--require-hashes", *source, "--requirement", lock(name))


def install_project(environment: Environment, kind: str, beside: "str | None") -> None:
    """This project, by the setuptools of its lock: without isolation pip takes that one and no other."""
    options = ["--editable"] if kind == "editable" else ["--target", beside] if beside else []
    environment.install("--no-build-isolation", *options, ".")


def make_bytecode(environment: Environment, folders: "list[str]") -> None:
    """Of these folders, as far as they are there."""
    # Its exit code tells of files that are no Python, templates of it say.
    compileall = ["-W", "ignore", "-m", "compileall", "-qq", "-j", "0"]
    subprocess.call([environment.python, *compileall, *folders])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venv", default=".venv", metavar="FOLDER")
    parser.add_argument("--torch", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--project", choices=("editable", "packed"), help="install this project, too")
    parser.add_argument("--beside", metavar="FOLDER", help="install the project there; the environment looks there")
    parser.add_argument("--compile", action="store_true", help="make all bytecode now")
    parser.add_argument("locks", nargs="*", metavar="LOCK")
    arguments = parser.parse_args()
    environment = Environment(arguments.venv)
    environment.make()
    if "run" in arguments.locks:
        install_torch(environment, arguments.torch)
    install_locks(environment, arguments.locks)
    if arguments.beside:
        environment.look_in(arguments.beside)
    if arguments.project:
        install_project(environment, arguments.project, arguments.beside)
    if arguments.compile:
        beside = [arguments.beside] if arguments.beside else []
        make_bytecode(environment, [os.path.join(arguments.venv, "lib"), *beside])


if __name__ == "__main__":
    if refusal(tuple(sys.version_info[:2])):
        raise SystemExit(refusal(tuple(sys.version_info[:2])))
    main()
