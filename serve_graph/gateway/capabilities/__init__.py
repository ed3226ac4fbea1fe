"""Which tiers can take a request: those that have what it needs beyond text, and have a replica at all.

Routers and verifiers read text. Images, audio, video, files and parts of unknown kinds are invisible to both, so that
nothing is promised of a request that holds any, wherever in it: in any message, in a tool's result, in earlier turns,
or in what it wants back. A tier that does not declare what a request needs is never asked, but the last one where
it declares no modalities at all.
"""

from serve_graph.gateway.capabilities.asleep import AsleepTiers
from serve_graph.gateway.capabilities.capable_tiers import CapableTiers, capabilities_of
from serve_graph.gateway.capabilities.needs import MODALITIES, Needs, kind_of, needs_of

__all__ = ["MODALITIES", "AsleepTiers", "CapableTiers", "Needs", "capabilities_of", "kind_of", "needs_of"]
