"""Chip descriptions: the shipped ones, provenance, and errors that name file, key and range."""

from pathlib import Path

import pytest

from neurosim.chip import load_chip
from neurosim.chip.description import PRESET_FOLDER, SECTIONS
from neurosim.quantity import Quantity


@pytest.mark.parametrize("name", ["ideal", "ag_v2c_w"])
def test_shipped_chips_have_a_source_for_every_number(name: str) -> None:
    chip = load_chip(name)
    numbers = chip.numbers()
    assert all(number.source and number.unit for number in numbers.values())
    for key, number in numbers.items():
        if isinstance(number, Quantity) and number.band is not None:
            low, high = number.band
            assert low <= number.value <= high or (name == "ideal" and number.value == 0.0), key
    assert {key.split(".")[0] for key in numbers} == {"device", *SECTIONS}
    assert chip.evidence.weakest == "assumed"
    assert "device.threshold_voltage" in chip.evidence.assumed
    assert "digital.add" not in chip.evidence.assumed
    assert len(chip.inherited) == 14 and "PLACEHOLDER" in chip.flags[0]


def test_ideal_has_the_prices_of_ag_v2c_w_and_none_of_its_faults() -> None:
    ideal, real = load_chip("ideal"), load_chip("ag_v2c_w")
    assert ideal.exact and not real.exact
    assert ideal.device == real.device
    for part in ("memory", "digital", "routing", "static", "tile", "window"):
        assert getattr(ideal, part) == getattr(real, part)
    assert ideal.conversion.adc_energy == real.conversion.adc_energy
    faults = ("conductance_levels", "programming_error", "read_noise", "stuck_low", "stuck_high")
    assert all(getattr(ideal.crossbar, fault).value == 0.0 for fault in faults)
    assert real.crossbar.programming_error.value > 0.0


def test_packet_bits() -> None:
    chip = load_chip("ag_v2c_w")
    assert chip.routing.packets == "spike"
    assert chip.packet_bits(256, 4, signed=True) == 9
    assert chip.packet_bits(257, 4, signed=False) == 9
    assert chip.packet_bits(1, 1, signed=False) == 1


def write(folder: Path, text: str) -> Path:
    """mine.toml with `text`, under a name where it has none."""
    path = folder / "mine.toml"
    path.write_text(text if "name =" in text else f'name = "mine"\n{text}')
    return path


def entry(value: float, unit: str) -> str:
    return f'{{ value = {value}, unit = "{unit}", source = "test", evidence = "measured" }}'


def test_a_user_file_changes_only_what_it_gives(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        f"""
        base = "ag_v2c_w"
        name = "mine"
        [device]
        preset = "and_ts"
        [device.override]
        capacitance = {entry(2e-12, "F")}
        [crossbar]
        read_noise = {entry(0.0, "1")}
        """,
    )
    chip, base = load_chip(path), load_chip("ag_v2c_w")
    assert chip.name == "mine" and chip.device["capacitance"] == 2e-12
    assert chip.device["threshold_voltage"] == 0.294 and not chip.inherited and not chip.flags
    assert chip.crossbar.read_noise.value == 0.0
    assert chip.crossbar.g_max == base.crossbar.g_max
    assert chip.numbers()["device.capacitance"].evidence == "measured"
    again = tmp_path / "again.toml"
    again.write_text('base = "mine.toml"\nname = "again"')
    assert load_chip(again).device == chip.device


@pytest.mark.parametrize("base", ["ideal", "ag_v2c_w", "middle.toml"])
def test_a_chip_on_a_base_needs_its_own_name(tmp_path: Path, base: str) -> None:
    (tmp_path / "middle.toml").write_text('base = "ideal"\nname = "middle"')
    path = tmp_path / "mine.toml"
    path.write_text(f'base = "{base}"')
    with pytest.raises(ValueError, match='mine.toml: missing name; .*name = "mine"'):
        load_chip(path)


@pytest.mark.parametrize(
    ("table", "key", "value", "unit"),
    [
        ("crossbar", "conductance_levels", 64, "1"),
        ("crossbar", "programming_error", 1.0, "1"),
        ("crossbar", "read_noise", 0.01, "1"),
        ("crossbar", "stuck_low", 0.1, "1"),
        ("crossbar", "stuck_high", 0.1, "1"),
        ("conversion", "adc_bits", 8, "bit"),
    ],
)
def test_any_fault_ends_exact_computation(
    tmp_path: Path, table: str, key: str, value: float, unit: str
) -> None:
    assert load_chip("ideal").computes_exactly and not load_chip("ag_v2c_w").computes_exactly
    chip = load_chip(write(tmp_path, f'base = "ideal"\n[{table}]\n{key} = {entry(value, unit)}'))
    assert chip.exact and not chip.computes_exactly
    assert load_chip(write(tmp_path, 'base = "ideal"')).computes_exactly


