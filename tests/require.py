"""What a test needs and may not find: it is skipped and says why, and in CI, where all is there, it fails."""

import os

import pytest


def require(condition: object, reason: str) -> None:
    """Skip the running test unless the condition holds; fail it where HWNUMA_REQUIRE is set."""
    if condition:
        return
    if os.environ.get("HWNUMA_REQUIRE"):
        pytest.fail(f"HWNUMA_REQUIRE is set, and {reason}", pytrace=False)
    pytest.skip(reason)
