"""Objects fit their schemas, with no field that these do not know. Core kinds besides pods: `make k8s`."""

import json
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.contract.project.kubernetes.kustomize import NAMES, of_kind, overlay, pod_templates

SCHEMAS = Path(__file__).parent / "schemas"


def closed(schema: Any) -> Any:
    """A schema of a CustomResourceDefinition as `kubectl apply` with strict validation reads it: no unknown field."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if "properties" in found and "additionalProperties" not in found and found.get("type") == "object":
        found["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    if schema.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    return found


@cache
def ray_service() -> dict[str, Any]:
    schema: dict[str, Any] = closed(json.loads((SCHEMAS / "rayservice-v1.json").read_text()))
    schema["properties"]["metadata"] = {"type": "object"}
    schema["$defs"]["podTemplate"]["properties"]["metadata"] = {"type": "object"}
    return schema


@cache
def custom() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((SCHEMAS / "gateway-and-monitoring.yaml").read_text())
    return found


def faults(schema: dict[str, Any], data: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in Draft202012Validator(schema).iter_errors(data)]


@pytest.mark.parametrize("name", NAMES)
def test_the_ray_service_fits_kuberays_schema(name: str) -> None:
    (found,) = of_kind(overlay(name), "RayService")
    assert faults(ray_service(), found) == []


@pytest.mark.parametrize("name", NAMES)
def test_every_pod_fits_the_schema_of_pods(name: str) -> None:
    schema = {"$ref": "#/$defs/podTemplate", "$defs": ray_service()["$defs"]}
    for where, template in pod_templates(overlay(name)).items():
        assert faults(schema, template) == [], where


@pytest.mark.parametrize("name", NAMES)
def test_gateways_monitors_and_rules_fit_their_schemas(name: str) -> None:
    objects = [each for each in overlay(name) if each["kind"] in custom()]
    assert {each["kind"] for each in objects} >= {"PodMonitor", "PrometheusRule"}
    for each in objects:
        assert faults(custom()[each["kind"]], each) == [], each["metadata"]["name"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "rayClusterConfig", "headGroupSpec", "template", "spec", "container"), []),
        (("spec", "rayClusterConfig", "workerGroupSpecs", 0, "maxReplicas"), "2"),
        (("spec", "upgradeStrategy", "clusterUpgradeOptions", "step"), 1),
        (("spec", "rayClusterConfig", "gcsFaultToleranceOptions", "backend"), "etcd"),
        (("spec", "rayClusterConfig", "autoscalerOptions", "version"), "v3"),
    ],
)
def test_a_wrong_field_and_a_wrong_value_are_found(path: tuple[Any, ...], value: Any) -> None:
    (found,) = of_kind(overlay("gpu"), "RayService")
    at: Any = deepcopy(found)
    changed = at
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    assert faults(ray_service(), changed) != []


@pytest.mark.parametrize(("kind", "field"), [("Gateway", "listener"), ("HTTPRoute", "rule"), ("PodMonitor", "ports")])
def test_an_unknown_field_of_another_kind_is_found(kind: str, field: str) -> None:
    each = of_kind(overlay("cpu-demo"), kind)[0]
    each["spec"][field] = []
    assert faults(custom()[kind], each) != []
