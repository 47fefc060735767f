"""`troop doctor`: what this machine lacks, and how to get it. Nothing is changed but with `--fix`, and then little."""

import asyncio
import importlib.util
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from bot.errors import SettingsError, TroopError
from bot.llm.published_models import CATALOGUE
from bot.preflight import Finding
from bot.preflight import examine as examine_server
from bot.publish.messages.build import setup_lines
from bot.records import Checkout
from bot.settings import Settings, read_settings

_NO_DOCKER = "until then `troop solve` uses the process sandbox"
_COMMANDS = 3  # that may run a repository's tests and are named
_MARKS = {"ok": "ok      ", "optional": "optional", "missing": "MISSING "}


def examine() -> Iterator[Finding]:
    """All findings, in the order in which a newcomer meets them."""
    for check in (_python, _namespaces):
        yield check()
    try:
        settings = read_settings()
    except SettingsError as error:
        yield Finding.missing("settings", str(error))
        return
    for of_engine in (_torch, _model):
        yield _for_engine(settings, of_engine())
    yield _published(settings)
    for finding in asyncio.run(examine_server(settings, works=True)):
        yield finding if is_server(settings) else _for_local_use(finding)
    yield from _files(settings)
    if is_server(settings) and not settings.webhook_secret.get_secret_value():
        hint = "set TROOP_WEBHOOK_SECRET to the secret in the App's settings, or open /setup"
        yield Finding.missing("webhook", "there is no secret", hint)


def is_server(settings: Settings) -> bool:
    """Whether GitHub is set up, so that this is more than a machine for `troop solve`."""
    return bool(settings.app_id or settings.token.get_secret_value())


def _for_local_use(finding: Finding) -> Finding:
    """Without GitHub nothing needs Docker."""
    if finding.level != "missing" or finding.name not in ("docker", "sandbox image"):
        return finding
    hint = f"{finding.hint}; {_NO_DOCKER}" if finding.hint else _NO_DOCKER
    return finding.model_copy(update={"level": "optional", "hint": hint})


def _for_engine(settings: Settings, finding: Finding) -> Finding:
    """What only Troop's own engine needs is optional where an endpoint is set."""
    if finding.level == "missing" and settings.main.base_url:
        hint = "needed by `troop engine` alone"
        return finding.model_copy(update={"level": "optional", "hint": hint})
    return finding


def _python() -> Finding:
    return Finding.ok("python", ".".join(map(str, sys.version_info[:3])))


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding.missing("torch", "not installed", "make install, or pip install 'torch>=2.11'")
    import torch

    where = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"CPU, {os.cpu_count()} processors"
    return Finding.ok("torch", f"{torch.__version__} on {where}")


def _model() -> Finding:
    name = "bundled model"
    spec = importlib.util.find_spec("engine")
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = os.path.join(folder, "checkpoints", "capuchin", "model.safetensors")
        if os.path.exists(path):
            return Finding.ok(name, f"Capuchin, {os.path.getsize(path) / 1e6:.0f} MB")
    return Finding.missing(name, "no checkpoint in engine/checkpoints", "make capuchin trains it again")


