"""Run in a process of its own: what vLLM's rejection sampler, mended as its CPU workers are, makes of drafted tokens.

python sampled_tokens.py REPEATS DRAWS > how often each token came first and second, in every repeat, as a line of JSON

No model: the distributions are given, and known. Every batch holds requests that sample at one of two temperatures,
and greedy ones among them, each with two drafted tokens; the drafts come from elsewhere (an n-gram's, of which no
distribution is known) or from a draft model's distribution. Each is done a second time with a fault in the sampler: of
some rejected drafts the token in their place is drawn from the target instead of what is left of it, by so many that
the first tokens' distribution is `FAULT` (total variation) away.
"""

import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from vllm.platforms import current_platform
from vllm.v1.sample import rejection_sampler
from vllm.v1.worker.cpu_model_runner import CPUModelRunner

import serve_graph.engines.vllm.cpu_sampling  # noqa: F401 (importing it mends)

CELLS, DRAFTED, SEED, FAULT = 50, 2, 14, 0.02
HEATS = (0.7, 1.3)
TARGETS = np.random.default_rng(SEED).normal(0.0, 0.8, (DRAFTED, CELLS)).astype(np.float32)
"""The target's logits of the first and the second token."""


def probabilities(logits: np.ndarray, heat: float) -> np.ndarray:
    raised = np.exp(logits.astype(np.float64) / heat)
    return raised / raised.sum()


DRAFTS = probabilities(TARGETS[0] + np.random.default_rng(SEED + 1).normal(0.0, 0.4, CELLS), 0.4)
"""What is drafted, of either token: likely ones more than they are."""


def faulty_share(target: np.ndarray, *, known: bool) -> float:
    """Of how many requests a rejected draft has to be replaced from the whole target for the fault to be `FAULT`."""
    if known:
        kept = np.minimum(target, DRAFTS)
        drawn = kept + (1 - kept.sum()) * target
    else:
        drawn = DRAFTS * target + (1 - (DRAFTS * target).sum()) * target
    return FAULT / (np.abs(drawn - target).sum() / 2)


class FaultyKernel:
    """vLLM's kernel for what stands in a rejected draft's place, of which some requests get a draw of the target."""

    def __init__(self, kernel: Any, share: torch.Tensor) -> None:
        self.kernel, self.share = kernel, share

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def run(
            found: torch.Tensor, ends: Any, drafted: Any, told: Any, target: torch.Tensor, *more: Any, **named: Any
        ) -> None:
            self.kernel[grid](found, ends, drafted, told, target, *more, **named)
            hit = (torch.rand(len(self.share)) < self.share).repeat_interleave(DRAFTED)
            found[hit] = torch.multinomial(target[hit], 1).flatten().to(found.dtype)

        return run


def sampled(draws: int, rng: np.random.Generator, *, known: bool, faulty: bool) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of `draws` requests for each temperature, of a tenth as many greedy ones, and their temperatures.

    `known`: whether the sampler is told the distribution that tokens were drafted from.
    """
    heats = rng.permutation(np.repeat([*HEATS, 0.0], [draws, draws, draws // 10])).astype(np.float32)
    drafted = torch.from_numpy(rng.choice(CELLS, (len(heats), DRAFTED), p=DRAFTS).astype(np.int32)).flatten()
    logits = torch.from_numpy(np.tile(TARGETS, (len(heats), 1)))
    ends = torch.arange(1, len(heats) + 1, dtype=torch.int32) * DRAFTED
    settings: Any = SimpleNamespace(
        temperature=torch.from_numpy(heats), all_greedy=False, all_random=False, top_k=None, top_p=None, generators={}
    )
    bonus = torch.full((len(heats), 1), CELLS - 1, dtype=torch.int32)
    told = torch.from_numpy(np.tile(DRAFTS.astype(np.float32), (len(logits), 1))) if known else None
    constrained = rejection_sampler.apply_sampling_constraints(logits, ends, settings)
    kernel: Any = rejection_sampler.sample_recovered_tokens_kernel
    if faulty:
        of_heat = {np.float32(heat): faulty_share(probabilities(TARGETS[0], heat), known=known) for heat in HEATS}
        share = torch.tensor([of_heat.get(heat, 0.0) for heat in heats])
        rejection_sampler.sample_recovered_tokens_kernel = FaultyKernel(kernel, share)
    try:
        made = rejection_sampler.rejection_sample(
            drafted, [DRAFTED] * len(heats), DRAFTED, ends, told, constrained, bonus, settings
        )
    finally:
        rejection_sampler.sample_recovered_tokens_kernel = kernel
    return made.numpy()[:, :DRAFTED], heats


def counted(tokens: np.ndarray) -> list[list[int]]:
    """How often each token came first, and second where the first draft stood."""
    return [np.bincount(column[column >= 0], minlength=CELLS).tolist() for column in tokens.T]


def main() -> None:
    repeats, draws = map(int, sys.argv[1:3])
    current_platform.import_kernels()
    CPUModelRunner._postprocess_triton(None)  # type: ignore[arg-type]  # puts the CPU's kernels in; reads nothing
    rng, found, best = np.random.default_rng(SEED + 2), [], TARGETS.argmax(axis=1)
    torch.manual_seed(SEED)
    for known in (False, True):
        for faulty in (False, True):
            for _ in range(repeats):
                tokens, heats = sampled(draws, rng, known=known, faulty=faulty)
                first, second = tokens[heats == 0.0].T
                wrong = int((first != best[0]).sum() + ((second != best[1]) & (second >= 0)).sum())
                counts = {str(heat): counted(tokens[heats == np.float32(heat)]) for heat in HEATS}
                found.append({"known": known, "faulty": faulty, "counts": counts, "greedy wrong": wrong})
    expected = {str(heat): [probabilities(row, heat).tolist() for row in TARGETS] for heat in HEATS}
    sys.stdout.write("\nRESULT " + json.dumps({"expected": expected, "found": found}) + "\n")


if __name__ == "__main__":
    main()
