"""A specification: what it means, and that everything wrong is named before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from neurosim.sweep import SweepSpec, run_sweep
from neurosim.sweep.design import settings, variants


def spec(**changes: Any) -> dict[str, Any]:
    data: dict[str, Any] = {"name": "s", "chips": ["ideal"], "quality": {"tokens": 8}}
    return {**data, **changes}


def values(**changes: Any) -> list[dict[str, Any]]:
    return [dict(setting.values) for setting in settings(SweepSpec.from_dict(spec(**changes)))]


TWO = {"crossbar.read_noise": [0.0, 0.1], "mesh.width": [4, 5]}


def test_grid_takes_every_combination() -> None:
    found = values(parameters=TWO)
    assert [(v["crossbar.read_noise"], v["mesh.width"]) for v in found] == [
        (0.0, 4.0), (0.0, 5.0), (0.1, 4.0), (0.1, 5.0),
    ]  # fmt: skip


def test_each_takes_the_base_and_one_at_a_time() -> None:
    found = values(parameters=TWO, design="each")
    assert found == [
        {}, {"crossbar.read_noise": 0.0}, {"crossbar.read_noise": 0.1}, {"mesh.width": 4.0},
        {"mesh.width": 5.0},
    ]  # fmt: skip


def test_zip_takes_the_lists_together() -> None:
    assert values(parameters=TWO, design="zip") == [
        {"crossbar.read_noise": 0.0, "mesh.width": 4.0},
        {"crossbar.read_noise": 0.1, "mesh.width": 5.0},
    ]


def test_cases_and_set_lie_under_the_parameters() -> None:
    found = values(
        parameters={"mesh.width": [4]},
        set={"crossbar.read_noise": 0.01, "mesh.height": 9},
        cases=[{"name": "plain"}, {"name": "noisy", "set": {"crossbar": {"read_noise": 0.2}}}],
    )
    assert found == [
        {"crossbar.read_noise": 0.01, "mesh.height": 9.0, "mesh.width": 4.0},
        {"crossbar.read_noise": 0.2, "mesh.height": 9.0, "mesh.width": 4.0},
    ]


def test_ranges_and_nested_keys() -> None:
    linear = {"crossbar": {"read_noise": {"from": 0, "to": 0.3, "count": 4}}}
    assert [v["crossbar.read_noise"] for v in values(parameters=linear)] == [0.0, 0.1, 0.2, 0.3]
    log = {"window.duration": {"from": 1e-6, "to": 1e-4, "count": 3, "scale": "log"}}
    assert [v["window.duration"] for v in values(parameters=log)] == [1e-6, 1e-5, 1e-4]


def test_seeds() -> None:
    assert SweepSpec.from_dict(spec(seeds={"from": 3, "count": 2})).seeds == (3, 4)
    assert SweepSpec.from_dict(spec(seeds=[7, 1])).seeds == (7, 1)


def test_columns_hold_what_the_chip_has() -> None:
    """The base's own value stands where a parameter does not move."""
    data = spec(chips=["ag_v2c_w"], parameters={"crossbar.read_noise": [0.5]}, design="each")
    found = variants(SweepSpec.from_dict(data))
    assert [v.columns["crossbar.read_noise"] for v in found] == [0.01, 0.5]
    assert found[0].digest != found[1].digest


