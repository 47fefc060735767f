"""Images built by recipes on a real Docker Engine: layers, their cache, what a build may do, and how it fails."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import docker
import pytest

from bot.errors import BuildFailed, SandboxError
from bot.preflight import prepare_sandbox
from bot.recipe import Layer, Recipe, detect
from bot.recipe.recipe import Asked
from bot.records import Build
from bot.repo_config import RepoConfig
from bot.sandbox import build, containers, docker_engine, images, owner
from bot.sandbox.build import Plan, cleaned, given_secrets
from bot.sandbox.build_network import BuildNetwork
from bot.sandbox.pool import DockerSandbox
from bot.settings import SandboxSettings
from tests.bot.sandbox.behaviour import LONG, command, make_tree, running
from tests.patience import PATIENCE, eventually
from tests.services_docker import built, client, docker_address, sandbox_image

pytestmark = pytest.mark.service
__all__ = ["client", "docker_address", "sandbox_image"]


def settings(image: str, **others: Any) -> SandboxSettings:
    return SandboxSettings(
        kind="docker", image=image, concurrency=1, memory="256m", pids=64, setup_timeout=PATIENCE, **others
    )


def setup(line: str) -> Recipe:
    return detect((), lambda path: None, RepoConfig(setup=line))


@pytest.fixture
def repository() -> str:
    """A name that no other test uses."""
    return f"octo/{os.urandom(8).hex()}"


async def seen(
    image: str, source: Path, recipe: Recipe, repository: str, script: str = "cat built.txt", **others: Any
) -> str:
    """What the script prints in a sandbox with the recipe's image."""
    sandbox = await DockerSandbox.open(settings(image, **others), source, plan=Plan(recipe, repository))
    try:
        return (await sandbox.run(command("sh", "-c", script))).output
    finally:
        await sandbox.close()


UNIQUE = "cat /proc/sys/kernel/random/uuid > built.txt"


