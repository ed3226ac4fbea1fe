"""Configuration of what judges answers: verifier models, signals that are asked for, a judge, programs that grade."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from router_models.types.exchange import verifier_of
from serve_graph.config.base import Frozen
from serve_graph.config.prices import Amount
from serve_graph.config.tiers.kinds import AnyTierConfig, EchoTierConfig, HostedTierConfig, VllmTierConfig
from serve_graph.config.tiers.tier import TierName

JudgedRoute = Literal["accepted", "escalated", "routed", "forced", "fallback"]
"""How an answer came about: the outcomes of requests that have one."""
JudgeMode = Literal["pointwise", "pairwise"]
ReadAs = Literal["conversation", "pair"]
NOT_OF_A_READER = ("price_changes", "decoding", "embeddings", "lora", "speculation")
Share = Annotated[float, Field(ge=0, le=1)]
PLACEHOLDERS: dict[JudgeMode, tuple[str, ...]] = {
    "pointwise": ("question", "answer", "nonce"),
    "pairwise": ("question", "first", "second", "nonce"),
}
_NAME_CHARS = 200


class JudgeConfig(Frozen):
    """A judge of live answers (docs/guides/learning/judge.md): a model's word on a sample of them, as labels."""

    tier: TierName
    """The tier that judges, by name: any of `tiers`. What it judges is sent to it, texts included."""
    rate: Share | dict[JudgedRoute, Share] = 0.05
    """The share of answers that are judged, chosen by a hash of the decision's id: one for all, or one for each
    outcome (`{accepted: 0.1, escalated: 0.02}`; those not named are not judged). The same decisions are drawn first
    for people's labels (`feedback.label_share`), so that the two can be compared.
    """
    mode: JudgeMode = "pointwise"
    """`pointwise`: is the answer right? `pairwise`: a cheap answer beside the last tier's, in both orders; where the
    orders disagree it is a tie. The last tier is called for its answer where it gave none.
    """
    budget_usd_per_day: Amount = Decimal(1)
    """US dollars for judging in one day (UTC), of all ingress replicas that share the state folder, the last tier's
    answers to compare with included. When it is spent, nothing is judged until the next day.
    """
    concurrency: Annotated[int, Field(ge=1, le=64)] = 2
    """Answers that one ingress replica has judged at once."""
    max_queued: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Answers that may wait in one ingress replica; what comes beyond is not judged."""
    max_chars: Annotated[int, Field(ge=1)] = 20_000
    """Characters of request and answer together, above which an answer is not judged."""
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Tokens that the judge may write."""
    decoding: dict[str, Any] = Field(default_factory=lambda: {"temperature": 0.0})
    """Sampling settings of the judge's calls."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds for each call."""
    prompt: str | None = None
    """What the judge is asked, with `{question}`, `{answer}` (pairwise: `{first}` and `{second}`) and `{nonce}`, a
    code made up for each call. It must ask for a last line `VERDICT {nonce}: WORD` with the word `right` or `wrong`
    (pairwise: `first`, `second`, `both` or `neither`, for which answers are right). null: the prompt of this release.
    """

    @model_validator(mode="after")
    def _prompt_is_whole(self) -> Self:
        needed = PLACEHOLDERS[self.mode]
        if missing := [name for name in needed if self.prompt is not None and f"{{{name}}}" not in self.prompt]:
            raise ValueError(f"prompt lacks {', '.join(f'{{{name}}}' for name in missing)}, which {self.mode} needs")
        return self

    def rate_of(self, route: str) -> float:
        """Return the share of answers of an outcome that are judged."""
        if isinstance(self.rate, dict):
            return {str(name): share for name, share in self.rate.items()}.get(route, 0.0)
        return self.rate if route in get_args(JudgedRoute) else 0.0


def pairwise(config: JudgeConfig | None, tier: str) -> JudgeConfig:
    """Return how a tier is asked which of two answers are right: as the judge is, where there is one."""
    asked = config or JudgeConfig(tier=tier)
    prompt = asked.prompt if asked.mode == "pairwise" else None
    return asked.model_copy(update={"tier": tier, "mode": "pairwise", "prompt": prompt})


