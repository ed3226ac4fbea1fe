"""Mend how vLLM's CPU build applies LoRA adapters; its workers import this as their `worker_extension_cls`.

A request without an adapter has the index -1. Where it is computed in one batch with requests that have one, vLLM
0.29's CPU build reads -1 as Python does and gives it the adapter in the last place: an answer by other weights than
were asked for. Batches of one kind take another way, which is right. Importing this module has the low-rank product of
such rows be zero, so that nothing is added for them; and it mends sampling as `cpu_sampling` does.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import serve_graph.engines.vllm.cpu_sampling  # noqa: F401 (importing it mends)

WRAPPER = "vllm.lora.punica_wrapper.punica_cpu"
OPERATIONS = "vllm.lora.ops.torch_ops"


class MendedAdapters:
    """What vLLM adds to its worker's bases; it holds nothing, as importing this module has done all."""


def without_adapter_nothing(shrink: Callable[..., None]) -> Callable[..., None]:
    """Wrap vLLM's first low-rank product: rows of a negative index are zero afterwards."""

    @functools.wraps(shrink)
    def shrunk(inputs: Any, weights: Any, output: Any, indices: Any, *more: Any, **named: Any) -> None:
        shrink(inputs, weights, output, indices, *more, **named)
        output[: len(indices)].masked_fill_((indices < 0).unsqueeze(1), 0.0)

    return shrunk


def mend_adapters() -> None:
    """Replace vLLM's product where it is defined, and where it has been imported already."""
    from vllm.lora.ops.torch_ops import lora_ops

    known = lora_ops.bgmv_shrink
    if hasattr(known, "__wrapped__"):
        return
    lora_ops.bgmv_shrink = without_adapter_nothing(known)  # sgmv_shrink calls it by this name
    for name in (OPERATIONS, WRAPPER):
        if getattr(sys.modules.get(name), "bgmv_shrink", None) is known:
            sys.modules[name].bgmv_shrink = lora_ops.bgmv_shrink  # type: ignore[attr-defined]


mend_adapters()