async def test_a_build_runs_once_and_what_it_makes_is_in_every_copy(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    source = make_tree(tmp_path / "tree")
    (source / "gone.py").write_text("")
    (source / "needed.txt").write_text("1")
    layer = Layer(name="things", source="needed.txt", commands=(UNIQUE, "mkdir -p made && touch made/x"),
                  keyed_by=("needed.txt",))  # fmt: skip
    recipe = Recipe(layers=(layer,))
    first = await seen(sandbox_image, source, recipe, repository)
    (source / "gone.py").unlink()
    (source / "new.txt").write_text("new")
    again = await seen(sandbox_image, source, recipe, repository, "cat built.txt; ls made gone.py new.txt 2>&1")
    assert again.startswith(first), "another commit with the same manifests"
    assert "\nx\n" in again
    assert "\nnew.txt\n" in again
    assert "cannot access 'gone.py'" in again, "no file of the commit that the image was built with"
    (source / "needed.txt").write_text("2")
    assert await seen(sandbox_image, source, recipe, repository) != first


async def test_a_setup_command_is_keyed_by_the_whole_tree_and_by_the_repository(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    """Attack 34: what setup runs is changed, or prepared by another repository."""
    source = make_tree(tmp_path / "tree")
    (source / "install.sh").write_text(". ./deep.sh\n")
    (source / "deep.sh").write_text(UNIQUE)
    recipe = setup("sh install.sh")
    first = await seen(sandbox_image, source, recipe, repository)
    assert await seen(sandbox_image, source, recipe, repository) == first
    assert await seen(sandbox_image, source, recipe, f"{repository}2") != first
    (source / "deep.sh").write_text(f"{UNIQUE} # changed")
    assert await seen(sandbox_image, source, recipe, repository) != first


async def test_node_and_pip_trust_what_the_image_trusts_and_npm_tells_of_requests_that_fail(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    line = 'echo "$NODE_EXTRA_CA_CERTS $npm_config_loglevel" > built.txt; python3 -m pip config list >> built.txt'
    said = await seen(sandbox_image, make_tree(tmp_path / "tree"), setup(line), repository)
    assert said.startswith("/etc/ssl/certs/ca-certificates.crt http\n")
    assert "cert='/etc/ssl/certs/ca-certificates.crt'" in said


async def test_a_build_that_hangs_is_stopped_and_told_for_how_long_it_was_silent(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_SILENT", -1.0)
    source = make_tree(tmp_path / "tree")
    limit = settings(sandbox_image).model_copy(update={"setup_timeout": 2.0})
    hangs = Plan(setup(f"echo fetching; sleep {LONG}"), repository)
    with pytest.raises(
        BuildFailed, match=r"stopped after 2 s \(TROOP_SANDBOX_SETUP_TIMEOUT\), and had printed nothing"
    ):
        await DockerSandbox.open(limit, source, plan=hangs)
    builder = build.Builder(client, limit, source, hangs, "")
    said = "npm http fetch GET https://h.example/x attempt 1 failed with ETIMEDOUT"
    trouble = builder._trouble(hangs.recipe.layers[0], -1, "it was stopped", said, sandbox_image, memory=False)
    assert isinstance(trouble, SandboxError), "who waits for a registry is not at fault"
    assert f"a package registry can't be reached ({said}); it was stopped;" in str(trouble)


def test_attack_34_a_link_is_known_by_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").symlink_to("real.txt")
    (tmp_path / "real.txt").write_text("1")
    before = images.tree_digest(tmp_path, ("requirements.txt",))
    (tmp_path / "real.txt").write_text("2")
    assert images.tree_digest(tmp_path, ("requirements.txt",)) != before


async def test_attack_34_no_branch_builds_what_the_default_branch_uses(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    """Code of a branch, or of a pull request, runs in its build: a package's tests, a hook of a build backend."""
    source = make_tree(tmp_path / "tree")
    (source / "lock").write_text("1")
    recipe = Recipe(layers=(Layer(name="things", source="lock", commands=(UNIQUE,), keyed_by=("lock",)),))

    async def built(apart: str) -> str:
        plan = Plan(recipe, repository, apart=apart)
        sandbox = await DockerSandbox.open(settings(sandbox_image), source, plan=plan)
        try:
            return (await sandbox.run(command("cat", "built.txt"))).output
        finally:
            await sandbox.close()

    of_branch = await built("topic")
    assert await built("topic") == of_branch
    of_default = await built("")
    assert of_default != of_branch
    assert await built("#7") == of_default, "what is there already is used"


async def test_layers_are_cached_one_by_one(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    source = make_tree(tmp_path / "tree")
    (source / "lock").write_text("1")
    lower = Layer(name="lower", source="lock", commands=("cat /proc/sys/kernel/random/uuid > lower.txt",),
                  keyed_by=("lock",))  # fmt: skip
    upper = Layer(name="upper", source="all", commands=("cat /proc/sys/kernel/random/uuid > upper.txt",),
                  whole_tree=True)  # fmt: skip
    recipe = Recipe(layers=(lower, upper))
    show = "cat lower.txt upper.txt"
    one = (await seen(sandbox_image, source, recipe, repository, show)).split()
    (source / "code.py").write_text("")
    two = (await seen(sandbox_image, source, recipe, repository, show)).split()
    assert one[0] == two[0]
    assert one[1] != two[1]


async def test_what_a_build_may_do(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attack 34: capabilities, environment, routes to private addresses. Nothing is sent to any of them."""
    monkeypatch.setenv("A_CANARY", "canary-of-the-environment")
    source = make_tree(tmp_path / "tree")
    look = "(env; grep -E 'CapEff|NoNewPrivs|CapBnd' /proc/self/status; cat /proc/net/route; pwd; id -u) > built.txt"
    said = await seen(
        sandbox_image, source, setup(look), repository, "cat built.txt; env", build_environment=("MIRROR=its-value",)
    )
    assert "canary" not in said
    assert said.count("MIRROR=its-value") == 1, "in the build, not in the tests"
    bits = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "SETGID": 6, "SETUID": 7}
    mask = sum(1 << bit for bit in bits.values())
    assert re.search(rf"CapEff:\s*{mask:016x}", said)
    assert re.search(rf"CapBnd:\s*{mask:016x}", said)
    assert re.search(r"NoNewPrivs:\s*1", said)
    assert "/repo/tree\n0\n" in said
    routes = [line.split() for line in said.splitlines() if re.match(r"\S+\s+[0-9A-F]{8}\s+[0-9A-F]{8}\s", line)]
    rejected = {(row[1], row[7]) for row in routes if int(row[3], 16) & 0x200}
    for wanted in (
        ("0000000A", "000000FF"),
        ("000010AC", "0000F0FF"),
        ("0000A8C0", "0000FFFF"),
        ("0000FEA9", "0000FFFF"),
    ):
        assert wanted in rejected
    (default,) = [row for row in routes if row[1] == "00000000"]
    for row in routes:
        if row not in ([default]) and not int(row[3], 16) & 0x200:
            assert row[7] == "FFFFFFFF", "only single name servers are reachable besides"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the daemon says of each container that the test has made: others use the same daemon."""
    made: list[dict[str, Any]] = []
    create = docker.APIClient.create_container

    def watched(self: docker.APIClient, *args: Any, **more: Any) -> Any:
        answer = create(self, *args, **more)
        made.append(self.inspect_container(answer["Id"]))
        return answer

    monkeypatch.setattr(docker.APIClient, "create_container", watched)
    return made


def left(client: docker.APIClient, made: list[dict[str, Any]]) -> set[str]:
    """Which of them are still there."""
    return {one["Id"] for one in client.containers(all=True)} & {one["Id"] for one in made}


async def test_the_options_of_a_builds_containers(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str, made: list[dict[str, Any]]
) -> None:
    await seen(sandbox_image, make_tree(tmp_path / "tree"), setup(UNIQUE), repository, build_memory="300m")
    (host,) = [one["HostConfig"] for one in made if "/opt/troop/build/build.sh" in (one["Config"]["Entrypoint"] or [])]
    wanted = {
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "PidsLimit": 4096,
        "Memory": 300 << 20,
        "MemorySwap": 300 << 20,
        "Init": True,
        "IpcMode": "private",
        "LogConfig": {"Type": "json-file", "Config": {"max-file": "2", "max-size": "2m"}},
        "Binds": None,
        "Privileged": False,
    }
    assert {name: host[name] for name in wanted} == wanted
    assert host["NanoCpus"] > 0
    assert host["NetworkMode"].startswith("container:")
    (guard,) = [one["HostConfig"] for one in made if one["HostConfig"]["CapAdd"] in (["NET_ADMIN"], ["CAP_NET_ADMIN"])]
    assert guard["ReadonlyRootfs"]
    assert not left(client, made)


async def test_a_build_that_fails_is_the_repositorys_with_the_end_of_its_log(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str, made: list[dict[str, Any]]
) -> None:
    source = make_tree(tmp_path / "tree")
    with pytest.raises(BuildFailed) as caught:
        await seen(sandbox_image, source, setup("echo \x1b[31mgcc: not found >&2; exit 3"), repository)
    failure = caught.value
    assert "exit code 3" in failure.what
    assert failure.log == "gcc: not found"
    assert failure.setup.startswith("apt-get update && apt-get install -y --no-install-recommends build-essential && ")
    with pytest.raises(BuildFailed, match=r"`setup` command failed with exit code 4"):
        await seen(sandbox_image, source, setup("true && (exit 4)"), repository)
    slow = settings(sandbox_image).model_copy(update={"setup_timeout": 1.0})
    with pytest.raises(BuildFailed, match="stopped after 1 s"):
        await DockerSandbox.open(slow, source, plan=Plan(setup(f"sleep {LONG}"), repository))
    gems = Recipe(layers=(Layer(name="gems", source="Gemfile", commands=("true",), programs=("bundle",)),))
    with pytest.raises(BuildFailed, match=f"the image {sandbox_image} has no `bundle`") as caught:
        await seen(sandbox_image, source, gems, repository)
    assert caught.value.missing
    assert caught.value.image == "ruby:3"
    eat = "python3 -c 'kept = [bytearray(b\"x\" * (1 << 22)) for _ in range(1000)]'"
    with pytest.raises(BuildFailed, match="took more memory"):
        await seen(sandbox_image, source, setup(eat), repository, build_memory="100m")
    assert made
    assert not left(client, made)


async def test_a_command_that_fails_within_braces_ends_the_layer(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    commands = ("cd /tmp && { (exit 3) || { false && true; }; }", "touch /repo/tree/made || true")
    layer = Layer(name="dependencies", source="package.json", commands=commands)
    with pytest.raises(BuildFailed, match=r"dependencies \(package\.json\) can't be installed"):
        await seen(sandbox_image, make_tree(tmp_path / "tree"), Recipe(layers=(layer,)), repository)


async def test_a_build_that_fails_with_an_older_toolchain_than_is_asked_for_tells_of_it(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    layer = Layer(name="dependencies", source="package.json", commands=("echo obscure; exit 3",))
    asked = Asked(tool="python3", wanted=">=99.1", source="pyproject.toml", least=(99, 1))
    recipe = Recipe(layers=(layer,), asked=(asked,), setup="npm install")
    with pytest.raises(BuildFailed) as caught:
        await seen(sandbox_image, make_tree(tmp_path / "tree"), recipe, repository)
    assert re.fullmatch(r"pyproject\.toml asks for Python >=99\.1, and 3\.\d+\.\d+ is there", caught.value.why)
    assert caught.value.image == "python:99.1"
    assert caught.value.log == "obscure"
    assert caught.value.setup == "", "the same would fail again"


async def test_an_outage_does_not_hide_that_a_toolchain_is_too_old(tmp_path: Path, repository: str) -> None:
    layer = Layer(name="dependencies", source="package.json", commands=("npm ci",))
    asked = Asked(tool="node", wanted=">=22", source="package.json", least=(22,))
    plan = Plan(Recipe(layers=(layer,), asked=(asked,)), repository)
    builder = build.Builder(
        docker.APIClient("tcp://127.0.0.1:1", version="1.41"), SandboxSettings(), tmp_path, plan, ""
    )
    printed = "npm error network request failed, reason: connect ETIMEDOUT\ntroop-tool node v18.20.4\n"
    trouble = builder._trouble(layer, 1, None, printed, "image", memory=False)
    assert isinstance(trouble, SandboxError)
    assert "; besides, package.json asks for Node >=22, and 18.20.4 is there; TROOP_SANDBOX_BUILD" in str(trouble)


async def test_what_a_layer_lacks_of_the_system_is_installed_once(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "installing", lambda packages: f"echo {packages} >> installed.txt")
    told: list[str] = []
    compiles = Layer(
        name="project",
        source="setup.py",
        commands=("grep -q build-essential installed.txt || { echo gcc: not found; exit 1; }",
                  "grep -q libffi-dev installed.txt || { echo ffi.h: No such file; exit 1; }"),
    )  # fmt: skip
    source = make_tree(tmp_path / "tree")

    async def said(recipe: Recipe) -> str:
        sandbox = await DockerSandbox.open(settings(sandbox_image), source, plan=Plan(recipe, repository, told.append))
        try:
            return (await sandbox.run(command("cat", "installed.txt"))).output
        finally:
            await sandbox.close()

    installed = "build-essential\nlibffi-dev build-essential\n"
    assert await said(Recipe(layers=(compiles,))) == installed
    assert told[1:] == [
        "a C compiler is missing in the image: installing build-essential",
        "the headers of libffi are missing in the image: installing libffi-dev build-essential",
    ]
    assert await said(Recipe(layers=(compiles,))) == installed
    assert len(told) == 3, "it is cached as the layer"
    lacks = Layer(name="project", source="setup.py", commands=("echo cmake: not found; exit 1",))
    with pytest.raises(BuildFailed, match="CMake is missing"):
        await said(Recipe(layers=(lacks,)))
    assert told[4:] == ["CMake is missing in the image: installing cmake build-essential"]
    with pytest.raises(BuildFailed, match="`setup` command failed"):
        await said(setup("echo cmake: not found; exit 1"))
    assert len(told) == 6, "a setup is the repository's own word"


async def test_an_allowed_image_that_has_the_toolchain_by_its_name_is_taken(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    client.tag(sandbox_image, "golang", "troop-test")
    told: list[str] = []
    plan = Plan(Recipe(layers=(Layer(name="go", source="go.mod", commands=("true",), programs=("go",)),)), repository,
                told.append)  # fmt: skip
    allowed = settings(sandbox_image, images_allowed=("rust:1", "golang:troop-test"))
    try:
        with pytest.raises(BuildFailed, match="the image golang:troop-test has no `go`"):  # it is the same in truth
            await DockerSandbox.open(allowed, make_tree(tmp_path / "tree"), plan=plan)
    finally:
        client.remove_image("golang:troop-test")
    assert told[1] == f"the image {sandbox_image} has no `go`: taking golang:troop-test"


@pytest.mark.parametrize(("network", "defaults"), [("none", 0), ("open", 1)])
async def test_the_operator_may_open_or_cut_the_network_of_builds(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str, network: str, defaults: int
) -> None:
    line = "cat /proc/net/route > built.txt"
    said = await seen(sandbox_image, make_tree(tmp_path / "tree"), setup(line), repository, build_network=network)
    rows = [line.split() for line in said.splitlines()[1:]]
    assert sum(row[1] == "00000000" for row in rows) == defaults
    assert not any(int(row[3], 16) & 0x200 for row in rows)


async def test_a_registry_that_is_down_is_no_fault_of_the_repository(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    source = make_tree(tmp_path / "tree")
    before = built(client)
    pip = "python3 -m pip install --retries 1 --index-url http://127.0.0.1:1/simple attrs"
    with pytest.raises(SandboxError, match="a package registry can't be reached"):
        await seen(sandbox_image, source, setup(pip), repository)
    wanted = Layer(name="pytest", source="the test files", commands=(f"echo 1 > built.txt; {pip}",), optional=True)
    assert "No such file" in await seen(
        sandbox_image, source, Recipe(layers=(wanted,)), repository, "cat built.txt 2>&1"
    )
    assert built(client) == before, "it is tried again the next time"


async def test_attack_34_a_build_that_floods_its_log_is_bounded(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    flood = "yes 'a line that says nothing' | head -c 20000000; head -c 5000000 /dev/zero | tr '\\0' x; exit 1"
    with pytest.raises(BuildFailed) as caught:
        await seen(sandbox_image, make_tree(tmp_path / "tree"), setup(flood), repository)
    assert 100 < len(caught.value.log) <= 6000


async def test_attack_34_a_build_that_leaves_too_much_is_the_repositorys(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = containers.host_options

    def small(*given: Any) -> dict[str, Any]:
        return {**whole(*given), "tmpfs": {"/tmp": "mode=1777", "/repo": "size=8m,exec"}}

    monkeypatch.setattr(containers, "host_options", small)
    with pytest.raises(BuildFailed, match="the tree does not fit into /repo"):
        await seen(sandbox_image, make_tree(tmp_path / "tree"), setup("head -c 16000000 /dev/zero > big"), repository)


async def test_attack_34_a_build_that_removes_what_every_job_needs_is_the_repositorys(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    with pytest.raises(BuildFailed, match=r"build leaves can't be tested: .* timeout"):
        await seen(sandbox_image, make_tree(tmp_path / "tree"), setup("rm /usr/bin/timeout"), repository)


def test_a_network_is_opened_though_the_sdk_loses_what_a_quick_command_prints(
    sandbox_image: str, client: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "exec_start", lambda *_, **__: b"")
    network = BuildNetwork(client, sandbox_image, settings(sandbox_image), docker_engine.labels("build", 600))
    network.close()
    assert network.mode.startswith("container:")


def begun(told: list[str]) -> list[str]:
    """What was told of layers when they began, whatever they took."""
    return [words for words in told if "), for " not in words]


async def test_a_layer_that_takes_long_tells_for_how_long_and_what_it_printed_last(
    sandbox_image: str, tmp_path: Path, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "_TICK", 0.1)
    token = "ghp_" + "a1B2" * 9
    slow = Layer(name="slow", source="a", commands=(f"printf '1 of 9\\r2 of 9 with {token}\\n'", "sleep 71234568"))
    told: list[str] = []
    plan = Plan(Recipe(layers=(slow,)), repository, told.append)
    opening = asyncio.create_task(DockerSandbox.open(settings(sandbox_image), make_tree(tmp_path / "tree"), plan=plan))
    late = re.compile(r"building the image: slow \(a\), for \d+ s: 2 of 9 with (?!ghp_)\S.*")
    await eventually(lambda: any(map(late.fullmatch, told)))
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


async def test_a_build_that_is_cancelled_leaves_nothing(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    layers = (
        Layer(name="slow", source="a", commands=("sleep 71234567",), optional=True),
        Layer(name="next", source="b", commands=("sleep 71234567",)),
    )
    told: list[str] = []
    plan = Plan(Recipe(layers=layers), repository, told.append)
    opening = asyncio.create_task(DockerSandbox.open(settings(sandbox_image), make_tree(tmp_path / "tree"), plan=plan))
    await eventually(lambda: running("71234567"))
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert begun(told) == ["building the image: slow (a)"], "no layer is begun any more"
    assert not running("71234567")


async def test_an_optional_layer_that_fails_is_left_out_and_not_tried_again(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    source = make_tree(tmp_path / "tree")
    told: list[str] = []
    kept: list[Build] = []
    token = "ghp_" + "a1B2" * 9
    layers = (
        Layer(name="first", source="a", commands=(UNIQUE, f"echo fetched with {token}")),
        Layer(name="extra", source="b", commands=("echo no such thing; exit 1",), optional=True),
    )
    for _ in range(2):
        plan = Plan(Recipe(layers=layers, found="two layers"), repository, told.append, kept.append)
        sandbox = await DockerSandbox.open(settings(sandbox_image), source, plan=plan)
        assert (await sandbox.run(command("test", "-s", "built.txt"))).passed
        await sandbox.close()
    assert begun(told) == ["building the image: first (a)", "building the image: extra (b)"]
    first, extra = kept  # the second time both come from the cache
    assert (first.layer, first.source, first.recipe, first.trouble) == ("first", "a", "two layers", "")
    assert first.seconds > 0
    assert "fetched with" in first.log
    assert token not in first.log
    assert "can't be installed" in extra.trouble
    assert "no such thing" in extra.log


async def test_compiled_things_are_older_than_another_commits_files(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    """Compilers go by times: what was built from one commit must never pass for built from another."""
    source = make_tree(tmp_path / "tree")
    (source / "a.c").write_text("1")
    recipe = Recipe(layers=(Layer(name="objects", source="a", commands=("touch a.o",)),))
    newer = "[ a.o -nt a.c ] && echo fresh || echo stale"
    assert await seen(sandbox_image, source, recipe, repository, newer) == "fresh\n"
    (source / "a.c").write_text("2")
    os.utime(source / "a.c", (0, 0))
    assert await seen(sandbox_image, source, recipe, repository, newer) == "stale\n"


async def test_the_home_of_the_build_is_the_home_of_the_tests(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    line = "mkdir -p ~/.cache/x ~/.local/bin && echo kept > ~/.cache/x/y && cp /bin/true ~/.local/bin/mine"
    said = await seen(
        sandbox_image, make_tree(tmp_path / "tree"), setup(line), repository,
        "cat ~/.cache/x/y && touch ~/.cache/x/z && mine && echo ran; rm ~/.cache/x/y; cat /opt/troop/home/.cache/x/y",
    )  # fmt: skip
    assert said == "kept\nran\nkept\n"


async def test_large_modules_of_node_are_linked_and_the_repositorys_own_packages_are_those_under_test(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient, repository: str
) -> None:
    source = make_tree(tmp_path / "tree")
    (source / "packages" / "mine").mkdir(parents=True)
    (source / "packages" / "mine" / "index.js").write_text("mine")
    line = (
        "mkdir -p node_modules/big node_modules/@me node_modules/.bin && "
        "head -c 70000000 /dev/zero > node_modules/big/x"
        " && ln -s ../../packages/mine node_modules/@me/mine && ln -s ../big/x node_modules/.bin/x"
        " && mkdir -p node_modules/.cache/tool && touch node_modules/.cache/tool/old"
    )
    said = await seen(
        sandbox_image, source, setup(line), repository,
        "readlink node_modules/big; cd node_modules/@me/mine && pwd -P; cat index.js; "
        "test -s /repo/tree/node_modules/.bin/x && echo there; "
        "mkdir /repo/tree/node_modules/.cache && echo writes; "  # as runners of tests do
        "du -sk /repo/tree | cut -f1 | sed 's/..../large/'",
    )  # fmt: skip
    lines = said.split()
    assert lines[:2] == ["/opt/troop/linked/./node_modules/big", "/repo/tree/packages/mine"]
    assert "mine" in lines[2]
    assert "there\nwrites\n" in said
    assert "large" not in said, "not copied for each job"


# -- what a killed worker left


def gone_process() -> str:
    """The label of a process of this machine that has ended."""
    boot, namespace, _, _, container, made = owner.this().split()
    return f"{boot} {namespace} {os.getpid()} 1 {container} {made}"


async def test_fault_what_a_killed_worker_left_is_swept(sandbox_image: str, client: docker.APIClient) -> None:
    labels = docker_engine.labels("sandbox", 3600)
    left = client.create_container(sandbox_image, ["true"], labels={**labels, docker_engine.OWNER: gone_process()})[
        "Id"
    ]
    ours = client.create_container(sandbox_image, ["true"], labels=labels)["Id"]
    for purpose in ("tree", docker_engine.CACHED):
        marks = {**docker_engine.labels(purpose, 3600), docker_engine.OWNER: gone_process()}
        images.commit(client, ours, f"{docker_engine.CACHE}:{purpose}", marks)
    try:
        docker_engine.sweep(client)
        there = {container["Id"] for container in client.containers(all=True)}
        assert left not in there
        assert ours in there
        assert f"{docker_engine.CACHE}:tree" not in built(client), "the tree of a run that is gone"
        assert f"{docker_engine.CACHE}:setup" in built(client), "the cache outlives its maker"
    finally:
        client.remove_container(ours)


_OPENED = """
import asyncio, sys
from pathlib import Path
from bot.records import SandboxJob
from bot.sandbox.pool import DockerSandbox
from bot.settings import SandboxSettings

async def main():
    settings = SandboxSettings(kind="docker", image=sys.argv[1], concurrency=1)
    opened = await DockerSandbox.open(settings, Path(sys.argv[2]))
    assert (await opened.run(SandboxJob(command=("true",)))).passed
    print(opened._run, opened._image, flush=True)
    await asyncio.sleep(float(sys.argv[3]))

asyncio.run(main())
"""


def test_fault_a_worker_that_was_killed_by_sigkill_leaves_nothing_beyond_the_next_start(
    sandbox_image: str, tmp_path: Path, client: docker.APIClient
) -> None:
    argv = [sys.executable, "-c", _OPENED, sandbox_image, str(make_tree(tmp_path / "tree")), str(PATIENCE)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout is not None
            run, image = worker.stdout.readline().split()
            mine = {"label": f"troop.run={run}"}
            prepare_sandbox(settings(sandbox_image)).join()
            assert client.containers(all=True, filters=mine), "that of a living one stays"
        finally:
            worker.kill()
    prepare_sandbox(settings(sandbox_image)).join()
    assert not client.containers(all=True, filters=mine)
    assert image not in {one["Id"] for one in client.images(all=True)}


def test_the_cache_is_bounded_by_last_use(
    sandbox_image: str, client: docker.APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "_IN_USE", -1.0)
    monkeypatch.setattr(docker_engine, "CACHED", "setup-test")
    container = client.create_container(
        sandbox_image, entrypoint=["sh", "-c", "head -c 3000000 /dev/urandom > /kept"], command=[]
    )["Id"]
    client.start(container)
    assert client.wait(container)["StatusCode"] == 0
    names = [f"{docker_engine.CACHE}:{n}" for n in range(3)]
    try:
        for name in names:
            images.commit(client, container, name, {**docker_engine.labels("setup-test", 600), "n": name})
        client.tag(names[0], *names[0].split(":"))  # used last
        assert docker_engine.sweep_cache(client, 7_000_000) == 1
        left = {name for image in client.images() for name in image.get("RepoTags") or ()}
        assert names[0] in left
        assert names[1] not in left
        assert names[2] in left
    finally:
        client.remove_container(container)
        for name in names:
            if client.images(name):
                client.remove_image(name)


# -- without Docker


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b[31mred\x1b[0m\n", "red"),
        ("progress 1\rprogress 2\n", "progress 2"),
        ("a\u202eb\x00c", "abc"),
        ("token ghp_0123456789abcdef0123", "token [redacted]"),
        ("see https://user:pass-word@host/simple", "see https://[redacted]@host/simple"),
        ("its value: opensesame", "its value: [redacted]"),
        ("\x1b]0;title\x07text", "text"),
    ],
)
def test_the_log_of_a_build_is_cleaned(text: str, expected: str) -> None:
    assert cleaned(text, ["opensesame"]) == expected


@pytest.mark.parametrize(
    "said", ["{}", "https://u:{}@pypi.example/simple", "user is u:{}", "u:{}@pypi.example/simple/a"]
)
def test_attack_35_a_build_that_prints_a_part_of_what_it_was_given_shows_no_password(said: str) -> None:
    secrets = given_secrets(["PIP_INDEX_URL=https://u:a-long-password@pypi.example/simple", "CI=true"])
    assert "a-long-password" not in cleaned(said.format("a-long-password"), secrets)


def test_a_process_is_known_to_be_gone_only_where_that_is_certain() -> None:
    def nobody(container: str) -> float | None:
        raise AssertionError(container)

    assert not owner.is_gone(owner.this(), nobody)
    assert owner.is_gone(gone_process(), nobody)
    assert not owner.is_gone("", nobody)
    assert not owner.is_gone("another-boot pid:[1] 1 1 - 100", nobody), "perhaps another machine with the same daemon"
    inside = "another-boot pid:[1] 1 1 0123456789ab 100"
    assert owner.is_gone(inside, lambda name: None)
    assert owner.is_gone(inside, lambda name: 500.0), "the container was started again since"
    assert not owner.is_gone(inside, lambda name: 50.0)
