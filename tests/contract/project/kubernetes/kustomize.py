"""What kustomize makes of `k8s/`: as much of it as these files use, so that every test run reads them.

`make k8s` compares it with the real one's output.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[4]
OVERLAYS = sorted(path.parent for path in (ROOT / "k8s" / "overlays").glob("*/kustomization.yaml"))
NAMES = [path.name for path in OVERLAYS]
CLUSTER_WIDE = {"Namespace"}
KNOWN = {"apiVersion", "kind", "namespace", "resources", "components", "patches"}
Objects = list[dict[str, Any]]


def overlay(name: str) -> Objects:
    """The objects of one overlay; a copy, which may be changed."""
    return deepcopy(_built(ROOT / "k8s" / "overlays" / name))


def _built(folder: Path) -> Objects:
    return deepcopy(_cached(folder))


@cache
def _cached(folder: Path) -> Objects:
    return build(folder, [])


def build(folder: Path, given: Objects) -> Objects:
    """`given` and the objects of a folder, with the folder's patches and namespace applied to all of them."""
    told = yaml.load((folder / "kustomization.yaml").read_text(), Loader=yaml.CSafeLoader)
    assert set(told) <= KNOWN, f"{folder}: {set(told) - KNOWN} is not read by this test"
    objects = list(given)
    for name in told.get("resources", []):
        path = folder / name
        objects += _built(path.resolve()) if path.is_dir() else read(path)
    for name in told.get("components", []):
        objects = build((folder / name).resolve(), objects)
    for patch in told.get("patches", []):
        aims = [each for each in objects if is_target(each, patch["target"])]
        assert aims, f"{folder}: a patch has no target: {patch['target']}"
        for each in aims:
            apply(each, yaml.safe_load(patch["patch"]))
    if (namespace := told.get("namespace")) is not None:
        for each in objects:
            if each["kind"] not in CLUSTER_WIDE:
                each["metadata"]["namespace"] = namespace
    return objects


def read(path: Path) -> Objects:
    """The objects of one file."""
    return [each for each in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader) if each is not None]


def is_target(each: dict[str, Any], target: dict[str, str]) -> bool:
    """Whether a patch is for an object."""
    return each["kind"] == target["kind"] and each["metadata"]["name"] == target.get("name", each["metadata"]["name"])


def apply(each: dict[str, Any], operations: list[dict[str, Any]]) -> None:
    """Apply a JSON patch (RFC 6902) of `add` and `replace`; a path that is not there is an error."""
    for operation in operations:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        at: Any = each
        for part in way:
            at = at[int(part)] if isinstance(at, list) else at[part]
        if isinstance(at, list):
            if last == "-":
                assert operation["op"] == "add"
                at.append(operation["value"])
            else:
                assert operation["op"] == "replace"
                at[int(last)] = operation["value"]
        else:
            assert operation["op"] == "add" or last in at, operation["path"]
            at[last] = operation["value"]


def pod_templates(objects: Objects) -> dict[str, dict[str, Any]]:
    """The template of every kind of pod, with the labels that it will have, by who makes it."""
    found: dict[str, dict[str, Any]] = {}
    for each in objects:
        where = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "RayService":
            cluster = each["spec"]["rayClusterConfig"]
            found[f"{where}/head"] = cluster["headGroupSpec"]["template"]
            for group in cluster["workerGroupSpecs"]:
                found[f"{where}/{group['groupName']}"] = group["template"]
        elif each["kind"] in ("Deployment", "StatefulSet", "Job"):
            found[where] = each["spec"]["template"]
    return found


def of_kind(objects: Objects, kind: str) -> Objects:
    """The objects of one kind."""
    return [each for each in objects if each["kind"] == kind]


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector matches."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for rule in selector.get("matchExpressions", []):
        assert rule["operator"] == "In"
        if labels.get(rule["key"]) not in rule["values"]:
            return False
    return True