def _namespaces() -> Finding:
    argv = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "true"]
    try:
        works = subprocess.run(argv, capture_output=True, timeout=10, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        works = False
    if works:
        return Finding.ok("namespaces", "the process sandbox can isolate tests from the network")
    detail = "the process sandbox can't isolate tests from the network"
    hint = "use Docker, or allow unprivileged user namespaces"
    return Finding.optional("namespaces", detail, hint)


def _published(settings: Settings) -> Finding:
    folder = settings.models_dir
    here = [one.name for one in CATALOGUE if one.is_in(folder)]
    there = f"{', '.join(here)} in {folder}" if here else f"none in {folder}; the bundled one is used"
    missing = [f"{one.name} ({one.size / 1e6:,.1f} MB)" for one in CATALOGUE if one.name not in here]
    hint = f"`make models` or `troop models` fetches {', '.join(missing)}" if missing else ""
    return Finding.ok("published models", there, hint)


def _files(settings: Settings) -> Iterator[Finding]:
    """Secrets that others may read."""
    for path in _open_secrets(settings):
        hint = f"`chmod 600 {path}`, or `troop doctor --fix`"
        yield Finding.optional("secret file", f"others may read {path}", hint)


def _open_secrets(settings: Settings) -> Iterator[Path]:
    """Files with secrets, of this user, that others than the user and the group may read."""
    for path in (settings.private_key_file, Path(".env")):
        if path is not None and path.is_file():
            found = path.stat()
            if found.st_uid == os.geteuid() and found.st_mode & stat.S_IROTH:
                yield path


def fix(print_line: Callable[[str], None]) -> None:
    """Mend what can be mended without a decision: pull the sandbox's image, and keep secrets' files from others."""
    try:
        settings = read_settings()
    except SettingsError:
        return  # the report says it
    for path in _open_secrets(settings):
        path.chmod(0o600)
        print_line(f"fixed     secret file      {path} is now readable for this user alone")
    from bot.sandbox.docker_engine import connect, ensure_image, has_image

    try:
        client = connect()
        try:
            if not has_image(client, settings.sandbox.image):
                print_line(f"pulling   sandbox image    {settings.sandbox.image}")
                ensure_image(client, settings.sandbox.image)
                print_line(f"fixed     sandbox image    {settings.sandbox.image} is here")
        finally:
            client.close()
    except TroopError as error:
        print_line(f"not fixed sandbox image    {error}")


def report(print_line: Callable[[str], None], *, with_fix: bool = False) -> int:
    """Print all findings; 0 if nothing is missing, else 1."""
    if with_fix:
        fix(print_line)
    missing = 0
    for finding in examine():
        missing += finding.level == "missing"
        print_line(f"{_MARKS[finding.level]}  {finding.name:<16} {finding.detail}")
        if finding.hint:
            print_line(f"{'':<27}-> {finding.hint}")
    return 1 if missing else 0


def describe_build(path: Path) -> Iterator[str]:
    """How Docker's image for the tests of the checkout at `path` would be built, and what runs them, line by line."""
    from bot.repo_config import FILE_NAME, ConfigProblem, RepoConfig, parse
    from bot.sandbox.images import files_of
    from bot.solver.project import build_recipe, own_test_commands

    listed = subprocess.run(["git", "ls-files", "-z"], cwd=path, capture_output=True, check=False)
    files = tuple(sorted(filter(None, os.fsdecode(listed.stdout).split("\0")))) if listed.returncode == 0 else ()
    checkout = Checkout(root=str(path), workspace=str(path), commit="", files=files or files_of(path))
    config = parse((path / FILE_NAME).read_text(errors="replace")) if (path / FILE_NAME).is_file() else RepoConfig()
    if isinstance(config, ConfigProblem):
        yield f"build     {config}"
        config = RepoConfig()
    settings = read_settings()
    recipe = build_recipe(checkout, config, settings)
    found = recipe.found or "nothing to build: the image as it is"
    yield f"build     {found}, from {recipe.image or settings.sandbox.image}"
    for layer in recipe.layers:
        why = " (if it can be)" if layer.optional else ""
        for number, command in enumerate(layer.commands):
            head = f"{layer.name}{why}:" if number == 0 else ""
            yield f"{'':<10}{head} {command}".rstrip()
    if recipe.variables:
        yield f"{'':<10}tests find in their environment: {', '.join(recipe.variables)}"
    for note in recipe.notes:
        yield f"{'':<10}note: {note}"
    if recipe.setup and not config.setup:
        yield f"{'':<10}to change it, begin in {FILE_NAME} from: {setup_lines(recipe.setup).splitlines()[1]}"
    commands = [shlex.join(command) for command in own_test_commands(checkout, config, recipe)]
    unknown = f'no command is known for them: name one in {FILE_NAME}, [test] command = "..."'
    yield f"tests     {', else '.join(commands[:_COMMANDS]) or unknown}"
