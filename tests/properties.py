"""Settings of the hypothesis tests: few fixed examples by default, many drawn ones on request."""

from __future__ import annotations

from hypothesis import settings

USUAL = 100
"""Examples of a property under the default profile, see conftest.py."""


def examples(count: int) -> settings:
    """`count` examples, or as many as a profile asks for that wants more than the usual."""
    wanted = settings.default.max_examples if settings.default is not None else USUAL
    return settings(max_examples=wanted if wanted > USUAL else count)
