"""Rules and dashboards as files, for Kubernetes or for a plain Prometheus and Grafana."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serve_graph.config.kubernetes.monitoring.dashboards import DASHBOARDS, config_maps, dashboard_json
from serve_graph.config.kubernetes.monitoring.rules import RUNBOOKS_URL, prometheus_rule, rule_groups


def monitoring_files(command: str, *, kubernetes: bool, runbooks_url: str = RUNBOOKS_URL) -> Mapping[Path, str]:
    """What is written, by path below the folder that is asked for.

    Parameters
    ----------
    command : str
        What makes them again, for their first line.
    kubernetes : bool
        A PrometheusRule and ConfigMaps; else a file of rules for Prometheus' `rule_files`, and Grafana's JSON.
    runbooks_url : str
        Where the runbooks are published.
    """
    head = f"# Made by `{command}`; not to be edited.\n"
    if kubernetes:
        return {
            Path("rules.yaml"): head + to_yaml(prometheus_rule(runbooks_url)),
            Path("dashboards.yaml"): head + "---\n".join(map(to_yaml, config_maps())),
        }
    rules = {Path("rules.yaml"): head + to_yaml({"groups": rule_groups(runbooks_url)})}
    pages = {
        Path("dashboards") / f"serve-graph-{one.name}.json": json.dumps(dashboard_json(one), indent=1) + "\n"
        for one in DASHBOARDS
    }
    return rules | pages


class _Dumper(yaml.SafeDumper):
    """Texts of several lines are written as they are."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def to_yaml(data: Any) -> str:
    """A document of YAML with its keys in their order."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=1_000, allow_unicode=True)
