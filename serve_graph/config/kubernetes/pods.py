"""Pod templates of Ray's head and workers: what runs, as whom, with which volumes, secrets and probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serve_graph.config.graph import GraphConfig
from serve_graph.config.kubernetes.graph_settings import CONFIG_FOLDER, KEYS_FOLDER, ClusterGraph
from serve_graph.config.kubernetes.pod_environment import environment, secret_variable
from serve_graph.config.kubernetes.worker_groups import WorkerGroup

USER = 10001
"""The user and group of the image (k8s/image/Dockerfile)."""
KEYS_SECRET = "serve-graph-keys"
PROBE_KEY = "SERVE_GRAPH_PROBE_KEY"
CERTIFIED = (
    """echo "$state" | grep -q '"certified": *true' && ! echo "$state" | grep -q '"tiers_ready": *{[^}]*false'"""
)
"""What the probe reads out of `/readyz`, in a shell."""
MODELS_CLAIM, SPOOL_CLAIM = "serve-graph-models", "serve-graph-spool"
MODELS_FOLDER = "/var/lib/serve-graph-models"
HEAD_CPUS, HEAD_MEMORY_GIB = 2, 8
STATE_GIB = 8
"""More than the copies of versions that a node keeps (4 GiB): a pod whose volume is full is evicted."""
MOVE_S, DRAIN_VARIABLE = 300, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
"""For how long Ray, in a pod that is told to end, waits for its replicas to be up elsewhere; and what tells it so."""
STOP_S = 15
"""What Ray's processes have to end in, after that."""
RAYLET_PORT, DASHBOARD_PORT, METRICS_PORT = 52365, 8265, 8080
NAME_LABEL, COMPONENT_LABEL = "app.kubernetes.io/name", "app.kubernetes.io/component"
GROUP_LABEL = "serve-graph/group"


@dataclass(frozen=True, slots=True)
class PodSettings:
    """What the pods of one RayService share: its name, image, ConfigMap and configuration.

    `certified`: workers are ready only while a certified version is served and every tier answers that may not sleep.
    """

    name: str
    image: str
    config_map: str
    graph: ClusterGraph
    certified: bool = False


def pod_labels(name: str, component: str) -> dict[str, str]:
    """The labels by which network policies and monitors choose pods."""
    return {NAME_LABEL: name, COMPONENT_LABEL: component}


def head_template(settings: PodSettings) -> dict[str, Any]:
    """The head: Ray's control, Serve's controller and the autoscaler, and no replica.

    Nothing there can be drained: the controller stays, so that Ray would wait out its time before another head begins.
    """
    port = settings.graph.config.http.port
    container = graph_container(settings, "ray-head", HEAD_CPUS, HEAD_MEMORY_GIB) | {
        "ports": [
            {"containerPort": 6379, "name": "gcs-server"},
            {"containerPort": DASHBOARD_PORT, "name": "dashboard"},
            {"containerPort": port, "name": "serve"},
            {"containerPort": METRICS_PORT, "name": "metrics"},
        ],
        "readinessProbe": _probe(_healthz(RAYLET_PORT, "local_raylet"), _healthz(DASHBOARD_PORT, "gcs")),
        "livenessProbe": _probe(_healthz(RAYLET_PORT, "local_raylet"), _healthz(DASHBOARD_PORT, "gcs"), patience=24),
    }
    container["env"] = [*container["env"], {"name": DRAIN_VARIABLE, "value": "0"}]
    labels = pod_labels(settings.name, "ray-head")
    return {"metadata": {"labels": labels}, "spec": graph_pod(settings, container, shared_memory_gib=1)}


def worker_template(settings: PodSettings, group: WorkerGroup) -> dict[str, Any]:
    """A worker of one group. Ready: the graph's own `/readyz` says so through this pod's proxy (`ready_command`)."""
    port = settings.graph.config.http.port
    container = graph_container(settings, "ray-worker", group.pod_cpus, group.pod_memory_gib, group.gpus) | {
        "ports": [{"containerPort": port, "name": "serve"}, {"containerPort": METRICS_PORT, "name": "metrics"}],
        "readinessProbe": _probe(
            _healthz(RAYLET_PORT, "local_raylet"), ready_command(port, certified=settings.certified)
        ),
        "livenessProbe": _probe(_healthz(RAYLET_PORT, "local_raylet"), patience=24),
    }
    within_s = move_s(settings.graph.config)
    container["env"] = [*container["env"], {"name": DRAIN_VARIABLE, "value": str(within_s)}]
    if settings.certified:
        container["env"] = [*container["env"], secret_variable(PROBE_KEY)]
    pod = graph_pod(settings, container, shared_memory_gib=8 if group.gpus else 1)
    pod["automountServiceAccountToken"] = False
    pod["terminationGracePeriodSeconds"] = within_s + STOP_S
    if group.gpus:
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    if group.machine is not None and group.machine.products:
        chosen = {"key": "nvidia.com/gpu.product", "operator": "In", "values": list(group.machine.products)}
        terms = {"nodeSelectorTerms": [{"matchExpressions": [chosen]}]}
        pod["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    elif not group.gpus:
        spread = {"matchLabels": {GROUP_LABEL: group.name, NAME_LABEL: settings.name}}
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": spread,
            }
        ]
    labels = pod_labels(settings.name, "ray-worker") | {GROUP_LABEL: group.name}
    return {"metadata": {"labels": labels}, "spec": pod}


