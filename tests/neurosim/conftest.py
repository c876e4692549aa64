"""Chips for the tests of the run loop."""

from __future__ import annotations

import pytest

from neurosim.chip import ChipDescription, load_chip


@pytest.fixture(scope="module")
def chips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChipDescription]:
    """The presets, and ideal and real ones of small tiles with counting packets."""
    folder = tmp_path_factory.mktemp("chips")

    def variant(base: str, extra: str = "") -> ChipDescription:
        quantity = 'unit = "1", source = "a test", evidence = "assumed"'
        path = folder / f"small-{base}.toml"
        path.write_text(
            f'base = "{base}"\nname = "small {base}"\n'
            f"[tile]\nrows = {{ value = 12, {quantity} }}\ncolumns = {{ value = 10, {quantity} }}\n"
            f'[routing]\npackets = "count"\n{extra}'
        )
        return load_chip(path)

    return {
        "ideal": load_chip("ideal"),
        "ag_v2c_w": load_chip("ag_v2c_w"),
        "small ideal": variant("ideal"),
        "small ag_v2c_w": variant("ag_v2c_w"),
    }