def test_a_chip_file_lies_beside_the_specification(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('base = "ideal"\nname = "mine"\n')
    path = tmp_path / "s.toml"
    path.write_text('name = "s"\nchips = ["mine.toml"]\n[quality]\ntokens = 4\n')
    assert variants(SweepSpec.load(path))[0].name == "mine"


def test_the_digest_forgets_sources_but_no_number() -> None:
    def one(**parameters: Any) -> str:
        data = spec(chips=["ag_v2c_w"], parameters=parameters)
        return variants(SweepSpec.from_dict(data))[0].digest

    base = one()
    assert one(**{"crossbar.read_noise": [0.01]}) == base  # its own value, another source
    assert one(**{"crossbar.read_noise": [0.010001]}) != base
    assert one(**{"routing.packets": ["count"]}) != base


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"colour": 1}, "unknown keys colour; known: name,"),
    ({"name": "a/b"}, "name: expected letters"),
    ({"chips": []}, "chips: expected a list of at least one"),
    ({"chips": ["moon"]}, "expected a chip name out of"),
    ({"chips": ["ideal", "ideal"]}, "chips: expected different values"),
    ({"chips": ["nowhere.toml"]}, "nowhere.toml: cannot be read"),
    ({"seeds": {"count": 0}}, "seeds.count: expected a whole number from 1 to"),
    ({"seeds": {"counts": 3}}, "seeds: unknown keys counts; known: from, count"),
    ({"seeds": [-1]}, "seeds[0]: expected a whole number from 0 to"),
    ({"seeds": [1, 1]}, "seeds: expected different values, got 1 twice"),
    ({"seeds": [True]}, "seeds[0]: expected a whole number"),
    ({"design": "random"}, "design: expected one of grid, each, zip, got 'random'"),
    ({"parameters": {"crossbar.noise": [1]}}, "unknown key 'crossbar.noise'; known: crossbar."),
    ({"parameters": {"crossbar.read_noise": [99.0]}}, "read_noise: expected a value from 0 to 10"),
    ({"parameters": {"crossbar.read_noise": ["big"]}}, "crossbar.read_noise"),
    ({"parameters": {"crossbar.read_noise": 0.1}}, "read_noise: expected a list of values or"),
    ({"parameters": {"crossbar.read_noise": []}}, "read_noise: expected a list of values or"),
    ({"parameters": {"crossbar.read_noise": [0.1, 0.1]}}, "expected different values"),
    ({"parameters": {"crossbar.read_noise": [0.1, "x"]}}, "expected values of one type"),
    ({"parameters": {"crossbar.read_noise": [float("nan")]}}, "expected a finite number"),
    ({"parameters": {"mesh.width": {"from": 1, "to": 2}}}, "mesh.width: missing count"),
    ({"parameters": {"mesh.width": {"from": 1, "to": 1, "count": 2}}}, "from and to to differ"),
    (
        {"parameters": {"mesh.width": {"from": 0, "to": 1, "count": 2, "scale": "log"}}},
        "from and to > 0",
    ),
    (
        {"parameters": {"mesh.width": [1, 2], "mesh.height": [1]}, "design": "zip"},
        "lists of one length, got mesh.width 2, mesh.height 1",
    ),
    ({"parameters": {"mesh.width": [3]}}, "width and height both 0"),
    ({"set": {"mesh.width": 2}, "parameters": {"mesh.width": [1]}}, "set.mesh.width: is also in"),
    ({"cases": [{"set": {}}]}, "cases[0].name: expected a text"),
    ({"cases": [{"name": "a"}, {"name": "a"}]}, "cases: expected different names"),
    ({"quality": {"tokens": 0}}, "quality.tokens: expected a whole number from 1 to"),
    ({"quality": {"token": 5}}, "quality: unknown keys token; known: tokens, text"),
    ({"quality": {"text": "bible"}}, "quality.text: expected one of sample, test"),
    ({"quality": {"tokens": 999_999}}, "quality.tokens: expected at most"),
    ({"quality": None}, "expected something to measure"),
    ({"network": {"build": "a:b", "duration": 1}}, "expected something to measure, of one kind"),
    ({"generate": {}}, "generate: missing prompts"),
    ({"generate": {"prompts": ["a"], "temperature": -1}}, "generate.temperature: expected"),
    ({"generate": {"prompts": ["a " * 900]}}, "generate.prompts[0]: expected a prompt of at most"),
    ({"models": ["nowhere"]}, "no model folder at nowhere"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "part"), WRONG, ids=[part[:40] for _, part in WRONG])
def test_everything_wrong_is_named_before_anything_runs(
    changes: dict[str, Any], part: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as caught:
        run_sweep(spec(**changes), tmp_path / "out")
    assert part in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_file_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text('name = "s"\nchips = ["ideal"]\n[quality]\ntokens = -1\n')
    with pytest.raises(ValueError, match=r"s\.toml: quality\.tokens: expected a whole number"):
        SweepSpec.load(path)
    path.write_text('name = "s"\nchips = ["ideal"]\n[quality]\n[parameters]\nstatic.watts = [1]\n')
    with pytest.raises(ValueError, match=r"s\.toml: .*unknown key 'static\.watts'"):
        run_sweep(path, tmp_path / "out")
    path.write_text("name = [\n")
    with pytest.raises(ValueError, match=r"s\.toml: not valid TOML"):
        SweepSpec.load(path)
    with pytest.raises(ValueError, match=r"none\.toml: cannot be read"):
        SweepSpec.load(tmp_path / "none.toml")