def test_simulated_neurons_do_not_compute_exactly(tmp_path: Path) -> None:
    chip = load_chip(write(tmp_path, 'base = "ideal"\n[device]\npreset = "ag_v2c_w"'))
    assert not chip.exact and not chip.computes_exactly


def test_a_user_device_file_beside_the_chip(tmp_path: Path) -> None:
    preset = (PRESET_FOLDER.parent.parent / "devices/presets/demo.toml").read_text()
    (tmp_path / "device.toml").write_text(preset.replace('"demo"', '"my device"'))
    path = write(tmp_path, 'base = "ag_v2c_w"\n[device]\npreset = "device.toml"')
    assert load_chip(path).device.name == "my device"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[crossbar\n", "not valid TOML"),
        ('base = "nowhere"', "ag_v2c_w, ag_v2c_w_clean, ideal"),
        ('base = "mine.toml"', "without a circle"),
        ('name = "x"', "missing summary, device, window"),
        ('base = "ideal"\n[crossbars]\na = 1', "unknown keys crossbars; known: base, name"),
        ('base = "ideal"\n[crossbar]\ng_may = 1', "crossbar: unknown keys g_may; known: condu"),
        ('base = "ideal"\ncrossbar = 3', "crossbar: expected a table"),
        ('base = "ideal"\nname = 3', "expected a text 'name'"),
        ('base = "ideal"\n[crossbar]\ng_max = 1', "crossbar.g_max: expected { value, unit"),
        (
            f'base = "ideal"\n[crossbar]\ng_max = {entry(2.0, "S")}',
            "crossbar.g_max: expected a value from 1e-12 to 1 S, got 2",
        ),
        (
            f'base = "ideal"\n[crossbar]\ng_max = {entry(1.0, "uS")}',
            "crossbar.g_max: expected unit 'S', got 'uS'",
        ),
        (
            f'base = "ideal"\n[crossbar]\ng_max = {entry(1e-7, "S")}',
            "crossbar.g_max: expected more than g_min",
        ),
        (
            f'base = "ideal"\n[crossbar]\nconductance_levels = {entry(1, "1")}',
            "expected 0 .continuous. or 2 and more",
        ),
        (
            f'base = "ideal"\n[crossbar]\nstuck_low = {entry(0.6, "1")}\n'
            f"stuck_high = {entry(0.6, '1')}",
            "sum of at most 1",
        ),
        ('base = "ideal"\n[crossbar]\nprogramming_curve = 3', "programming_curve: expected"),
        (
            'base = "ideal"\n[crossbar]\nprogramming_curve = { values = [], unit = "1", '
            'source = "t", evidence = "cited" }',
            "finite coefficients",
        ),
        (
            f'base = "ideal"\n[tile]\nrows = {entry(12.5, "1")}',
            "tile.rows: expected a whole number from 1 to 65536",
        ),
        (f'base = "ideal"\n[mesh]\nwidth = {entry(4, "1")}', "both 0 .automatic."),
        ('base = "ideal"\n[routing]\npackets = "letter"', "packets: expected one of count, spike"),
        ('base = "ideal"\n[device]\npreset = "exact"\npriced_as = "gold"', "device name out of"),
        ('base = "ideal"\n[device]\npriced = "gold"', "unknown keys priced; known: preset"),
        ('base = "ideal"\n[device.override]\nmass = 1', "override: expected keys out of capac"),
        (
            f'base = "ideal"\n[device.override]\nhold_voltage = {entry(0.5, "V")}',
            "threshold_voltage > hold_voltage",
        ),
        (
            f'base = "ag_v2c_w"\n[neuron]\nsupply_voltage = {entry(0.1, "V")}',
            "supply_voltage: expected at least",
        ),
    ],
)
def test_errors_are_one_line_and_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        load_chip(path)
    assert "\n" not in str(caught.value)
    assert "mine.toml" in str(caught.value) or "out of" in str(caught.value)


def test_unknown_chip_lists_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"chip name out of ag_v2c_w, ag_v2c_w_clean, ideal .* got 'tpu'"
    ):
        load_chip("tpu")
    with pytest.raises(ValueError, match="cannot be read"):
        load_chip("no_such_file.toml")


@pytest.mark.parametrize(
    ("band", "message"),
    [
        ("[1e9, 2e9]", r"expected a band around the value 1e\+08, got \[1e\+09, 2e\+09\]"),
        ("[1e7]", r"expected band = \[low, high\], got \[10000000.0\]"),
        ('"wide"', r"expected band = \[low, high\], got 'wide'"),
    ],
)
def test_a_band_must_contain_its_value(band: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "ideal"\nname = "mine"\n[mesh]\nlink_rate = { value = 1e8, unit = "bit/s", '
        f'evidence = "assumed", source = "a guess", band = {band} }}\n'
    )
    with pytest.raises(ValueError, match=f"mine.toml: mesh.link_rate: {message}"):
        load_chip(path)
