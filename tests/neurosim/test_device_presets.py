"""Presets beyond the switch: class defaults, flags, relatives, the form of device.md 8.1."""

import dataclasses
from pathlib import Path

import pytest

from neurosim.devices import load_device
from neurosim.devices.extras import TABLES, class_defaults
from neurosim.devices.form import FORM_FOLDER, NOT_STATED, UNITS, read_form
from neurosim.devices.preset import PRESET_FOLDER, STATUSES
from neurosim.devices.preset import UNITS as SWITCH_UNITS

NAMES = sorted(path.stem for path in PRESET_FOLDER.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_builds_its_models_and_says_what_is_assumed(name: str) -> None:
    device = load_device(name)
    assert device.status in STATUSES
    assert device.switch().quantum > 0.0
    assert device.statistics().threshold_cycle == device["threshold_spread_cycle"]
    assert device.relaxation().time > 0.0
    assert device.temperature().at(device.switch(), 300.0) == device.switch()
    critical = device.self_integrating().critical_voltage
    if "growth.rate" in device.inherited:
        assert critical == pytest.approx(device["threshold_voltage"], rel=1e-12)
    if device["threshold_spread_cycle"] > 0.0:
        hazard = device.hazard()
        ramp = device.extra("hazard.ramp").value
        assert float(hazard.ramp_quantile(0.5, ramp)) == pytest.approx(device["threshold_voltage"])
    for key in device.inherited:
        if key != "hazard.scale" or device["threshold_spread_cycle"] > 0.0:
            assert (
                device.extra(key).evidence == "assumed"
                and "class default" in device.extra(key).source
            )
    for quantity in device.extras.values():
        assert quantity.source and (
            quantity.band is None or quantity.band[0] <= quantity.value <= quantity.band[1]
        )


def test_relatives_are_flagged_partial() -> None:
    for name in ("ag_siox_mos2", "ag_mxene_gst"):
        device = load_device(name)
        assert device.status == "partial" and device.flag.startswith("PARTIAL")
        kinds = {q.evidence for q in device.quantities.values()}
        assert kinds >= {"cited", "derived", "assumed"}
    assert load_device("and_ts").extras["reverse.threshold_voltage"].value == -0.119


def test_class_defaults_are_all_assumed_and_inside_their_bands() -> None:
    numbers, texts = class_defaults()
    assert texts["growth.law"] == "power"
    for key, quantity in numbers.items():
        table, _, name = key.partition(".")
        assert quantity.unit == TABLES[table][name] and quantity.evidence == "assumed"
        assert quantity.band is None or quantity.band[0] <= quantity.value <= quantity.band[1]


def test_table_errors(tmp_path: Path) -> None:
    good = (PRESET_FOLDER / "demo.toml").read_text()
    entry = '{ value = 1.0, unit = "%s", evidence = "assumed", source = "x" }'
    cases = {
        good + "\n[limits]\ncompliance = " + entry % "V": "limits.compliance: expected unit 'A'",
        good + "\n[hazard]\nrate = " + entry % "1/s": "unknown keys rate in .hazard.",
        good + '\n[relaxation]\nlaw = "sudden"': "expected one of herring",
        good + "\n[relaxation]\ntime = 3": "expected { value",
        good.replace('law = "exp"', 'law = "exp"\noff_level = ' + entry % "1"): "off_level",
    }
    for index, (text, message) in enumerate(cases.items()):
        path = tmp_path / f"{index}.toml"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_device(path)
    with pytest.raises(ValueError, match=r"no class default for growth\.colour"):
        load_device("demo").extra("growth.colour")


def filled(tmp_path: Path, **entries: str) -> Path:
    """A copy of the shipped form with some entries filled in (TOML source of the value)."""
    lines = []
    for line in (FORM_FOLDER / "ag_v2c_w.toml").read_text().splitlines():
        key = line.split(" = ")[0]
        if key in entries:
            line = line.replace(f'"{NOT_STATED}"', entries[key]).replace(
                'where = ""', 'where = "Fig. 2"'
            )
        lines.append(line)
    path = tmp_path / "form.toml"
    path.write_text("\n".join(lines))
    return path


def test_the_empty_form_changes_nothing() -> None:
    form = read_form()
    base = load_device("ag_v2c_w")
    assert form.missing == ("threshold_mean", "hold_mean", "on_resistance", "off_resistance")
    assert form.preset().quantities == base.quantities
    assert form.preset().status == "placeholder" and "PLACEHOLDER" in form.preset().flag
    assert set(UNITS) == {line.split(" = ")[0] for line in FORM_FOLDER.joinpath(
        "ag_v2c_w.toml").read_text().splitlines() if "unit =" in line}  # fmt: skip


def test_a_filled_form_is_a_calibrated_device(tmp_path: Path) -> None:
    path = filled(
        tmp_path,
        threshold_mean="0.4",
        threshold_std="0.03",
        hold_mean="0.1",
        on_resistance="1.0e3",
        on_off_ratio="1e5",
        compliance="[1e-6, 1e-5]",
        delay="[[0.5, 2e-6], [1.0, 3e-7]]",
        relaxation_time="2e-6",
        thickness_v2c="30e-9",
        pulses_to_fire="[[0.5, 12], [0.8, 4]]",
        endurance="1e6",
    )
    form = read_form(path)
    device = form.preset()
    assert form.missing == () and device.status == "calibrated"
    assert device.flag == "7 of 14 numbers of ag_v2c_w are still assumed"
    assert device["off_resistance"] == pytest.approx(1e8)
    assert device.quantities["off_resistance"].evidence == "derived"
    assert device["set_delay"] == 3e-7 and device["reset_delay"] == 2e-6
    assert device.relaxation().time == 2e-6 and device.relaxation().compliance == 1e-5
    assert device.quantities["threshold_voltage"].evidence == "cited"
    assert device.quantities["threshold_voltage"].source.endswith("Fig. 2")
    assert device.extras["stack.thickness_v2c"].value == 30e-9
    assert form.table("pulses_to_fire") == ((0.5, 12.0), (0.8, 4.0))
    assert form.table("frequency") == ()
    partly = read_form(filled(tmp_path, threshold_mean="0.4")).preset()
    assert partly.status == "placeholder" and partly["threshold_voltage"] == 0.4


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"threshold_mean": '"0.4"'}, "threshold_mean: expected 'not stated' or a number"),
        ({"threshold_mean": "-0.4"}, ">= 0 in V"),
        ({"threshold_mean": "[0.4, 0.5]"}, "a number"),
        ({"delay": "[0.5, 2e-6]"}, "pairs of numbers"),
        ({"off_conduction": "3"}, "name of a law"),
        ({"threshold_mean": "0.05", "hold_mean": "0.1"}, "threshold_voltage > hold_voltage"),
    ],
)
def test_form_errors(tmp_path: Path, entries: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_form(filled(tmp_path, **entries)).preset()


def test_forms_with_other_entries_are_refused(tmp_path: Path) -> None:
    text = (FORM_FOLDER / "ag_v2c_w.toml").read_text()
    path = tmp_path / "form.toml"
    path.write_text(text + '\ncolour = { value = 1, unit = "1", where = "" }\n')
    with pytest.raises(ValueError, match="unknown colour"):
        read_form(path)
    path.write_text(text.replace('unit = "V", where = "" } # 0', 'unit = "mV", where = "" } # 0'))
    with pytest.raises(ValueError, match="forming_voltage: expected unit 'V'"):
        read_form(path)
    with pytest.raises(ValueError, match="expected a table"):
        read_form().table("cycles")


def test_replacing_numbers_keeps_the_rest() -> None:
    device = load_device("and_ts")
    quantity = dataclasses.replace(device.quantities["capacitance"], value=1e-9)
    changed = device.with_quantities({"capacitance": quantity})
    assert changed["capacitance"] == 1e-9 and changed.extras == device.extras
    assert set(changed.quantities) == set(SWITCH_UNITS)
    assert "reverse.hold_voltage" in str(changed)
