"""Mend how vLLM's CPU build samples with speculation; its workers import this as their `worker_extension_cls`.

The temperature, top_p and top_k of a request are copied to each of its drafted tokens. vLLM 0.29's CPU build copies
them into a converted duplicate of the result and drops that, so that the drafted tokens of every request in the batch,
greedy ones too, are judged by what the memory held before. Batches of greedy requests alone take another way, which
is right. Importing this module replaces the copy.
"""

from __future__ import annotations

import sys
from typing import Any

SAMPLER = "vllm.v1.sample.rejection_sampler"


class MendedSampling:
    """What vLLM adds to its worker's bases; it holds nothing, as importing this module has done all."""


def expanded(output: Any, values: Any, cumulative: Any, replaced: Any, by: Any, **_: Any) -> None:
    """Write every request's value once for each of its tokens to `output`, `replaced` ones as `by`.

    `cumulative` are the numbers of tokens up to the end of each request.
    """
    import torch

    counts = torch.diff(cumulative, prepend=cumulative.new_zeros(1))
    output.copy_(torch.where(values == replaced, by, values).repeat_interleave(counts))


def mend() -> None:
    """Replace vLLM's copy, where it is about to be used and where it is in use already."""
    import vllm.utils.cpu_triton_utils as kernels

    known = getattr(kernels, "expand_kernel", None)
    if known is None:
        return
    kernels.expand_kernel = type(known)(expanded)
    sampler: Any = sys.modules.get(SAMPLER)
    if getattr(sampler, "expand_kernel", None) is known:
        sampler.expand_kernel = kernels.expand_kernel


mend()
