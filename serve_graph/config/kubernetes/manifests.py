"""All objects that a configuration decides, and their text as `k8s/overlays` hold it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from serve_graph.config.kubernetes.commands import migration_job, workbench
from serve_graph.config.kubernetes.graph_settings import CONFIG_FILE, ClusterGraph, cluster_graph
from serve_graph.config.kubernetes.pods import GROUP_LABEL, NAME_LABEL, PodSettings, pod_labels
from serve_graph.config.kubernetes.ray_service import ray_service
from serve_graph.config.kubernetes.worker_groups import WorkerGroup, worker_groups
from serve_graph.errors import ConfigError

NAME = "serve-graph"
IMAGE = "registry.example/serve-graph:0.2.0"
"""A name to replace: `serve-graph manifests --image` does so, and names the migration's Job after it."""


def kubernetes_objects(
    config: Path,
    graph: ClusterGraph | None = None,
    *,
    image: str = IMAGE,
    machines: Mapping[str, str] | None = None,
    gateway_class: str | None = None,
    certified: bool = False,
) -> list[dict[str, Any]]:
    """The objects of a configuration file: ConfigMap, migration, RayService, disruption budgets, workbench.

    Parameters
    ----------
    config : Path
        The file that `serve-graph up` takes.
    graph : ClusterGraph, optional
        What `cluster_graph` made of it; None: it is read here.
    image : str
        The image of head and workers.
    machines : mapping of str to str, optional
        Tier → the machine that its workers run on, one of `MACHINES`.
    gateway_class : str, optional
        The GatewayClass through which KubeRay moves traffic to a new release; None: all at once.
    certified : bool
        Whether workers are ready only while a certified version is served.

    Returns
    -------
    list of dict
        In the order in which they are to be applied.

    Raises
    ------
    ConfigError
        The configuration is not valid, or names a machine or tier that there is not.
    """
    graph = graph or cluster_graph(config)
    try:
        groups = worker_groups(graph.config, machines or {})
    except ValueError as error:
        raise ConfigError(f"{config}: {error}") from error
    settings_map = config_map(graph)
    settings = PodSettings(NAME, image, settings_map["metadata"]["name"], graph, certified)
    budgets = [disruption_budget(group) for group in groups if group.pods > 1]
    service = ray_service(settings, groups, gateway_class)
    return [settings_map, migration_job(settings), service, *budgets, workbench(settings)]


def config_map(graph: ClusterGraph) -> dict[str, Any]:
    """The graph's configuration, immutable and named by its content: another one is another release."""
    digest = hashlib.sha256(graph.text.encode()).hexdigest()[:10]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{NAME}-config-{digest}", "labels": pod_labels(NAME, "configuration")},
        "immutable": True,
        "data": {CONFIG_FILE: graph.text},
    }


def disruption_budget(group: WorkerGroup) -> dict[str, Any]:
    """Of a group that may have several pods, nodes are drained one pod at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": f"{NAME}-{group.name}", "labels": pod_labels(NAME, "budget")},
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": {NAME_LABEL: NAME, GROUP_LABEL: group.name}},
        },
    }


def manifests_text(objects: Sequence[Mapping[str, Any]], made_by: str) -> str:
    """The objects as one YAML file whose first line says which command makes it."""
    head = f"# Made by: {made_by}\n# Not to be edited: change the configuration, and make it anew.\n"
    return head + yaml.dump_all(objects, Dumper=_Blocks, sort_keys=False, width=119, allow_unicode=True)


class _Blocks(yaml.SafeDumper):
    """Text of several lines as a block, so that a change in it is read as one."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Blocks.add_representer(str, _as_block)
