"""Bodies of requests."""

import json
from typing import Any

from hypothesis import strategies as st

HELLO: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def body(**fields: Any) -> bytes:
    return json.dumps(HELLO | fields).encode()
