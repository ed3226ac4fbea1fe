"""Keys of the configuration that have been renamed: the old names are read for one release."""

import logging
from typing import Any

import pytest
from pydantic import ValidationError

from serve_graph.config.policy import PolicyConfig


def test_overload_fallback_is_off_unless_it_is_asked_for() -> None:
    assert not PolicyConfig().overload_fallback
    assert PolicyConfig.model_validate({"overload_fallback": True}).overload_fallback


@pytest.mark.parametrize("value", [True, False])
def test_spill_is_read_as_overload_fallback_with_a_warning(value: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), pytest.warns(DeprecationWarning, match="policy.overload_fallback"):
        config = PolicyConfig.model_validate({"spill": value, "epsilon": 0.2})
    assert (config.overload_fallback, config.epsilon) == (value, 0.2)
    assert "policy.spill is now policy.overload_fallback" in caplog.text


@pytest.mark.parametrize("both", [{"spill": True, "overload_fallback": True}, {"spill": 1.5}])
@pytest.mark.filterwarnings("ignore:policy.spill:DeprecationWarning")
def test_both_names_at_once_or_a_value_that_is_none_are_refused(both: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolicyConfig.model_validate(both)
