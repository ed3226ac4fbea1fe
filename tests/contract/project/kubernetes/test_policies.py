"""What every pod of every overlay keeps: the pod security standard `restricted`, limits, probes, policies, budgets."""

import re
from typing import Any

import pytest
import yaml

from tests.contract.project.kubernetes.kustomize import NAMES, Objects, of_kind, overlay, pod_templates, selects

SECRETIVE = re.compile(r"password|secret|token|api_?key|credential|_key$|_url$|_uri$", re.IGNORECASE)
HARMLESS = {"MLFLOW_SERVER_ALLOWED_HOSTS"}
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}


def faults(objects: Objects) -> list[str]:
    """Every rule that an overlay breaks, with who breaks it."""
    found = []
    for where, template in pod_templates(objects).items():
        pod = template["spec"]
        found += [f"{where}: {fault}" for fault in pod_faults(pod)]
        for container in pod["containers"]:
            found += [f"{where}/{container['name']}: {fault}" for fault in container_faults(container)]
        if not where.startswith("Job/"):
            for container in pod["containers"]:
                found += [
                    f"{where}: no {probe}" for probe in ("readinessProbe", "livenessProbe") if probe not in container
                ]
    found += [*network_faults(objects), *budget_faults(objects), *secret_faults(objects)]
    return [*found, *side_faults(objects), *leaving_faults(objects)]


def pod_faults(pod: dict[str, Any]) -> list[str]:
    found = []
    security = pod["securityContext"]
    if security.get("runAsNonRoot") is not True or not security.get("runAsUser", 0) > 0:
        found.append("may run as root")
    if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
        found.append("no seccomp profile")
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        found.append("shares the host's namespaces")
    for volume in pod["volumes"]:
        if not set(volume) - {"name"} <= VOLUMES:
            found.append(f"volume {volume['name']} is of a kind that restricted forbids")
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            found.append(f"volume {volume['name']} has no limit")
    return found


def container_faults(container: dict[str, Any]) -> list[str]:
    found = []
    security = container.get("securityContext", {})
    if security.get("readOnlyRootFilesystem") is not True:
        found.append("root file system may be written")
    if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
        found.append("privileges may be gained")
    if security.get("capabilities") != {"drop": ["ALL"]}:
        found.append("capabilities are kept")
    image = container["image"]
    tag = image.rpartition("/")[2].partition(":")[2]
    if not tag or tag.startswith("latest"):
        found.append(f"image {image} is not pinned")
    resources = container.get("resources", {})
    found += [
        f"no {what} of {name}"
        for what in ("requests", "limits")
        for name in ("cpu", "memory")
        if name not in resources.get(what, {})
    ]
    return found + [
        f"{variable['name']} is written out"
        for variable in container.get("env", [])
        if "value" in variable and variable["name"] not in HARMLESS and SECRETIVE.search(variable["name"])
    ]


def network_faults(objects: Objects) -> list[str]:
    policies = of_kind(objects, "NetworkPolicy")
    found = []
    denied = [each for each in policies if each["spec"]["podSelector"] == {} and "ingress" not in each["spec"]]
    if not any(set(each["spec"]["policyTypes"]) == {"Ingress", "Egress"} for each in denied):
        found.append("no default deny")
    for where, template in pod_templates(objects).items():
        labels = template["metadata"]["labels"]
        own = [p for p in policies if p["spec"]["podSelector"] and selects(p["spec"]["podSelector"], labels)]
        if not own:
            found.append(f"{where}: no network policy of its own")
    named = [(policy["metadata"]["name"], policy["spec"]) for policy in policies]
    found += [
        f"{name}: lets everybody in"
        for name, spec in named
        for rule in spec.get("ingress", [])
        if "from" not in rule and name != "gateway"
    ]
    blocks = [
        (name, peer["ipBlock"])
        for name, spec in named
        for rule in spec.get("egress", [])
        for peer in rule["to"]
        if "ipBlock" in peer
    ]
    return found + [
        f"{name}: reaches the cloud's metadata"
        for name, block in blocks
        if block["cidr"] == "0.0.0.0/0" and "169.254.0.0/16" not in block["except"]
    ]


def budget_faults(objects: Objects) -> list[str]:
    budgets = [each["spec"]["selector"] for each in of_kind(objects, "PodDisruptionBudget")]
    found = []
    for each in objects:
        if each["kind"] == "RayService":
            several = {
                group["groupName"]: group["template"]["metadata"]["labels"]
                for group in each["spec"]["rayClusterConfig"]["workerGroupSpecs"]
                if group["maxReplicas"] * group["numOfHosts"] > 1
            }
        elif each["kind"] in ("Deployment", "StatefulSet") and each["spec"]["replicas"] > 1:
            several = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]}
        else:
            continue
        found += [
            f"{name}: no budget" for name, labels in several.items() if not any(selects(b, labels) for b in budgets)
        ]
    return found


def secret_faults(objects: Objects) -> list[str]:
    return [f"Secret {each['metadata']['name']} is written out" for each in of_kind(objects, "Secret")]


