"""Labels that decide how a request is answered are promised of only where somebody vouches for them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from router_models.data.slices import LABELS_OF, SLICERS, is_stated
from router_models.estimators.routers import MetadataRouter
from router_models.types import Action, Prompts, Query
from serve_graph.access.caller import CALLER, Caller
from serve_graph.cascade.fakes import FakeDecider, FakeEngine, FakeJudge, ListSink, fake_context
from serve_graph.config.access import KeyConfig
from serve_graph.gateway.constraints import RoutingContext
from serve_graph.gateway.handler import Service
from serve_graph.policy.labels import LabelRule
from serve_graph.protocol.requests import RequestOptions

DETECTED, STATED = LabelRule("language"), LabelRule("language", stated=True, trusted=("language",))
BY_TIER = LabelRule("user_tier", stated=True)
BY_DOMAIN = LabelRule("domain", stated=True, trusted=("domain",))


@pytest.mark.parametrize(
    ("rule", "metadata", "fixed", "why"),
    [
        (LabelRule(), {"language": "de"}, (), None),
        (LabelRule("length"), {"language": "de"}, (), None),
        (DETECTED, {}, (), None),
        (DETECTED, {"user_tier": "gold"}, (), None),
        (DETECTED, {"language": "de"}, (), "the caller says language=de"),
        (DETECTED, {"language": "de"}, ("language",), "was detected when it was certified"),
        (STATED, {"language": "de"}, (), None),
        (STATED, {}, (), "was stated when it was certified"),
        (replace(STATED, trusted=()), {"language": "de"}, (), "the caller says"),
        (replace(STATED, trusted=()), {"language": "de"}, ("language",), None),
        (BY_TIER, {"user_tier": "gold"}, (), "the caller says user_tier=gold"),
        (BY_TIER, {"user_tier": "gold"}, ("user_tier",), None),
        (BY_TIER, {}, (), "nobody who is trusted to says the user tier"),
        (replace(BY_TIER, trusted=("user_tier",)), {}, (), None),
        (BY_DOMAIN, {"domain": "law"}, (), None),
        (BY_DOMAIN, {"task": "law"}, (), "the caller says task=law"),
        (BY_DOMAIN, {"domain": "law", "task": "math"}, ("task",), None),
        (replace(BY_DOMAIN, trusted=()), {"domain": "law", "task": "math"}, ("task",), "the caller says domain=law"),
        (LabelRule(read=("task",)), {"task": "sum"}, (), "the caller says task=sum"),
        (LabelRule(read=("task",)), {}, (), "the caller says no task"),
        (LabelRule(read=("task",)), {"task": "sum"}, ("task",), None),
    ],
)
def test_a_label_counts_where_the_key_or_the_configuration_vouches_for_it(
    rule: LabelRule, metadata: dict[str, str], fixed: tuple[str, ...], why: str | None
) -> None:
    found = rule.unproven(metadata, fixed)
    assert (found is None) if why is None else (why in (found or ""))


def test_every_slicer_says_which_metadata_it_reads() -> None:
    assert LABELS_OF.keys() == SLICERS.keys()
    for slicer, names in LABELS_OF.items():
        for name in names:
            assert SLICERS[slicer]("why?", {name: "x"}) == "x"
            assert is_stated(slicer, Prompts(("why?", "so"), metadata={name: ("", "x")}))
        assert not is_stated(slicer, Prompts(("why?", "so"), metadata={"other": ("", "x")}))


def test_a_router_on_metadata_says_what_it_reads() -> None:
    prompts = Prompts(("a", "b", "c", "d"), metadata={"domain": ("law", "math", "law", "math")})
    assert MetadataRouter().labels_read == ()
    assert MetadataRouter().fit(prompts, np.array([0.0, 1.0, 0.0, 1.0])).labels_read == ("domain",)


@pytest.mark.parametrize(
    ("asked", "labels", "promised"),
    [
        ({"user_tier": "gold"}, {}, None),
        ({"user_tier": "gold"}, {"user_tier": "free"}, 0.9),
        ({}, {"user_tier": "free"}, 0.9),
        ({}, {}, None),
    ],
)
async def test_a_keys_labels_stand_whatever_its_requests_say(
    asked: dict[str, Any], labels: dict[str, str], promised: float | None
) -> None:
    for floor in (None, 0.9):
        cheap, sink = FakeEngine("yes"), ListSink()
        shared = fake_context(cheap, decider=FakeDecider("cheap"), judge=FakeJudge(Action.ACCEPTED))
        service = Service(shared, sink, routing=RoutingContext(0.9, labels=BY_TIER))
        token = CALLER.set(Caller(KeyConfig(name="k", sha256="0" * 64, labels=labels)))
        try:
            options = RequestOptions.model_validate({**asked, "quality_floor": floor})
            request = service.open(Query.from_prompt("hello", user_tier="spoofed"), "auto", False, options)
        finally:
            CALLER.reset(token)
        await service.answer(request)
        assert request.query.metadata["user_tier"] == labels.get("user_tier", asked.get("user_tier", "spoofed"))
        record = sink.records[-1]
        assert record.evidence["promised"] == (promised if record.tier == "cheap" else None)
        assert record.tier == ("cheap" if floor is None or promised else "frontier")
