"""Numbers of a chip replaced one by one: `with_values`, `parse_values` and `--set`."""

import json
from pathlib import Path

import pytest

from neurosim.chip import load_chip, parse_values, with_values
from neurosim.chip.sections import Curve
from neurosim.chip.values import settable
from neurosim.cli import main
from neurosim.quantity import Quantity

REAL = load_chip("ag_v2c_w")


def test_values_are_replaced_and_say_so() -> None:
    chip = with_values(
        REAL,
        {
            "crossbar.read_noise": 0.02,
            "tile.rows": 128,
            "device.threshold_spread_device": 0.05,
            "device.temperature.off_energy": 0.2,
            "routing.packets": "count",
            "crossbar.programming_curve": [0.01, 0.02],
        },
    )
    noise = chip.crossbar.read_noise
    assert noise == Quantity(0.02, "1", "set by the user", "assumed")
    assert chip.tile.rows.value == 128.0 and chip.routing.packets == "count"
    assert chip.device["threshold_spread_device"] == 0.05
    assert chip.device.extra("temperature.off_energy").unit == "eV"
    curve = chip.crossbar.programming_curve
    assert curve == Curve((0.01, 0.02), "1", "set by the user", "assumed")
    assert "crossbar.read_noise" in chip.evidence.assumed
    assert "crossbar.read_noise = 0.02" in chip.flags[-1] and "PLACEHOLDER" in chip.flags[0]
    assert REAL.crossbar.read_noise.value == 0.01 and len(REAL.flags) == 1  # untouched
    again = with_values(chip, {"crossbar.read_noise": 0.03, "crossbar.stuck_low": 0.1})
    assert dict(again.changes)["crossbar.read_noise"] == "0.03"
    assert dict(again.changes)["tile.rows"] == "128"


def test_nothing_set_is_the_same_chip() -> None:
    assert with_values(REAL, {}) == REAL


def test_what_exact_neurons_cannot_show_is_said() -> None:
    changes = {"device.hold_spread_cycle": 0.01, "neuron.temperature": 310.0, "tile.rows": 64}
    ideal = with_values(load_chip("ideal"), changes)
    assert ideal.flags[-1].startswith("NO EFFECT on exact neurons: device.hold_spread_cycle, neu")
    assert "tile.rows" not in ideal.flags[-1]
    assert "NO EFFECT" not in " ".join(with_values(REAL, changes).flags)


def test_every_number_can_be_set_to_what_it_is() -> None:
    numbers = REAL.numbers()
    assert set(numbers) <= set(settable(REAL))
    values = {
        key: list(number.values) if isinstance(number, Curve) else number.value
        for key, number in numbers.items()
    }
    same = with_values(REAL, values)
    assert {key: getattr(n, "value", None) for key, n in same.numbers().items()} == {
        key: getattr(n, "value", None) for key, n in numbers.items()
    }
    assert all(number.source == "set by the user" for number in same.numbers().values())


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("crossbar.read_noise", 11.0, "crossbar.read_noise: expected a value from 0 to 10, got"),
        ("crossbar.read_noise", "much", "crossbar.read_noise: expected a number as value"),
        ("crossbar.read_noise", True, "expected a number as value, got True"),
        ("crossbar.read_noise", float("nan"), "crossbar.read_noise: expected a finite value"),
        ("tile.rows", 1.5, "tile.rows: expected a whole number from 1 to 65536"),
        ("crossbar.noise", 0.1, "unknown key 'crossbar.noise'; known: crossbar.conductance_levels"),
        ("noise", 0.1, "unknown key 'noise'; known tables: device, window"),
        ("device", 0.1, "unknown key 'device'; known: device"),
        ("device.colour", 0.1, "device.colour: unknown key; known: capacitance"),
        ("device.growth.colour", 0.1, "unknown key; known: capacitance"),
        ("device.set_delay", "soon", "device.set_delay: expected a number in s, got 'soon'"),
        ("device.set_delay", -1.0, "device.set_delay: .*expected set_delay >= 0, got -1"),
        ("device.hold_voltage", 0.5, "expected threshold_voltage > hold_voltage"),
        ("device.threshold_spread_device", -0.1, "expected >= 0 V, got -0.1"),
        ("routing.packets", "letter", "routing.packets: expected one of count, spike"),
        ("crossbar.programming_curve", 3, "programming_curve: .*"),
        ("crossbar.g_min", 1e-3, "crossbar.g_max: expected more than g_min"),
        ("neuron.supply_voltage", 0.1, "neuron.supply_voltage: expected at least the threshold"),
    ],
)
def test_errors_name_chip_key_and_range(key: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        with_values(REAL, {key: value})
    assert "chip ag_v2c_w" in str(caught.value) and "\n" not in str(caught.value)


def test_settings_are_read_as_in_toml() -> None:
    assert parse_values(
        [
            "crossbar.read_noise=1e-2",
            "tile.rows = 64",
            "routing.packets=count",
            "a=[1, 2]",
            "b=true",
        ]
    ) == {
        "crossbar.read_noise": 0.01,
        "tile.rows": 64,
        "routing.packets": "count",
        "a": [1, 2],
        "b": True,
    }
    for bad in ("crossbar.read_noise", "=3", "crossbar.read_noise="):
        with pytest.raises(ValueError, match="expected --set KEY=VALUE"):
            parse_values([bad])


def test_command_line_refuses_before_it_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--set", "crossbar.read_noise=99"]) != 0
    assert "crossbar.read_noise: expected a value from 0 to 10" in capsys.readouterr().err
    assert main(["eval", "--set", "crossbar.read_noise=0.1"]) != 0
    assert "expected --chip with --set" in capsys.readouterr().err


def test_command_line_runs_with_settings(
    capsys: pytest.CaptureFixture[str], tiny_checkpoint: Path
) -> None:
    arguments = ["run", "--json", "--no-quality", "--tokens", "1", "--prompt", "The", "--chip"]
    arguments += ["ideal", "--model", str(tiny_checkpoint), "--set", "memory.sram_energy=0.0"]
    assert main(arguments) == 0
    data = json.loads(capsys.readouterr().out)
    assert "memory.sram_energy = 0" in data["chip"]["flags"][-1]
