"""An OpenAI-compatible endpoint that answers with the cheapest tier a certified policy says is good enough.

`serve_graph.__version__` is the installed distribution's; importing the package loads nothing.
"""

from __future__ import annotations

__version__: str


def __getattr__(name: str) -> str:
    if name == "__version__":
        from router_models import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
