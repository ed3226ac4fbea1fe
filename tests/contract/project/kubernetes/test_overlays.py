"""Every overlay is whole: what it names is in it, or is a Secret that the page says how to make."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from serve_graph.access.keys import read_keys
from serve_graph.config.kubernetes.machines import MACHINES
from tests.contract.project.kubernetes.kustomize import NAMES, ROOT, Objects, of_kind, overlay, pod_templates

PAGE = (ROOT / "docs" / "operate" / "kubernetes.md").read_text()
MADE_BY_KUBERAY = {"serve-graph-serve-svc"}


def values(at: Any, key: str) -> Iterator[Any]:
    """Every value under a key, at any depth."""
    if isinstance(at, list):
        for each in at:
            yield from values(each, key)
    elif isinstance(at, dict):
        for name, value in at.items():
            if name == key:
                yield value
            yield from values(value, key)


def names(objects: Objects, kind: str) -> set[str]:
    return {each["metadata"]["name"] for each in of_kind(objects, kind)}


def test_there_are_the_four_overlays() -> None:
    assert NAMES == ["cpu-demo", "gpu", "hosted-frontier", "multi-tenant"]


@pytest.mark.parametrize("name", NAMES)
def test_no_two_objects_have_one_name(name: str) -> None:
    found = [(each["kind"], each["metadata"]["name"]) for each in overlay(name)]
    assert len(set(found)) == len(found)
    assert {each["metadata"].get("namespace") for each in overlay(name)} == {None, "serve-graph"}


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_and_config_map_that_a_pod_mounts_is_there(name: str) -> None:
    objects = overlay(name)
    claims = {each["claimName"] for each in values(objects, "persistentVolumeClaim")}
    assert claims <= names(objects, "PersistentVolumeClaim")
    assert {each["name"] for each in values(objects, "configMap")} <= names(objects, "ConfigMap")
    for where, template in pod_templates(objects).items():
        volumes = {volume["name"] for volume in template["spec"]["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in templates_of(objects, where)}
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, where
            folders = [(mount["mountPath"]) for mount in container["volumeMounts"]]
            assert len(set(folders)) == len(folders), where


def templates_of(objects: Objects, where: str) -> list[dict[str, Any]]:
    found = [each for each in objects if f"{each['kind']}/{each['metadata']['name']}" == where]
    claims: list[dict[str, Any]] = found[0]["spec"].get("volumeClaimTemplates", []) if found else []
    return claims


@pytest.mark.parametrize("name", NAMES)
def test_every_secret_with_every_key_is_one_that_the_page_makes(name: str) -> None:
    objects = overlay(name)
    needed = {
        (each["name"], each["key"]) for each in values(objects, "secretKeyRef") if not each.get("optional", False)
    }
    needed |= {(each["name"], each["key"]) for each in values(objects, "credentials")}
    needed |= {(each["secretName"], "keys.yaml") for each in values(objects, "secret")}
    made = re.findall(r"create secret generic (\S+) ((?:.|\\\n)*?)(?=\n\S|\n```)", PAGE)
    given = {(secret, key) for secret, text in made for key in re.findall(r"--from-(?:literal|file)=([\w.-]+)", text)}
    assert needed <= given


@pytest.mark.parametrize("name", NAMES)
def test_routes_lead_to_services_that_are_there(name: str) -> None:
    objects = overlay(name)
    aims = {ref["name"] for refs in values(objects, "backendRefs") for ref in refs}
    assert aims <= names(objects, "Service") | MADE_BY_KUBERAY
    for service in of_kind(objects, "Service"):
        if "selector" in service["spec"]:
            labels = [each["metadata"]["labels"] for each in pod_templates(objects).values()]
            assert any(service["spec"]["selector"].items() <= each.items() for each in labels), service


@pytest.mark.parametrize("name", NAMES)
def test_a_gateway_is_made_once_by_kuberay_or_by_us(name: str) -> None:
    objects = overlay(name)
    kuberays = (
        of_kind(objects, "RayService")[0]["spec"]["upgradeStrategy"]["type"] == "NewClusterWithIncrementalUpgrade"
    )
    assert len(of_kind(objects, "HTTPRoute")) == len(of_kind(objects, "Gateway")) == (0 if kuberays else 1)


def test_gpu_tiers_have_worker_groups_of_their_own_within_the_quota() -> None:
    objects = overlay("multi-tenant")
    groups = of_kind(objects, "RayService")[0]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    gpus = {
        group["groupName"]: int(limits["nvidia.com/gpu"]) * group["maxReplicas"] * group["numOfHosts"]
        for group in groups
        if "nvidia.com/gpu" in (limits := group["template"]["spec"]["containers"][0]["resources"]["limits"])
    }
    assert set(gpus) == {"cheap", "frontier"}
    quota = of_kind(objects, "ResourceQuota")[0]["spec"]["hard"]
    assert int(quota["requests.nvidia.com/gpu"]) >= 1.5 * sum(gpus.values())


def test_the_tenants_file_is_one_of_access_keys_with_limits_and_budgets() -> None:
    keys = read_keys(ROOT / "k8s" / "overlays" / "multi-tenant" / "tenants.yaml")
    assert sum("admin" in key.scopes for key in keys) == 1
    tenants = [key for key in keys if "admin" not in key.scopes]
    assert len(tenants) >= 2
    assert all(key.has_budget and key.requests_per_min for key in tenants)


def test_the_page_names_every_machine() -> None:
    assert [name for name in MACHINES if f"`{name}`" not in PAGE] == []


def test_every_configuration_inside_is_the_one_that_is_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve_graph.config.graph import load_config

    monkeypatch.setenv("SERVE_GRAPH_STORE_URL", "postgresql://u@db/x")
    monkeypatch.setenv("SERVE_GRAPH_REGISTRY_URI", "http://mlflow:5000")
    for name in NAMES:
        maps = [each for each in of_kind(overlay(name), "ConfigMap") if "graph.yaml" in each["data"]]
        path = tmp_path / f"{name}.yaml"
        path.write_text(maps[0]["data"]["graph.yaml"])
        assert load_config(path).nodes == "several"
        assert yaml.safe_load(maps[0]["data"]["graph.yaml"])["tiers"]


@pytest.mark.parametrize(
    ("host", "allowed"), [("mlflow:5000", True), ("mlflow", True), ("10.4.2.1:5000", True), ("evil.example", False)]
)
def test_mlflow_answers_to_the_name_that_the_graph_calls_it_by(host: str, allowed: bool) -> None:
    utils = pytest.importorskip("mlflow.server.security_utils")
    (server,) = [each for each in of_kind(overlay("gpu"), "Deployment") if each["metadata"]["name"] == "mlflow"]
    env = server["spec"]["template"]["spec"]["containers"][0]["env"]
    hosts = next(one["value"] for one in env if one["name"] == "MLFLOW_SERVER_ALLOWED_HOSTS").split(",")
    assert utils.is_allowed_host_header(hosts, host) is allowed


@pytest.mark.parametrize("name", ["cpu-demo", "hosted-frontier"])
def test_the_page_says_what_an_overlay_takes_at_most(name: str) -> None:
    (row,) = re.findall(rf"^\| `{name}` .*?(\d+) CPUs and (\d+) GiB", PAGE, re.MULTILINE)
    cpus, memory = asked_at_most(overlay(name))
    assert cpus <= float(row[0]) < cpus + 2
    assert memory <= float(row[1]) < memory + 4


def asked_at_most(objects: Objects) -> tuple[float, float]:
    """CPUs and GiB that all pods ask for once every group is at its largest."""
    (service,) = of_kind(objects, "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    most = {
        f"RayService/serve-graph/{g['groupName']}": g["maxReplicas"] * g["numOfHosts"]
        for g in cluster["workerGroupSpecs"]
    }
    asked = [
        (most.get(where, 1), container["resources"]["requests"])
        for where, template in pod_templates(objects).items()
        for container in template["spec"]["containers"]
    ]
    asked.append((1, cluster["autoscalerOptions"]["resources"]["requests"]))
    cpus = sum(number * quantity(each["cpu"]) for number, each in asked)
    return cpus, sum(number * quantity(each["memory"]) for number, each in asked) / 2**30


def quantity(text: str) -> float:
    units = {"m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30}
    number, unit = re.fullmatch(r"([\d.]+)(\D*)", text).groups()  # type: ignore[union-attr]
    return float(number) * units.get(unit, 1.0)
