"""What the cluster gets: valid, unprivileged, with room to stop in, and never more connections than there are."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate.utils import ValidationError, validate

from growth.plumbing.settings import variables
from growth.plumbing.work.periodic import STOP_SECONDS
from growth.serving import DRAIN_SECONDS
from tests.k8s.render import K8S, Manifest, containers, documents, named, pod_of, render

VERSION = "1.34"
OVERLAYS = sorted(path.parent for path in (K8S / "overlays").glob("*/kustomization.yaml"))
EXAMPLES = sorted((K8S / "examples").glob("*.yaml"))
OF_OTHERS = ("monitoring.coreos.com/", "keda.sh/", "postgresql.cnpg.io/")
"""Kinds whose schemas their operators bring."""
ENDING_SECONDS = 10
"""For what follows the last answer: claims whose shoppers hung up are written, pools are closed."""


@pytest.fixture(params=OVERLAYS, ids=lambda path: path.name)
def overlay(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def is_of_kubernetes(one: Manifest) -> bool:
    return not one["apiVersion"].startswith(OF_OTHERS)


def faults_of(one: Manifest) -> list[str]:
    try:
        validate(one, VERSION, strict=True)
    except ValidationError as error:
        return [f"{one['kind']} {one['metadata']['name']}: {error.message}"]
    return []


def test_every_manifest_is_what_kubernetes_expects(overlay: Path) -> None:
    assert [fault for one in render(overlay) if is_of_kubernetes(one) for fault in faults_of(one)] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_what_kubernetes_expects(path: Path) -> None:
    found = documents(path)
    assert [fault for one in found if is_of_kubernetes(one) for fault in faults_of(one)] == []
    assert all(one["metadata"]["namespace"] == "growth" for one in found)


def test_a_manifest_with_a_typing_error_is_seen() -> None:
    one = named(render(K8S / "base"), "Deployment", "growth-api")
    one["spec"]["replica"] = 2
    assert faults_of(one)


def test_keda_can_be_added() -> None:
    patched = (K8S / "components" / "keda" / "kustomization.yaml").read_text(encoding="utf-8")
    target = yaml.safe_load(patched)["patches"][0]["target"]
    assert "replicas" in named(render(K8S / "base"), target["kind"], target["name"])["spec"]
    (scaled,) = documents(K8S / "components" / "keda" / "worker.yaml")
    assert scaled["spec"]["scaleTargetRef"]["name"] == target["name"]


def test_no_container_may_do_more_than_it_must(overlay: Path) -> None:
    found = render(overlay)
    assert containers(found)
    for container in containers(found):
        rights = container["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["readOnlyRootFilesystem"] is True
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert re.fullmatch(r"[\w.-]+(/[\w.-]+)*:\d+\.\d+\.\d+", container["image"]), "an image has a version"
    for pod in filter(None, map(pod_of, found)):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False


def test_what_runs_has_the_user_of_the_image(overlay: Path) -> None:
    text = (K8S.parent / "Dockerfile").read_text(encoding="utf-8")
    user = re.search(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
    assert user
    for pod in filter(None, map(pod_of, render(overlay))):
        assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == tuple(
            map(int, user.groups())
        )


@pytest.mark.parametrize(("name", "needs"), [("growth-api", DRAIN_SECONDS), ("growth-worker", STOP_SECONDS)])
def test_a_pod_has_longer_to_stop_than_stopping_takes(overlay: Path, name: str, needs: float) -> None:
    pod = pod_of(named(render(overlay), "Deployment", name))
    before = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert pod["terminationGracePeriodSeconds"] >= before + needs + ENDING_SECONDS


def test_the_api_leaves_the_balancer_before_it_stops(overlay: Path) -> None:
    pod = pod_of(named(render(overlay), "Deployment", "growth-api"))
    assert pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] >= 3


def test_probes_ask_what_the_service_answers(overlay: Path) -> None:
    for container in containers(render(overlay)):
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        for name in ("livenessProbe", "readinessProbe", "startupProbe"):
            if probe := container.get(name):
                assert probe["httpGet"]["path"] in {"/livez", "/readyz"}
                assert probe["httpGet"]["port"] in ports
        # A store that is away is no reason to restart: that would only add a crowd that connects at once.
        if probe := container.get("livenessProbe"):
            assert probe["httpGet"]["path"] == "/livez"


def most_processes(found: list[Manifest], name: str) -> int:
    """How many pods of a workload run at once at most, while it is rolled out."""
    one = named(found, "Deployment", name)
    scalers = [scaler["spec"] for scaler in found if scaler["kind"] == "HorizontalPodAutoscaler"]
    most = [int(scaler["maxReplicas"]) for scaler in scalers if scaler["scaleTargetRef"]["name"] == name]
    replicas: int = most[0] if most else one["spec"]["replicas"]
    surge: int = one["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
    return replicas + surge


def connections(found: list[Manifest]) -> int:
    config = named(found, "ConfigMap", "growth")["data"]
    pods = most_processes(found, "growth-api") + most_processes(found, "growth-worker")
    return pods * int(config["GROWTH_POSTGRES_MAX_CONNECTIONS"]) + 2


def capacity(found: list[Manifest]) -> int:
    """How many connections the store of the examples gives: Postgres' own, or the pooler's to its clients."""
    (cluster, *_) = documents(K8S / "examples" / "postgres.yaml")
    of_postgres = int(cluster["spec"]["postgresql"]["parameters"]["max_connections"])
    if named(found, "ConfigMap", "growth")["data"].get("GROWTH_POSTGRES_STATEMENT_CACHE") != "0":
        return of_postgres
    (pooler,) = documents(K8S / "examples" / "pgbouncer.yaml")
    said = pooler["spec"]["pgbouncer"]["parameters"]
    assert int(said["default_pool_size"]) * pooler["spec"]["instances"] < of_postgres
    return int(said["max_client_conn"])


def test_all_processes_together_ask_for_no_more_connections_than_there_are(overlay: Path) -> None:
    found = render(overlay)
    assert connections(found) <= capacity(found)


def test_too_many_processes_for_their_postgres_are_seen() -> None:
    found = render(K8S / "overlays" / "small")
    for one in found:
        if one["metadata"]["name"] == "growth-api" and one["kind"] == "Deployment":
            one["spec"]["replicas"] = 40
    assert connections(found) > capacity(found)


def variables_of(found: list[Manifest]) -> set[str]:
    names: set[str] = set()
    for one in found:
        if one["kind"] in {"ConfigMap", "Secret"}:
            data = one.get("data", {}) | one.get("stringData", {})
            names |= {name for name in data if name.startswith("GROWTH_")}
    return names | {entry["name"] for container in containers(found) for entry in container.get("env", [])}


def test_every_variable_that_is_set_exists(overlay: Path) -> None:
    known = {variable.name for variable in variables()}
    assert variables_of(render(overlay)) <= known
    assert variables_of(documents(K8S / "examples" / "secret.yaml")) <= known


def test_no_secret_is_in_the_open(overlay: Path) -> None:
    secret = {variable.name for variable in variables() if variable.secret}
    found = render(overlay)
    assert [one for one in found if one["kind"] == "Secret"] == []
    for one in found:
        if one["kind"] == "ConfigMap":
            assert not secret & one["data"].keys()
    for container in containers(found):
        assert all("value" not in entry for entry in container.get("env", []) if entry["name"] in secret)


def test_every_pod_is_behind_a_network_policy(overlay: Path) -> None:
    found = render(overlay)
    fences = [one["spec"]["podSelector"]["matchLabels"] for one in found if one["kind"] == "NetworkPolicy"]
    for one in found:
        if pod_of(one):
            labels = one["spec"]["template"]["metadata"]["labels"]
            assert any(fence.items() <= labels.items() for fence in fences), one["metadata"]["name"]


def test_selectors_find_their_pods(overlay: Path) -> None:
    found = render(overlay)
    pods = [one["spec"]["template"]["metadata"]["labels"] for one in found if one["kind"] == "Deployment"]

    def finds(selector: dict[str, Any]) -> bool:
        return any(selector.items() <= labels.items() for labels in pods)

    for one in found:
        if one["kind"] == "Service":
            assert finds(one["spec"]["selector"]), one["metadata"]["name"]
        if one["kind"] in {"Deployment", "PodDisruptionBudget"}:
            assert finds(one["spec"]["selector"]["matchLabels"]), one["metadata"]["name"]
