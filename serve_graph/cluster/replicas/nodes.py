"""What a graph on several nodes must not name: files that one node alone has, and addresses that mean another on each.

`check_nodes` refuses all of them at once, so that a configuration is mended in one go; `doctor` says the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from serve_graph.access.origins import is_loopback
from serve_graph.config.graph import GraphConfig
from serve_graph.config.tiers.kinds import AnyTierConfig, HostedTierConfig, VllmTierConfig
from serve_graph.engines.weights.loaded_files import PLACES, SUFFIXES
from serve_graph.errors import ConfigError

SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")
"""Schemes of a registry that has a server, which keeps the versions' files as well."""
COMMIT = re.compile(r"[0-9a-f]{40}")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
REVISIONS = {"tokenizer": "tokenizer_revision", "model": "revision", "hf_config_path": "revision"}
"""Arguments of vLLM that may name a hub id, and the argument beside each that pins it."""


def check_nodes(config: GraphConfig, nodes: int = 1) -> None:
    """Raise ConfigError where a graph on several nodes names what one node alone has; it lists every such key.

    `nodes`: how many nodes are there, whatever `config.nodes` says.
    """
    if config.nodes == "one" and nodes < 2:
        return
    if faults := node_local(config):
        said = "nodes: several" if config.nodes == "several" else f"{nodes} nodes run this graph"
        raise ConfigError(
            f"{said}, and these are one node's own (docs/operate/cluster.md):\n"
            + "\n".join(f"  {key}: {why}" for key, why in faults.items())
        )


def node_local(config: GraphConfig) -> dict[str, str]:
    """Every key that names what one node alone has, with what to write instead; {} where there is none."""
    faults: dict[str, str] = {}
    shared = Shared(config.shared_folders)
    if not config.state_folder.is_absolute():
        faults["state_folder"] = (
            f"{config.state_folder} is relative, and processes of different nodes start in different folders: give an "
            "absolute path, on a volume that outlives the process (spool and cache of each node)"
        )
    for folder in config.shared_folders:
        if not folder.is_absolute():
            faults["shared_folders"] = f"{folder} is relative: give absolute paths"
    tasks = None if config.golden is None else config.golden.tasks
    found = {
        "records.url": _store_fault(config.records.url),
        "tracking_uri": _registry_fault(config.tracking_uri, shared),
        "access.keys_file": _keys_fault(config, shared),
        "policy.version": _version_fault(config),
        "batches.files": _files_fault(config, shared),
        "policy.catalogue": None if config.policy.catalogue is None else shared.fault(config.policy.catalogue),
        "graders.tasks": next(filter(None, map(shared.fault, config.graders.tasks)), None),
        "golden.tasks": None if not isinstance(tasks, Path) else shared.fault(tasks),
    }
    faults |= {key: why for key, why in found.items() if why is not None}
    for room, tiers in (
        ("tiers", config.tiers),
        ("embedders", config.embedders),
        ("verifiers", config.verifiers),
    ):
        for tier in tiers:
            faults |= {f"{room}.{tier.name}.{key}": why for key, why in _tier_faults(tier, shared)}
    return faults


class Shared:
    """The folders that every node has alike."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self.folders = folders

    def has(self, path: Path) -> bool:
        """Whether a path lies in one of them; symbolic links are not followed, as they differ between nodes."""
        return path.is_absolute() and ".." not in path.parts and any(path.is_relative_to(f) for f in self.folders)

    def fault(self, path: Path | str) -> str | None:
        """Why a path is one node's own; None where it is not."""
        if self.has(Path(path)):
            return None
        return (
            f"{path} is a path of one node: put it into a folder that every node has alike, listed in shared_folders"
        )


def _store_fault(url: str | None) -> str | None:
    advice = "name a PostgreSQL database that every node reaches (postgresql://…)"
    if url is None:
        return f"the decision store is SQLite in the state folder: {advice}"
    if url.startswith("sqlite"):
        return f"SQLite is a file of one node, and not safe on a shared volume: {advice}"
    host = _own_host(url)
    return None if host is None else f"{host} is another machine on every node: {advice}"


def _registry_fault(uri: str | None, shared: Shared) -> str | None:
    advice = "name a tracking server that every node reaches (https://…)"
    if uri is None:
        return f"the registry is SQLite in the state folder: {advice}"
    scheme, found, rest = uri.partition("://")
    if not found and uri.startswith("file:"):
        scheme, rest = "file", uri.removeprefix("file:")
    if uri in SERVERS or scheme in SERVERS:
        host = _own_host(uri) if scheme.startswith("http") else None
        return None if host is None else f"{host} is another machine on every node: {advice}"
    if scheme.startswith("sqlite"):
        return f"SQLite is a file of one node, and not safe on a shared volume: {advice}"
    if scheme == "file" or not found:
        place = unquote(rest) if scheme == "file" else uri
        place = "/" + place.partition("/")[2] if place.startswith("localhost/") else place
        return None if shared.has(Path(place)) else f"{shared.fault(place)}; or {advice}"
    return f"a {scheme} database holds no files, and those of versions would lie on one node: {advice}"