def move_s(config: GraphConfig) -> int:
    """Seconds that a worker's replicas have to be up elsewhere, and to finish here, once its pod is told to end.

    Ray drains the node then, for 30 s unless it is told otherwise: less than `drain_s` may be, and than a model takes
    to load.
    """
    return MOVE_S + round(_longest_drain(config))


def ready_command(port: int, *, certified: bool) -> str:
    """The shell command that asks `/readyz`, which answers 200 where the safe tier answers, or has and another does.

    With `certified` it asks with an access key, to which `/readyz` says more: that what is promised is certified, and
    that no tier is away (one that may be asleep reads as null).
    """
    if not certified:
        return f"wget -q -T 4 -O /dev/null localhost:{port}/readyz"
    asked = f'wget -q -T 4 -O- --header "Authorization: Bearer ${PROBE_KEY}" localhost:{port}/readyz'
    return f"state=$({asked}) && {CERTIFIED}"


def container_security() -> dict[str, Any]:
    """What the pod security standard `restricted` asks of a container, and a root file system nobody writes to."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def graph_container(settings: PodSettings, name: str, cpus: int, memory_gib: int, gpus: int = 0) -> dict[str, Any]:
    """A container of the graph's image, with its configuration, secrets and folders; probes and ports are not here."""
    resources: dict[str, str] = {"cpu": str(cpus), "memory": f"{memory_gib}Gi", "ephemeral-storage": "20Gi"}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
    state = str(settings.graph.config.state_folder)
    mounts = [
        {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
        {"name": "state", "mountPath": state},
        {"name": "spool", "mountPath": f"{state}/spool", "subPath": "spool"},
        {"name": "spool", "mountPath": f"{state}/audit", "subPath": "audit"},
        {"name": "models", "mountPath": f"{state}/weights", "subPath": "weights"},
        {"name": "models", "mountPath": MODELS_FOLDER, "subPath": "hub"},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
    ]
    mounts += [
        {"name": "models", "mountPath": folder, "subPath": folder.lstrip("/"), "readOnly": True}
        for folder in settings.graph.model_folders
    ]
    mounts += [{"name": volume, "mountPath": folder, "readOnly": True} for volume, _, folder in _secrets(settings)]
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": "IfNotPresent",
        "env": environment(settings.graph, MODELS_FOLDER, state),
        "resources": {"requests": resources, "limits": dict(resources)},
        "securityContext": container_security(),
        "volumeMounts": mounts,
    }


def graph_pod(settings: PodSettings, container: dict[str, Any], shared_memory_gib: int) -> dict[str, Any]:
    """A pod of one such container with the volumes that it mounts."""
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": settings.config_map}},
        {"name": "state", "emptyDir": {"sizeLimit": f"{STATE_GIB}Gi"}},
        {"name": "spool", "persistentVolumeClaim": {"claimName": SPOOL_CLAIM}},
        {"name": "models", "persistentVolumeClaim": {"claimName": MODELS_CLAIM}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "10Gi"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{shared_memory_gib}Gi"}},
    ]
    volumes += [
        {"name": volume, "secret": {"secretName": secret, "defaultMode": 0o440}}
        for volume, secret, _ in _secrets(settings)
    ]
    return {
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": volumes,
    }


def _secrets(settings: PodSettings) -> list[tuple[str, str, str]]:
    """Volume, Secret and folder of every folder with secrets that the configuration names a file in."""
    folders = sorted({file.rpartition("/")[0] for file in settings.graph.secret_files})
    named = [
        (folder, KEYS_SECRET if folder == KEYS_FOLDER else _secret_name(settings.name, folder)) for folder in folders
    ]
    return [(f"secret-{i}", secret, folder) for i, (folder, secret) in enumerate(named)]


def _secret_name(name: str, folder: str) -> str:
    return f"{name}-{'-'.join(part for part in folder.lower().replace('_', '-').split('/') if part)}"


def _healthz(port: int, what: str) -> str:
    return f"wget -q -T 4 -O- localhost:{port}/api/{what}_healthz | grep -q success"


def _probe(*commands: str, patience: int = 3) -> dict[str, Any]:
    return {
        "exec": {"command": ["/bin/sh", "-c", " && ".join(commands)]},
        "initialDelaySeconds": 10,
        "periodSeconds": 5,
        "timeoutSeconds": 5 * len(commands),
        "failureThreshold": patience,
    }


def _longest_drain(config: GraphConfig) -> float:
    return max(config.http.scaling.drain_s, *(tier.scaling.drain_s for tier in config.every_tier))