class EnsembleOnlyConfig(Frozen):
    """Which requests an ensemble is drawn from; what is not named does not matter."""

    keys: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of access keys; null: all, and requests without one."""
    metadata: dict[str, Annotated[tuple[str, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Labels, each with the values that are meant, as requests' metadata and the `labels` of keys have them."""

    def meant(self, key: str | None, metadata: Mapping[str, str]) -> bool:
        """Return whether a request with these labels, under this key, is one of them."""
        of_key = self.keys is None or key in self.keys
        return of_key and all(metadata.get(name) in values for name, values in self.metadata.items())


class EnsembleConfig(Frozen):
    """Both tiers on a sample: a judge or a verifier model picks what the caller gets
    (docs/guides/learning/ensemble.md).
    """

    share: Share = 0.01
    """The share of requests that both tiers answer, drawn by a hash of the request's id (`x-request-id`): a retry
    under the same id is drawn, or not, as the first was. 0: only those that ask for it (`serve_graph.ensemble: true`).
    """
    judge: str
    """Who picks: a tier, by name, which is asked which of the two answers are right, in both orders; or `reward:NAME`,
    a model of `verifiers`, whose higher score is picked. What is judged is sent to it, texts included.
    """
    budget_usd_per_day: Amount = Decimal(1)
    """US dollars for drawn requests in one day (UTC), both answers and the judge's calls, of all ingress replicas that
    share the state folder. A request that may cost more than is left is answered as any other.
    """
    tiers: tuple[TierName, TierName] | None = None
    """The two tiers, the cheaper one first; null: the first and the last one."""
    only: EnsembleOnlyConfig = EnsembleOnlyConfig()
    """Which requests are drawn from."""
    streams: Literal["leave_out", "hold"] = "leave_out"
    """`leave_out`: streams are not drawn; `hold`: a drawn stream shows nothing until an answer is picked, then all of
    it at once.
    """
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds for both answers and the pick together, and half of what is left of the request's deadline at most.
    After that the request is answered as any other, with the answers that there are.
    """
    max_chars: Annotated[int, Field(ge=1)] = 20_000
    """Characters of request and both answers together, above which nobody is asked to pick."""

    @property
    def reward(self) -> str | None:
        """The verifier model that picks; None where a tier does."""
        return verifier_of(self.judge)


class AgreementConfig(Frozen):
    """How the signal `agreement` is asked for: further answers to the same request, compared with the first."""

    samples: Annotated[int, Field(ge=1, le=16)] = 3
    """How many further answers."""
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    """What they are drawn at."""
    max_tokens: Annotated[int, Field(ge=1)] = 128
    """Tokens of each at most; of one that is longer its beginning is compared."""
    match: Literal["text", "number"] = "text"
    """What agrees: equal texts, or equal last numbers."""


class ExampleConfig(Frozen):
    """A graded exchange that is shown to a model before it is asked about an answer."""

    question: Annotated[str, Field(min_length=1)]
    """What was asked."""
    answer: Annotated[str, Field(min_length=1)]
    """What was answered."""
    right: bool
    """Whether that was right."""


class SelfVerificationConfig(Frozen):
    """How the signal `self_verification` is asked for after examples: P(True) of one token, or sampled verdicts."""

    examples: Annotated[tuple[ExampleConfig, ...], Field(min_length=1, max_length=32)] | None = None
    """Graded exchanges like those of the graph's own traffic, right and wrong ones; null: four of this release."""
    samples: Annotated[int, Field(ge=0, le=16)] = 0
    """0: one token, which needs token logprobs. Else so many verdicts in words, each by a call of its own: the signal
    is the share of those that say "correct", and any tier can be asked.
    """
    temperature: Annotated[float, Field(gt=0, le=2)] = 0.7
    """What verdicts are drawn at."""
    max_tokens: Annotated[int, Field(ge=8)] = 48
    """Tokens of each verdict at most; one that is cut off before its word does not count."""


class SignalsConfig(Frozen):
    """How the signals are asked for that take further calls (docs/reference/signals.md). Nothing is asked for that the
    served version does not read; a version is void where it would be asked otherwise than it was certified.
    """

    timeout_s: Annotated[float, Field(gt=0)] = 5.0
    """Seconds for all calls about one answer, which are made at once. One that is not had in time is missing: the
    answer is escalated, and nothing is promised of the request.
    """
    agreement: AgreementConfig = AgreementConfig()
    """Further answers of the tier that answered."""
    self_verification: SelfVerificationConfig = SelfVerificationConfig()
    """How the tier that answered is asked whether its answer is right, and what it is shown first."""


