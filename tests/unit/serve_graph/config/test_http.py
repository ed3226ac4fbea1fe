"""The origins that the configuration may name."""

import pytest
from pydantic import ValidationError

from serve_graph.config.http import CorsConfig, HttpConfig, origin_pattern


@pytest.mark.parametrize(
    "origin",
    [
        "example.com",
        "https://example.com/",
        "https://example.com/path",
        "https://user@example.com",
        "https://",
        "https://*",
        "https://*.com",
        "http://*:*",
        "https://a*.example.com",
        "https://chat.*.com",
        "http://localhost:port",
        "*.example.com",
        "",
    ],
)
def test_an_origin_that_no_browser_sends_or_that_admits_everybody_is_refused(origin: str) -> None:
    with pytest.raises(ValidationError, match=r"origin|everybody|`\*`"):
        CorsConfig(origins=(origin,))


@pytest.mark.parametrize("origin", ["HTTPS://Chat.Example.com", "http://[::1]:3000", "NULL", "*", "app://obsidian.md"])
def test_origins_are_compared_without_regard_to_case(origin: str) -> None:
    assert CorsConfig(origins=(origin,)).origins == (origin.lower(),)


def test_no_origin_is_named_by_default() -> None:
    assert HttpConfig().cors.origins == ()
    assert origin_pattern(()).fullmatch("") is None


def test_a_photo_fits_into_the_default_body() -> None:
    assert HttpConfig().max_body_bytes == 32 * 2**20
