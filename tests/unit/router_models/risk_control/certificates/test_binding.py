"""What a certificate depends on is told by its hash, whatever the order in which it is written."""

import pytest

from router_models.errors import DataError
from router_models.risk_control.certificates.binding import binding_hashes


def test_hashes_do_not_depend_on_key_order_and_refuse_what_json_cannot_hold():
    assert binding_hashes({"a": {"x": 1, "y": 2}}) == binding_hashes({"a": {"y": 2, "x": 1}})
    assert binding_hashes({"a": b"abc"})["a"].startswith("ba7816bf")
    with pytest.raises(DataError, match="cannot bind 'price'"):
        binding_hashes({"price": float("nan")})
