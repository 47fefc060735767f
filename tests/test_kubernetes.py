"""deploy/kubernetes, read: each manifest by the schemas of the API, and what they say of each other and the images."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from bot.settings.sources import _known
from bot.worker.process import ALIVE
from engine.cli import read
from tests.test_deploy import SERVICES, STAGES

FOLDER = Path(__file__).parent.parent / "deploy" / "kubernetes"
VERSIONS = ("1.29", kubernetes_validate.latest_version())  # the first one with sidecars, and the newest
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.name != "kustomization.yaml")
KUSTOMIZATIONS = sorted(FOLDER.rglob("kustomization.yaml"))
TEXTS = {path: list(yaml.safe_load_all(path.read_text())) for path in FILES}
KINDS = ("Deployment", "StatefulSet", "CronJob")
PART = "app.kubernetes.io/component"


def found(kind: str, path: Path | None = None) -> Iterator[dict[str, Any]]:
    for file, documents in TEXTS.items():
        yield from (document for document in documents if document["kind"] == kind and path in (None, file))


def workloads() -> list[Any]:
    made = [(path, one) for path in FILES for kind in KINDS for one in found(kind, path)]
    return [pytest.param(one, id=f"{path.parent.name}-{one['metadata']['name']}") for path, one in made]


def template(workload: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = workload["spec"]
    made: dict[str, Any] = (spec["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else spec)["template"]
    return made


def pod(workload: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = template(workload)["spec"]
    return spec


def container(workload: dict[str, Any]) -> dict[str, Any]:
    [one] = pod(workload)["containers"]
    return dict(one)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_manifest_is_what_the_api_takes(path: Path, version: str) -> None:
    for document in TEXTS[path]:
        kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_is_noticed() -> None:
    [service] = found("Service", FOLDER / "base" / "web.yaml")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service | {"spec": {"prots": []}}, VERSIONS[0], strict=True)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_each_kustomization_names_what_is_there_and_all_of_it(path: Path) -> None:
    said = yaml.safe_load(path.read_text())
    assert set(said) <= {
        *("apiVersion", "kind", "namespace", "resources", "components", "images", "configMapGenerator"),
        *("secretGenerator", "replicas", "patches"),
    }
    component = path.parent.name not in ("base", "example")
    assert said["kind"] == ("Component" if component else "Kustomization")
    assert said["apiVersion"] == f"kustomize.config.k8s.io/v1{'alpha1' if component else 'beta1'}"
    for name in (*said.get("resources", ()), *said.get("components", ())):
        target = path.parent / name
        assert target.is_file() or (target / "kustomization.yaml").is_file(), name
    beside = {one.name for one in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
    assert beside == {name for name in said.get("resources", ()) if name.endswith(".yaml")}
    for generator in said.get("configMapGenerator", ()):
        assert all((path.parent / name).is_file() for name in generator.get("envs", ()))


def test_every_setting_is_one() -> None:
    said = yaml.safe_load((FOLDER / "example" / "kustomization.yaml").read_text())
    names = {line.partition("=")[0] for one in said["configMapGenerator"] for line in one["literals"]}
    names |= {Path(file).name.upper() for one in said["secretGenerator"] for file in one["files"]}
    lines = (FOLDER / "base" / "settings.env").read_text().splitlines()
    names |= {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    for path in FILES:
        names |= set(re.findall(r"\bTROOP_[A-Z_]+\b", path.read_text()))
    assert names <= set(_known()), names - set(_known())


def test_what_is_referred_to_is_there() -> None:
    said = yaml.safe_load((FOLDER / "example" / "kustomization.yaml").read_text())
    made = {one["name"] for one in (*said["configMapGenerator"], *said["secretGenerator"])} | {"troop-docker"}
    text = "\n".join(path.read_text() for path in FILES)
    for name in re.findall(r"(?:secretName|configMapRef:\s+name): (\S+)", text):
        assert name in made | {"troop-tls"}
    for name in re.findall(r"configMapRef:\s+name: (\S+)", text):
        assert name in made
    # What the overlay changes is there under that name.
    images = {container(one)["image"] for kind in KINDS for one in found(kind)}
    assert {one["name"] for one in said["images"]} <= images == {"troop-bot", "troop-engine-cpu", "troop-engine-cuda"}
    built = {re.sub(r"\$\{\w+:-([^}]*)\}.*", r"\1", one["image"]) for one in SERVICES.values() if "build" in one}
    assert images == built  # under the names that compose gives them
    assert {one["name"] for one in said["replicas"]} <= {one["metadata"]["name"] for one in found("Deployment")}
    assert {one["target"]["name"] for one in said["patches"]} == {one["metadata"]["name"] for one in found("Ingress")}


@pytest.mark.parametrize("workload", workloads())
def test_what_runs_is_hardened_as_in_compose(workload: dict[str, Any]) -> None:
    spec, one = pod(workload), container(workload)
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == int(re.findall(r"--uid (\d+)", STAGES["runtime"][1])[0])
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in one["resources"]["limits"]
    assert "memory" in one["resources"]["requests"]
    labels = template(workload)["metadata"]["labels"]
    assert labels == workload["metadata"]["labels"]
    if workload["kind"] != "CronJob":
        assert "livenessProbe" in one
        assert workload["spec"]["selector"]["matchLabels"] == labels
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
    used = [one, *spec.get("initContainers", ())]
    assert {mount["name"] for each in used for mount in each["volumeMounts"]} == volumes


@pytest.mark.parametrize("workload", workloads())
def test_who_gets_secrets_and_a_docker_engine(workload: dict[str, Any]) -> None:
    part = workload["metadata"]["labels"][PART]
    secrets = {volume["secret"]["secretName"] for volume in pod(workload)["volumes"] if "secret" in volume}
    assert "troop-secrets" in secrets if part in ("web", "worker", "backup") else not secrets
    text = yaml.safe_dump(workload)
    assert ("DOCKER_" in text or "docker" in text) == (part == "worker")
    assert "hostPath" not in text
    privileged = [one for one in pod(workload).get("initContainers", ()) if one["securityContext"].get("privileged")]
    assert all(one["restartPolicy"] == "Always" for one in privileged)
    assert "envFrom" in container(workload) if part != "engine" else "envFrom" not in container(workload)


def test_commands_and_probes_are_those_of_compose() -> None:
    for path, service in (("base/web.yaml", "web"), ("worker-docker-host/worker.yaml", "worker")):
        [workload] = found("Deployment", FOLDER / path)
        assert container(workload)["args"] == SERVICES[service]["command"]
    [sidecar] = found("Deployment", FOLDER / "worker-docker-sidecar" / "worker.yaml")
    assert f"find {ALIVE} -mmin -1" in container(sidecar)["livenessProbe"]["exec"]["command"][2]
    for engine in found("StatefulSet"):
        assert " ".join(container(engine)["args"]) == SERVICES["engine-cpu"]["command"].partition(" ${")[0]
        assert container(engine)["livenessProbe"]["httpGet"]["path"] == "/health"
    [docker] = pod(sidecar)["initContainers"]
    [address] = [one["value"] for one in container(sidecar)["env"] if one["name"] == "DOCKER_HOST"]
    assert f"--host={address}" in docker["args"]
    assert f"--group={pod(sidecar)['securityContext']['runAsGroup']}" in docker["args"]


def test_services_policies_and_the_ingress_select_what_is_there() -> None:
    made = [one for kind in ("Deployment", "StatefulSet") for one in found(kind)]
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in made]
    ports = {one["metadata"]["name"]: {port["name"]: port for port in one["spec"]["ports"]} for one in found("Service")}
    for service in found("Service"):
        assert service["spec"]["selector"] in labels
        [name] = {one["metadata"]["name"] for one in made if one["metadata"]["labels"] == service["spec"]["selector"]}
        for one in made:
            if one["metadata"]["name"] == name:
                exposed = {port["name"]: port["containerPort"] for port in container(one)["ports"]}
                assert exposed == {port["name"]: port["port"] for port in service["spec"]["ports"]}
    for policy in (*found("NetworkPolicy"), *found("PodDisruptionBudget")):
        selector = policy["spec"].get("podSelector") or policy["spec"]["selector"]
        assert selector["matchLabels"] in labels
    [ingress] = found("Ingress")
    for path in ingress["spec"]["rules"][0]["http"]["paths"]:
        service = path["backend"]["service"]
        assert service["port"]["name"] in ports[service["name"]]
    settings = (FOLDER / "base" / "settings.env").read_text()
    assert f"http://engine:{ports['engine']['http']['port']}/v1" in settings


def test_replicas_are_engine_cuda_with_a_gpu_for_each() -> None:
    said = yaml.safe_load((FOLDER / "engine-replicas" / "kustomization.yaml").read_text())
    assert said["components"] == ["../engine-cuda"]
    [engine] = copy.deepcopy(list(found("StatefulSet", FOLDER / "engine-cuda" / "engine.yaml")))
    [patch] = said["patches"]
    assert patch["target"] == {"kind": "StatefulSet", "name": engine["metadata"]["name"]}
    for one in yaml.safe_load(patch["patch"]):  # as JSON patches (RFC 6902)
        *parts, last = [part.replace("~1", "/") for part in one["path"].split("/")[1:]]
        place: Any = engine
        for part in parts:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if last == "-":
            place.append(one["value"])
        else:
            assert last in place
            place[last] = one["value"]
    for version in VERSIONS:
        kubernetes_validate.validate(engine, version, strict=True)
    one = container(engine)
    settings = read(one["args"][1:])
    assert str(settings.replicas) == one["resources"]["limits"]["nvidia.com/gpu"]
