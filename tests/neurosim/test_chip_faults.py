"""Dead tiles and links: drawn by chance, listed, read from files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from neurosim.chip import load_chip, with_values
from neurosim.chip.faults import DIRECTIONS, Faults, dead_channels

CLEAN = load_chip("ag_v2c_w_clean")


def faults(**values: Any) -> Faults:
    return with_values(CLEAN, {f"faults.{key}": value for key, value in values.items()}).faults


def test_off_is_nothing_dead() -> None:
    assert not CLEAN.faults.any and not CLEAN.faults.avoid
    assert not CLEAN.faults.dead_tiles(1000, 3).any()
    assert not CLEAN.faults.dead_links(1000, 3).any()
    assert load_chip("ideal").computes_exactly
    assert not with_values(load_chip("ideal"), {"faults.tiles": [0]}).computes_exactly
    lossy = with_values(load_chip("ideal"), {"routing.late": "drop"})  # no packet takes time
    assert lossy.computes_exactly
    assert not with_values(lossy, {"routing.transport": "queued"}).computes_exactly


def test_fractions_are_independent_chances() -> None:
    drawn = faults(dead_tile_fraction=0.1, dead_link_fraction=0.2)
    assert drawn.any
    tiles, links = drawn.dead_tiles(40_000, 1), drawn.dead_links(40_000, 1)
    assert tiles.shape == (40_000,) and links.shape == (40_000, 4)
    observed = np.bincount(tiles.astype(int), minlength=2)
    assert chisquare(observed, np.array([0.9, 0.1]) * 40_000).pvalue > 1e-3
    pattern = links @ np.array([1, 2, 4, 8])  # 16 combinations of the four directions
    ones = np.array([bin(k).count("1") for k in range(16)])
    chances = 0.2**ones * 0.8 ** (4 - ones)
    assert chisquare(np.bincount(pattern, minlength=16), chances * 40_000).pvalue > 1e-3
    both = np.array([links[tiles].mean(), links[~tiles].mean()])
    assert abs(both[0] - both[1]) < 4 * np.sqrt(0.16 / (4 * tiles.sum()))  # apart from the tiles


def test_a_seed_is_a_chip_whatever_its_size() -> None:
    drawn = faults(dead_tile_fraction=0.3, dead_link_fraction=0.3)
    np.testing.assert_array_equal(drawn.dead_tiles(50, 7), drawn.dead_tiles(500, 7)[:50])
    np.testing.assert_array_equal(drawn.dead_links(50, 7), drawn.dead_links(500, 7)[:50])
    assert (drawn.dead_tiles(500, 7) != drawn.dead_tiles(500, 8)).any()
    more = faults(dead_tile_fraction=0.5).dead_tiles(500, 7)
    assert (more >= drawn.dead_tiles(500, 7)).all() and more.sum() > 200  # the same chips, worse
    assert drawn.dead_tiles(3, 2**63 - 1).shape == (3,)


def test_lists_are_dead_whatever_the_seed() -> None:
    listed = faults(tiles=[2, 90], links=[[1, "+x"], [3, "-y"], [99, "+y"]])
    for seed in (0, 1):
        assert np.flatnonzero(listed.dead_tiles(10, seed)).tolist() == [2]
        links = listed.dead_links(10, seed)
        assert [(t, DIRECTIONS[d]) for t, d in np.argwhere(links)] == [(1, "+x"), (3, "-y")]


def test_channels_of_dead_tiles() -> None:
    listed = faults(tiles=[11])
    where = np.array([9, 10, 11, 11])
    found = dead_channels(where, listed.dead_tiles(12, 0))
    assert found is not None and found.tolist() == [False, False, True, True]
    assert dead_channels(where, np.zeros(12, bool)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tiles = [-1]", r"faults.tiles: expected a list of tile numbers >= 0, got \[-1\]"),
        ("tiles = 3", "faults.tiles: expected a list of tile numbers"),
        ("tiles = [true]", "faults.tiles: expected a list of tile numbers"),
        ('links = [[3, "up"]]', r"faults.links: .* out of \+x, -x, \+y, -y\], got \[3, 'up'\]"),
        ('links = [["a", "+x"]]', "faults.links: expected a list of tile numbers"),
        ("links = 3", "faults.links: expected a list of links"),
        ("avoid = 1", "faults.avoid: expected true or false, got 1"),
        (
            'dead_tile_fraction = { value = 1.1, unit = "1", source = "t", evidence = "cited" }',
            "faults.dead_tile_fraction: expected a value from 0 to 1, got 1.1",
        ),
    ],
)
def test_errors_name_file_key_and_range(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'base = "ideal"\nname = "mine"\n[faults]\n{text}\n')
    with pytest.raises(ValueError, match=message) as caught:
        load_chip(path)
    assert "mine.toml" in str(caught.value)
