from __future__ import annotations
__version__: str
def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version
        return version("serve-graph")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
