"""Methods of deployments that every request calls: each is looked up once, and speaks plain pickle.

A Ray Serve handle copies itself for every method that is named and every option that is set, and by default it and the
replica write what they say with cloudpickle, in Python, for values that may be code. What is said here are dicts,
strings, numbers and dataclasses.
"""

from __future__ import annotations

from typing import Any

from ray.serve.handle import DeploymentHandle

PLAIN = {"request_serialization": "pickle", "response_serialization": "pickle"}


class HandleMethods:
    """The methods of one handle, or of what stands for one.

    Nothing is looked up before a method is called: a handle connects to its deployment then.
    """

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self._known: dict[tuple[str, bool], Any] = {}

    def of(self, name: str, *, stream: bool = False) -> Any:
        """What has the method's `remote`; `stream`: it gives its pieces as they come."""
        if (found := self._known.get((name, stream))) is None:
            found = self._known[name, stream] = self._found(name, stream=stream)
        return found

    def _found(self, name: str, *, stream: bool) -> Any:
        if isinstance(self.handle, DeploymentHandle):
            return self.handle.options(method_name=name, stream=stream, **PLAIN)
        return getattr(self.handle.options(stream=True) if stream else self.handle, name)
