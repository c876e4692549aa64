"""The mesh and routing sections of a chip file: keys, ranges, files that include each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurosim.chip import load_chip, with_values


def entry(value: float, unit: str) -> str:
    return f'{{ value = {value}, unit = "{unit}", source = "a test", evidence = "assumed" }}'


def test_a_file_sets_links_and_synchronisation(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'base = "ideal"\nname = "mine"\n[mesh]\nlink_rate = {entry(1e8, "bit/s")}\n'
        f"buffer_depth = {entry(0, '1')}\n[routing]\ntransport = 'queued'\nsync = 'none'\n"
    )
    chip = load_chip(path)
    assert (chip.mesh.link_rate.value, chip.mesh.buffer_depth.value) == (1e8, 0)
    assert (chip.routing.transport, chip.routing.sync, chip.routing.late) == (
        "queued", "none", "wait"
    )  # fmt: skip
    assert chip.mesh.link_latency == load_chip("ideal").mesh.link_latency
    numbers = chip.numbers()
    assert numbers["mesh.link_rate"].source == "a test"
    assert {"mesh.chip_link_rate", "mesh.chip_link_latency", "routing.chip_hop_energy"} <= set(
        numbers
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"[mesh]\nlink_rate = {entry(0, 'bit/s')}", "mesh.link_rate: expected a value from 1 to"),
        (f"[mesh]\nlink_rate = {entry(1e9, 'B/s')}", "mesh.link_rate: expected unit 'bit/s'"),
        (f"[mesh]\nlink_latency = {entry(-1, 's')}", "mesh.link_latency: expected a value from 0"),
        (f"[mesh]\nbuffer_depth = {entry(1.5, '1')}", "buffer_depth: expected a whole number"),
        ('[mesh]\ntopology = "torus"', "mesh.topology: expected one of mesh, got 'torus'"),
        ('[mesh]\nlinks = "fast"', "mesh: unknown keys links; known: topology, width"),
        ('[routing]\nsync = "sometimes"', "routing.sync: expected one of window, none"),
        ('[routing]\ntransport = "magic"', "transport: expected one of instant, queued"),
        ('[routing]\nlate = "drop"\nsync = "none"', 'routing.late: expected "wait" unless sync'),
        ('[routing]\nlate = "drop"\npackets = "count"', 'got "drop" with sync = "window" and pack'),
    ],
)
def test_errors_name_file_key_and_range(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'base = "ideal"\nname = "mine"\n{text}\n')
    with pytest.raises(ValueError, match=message) as caught:
        load_chip(path)
    assert "mine.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_include_each_other(tmp_path: Path) -> None:
    for name, base in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / f"{name}.toml").write_text(f'base = "{base}.toml"\nname = "{name}"\n')
    with pytest.raises(ValueError, match=r"\.toml: expected base = .*without a circle, got '"):
        load_chip(tmp_path / "a.toml")


def test_values_set_on_the_command_line() -> None:
    ideal = load_chip("ideal")
    chip = with_values(ideal, {"routing.transport": "queued", "mesh.buffer_depth": 2})
    assert chip.routing.transport == "queued" and chip.mesh.buffer_depth.value == 2
    with pytest.raises(ValueError, match="expected one of instant, queued"):
        with_values(ideal, {"routing.transport": "slow"})
    with pytest.raises(ValueError, match='chip ideal: routing.late: expected "wait" unless'):
        with_values(ideal, {"routing.sync": "none", "routing.late": "drop"})
