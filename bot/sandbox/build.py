"""Carries a recipe out: each layer in a container of its own, its result an image that is cached.

A layer's image is found again by the repository, the image it begins from, the layers before it, its commands and the
content of the files that decide what these do: no repository uses what another one built, and no branch what one beside
the default branch did.

As unprivileged as package managers allow: root in the container, since they write to the system's folders, with the
five capabilities that dpkg needs to give files owners and modes, no other, and no way to get more. Memory,
processors, processes, log and time are bounded; there is no secret; the network is `bot.sandbox.build_network`.
"""

import hashlib
import logging
import re
import shlex
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import docker
import docker.errors
from docker.types import LogConfig, Ulimit

from bot.errors import BuildFailed, SandboxError
from bot.recipe import Layer, Recipe
from bot.recipe.advice import Mend, advise, disk_full, installing, missing, outage
from bot.recipe.asked import TOOLS, image_of, telling, told, too_old, without, words_of
from bot.recipe.recipe import Asked
from bot.records import Build
from bot.sandbox import docker_engine, images
from bot.sandbox.build_network import BuildNetwork
from bot.sanitize import redact
from bot.sanitize.characters import strip_invisible
from bot.settings import SandboxSettings
from bot.settings.credentials import secret_assignment

log = logging.getLogger(__name__)

_LIFETIME = 30 * 86_400.0  # seconds
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
_PROCESSES = 4096
_LOGGED = "2m"  # of a layer's output that the daemon keeps
_TAIL = 80  # lines of it that are told
_TAIL_CHARACTERS = 6000
_TICK = 15.0  # seconds between two words on a layer that is built
_LAST_LINE = 100  # characters of its log's last line that they hold
_SILENT = 60.0  # seconds without output that are told: it may hang
_NO_PROGRAM = 97  # exit code of build.sh
_HERE = Path(__file__).parent
_FOLDER = f"{images.ROOT}/build"
HOME = f"{images.ROOT}/home"

# Kept for the tests: what decides whether compiled things are compiled again, and where Gradle finds in a job's home
# what it loaded (Java takes the home from the system's list of users, where a job's user is not).
KEPT = {"CARGO_INCREMENTAL": "0", "CARGO_PROFILE_DEV_DEBUG": "0", "GRADLE_USER_HOME": "/tmp/.gradle"}  # noqa: S108
_ENVIRONMENT = {
    **KEPT,
    "HOME": HOME,
    "GRADLE_USER_HOME": f"{HOME}/.gradle",
    "LANG": "C.UTF-8",
    "CI": "true",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_BREAK_SYSTEM_PACKAGES": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_NO_INPUT": "1",
    "PIP_ROOT_USER_ACTION": "ignore",
    "GOFLAGS": "-modcacherw",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
    "npm_config_update_notifier": "false",
    # Else it tells nothing of requests that fail and are sent again, for minutes.
    "npm_config_loglevel": "http",
    # Versions that tools take from git's tags, which a checkout of one commit does not have.
    "SETUPTOOLS_SCM_PRETEND_VERSION": "9999.0.0",
    "PDM_BUILD_SCM_VERSION": "9999.0.0",
    "PBR_VERSION": "9999.0.0",
    "POETRY_DYNAMIC_VERSIONING_BYPASS": "9999.0.0",
}

_ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")

Tell = Callable[[str], None]


def unheard(words: str) -> None:
    """A `Tell` that nobody listens to."""


def unkept(build: Build) -> None:
    """Keeps nothing of a build."""


@dataclass(frozen=True)
class Plan:
    """What is built. `repository`: whose cache of images is used; `apart`: by what beside its default branch.

    `tell` gets what is being done, for people, `keep` each layer that was built or failed, from the builder's thread.
    """

    recipe: Recipe = field(default_factory=Recipe)
    repository: str = ""
    tell: Tell = unheard
    keep: Callable[[Build], None] = unkept
    apart: str = ""


NOTHING = Plan()