def side_faults(objects: Objects) -> list[str]:
    """The autoscaler, which KubeRay puts beside the head."""
    options = of_kind(objects, "RayService")[0]["spec"]["rayClusterConfig"]["autoscalerOptions"]
    return [f"autoscaler: {fault}" for fault in container_faults({"image": "a:1"} | options)]


def leaving_faults(objects: Objects) -> list[str]:
    """Workers that are killed while Ray drains them, or drained for less long than requests may take."""
    found = []
    [text] = [each["data"]["graph.yaml"] for each in of_kind(objects, "ConfigMap") if "graph.yaml" in each["data"]]
    config = yaml.safe_load(text)
    longest = max(float((tier.get("scaling") or {}).get("drain_s", 0)) for tier in config["tiers"])
    for group in ray_cluster(objects)["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        told = {one["name"]: one.get("value") for one in pod["containers"][0]["env"]}
        drains = float(told.get("RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S") or 30)  # Ray's default
        if drains <= longest:
            found.append(f"{group['groupName']}: replicas are cut before they have finished")
        if pod["terminationGracePeriodSeconds"] <= drains:
            found.append(f"{group['groupName']}: killed while it drains")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_overlay_keeps_every_rule(name: str) -> None:
    assert faults(overlay(name)) == []


def test_the_namespace_enforces_the_restricted_standard() -> None:
    for name in NAMES:
        labels = of_kind(overlay(name), "Namespace")[0]["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_names_are_asked_of_the_nodes_own_cache_too_and_of_nothing_else_that_is_link_local() -> None:
    [rule] = policy(overlay("gpu"), "names")["egress"]
    blocks = [peer["ipBlock"]["cidr"] for peer in rule["to"] if "ipBlock" in peer]
    assert blocks == ["169.254.20.10/32"]
    assert {port["port"] for port in rule["ports"]} == {53}


BREAKS = {
    "may run as root": lambda o: worker(o)["spec"]["securityContext"].update(runAsNonRoot=False),
    "no seccomp profile": lambda o: worker(o)["spec"]["securityContext"].pop("seccompProfile"),
    "host's namespaces": lambda o: worker(o)["spec"].update(hostNetwork=True),
    "restricted forbids": lambda o: worker(o)["spec"]["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
    "has no limit": lambda o: worker(o)["spec"]["volumes"].append({"name": "x", "emptyDir": {}}),
    "may be written": lambda o: container(o)["securityContext"].update(readOnlyRootFilesystem=False),
    "privileges": lambda o: container(o)["securityContext"].pop("allowPrivilegeEscalation"),
    "capabilities": lambda o: container(o)["securityContext"].update(capabilities={}),
    "not pinned": lambda o: container(o).update(image="registry:5000/serve-graph"),
    "no limits of": lambda o: container(o)["resources"]["limits"].pop("memory"),
    "written out": lambda o: container(o)["env"].append({"name": "REDIS_PASSWORD", "value": "x"}),
    "no readinessProbe": lambda o: container(o).pop("readinessProbe"),
    "no network policy": lambda o: worker(o)["metadata"].update(labels={}),
    "no default deny": lambda o: o.remove(next(p for p in o if p["metadata"]["name"] == "default-deny")),
    "no budget": lambda o: o.remove(of_kind(o, "PodDisruptionBudget")[0]),
    "Secret x": lambda o: o.append({"kind": "Secret", "metadata": {"name": "x"}}),
    "autoscaler": lambda o: ray_cluster(o)["autoscalerOptions"].pop("securityContext"),
    "are cut before": lambda o: container(o).update(env=[e for e in container(o)["env"] if "DRAIN" not in e["name"]]),
    "killed while": lambda o: worker(o)["spec"].update(terminationGracePeriodSeconds=75),
    "lets everybody in": lambda o: policy(o, "endpoint")["ingress"].append({}),
    "metadata": lambda o: policy(o, "models-and-apis")["egress"][0]["to"][0]["ipBlock"].update({"except": []}),
}


@pytest.mark.parametrize("said", BREAKS)
def test_what_breaks_a_rule_is_found(said: str) -> None:
    objects = overlay("gpu")
    BREAKS[said](objects)
    assert any(said in fault for fault in faults(objects))


def ray_cluster(objects: Objects) -> dict[str, Any]:
    cluster: dict[str, Any] = of_kind(objects, "RayService")[0]["spec"]["rayClusterConfig"]
    return cluster


def worker(objects: Objects) -> dict[str, Any]:
    template: dict[str, Any] = ray_cluster(objects)["workerGroupSpecs"][0]["template"]
    return template


def container(objects: Objects) -> dict[str, Any]:
    first: dict[str, Any] = worker(objects)["spec"]["containers"][0]
    return first


def policy(objects: Objects, name: str) -> dict[str, Any]:
    spec: dict[str, Any] = next(p for p in of_kind(objects, "NetworkPolicy") if p["metadata"]["name"] == name)["spec"]
    return spec
