"""Former family names: understood silently in stored versions, with a warning where a user gives one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from router_models.data.artifacts import seal
from router_models.data.outcomes import OutcomeTable
from router_models.errors import DataError, RenamedWarning
from router_models.estimators.registry import FORMER_NAMES, original_name
from router_models.estimators.routers import ROUTERS, LengthRouter, PYesRouter
from router_models.estimators.verifiers import VERIFIERS, NonEmptyVerifier, RuleChecksVerifier, StackedVerifier
from router_models.evaluation.held_out import usable_families
from router_models.planning.workload import usable_routers
from router_models.training.selection.model_selection import choose_router, usable_verifiers
from router_models.types import Answers, OperatingPoint, Prompts
from router_models.versions.policy import Policy
from router_models.versions.router_version import RouterVersion
from router_models.versions.sealed.digest import models_digest
from router_models.versions.sealed.tier_models import Stage

ANSWERS = Answers(
    Prompts(tuple(f"question {i}" for i in range(60))),
    tuple("an answer" if i % 3 else "" for i in range(60)),
    ("stop",) * 60,
)
GRADES = np.array([float(i % 3 > 0) for i in range(60)])


@pytest.mark.parametrize(
    ("name", "registry", "cls"),
    [
        ("asked", ROUTERS, PYesRouter),
        ("composed", VERIFIERS, StackedVerifier),
        ("checks", VERIFIERS, RuleChecksVerifier),
    ],
)
def test_former_name_leads_to_the_family_and_is_not_listed(name: str, registry, cls: type) -> None:  # type: ignore[no-untyped-def]
    assert registry[name] is cls
    assert name in registry
    assert name not in list(registry)
    with pytest.warns(RenamedWarning, match=f"{name!r} is now called {cls.family!r}"):  # type: ignore[attr-defined]
        assert registry.current_name(name) == cls.family  # type: ignore[attr-defined]


def test_every_former_name_leads_to_a_family_and_none_is_taken_again() -> None:
    for kind, registry in (("router", ROUTERS), ("verifier", VERIFIERS)):
        assert set(FORMER_NAMES[kind].values()) <= set(registry)
        assert not set(FORMER_NAMES[kind]) & set(registry)


def test_present_and_unknown_names_pass_without_a_warning() -> None:
    assert [ROUTERS.current_name(name) for name in ("knn", "nothing")] == ["knn", "nothing"]
    with pytest.raises(KeyError):
        ROUTERS["nothing"]


def test_whoever_names_a_former_family_is_warned() -> None:
    prompts = replace(ANSWERS.prompts, metadata={"p_yes": ("0.5",) * 60})
    table = OutcomeTable(prompts, prompts.texts, ("cheap",), {"cheap": GRADES}, np.arange(60))
    with pytest.warns(RenamedWarning, match="p-yes"):
        assert usable_families(["asked"], table)[0] == ["p-yes"]
    with pytest.warns(RenamedWarning, match="p-yes"):
        assert usable_routers(table, ["asked"]) == ["p-yes"]
    with pytest.warns(RenamedWarning, match="rule-checks"):
        assert usable_verifiers(ANSWERS, ["checks"]) == ["rule-checks"]
    with (
        pytest.warns(RenamedWarning, match="p-yes"),
        pytest.raises(DataError, match="p_yes"),
    ):
        choose_router(ANSWERS.prompts, GRADES, np.arange(60), ["asked"])


def version(verifier) -> RouterVersion:  # type: ignore[no-untyped-def]
    points = {"cheap": OperatingPoint(0.5, 0.7), "frontier": OperatingPoint(np.inf, 0.0)}
    return RouterVersion(Policy(("cheap", "frontier"), points), {"cheap": Stage(LengthRouter(), None, verifier, None)})


@pytest.mark.parametrize(
    ("verifier", "former"),
    [
        (RuleChecksVerifier(), "checks"),
        (StackedVerifier({"rules": RuleChecksVerifier(), "empty": NonEmptyVerifier()}), "composed"),
    ],
)
def test_version_stored_under_a_former_name_loads_and_has_the_same_digest(
    tmp_path: Path, verifier: RuleChecksVerifier | StackedVerifier, former: str
) -> None:
    made = version(verifier.fit(ANSWERS, GRADES))
    made.save(tmp_path / "v")
    policy = json.loads((tmp_path / "v" / "policy.json").read_text())
    policy["families"]["cheap"]["verifier"] = former
    (tmp_path / "v" / "policy.json").write_text(json.dumps(policy))
    seal(tmp_path / "v")
    loaded = RouterVersion.load(tmp_path / "v")
    assert type(loaded.stages["cheap"].verifier) is type(verifier)
    assert loaded.stages["cheap"].verifier.predict(ANSWERS) == pytest.approx(verifier.predict(ANSWERS))
    assert models_digest(loaded) == models_digest(made)


def test_renaming_a_family_changes_no_digest() -> None:
    class Before(NonEmptyVerifier):
        family = "checks"

    class After(NonEmptyVerifier):
        family = "rule-checks"

    assert models_digest(version(Before())) == models_digest(version(After()))
    assert models_digest(version(Before())) != models_digest(version(NonEmptyVerifier()))


def test_stacked_verifier_stores_its_members_under_their_first_names() -> None:
    state = StackedVerifier({"rules": RuleChecksVerifier()}).fit(ANSWERS, GRADES).state()
    assert state.meta["own"]["members"] == [["rules", "checks"]]
    assert original_name("verifier", "logprob") == "logprob"