class Builder:
    """One build. Blocking: used from a thread. `run`: the label by which the sandbox destroys its containers."""

    def __init__(self, client: docker.APIClient, settings: SandboxSettings, base: Path, plan: Plan, run: str) -> None:
        self._client = client
        self._settings = settings
        self._base = base
        self._recipe = plan.recipe
        self._repository = plan.repository
        self._apart = plan.apart
        self._labels = {**docker_engine.labels("build", settings.setup_timeout + 600), docker_engine.RUN: run}
        self._tell = plan.tell
        self._keep = plan.keep
        self._files = images.files_of(base)
        self._digest = images.tree_digest(base, self._files)
        self._given = dict(word.partition("=")[::2] for word in settings.build_environment)
        self._deadline = 0.0
        self._stopped = False
        self.notes: list[str] = []
        self.layers_built = 0

    def stop(self) -> None:
        """Begin no other layer. The containers are destroyed by their label."""
        self._stopped = True

    def build(self, image_id: str, image: str) -> str:
        """The id of the image with all layers.

        Raises `BuildFailed` where the repository is at fault, `SandboxError` where something else is, which may work
        later, and what the SDK raises. `image`: what people call the image it begins from.
        """
        log.info("%s: %s", self._repository, self._recipe.found)
        self._deadline = time.monotonic() + self._settings.setup_timeout
        network: BuildNetwork | None = None
        begin = (_script(), str(_ENVIRONMENT), self._repository, image_id, *self._settings.build_environment)
        # A branch uses what the default branch built, and keeps what it builds itself: its code ran in that.
        keys = [hashlib.sha256("\0".join(begin).encode())]
        if self._apart:
            keys.append(hashlib.sha256("\0".join((*begin, self._apart)).encode()))
        base_id = image_id
        try:
            for layer in self._recipe.layers:
                content = self._content_of(layer)
                for key in keys:
                    key.update(content)
                names = [f"{docker_engine.CACHE}:{key.hexdigest()[:32]}" for key in keys]
                if cached := next(filter(None, map(self._cached, names)), None):
                    image_id = cached
                    continue
                self._check_wanted()
                self._tell(f"building the image: {layer.name} ({layer.source})")
                started = time.monotonic()
                network = network or BuildNetwork(self._client, base_id, self._settings, self._labels)
                image_id = self._layer(layer, names[-1], image_id, image, network)
                self.layers_built += 1
                log.info("%s: built %s in %.1f s", self._repository, layer.name, time.monotonic() - started)
        finally:
            if network is not None:
                network.close()
        return image_id

    def _check_wanted(self) -> None:
        if self._stopped:
            raise SandboxError("the sandbox was closed while its image was built")

    def _content_of(self, layer: Layer) -> bytes:
        """What decides the layer's result, beside what was before it."""
        digest = hashlib.sha256(layer.model_dump_json(exclude={"name", "source", "optional"}).encode())
        paths = (
            self._files
            if layer.whole_tree
            else sorted({*layer.keyed_by, *images.named_files(self._base, layer.commands)})
        )
        digest.update(images.tree_digest(self._base, paths).encode())
        return digest.digest()

    def _cached(self, name: str) -> str | None:
        try:
            found = str(self._client.inspect_image(name)["Id"])
        except docker.errors.ImageNotFound:
            return None
        self._client.tag(found, *name.split(":"))  # which notes the time of its last use
        return found

    def _layer(
        self, layer: Layer, name: str, image_id: str, image: str, network: BuildNetwork, mended: tuple[str, ...] = ()
    ) -> str:
        """The id of the image with this layer on top; the image as it was where an optional layer fails.

        `mended`: packages of the system that are installed first, since it failed for want of them.
        """
        container = self._client.create_container(
            image_id,
            entrypoint=["sh", f"{_FOLDER}/build.sh"],
            command=[],
            user="0:0",
            working_dir="/",
            labels=self._labels,
            host_config=self._client.create_host_config(**self._options(network.mode)),
        )["Id"]
        below = (self._client.inspect_image(image_id)["Config"].get("Labels") or {}).get(images.TREE)
        same = below in (None, self._digest)
        changed = images.LONG_AGO if same else int(time.time())
        began, started = datetime.now(UTC), time.monotonic()

        def keep(log: str, trouble: str) -> None:
            self._keep(
                Build(
                    layer=layer.name,
                    source=layer.source,
                    recipe=self._recipe.found,
                    at=began,
                    seconds=time.monotonic() - started,
                    log=log,
                    trouble=trouble,
                )
            )

        try:
            images.put_tree(self._client, container, self._base, self._folder(layer, mended), changed=changed)
            code, ended = self._run(container, layer)
            said = without(printed := self._log_of(container))
            if ended is None and code == 0:
                keep(said, "")
                tree = {images.TREE: self._digest if same else "several"}
                labels = {**docker_engine.labels(docker_engine.CACHED, _LIFETIME), **tree}
                return images.commit(self._client, container, name, labels, KEPT)
            memory = bool(self._client.inspect_container(container)["State"]["OOMKilled"])
        finally:
            docker_engine.destroy(self._client, container)
        self._check_wanted()
        trouble = self._trouble(layer, code, ended, printed, image, memory)
        keep(said, str(trouble))
        lacking = advise(said) if isinstance(trouble, BuildFailed) and not ended and not memory else Mend("")
        if lacking.packages and lacking.packages not in mended and layer.name != "setup":
            self._tell(f"{lacking.why}: installing {lacking.packages}")
            return self._layer(layer, name, image_id, image, network, (*mended, lacking.packages))
        if not layer.optional:
            raise trouble
        log.info("%s: %s; not needed, so the build goes on", self._repository, trouble)
        self.notes.append(f"{layer.name} ({layer.source}) could not be built: {trouble}")
        if isinstance(trouble, BuildFailed):  # not tried again before something of it changes
            self._client.tag(image_id, *name.split(":"))
        return image_id

    def _options(self, network: str) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {
            "network_mode": network,
            "cap_drop": ["ALL"],
            "cap_add": list(_CAPABILITIES),
            "security_opt": ["no-new-privileges:true"],
            "pids_limit": _PROCESSES,
            "mem_limit": int(settings.build_memory),
            "memswap_limit": int(settings.build_memory),
            "nano_cpus": int(min(settings.build_processors, self._client.info()["NCPU"]) * 1e9),
            "ulimits": [Ulimit(name="core", soft=0, hard=0)],
            "init": True,
            "ipc_mode": "private",
            "log_config": LogConfig(type="json-file", config={"max-size": _LOGGED, "max-file": "2"}),
        }
        if settings.runtime:
            options["runtime"] = settings.runtime
        return options

    def _folder(self, layer: Layer, packages: Sequence[str] = ()) -> Mapping[str, bytes]:
        """What build.sh reads."""
        environment = {**_ENVIRONMENT, **self._given}
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
        return {
            "build/build.sh": _script().encode(),
            "build/environment": exports.encode(),
            "build/needs": "".join(f"{program}\n" for program in layer.programs).encode(),
            "build/commands": "".join(map(_checked, (*map(installing, packages), *layer.commands))).encode(
                "utf-8", "surrogateescape"
            ),
            "build/versions": telling(TOOLS[one.tool].says for one in self._recipe.asked).encode() + b"\n",
            "build/files": b"".join(b"./" + path.encode("utf-8", "surrogateescape") + b"\0" for path in self._files),
        }

    def _run(self, container: str, layer: Layer) -> tuple[int, str | None]:
        """The exit code, and why the layer was stopped, if it was. Tells how far it is. Raises what the SDK raises."""
        self._client.start(container)
        started = time.monotonic()
        end = max(self._deadline, started + 1.0)
        while (now := time.monotonic()) < end:
            tick = min(_TICK, end - now)
            try:
                return int(self._client.wait(container, timeout=tick)["StatusCode"]), None
            except docker_engine.TROUBLE:
                if time.monotonic() < now + tick:
                    raise
            last = self._log_of(container, 1)[-_LAST_LINE:]
            said = f"building the image: {layer.name} ({layer.source}), for {time.monotonic() - started:,.0f} s"
            self._tell(f"{said}: {last}" if last else said)
        state = self._client.inspect_container(container)["State"]
        if not state["Running"]:
            return int(state["ExitCode"]), None
        self._client.kill(container)
        stopped = f"it was stopped after {self._settings.setup_timeout:,.0f} s (TROOP_SANDBOX_SETUP_TIMEOUT)"
        silent = self._silent(container, end - started)
        return -1, f"{stopped}, and had printed nothing for {silent:,.0f} s" if silent > _SILENT else stopped

    def _silent(self, container: str, seconds: float) -> float:
        """For how many of its `seconds` the layer has printed nothing when it was stopped."""
        stamp = self._client.logs(container, tail=1, timestamps=True).decode("utf-8", "replace").partition(" ")[0]
        try:
            return (datetime.now(UTC) - datetime.fromisoformat(f"{stamp[:19]}+00:00")).total_seconds()
        except ValueError:  # nothing was printed at all
            return seconds

    def _log_of(self, container: str, lines: int = _TAIL) -> str:
        """The end of its output, for logs and comments: without control characters and what looks like a secret."""
        text = self._client.logs(container, tail=lines).decode("utf-8", "replace")
        return cleaned(text, given_secrets(self._settings.build_environment))

    def _trouble(
        self, layer: Layer, code: int, ended: str | None, printed: str, image: str, memory: bool
    ) -> BuildFailed | SandboxError:
        said, old = without(printed), too_old(self._recipe.asked, told(printed))
        what = f"the repository's {layer.name} ({layer.source}) can't be installed"
        if layer.name == "setup":
            what = "the repository's `setup` command failed" + (f" with exit code {code}" if code > 0 else "")
        last = said.splitlines()[-1] if said else ""
        if code == _NO_PROGRAM and last.startswith("troop: no "):
            mend = missing(last.removeprefix("troop: no "), image)
        elif memory:
            mend = Mend(f"it took more memory than {self._settings.build_memory:,} bytes (TROOP_SANDBOX_BUILD_MEMORY)")
        elif failed := outage(said):
            # What no waiting mends is told at once.
            more = "".join(f"; besides, {words_of(one, has)}" for one, has in old) + (f"; {ended}" if ended else "")
            return SandboxError(
                f"{failed}{more}; TROOP_SANDBOX_BUILD_ENVIRONMENT names a proxy or a mirror to builds, and "
                "TROOP_SANDBOX_BUILD=never uses the image as it is"
            )
        elif ended:
            mend = Mend(ended)
        elif disk_full(said):
            return SandboxError(f"the disk of the Docker daemon was full while {layer.name} was installed: free some")
        else:
            mend = _by_version(advise(said), old)
        # Indented, so that no line of it passes for one of the log.
        log.info("%s: %s: %s\n%s", self._repository, what, mend.why, textwrap.indent(said, "    | ", lambda _: True))
        # A `setup` of the repository's own that nothing is known about is not worth repeating.
        rest = "" if mend.instead or (layer.name == "setup" and not mend.setup) else self._recipe.setup.strip()
        setup = " && ".join(filter(None, (mend.setup, rest)))
        return BuildFailed(what, why=mend.why, log=said, setup=setup, image=mend.image, missing=code == _NO_PROGRAM)


