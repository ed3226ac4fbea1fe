"""Every verifier family from `train` to the request: fitted, certified, sealed, loaded, and asked for verdicts."""

from decimal import Decimal
from pathlib import Path

import pytest

from router_models.estimators.verifiers import VERIFIERS
from router_models.types import Query
from tests.contract.signals.asked_world import PROMPTS, World, certified, closed, serving

ASK_NOTHING = {"non-empty", "rule-checks", "logprob", "learned", "combined", "stacked"}
"""Families that ask for no signal: without one little tells these answers apart, and the promise is lenient."""


@pytest.mark.parametrize("family", sorted(VERIFIERS))
async def test_a_family_is_trained_certified_and_judges_what_is_served(
    world: World, family: str, tmp_path: Path
) -> None:
    version = certified(world, verifier=family, epsilon=0.6 if family in ASK_NOTHING else 0.3)
    verifier = version.stages["cheap"].verifier
    assert verifier is not None
    assert verifier.family == family
    assert version.certificate is not None
    assert version.certificate.accepted_n > 0
    ingress, judged = await serving(world, version, tmp_path / "version"), 0
    try:
        for prompt in PROMPTS[:12]:
            request = ingress.service.open(Query.from_prompt(prompt), "auto", False)
            facts = (await ingress.service.answer(request))["serve_graph"]
            if facts["outcome"] == "routed":
                continue
            judged += 1
            verdict = request.state.verdict
            assert verdict is not None
            assert facts["outcome"] in ("accepted", "escalated")
            assert verdict.p_ok is not None, verdict.reason
            assert 0 <= verdict.p_ok <= 1
            assert verdict.promised or facts["outcome"] == "escalated"
            assert request.cost_usd > Decimal(0)
    finally:
        await closed(ingress)
    assert judged > 0