class GradersConfig(Frozen):
    """Programs that grade answers to known questions (docs/guides/learning/graders.md), instead of a judge."""

    tasks: tuple[Path, ...] = ()
    """Files of tasks as `collect --tasks` reads them. Answers to a request that asks one of them are graded by its
    grader and reference: in comparisons, in the judge's sample, by `decisions replay`, `collect --from-decisions` and
    `train --from-decisions`.
    """


class AnswerReader(Frozen):
    """What a verifier model is given to read, and which of its numbers is the score."""

    reads: ReadAs = "conversation"
    """`conversation`: the request's turns and the answer, through the model's chat template, as reward models are
    trained (`/classify`); `pair`: the text of the request and that of the answer, as cross-encoders and rerankers
    are.
    """
    label: Annotated[int, Field(ge=0)] | None = None
    """Of a model with several labels, the one whose log-odds are the score; null: the model has one label, whose logit
    is.
    """

    @model_validator(mode="after")
    def _is_a_model_that_scores(self) -> Self:
        if self.reads == "pair" and self.label is not None:
            raise ValueError("label: a model that reads pairs has one score; `reads: conversation` has labels")
        if strangers := [name for name in NOT_OF_A_READER if _is_set(self, name)]:
            raise ValueError(f"{', '.join(strangers)}: not of a verifier model")
        return self


def _is_set(config: Frozen, name: str) -> bool:
    fields = type(config).model_fields
    return name in fields and getattr(config, name) != fields[name].get_default(call_default_factory=True)


class VllmVerifierConfig(AnswerReader, VllmTierConfig):
    """A sequence-classification or scoring model served by vLLM's pooling runner, one deployment of its own."""


class HostedVerifierConfig(AnswerReader, HostedTierConfig):
    """A model behind the HTTP API of another server, such as `vllm serve`: `base_url` with the route behind it."""

    route: Literal["score", "rerank"] = "score"
    """With `reads: pair`, what is called: `/score` or `/rerank`. A conversation goes to `/classify`, which vLLM has at
    its root.
    """

    @model_validator(mode="after")
    def _has_an_address(self) -> Self:
        if any(api.api != "openai" or api.base_url is None for api in self.apis):
            raise ValueError("a verifier model needs the `base_url` of a server that scores, and no `api: anthropic`")
        return self


class EchoVerifierConfig(AnswerReader, EchoTierConfig):
    """No model, for tests and benchmarks: its score follows from the question by the echo tiers' draw."""


AnyVerifierConfig = Annotated[
    VllmVerifierConfig | HostedVerifierConfig | EchoVerifierConfig, Field(discriminator="engine")
]


def check_ensemble(ensemble: EnsembleConfig, tiers: Sequence[str], verifiers: Sequence[str]) -> None:
    """Raise ValueError for an ensemble that names what the graph does not have, or has no two tiers."""
    key = "policy.ensemble"
    if len(tiers) < 2:
        raise ValueError(f"{key} needs two tiers; there is {', '.join(tiers)}")
    both = ensemble.tiers or (tiers[0], tiers[-1])
    if unknown := [tier for tier in both if tier not in tiers]:
        raise ValueError(f"{key}.tiers {unknown}: not a tier; tiers: {list(tiers)}")
    if tiers.index(both[0]) >= tiers.index(both[1]):
        raise ValueError(f"{key}.tiers {list(both)}: two different tiers, the cheaper one first; tiers: {list(tiers)}")
    if ensemble.reward is None and ensemble.judge not in tiers:
        raise ValueError(f"{key}.judge {ensemble.judge!r} is not a tier, nor reward:NAME; tiers: {list(tiers)}")
    if ensemble.reward is not None and ensemble.reward not in verifiers:
        known = ", ".join(verifiers) or "none"
        raise ValueError(f"{key}.judge {ensemble.judge!r}: there is no such verifier model; of `verifiers`: {known}")


def judge_source(tier: AnyTierConfig) -> str:
    """Return the source of a judge's labels: `judge:TIER/MODEL`, with the model as it is configured."""
    if isinstance(tier, EchoTierConfig):
        model = "echo"
    elif isinstance(tier, HostedTierConfig):
        model = "+".join(dict.fromkeys(api.model for api in tier.apis))
    else:
        weights = tier.weights
        model = weights.package or weights.hub or (weights.folder.name if weights.folder else "")
        model += "" if tier.lora is None else f":{tier.lora.adapter}"
    return f"judge:{tier.name}/{re.sub(r'[^!-~]+', '-', model)}"[:_NAME_CHARS]