def _by_version(mend: Mend, old: Sequence[tuple[Asked, str]]) -> Mend:
    """With the toolchains that are older than the repository asks for, in place of what the log tells of versions."""
    if not old:
        return mend
    why = "; ".join([*(words_of(one, has) for one, has in old), *([] if mend.image or not mend.why else [mend.why])])
    return mend._replace(why=why, image=image_of(old[0][0]) or mend.image, instead=mend.instead or not mend.setup)


def _checked(command: str) -> str:
    """The command, and the end of all where it fails: `sh -e` goes on where what failed is within `||` and braces."""
    return f"{command}\ntroop_code=$?\n[ $troop_code = 0 ] || exit $troop_code\n"


def _script() -> str:
    return (_HERE / "build.sh").read_text()


def given_secrets(words: Iterable[str]) -> list[str]:
    """What of `NAME=VALUE`, which the operator gives a build, is not shown: the values, and what is secret in them."""
    return [secret for word in words for secret in (word.partition("=")[2], *secret_assignment(word))]


def cleaned(text: str, secrets: Iterable[str] = ()) -> str:
    """Output of a build as it may be logged and posted."""
    lines = [line.rsplit("\r", 1)[-1] for line in text.replace("\r\n", "\n").split("\n")]  # as a terminal leaves it
    plain = _ANSI.sub("", "\n".join(lines))
    return redact(strip_invisible(plain, set()), [one for one in secrets if one]).strip()[-_TAIL_CHARACTERS:]
