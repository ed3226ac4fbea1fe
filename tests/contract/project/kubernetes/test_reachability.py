"""What the network policies of every overlay let through: what each pod needs, and nothing that it must not reach."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.contract.project.kubernetes.kustomize import NAMES, Objects, of_kind, overlay, pod_templates, selects

OURS = "serve-graph"


@dataclass(frozen=True)
class Peer:
    """One end of a connection: a pod of this namespace or another, or an address."""

    labels: dict[str, str] = field(default_factory=dict)
    namespace: dict[str, str] = field(default_factory=lambda: {"kubernetes.io/metadata.name": OURS})
    address: str | None = None
    ports: dict[str, int] = field(default_factory=dict)


def pod(component: str, name: str = OURS, **more: Any) -> Peer:
    return Peer(
        {"app.kubernetes.io/name": name, "app.kubernetes.io/component": component, **more.pop("labels", {})}, **more
    )


HEAD = pod("ray-head", ports={"gcs-server": 6379, "dashboard": 8265, "serve": 8000, "metrics": 8080})
WORKER = pod("ray-worker", ports={"serve": 8000, "metrics": 8080}, labels={"serve-graph/group": "cheap"})
WORKBENCH, MIGRATION = pod("workbench"), pod("migration")
MLFLOW = pod("registry", "mlflow", ports={"http": 5000})
DATABASE = pod("database", "postgres", ports={"postgres": 5432})
REDIS = pod("ray-state", "redis", ports={"redis": 6379})
NAMES_SERVICE = Peer(namespace={"kubernetes.io/metadata.name": "kube-system"})
OPERATOR = Peer(namespace={"kubernetes.io/metadata.name": "kuberay-operator"})
MONITORING = Peer(namespace={"serve-graph/monitoring": "true"})
GATEWAY = Peer(namespace={"serve-graph/gateway": "true"})
STRANGER = Peer({"app": "somebody"}, {"kubernetes.io/metadata.name": "default"})
HUB, METADATA, INNER = (Peer(address=address) for address in ("151.101.1.1", "169.254.169.254", "10.3.4.5"))
RAY_PORT = 31_337
NEEDS: dict[str, tuple[Peer, Peer, int]] = {
    **{f"names: {one.labels}": (one, NAMES_SERVICE, 53) for one in (HEAD, WORKER, WORKBENCH, MIGRATION, MLFLOW)},
    **{f"registry: {one.labels}": (one, MLFLOW, 5000) for one in (HEAD, WORKER, WORKBENCH, MIGRATION)},
    "workers among themselves": (WORKER, WORKER, RAY_PORT),
    "a worker to its head": (WORKER, HEAD, 6379),
    "the head to a worker": (HEAD, WORKER, RAY_PORT),
    "the workbench to the graph": (WORKBENCH, WORKER, 8000),
    "a gateway to the graph": (GATEWAY, WORKER, 8000),
    "KubeRay to Serve's configuration": (OPERATOR, HEAD, 8265),
    "Prometheus to the graph": (MONITORING, WORKER, 8000),
    "Prometheus to Ray": (MONITORING, HEAD, 8080),
    "spans to a collector": (WORKER, MONITORING, 4318),
    "the autoscaler to the API server": (HEAD, INNER, 443),
    "weights from the hub": (WORKER, HUB, 443),
    "files of versions to object storage": (MLFLOW, HUB, 443),
}
DEMO_NEEDS: dict[str, tuple[Peer, Peer, int]] = {
    **{f"store: {one.labels}": (one, DATABASE, 5432) for one in (HEAD, WORKER, WORKBENCH, MIGRATION, MLFLOW)},
    "what the head knows": (HEAD, REDIS, 6379),
}
MANAGED_NEEDS: dict[str, tuple[Peer, Peer, int]] = {
    **{f"store: {one.labels}": (one, INNER, 5432) for one in (HEAD, WORKER, WORKBENCH, MIGRATION, MLFLOW)},
    "what the head knows": (HEAD, INNER, 6379),
}
MUST_NOT: dict[str, tuple[Peer, Peer, int]] = {
    **{f"the cloud's metadata: {one.labels}": (one, METADATA, 80) for one in (HEAD, WORKER, WORKBENCH, MLFLOW)},
    "the cloud's metadata by https": (WORKER, METADATA, 443),
    "systems within, by https": (WORKER, INNER, 443),
    "a stranger to the endpoint": (STRANGER, WORKER, 8000),
    "a stranger to Ray's head": (STRANGER, HEAD, 6379),
    "a stranger to the dashboard": (STRANGER, HEAD, 8265),
    "a stranger to the registry": (STRANGER, MLFLOW, 5000),
    "a gateway to Ray": (GATEWAY, WORKER, RAY_PORT),
    "the workbench to Ray's head": (WORKBENCH, HEAD, 6379),
    "the registry to the graph": (MLFLOW, WORKER, 8000),
}


def lets(objects: Objects, source: Peer, target: Peer, port: int) -> bool:
    """Whether both ends may: each that is a pod of this namespace, by the policies that choose it."""
    policies = [each["spec"] for each in of_kind(objects, "NetworkPolicy")]
    return _may(policies, "Egress", source, target, port, target) and _may(
        policies, "Ingress", target, source, port, target
    )


def _may(policies: list[dict[str, Any]], way: str, own: Peer, other: Peer, port: int, target: Peer) -> bool:
    if own.address is not None or own.namespace.get("kubernetes.io/metadata.name") != OURS:
        return True
    chosen = [p for p in policies if way in p["policyTypes"] and selects(p["podSelector"], own.labels)]
    rules = [rule for p in chosen for rule in p.get(way.lower(), [])]
    side = "to" if way == "Egress" else "from"
    return not chosen or any(
        (side not in rule or any(_is(peer, other) for peer in rule[side]))
        and _is_port(rule.get("ports"), port, target)
        for rule in rules
    )


def _is(peer: dict[str, Any], other: Peer) -> bool:
    if "ipBlock" in peer:
        if other.address is None:
            return False
        at, block = ipaddress.ip_address(other.address), peer["ipBlock"]
        without = [ipaddress.ip_network(one) for one in block.get("except", [])]
        return at in ipaddress.ip_network(block["cidr"]) and not any(at in one for one in without)
    if other.address is not None:
        return False
    here = other.namespace.get("kubernetes.io/metadata.name") == OURS
    inside = selects(peer["namespaceSelector"], other.namespace) if "namespaceSelector" in peer else here
    return inside and selects(peer.get("podSelector", {}), other.labels)


def _is_port(ports: list[dict[str, Any]] | None, port: int, target: Peer) -> bool:
    return ports is None or any(target.ports.get(one["port"], one["port"]) == port for one in ports)


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_reaches_what_it_needs(name: str) -> None:
    objects = overlay(name)
    demo = any(each["metadata"]["name"] == "postgres" for each in of_kind(objects, "StatefulSet"))
    needs = NEEDS | (DEMO_NEEDS if demo else MANAGED_NEEDS)
    assert [what for what, connection in needs.items() if not lets(objects, *connection)] == []


@pytest.mark.parametrize("name", NAMES)
def test_nobody_reaches_what_is_none_of_theirs(name: str) -> None:
    assert [what for what, connection in MUST_NOT.items() if lets(overlay(name), *connection)] == []


@pytest.mark.parametrize(
    "gone", ["names", "ray-nodes", "to-registry", "registry", "to-stores", "endpoint", "operator"]
)
def test_a_policy_that_is_missing_is_missed(gone: str) -> None:
    objects = [
        each for each in overlay("cpu-demo") if each["metadata"]["name"] != gone or each["kind"] != "NetworkPolicy"
    ]
    needs = NEEDS | DEMO_NEEDS
    assert [what for what, connection in needs.items() if not lets(objects, *connection)] != []


@pytest.mark.parametrize("name", NAMES)
def test_the_pods_that_are_spoken_of_here_are_those_that_there_are(name: str) -> None:
    """Their labels, and the ports that policies call by name."""
    known = {
        tuple(sorted(one.labels.items())): one.ports for one in (HEAD, WORKBENCH, MIGRATION, MLFLOW, DATABASE, REDIS)
    }
    for where, template in pod_templates(overlay(name)).items():
        labels = dict(template["metadata"]["labels"])
        ports = {p["name"]: p["containerPort"] for c in template["spec"]["containers"] for p in c.get("ports", [])}
        if labels.pop("serve-graph/group", None) is not None:
            assert (labels["app.kubernetes.io/component"], ports) == ("ray-worker", WORKER.ports), where
        else:
            assert known[tuple(sorted(labels.items()))] == ports, where


@pytest.mark.parametrize(
    ("policy", "way", "opened"),
    [
        ("endpoint", "ingress", "a stranger to the endpoint"),
        ("ray-nodes", "ingress", "a stranger to Ray's head"),
        ("models-and-apis", "egress", "the cloud's metadata by https"),
        ("workbench", "egress", "the workbench to Ray's head"),
    ],
)
def test_a_policy_that_is_opened_is_found(policy: str, way: str, opened: str) -> None:
    objects = overlay("gpu")
    [spec] = [each["spec"] for each in of_kind(objects, "NetworkPolicy") if each["metadata"]["name"] == policy]
    spec[way] = [{}]
    if policy == "workbench":  # the other end has to let it in as well
        next(e for e in of_kind(objects, "NetworkPolicy") if e["metadata"]["name"] == "ray-nodes")["spec"][
            "ingress"
        ] = [{}]
    assert opened in [what for what, connection in MUST_NOT.items() if lets(objects, *connection)]
