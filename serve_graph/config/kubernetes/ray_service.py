"""KubeRay's RayService of a graph: head, worker groups, autoscaling, and how a new release replaces the old one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from serve_graph.config.kubernetes.pod_environment import SECRET
from serve_graph.config.kubernetes.pods import (
    PodSettings,
    container_security,
    head_template,
    pod_labels,
    worker_template,
)
from serve_graph.config.kubernetes.serve_application import serve_config_text
from serve_graph.config.kubernetes.worker_groups import WorkerGroup

RAY_VERSION = "2.60.0"
"""That of the extra `serve` in pyproject.toml, which the image installs."""
REDIS_ADDRESS, REDIS_PASSWORD_KEY = "redis://redis:6379", "REDIS_PASSWORD"
IDLE_S = 300
"""Seconds after which a worker without a replica is given back."""
OBJECT_STORE_BYTES = 500_000_000
"""Replicas pass requests by gRPC: the object store holds little."""
UPGRADE_STEP_PERCENT, UPGRADE_EVERY_S, UPGRADE_SURGE_PERCENT = 10, 60, 50


def ray_service(settings: PodSettings, groups: Sequence[WorkerGroup], gateway_class: str | None) -> dict[str, Any]:
    """The RayService; with `gateway_class`, KubeRay moves traffic to a new release in steps, through Gateway API.

    Without it a new release is started beside the old one, and takes all traffic once it runs.
    """
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayService",
        "metadata": {"name": settings.name, "labels": pod_labels(settings.name, "graph")},
        "spec": {
            "serveConfigV2": serve_config_text(settings.graph.config),
            "excludeHeadPodFromServeSvc": True,
            "upgradeStrategy": _upgrade(gateway_class),
            "rayClusterConfig": {
                "rayVersion": RAY_VERSION,
                "enableInTreeAutoscaling": True,
                "autoscalerOptions": _autoscaler(),
                "gcsFaultToleranceOptions": {
                    "redisAddress": REDIS_ADDRESS,
                    "redisPassword": {"valueFrom": {"secretKeyRef": {"name": SECRET, "key": REDIS_PASSWORD_KEY}}},
                },
                "authOptions": {"mode": "token"},
                "headGroupSpec": {
                    "rayStartParams": {
                        "num-cpus": "0",
                        "dashboard-host": "0.0.0.0",
                        "object-store-memory": str(OBJECT_STORE_BYTES),
                    },
                    "template": head_template(settings),
                },
                "workerGroupSpecs": [_group(settings, group) for group in groups],
            },
        },
    }


def _group(settings: PodSettings, group: WorkerGroup) -> dict[str, Any]:
    params = {"num-cpus": str(group.cpus), "object-store-memory": str(OBJECT_STORE_BYTES)}
    if group.gpus:
        params["num-gpus"] = str(group.gpus)
    if group.resources:
        params["resources"] = json.dumps(json.dumps(dict(group.resources)))  # KubeRay puts it on a command line
    return {
        "groupName": group.name,
        "replicas": group.least,
        "minReplicas": group.least,
        "maxReplicas": group.most,
        "numOfHosts": group.hosts,
        "rayStartParams": params,
        "template": worker_template(settings, group),
    }


def _upgrade(gateway_class: str | None) -> dict[str, Any]:
    if gateway_class is None:
        return {"type": "NewCluster"}
    options = {
        "gatewayClassName": gateway_class,
        "stepSizePercent": UPGRADE_STEP_PERCENT,
        "intervalSeconds": UPGRADE_EVERY_S,
        "maxSurgePercent": UPGRADE_SURGE_PERCENT,
    }
    return {"type": "NewClusterWithIncrementalUpgrade", "clusterUpgradeOptions": options}


def _autoscaler() -> dict[str, Any]:
    """Ray's autoscaler, a container of the head; it writes beside Ray's logs alone."""
    resources = {"cpu": "500m", "memory": "512Mi"}
    return {
        "version": "v1",
        "idleTimeoutSeconds": IDLE_S,
        "upscalingMode": "Default",
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": resources, "limits": dict(resources)},
        "securityContext": container_security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