def _keys_fault(config: GraphConfig, shared: Shared) -> str | None:
    if (path := config.access.keys_file) is not None:
        return shared.fault(path)
    if config.access.keys or config.access.open:
        return None
    return (
        "keys.yaml in the state folder is a path of one node: give a file in a folder that every node has alike "
        "(shared_folders), or list the keys' sha256 in access.keys"
    )


def _version_fault(config: GraphConfig) -> str | None:
    if config.policy.version != "builtin":
        return None
    return "builtin is written to the state folder of the node that starts the graph: register a version, or say none"


def _files_fault(config: GraphConfig, shared: Shared) -> str | None:
    batches = config.batches
    advice = (
        "give an object store that every node reaches (s3://bucket/prefix), or switch batches off (enabled: false)"
    )
    if not batches.enabled:
        return None
    if batches.files is None:
        return f"callers' files are in the state folder, a path of one node: {advice}"
    scheme, found, rest = batches.files.partition("://")
    if found and scheme != "file":
        return None
    fault = shared.fault(Path(rest if found else batches.files))
    return None if fault is None else f"{fault}; or {advice}"


def _tier_faults(tier: AnyTierConfig, shared: Shared) -> Iterator[tuple[str, str]]:
    if isinstance(tier, HostedTierConfig):
        for api in tier.apis:
            where = f"deployments.{api.name}." if tier.deployments else ""
            if api.api_key_file is not None and (why := shared.fault(api.api_key_file)) is not None:
                yield f"{where}api_key_file", f"{why}; or give the key by api_key_env"
            if api.base_url is not None and (host := _own_host(api.base_url)) is not None:
                yield f"{where}base_url", f"{host} is another machine on every node: name one that every node reaches"
    if isinstance(tier, VllmTierConfig):
        weights = tier.weights
        if weights.folder is not None and (why := shared.fault(weights.folder)) is not None:
            yield "weights.folder", why
        if weights.hub is not None and not COMMIT.fullmatch(weights.revision or ""):
            yield "weights.revision", _unpinned(weights.hub, weights.revision)
        if (
            tier.lora is not None
            and tier.lora.folder is not None
            and (why := shared.fault(tier.lora.folder)) is not None
        ):
            yield "lora.loading_path", why
        yield from _argument_faults("speculation", tier.speculation or {}, shared)
        yield from _argument_faults("engine_kwargs", tier.engine_kwargs, shared)


def _argument_faults(key: str, arguments: Mapping[str, Any], shared: Shared) -> Iterator[tuple[str, str]]:
    """The faults of an engine's arguments, nested ones too: paths of one node, and hub ids without a commit."""
    for name, value in arguments.items():
        inner = f"{key}.{name}"
        if isinstance(value, Mapping):
            yield from _argument_faults(inner, value, shared)
            continue
        if name in REVISIONS and isinstance(value, str) and HUB_ID.fullmatch(value) and not value.endswith(SUFFIXES):
            revision = arguments.get(REVISIONS[name])
            if not COMMIT.fullmatch(str(revision or "")):
                yield f"{key}.{REVISIONS[name]}", _unpinned(value, revision)
            continue
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, str) and _is_path(each, name) and (why := shared.fault(each)) is not None:
                yield inner, why


def _is_path(value: str, name: str) -> bool:
    """Whether an argument names something to read: no place to write to, and no text."""
    if PLACES.search(name) or "\n" in value:
        return False
    return value.startswith(("/", "./", "../", "~", "file:")) or value.endswith(SUFFIXES)


def _unpinned(model: str, revision: Any) -> str:
    found = f"revision {revision!r}" if revision else "no revision"
    return f"{model} has {found}, so that nodes may load different weights: give the commit (40 hex digits)"


def _own_host(url: str) -> str | None:
    """The host of a URL where that is the machine that reads it: loopback, none, or a socket's folder; else None."""
    try:
        parts = urlsplit(url)
        hosts = [host for value in parse_qs(parts.query).get("host", []) for host in value.split(",")]
        hosts = [unquote(parts.hostname)] if parts.hostname else hosts
    except ValueError:
        return None
    for host in hosts or [""]:
        name = host.rpartition(":")[0] if host.count(":") == 1 else host
        if name.startswith("/"):
            return f"the socket in {name}"
        if (
            not name
            or name in ("localhost", "localhost.localdomain")
            or name.endswith(".localhost")
            or is_loopback(name)
        ):
            return name or "no host: a socket of this machine"
    return None
