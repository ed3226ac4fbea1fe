"""Pods that run `serve-graph` commands with the graph's own image and configuration: the migration, a workbench."""

from __future__ import annotations

import hashlib
from typing import Any

from serve_graph.config.kubernetes.graph_settings import CONFIG_FILE, CONFIG_FOLDER
from serve_graph.config.kubernetes.pod_environment import secret_variable
from serve_graph.config.kubernetes.pods import PodSettings, graph_container, graph_pod, pod_labels

CONFIG_PATH = f"{CONFIG_FOLDER}/{CONFIG_FILE}"
WORK_FOLDER, WORK_CLAIM = "/work", "serve-graph-work"
WAIT_FOR_STORE_S = 600


def migration_job(settings: PodSettings) -> dict[str, Any]:
    """The decision store brought up to date, once for each image and configuration; replicas would do so themselves.

    A Job cannot be changed: its name is of all that may differ, so that a new image's is another Job.
    """
    command = ["serve-graph", "records", "migrate", "--config", CONFIG_PATH, "--wait-s", str(WAIT_FOR_STORE_S)]
    pod = graph_pod(settings, graph_container(settings, "migrate", 1, 2) | {"command": command}, shared_memory_gib=1)
    labels = pod_labels(settings.name, "migration")
    digest = hashlib.sha256(f"{settings.config_map} {settings.image}".encode()).hexdigest()[:10]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{settings.name}-migrate-{digest}", "labels": labels},
        "spec": {
            "backoffLimit": 3,
            "ttlSecondsAfterFinished": 600,
            "template": {
                "metadata": {"labels": labels},
                "spec": pod | {"restartPolicy": "Never", "automountServiceAccountToken": False},
            },
        },
    }


def workbench(settings: PodSettings) -> dict[str, Any]:
    """A pod to run `collect`, `train`, `certify` and `versions` in: certificates hold for the image's own engines.

    It has an access key as `SERVE_GRAPH_KEY`, once the Secret has one, and a volume for tables and candidates.
    """
    container = graph_container(settings, "workbench", 2, 8)
    mounts = [*container["volumeMounts"], {"name": "work", "mountPath": WORK_FOLDER}]
    ready = {"exec": {"command": ["test", "-r", CONFIG_PATH]}, "periodSeconds": 30, "failureThreshold": 3}
    container |= {
        "command": ["sleep", "infinity"],
        "workingDir": WORK_FOLDER,
        "env": [*container["env"], secret_variable("SERVE_GRAPH_KEY", optional=True)],
        "volumeMounts": mounts,
        "readinessProbe": ready,
        "livenessProbe": dict(ready),
    }
    pod = graph_pod(settings, container, shared_memory_gib=1)
    pod["volumes"].append({"name": "work", "persistentVolumeClaim": {"claimName": WORK_CLAIM}})
    labels = pod_labels(settings.name, "workbench")
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"{settings.name}-workbench", "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod | {"automountServiceAccountToken": False}},
        },
    }
