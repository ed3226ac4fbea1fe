"""Of the Ray that is running already: where its Serve proxy listens, and how many nodes it has."""

from __future__ import annotations

from typing import Any


def host_of_serve() -> str | None:
    """The address that Ray Serve listens on where it runs already (`serve deploy`, `up`); None where none is known."""
    options = _http_options()
    return None if options is None else str(options.host)


def root_path_of_serve() -> str | None:
    """The path that Ray Serve was started with, where it runs on the cluster that this process uses; "": with none."""
    options = _http_options()
    return None if options is None else str(options.root_path or "")


def serve_runs() -> bool:
    """Whether Ray Serve runs on the cluster that this process uses."""
    return _controller() is not None


def _http_options() -> Any:
    import ray

    controller = _controller()
    return None if controller is None else ray.get(controller.get_http_config.remote(), timeout=60)


def _controller() -> Any:
    import ray
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    if not ray.is_initialized():
        return None
    try:
        return ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
    except ValueError:  # no Serve on this cluster yet
        return None


def nodes_of_ray() -> int:
    """How many nodes of the Ray cluster are alive; 1 where none runs yet, or none can be asked."""
    import ray
    from ray.exceptions import RaySystemError

    try:
        return sum(bool(node["Alive"]) for node in ray.nodes()) if ray.is_initialized() else 1
    except RaySystemError:
        return 1
