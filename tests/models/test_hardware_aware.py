"""Hardware-aware training: the disturbed neuron and crossbar are the chip's, and nothing sticks."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten
from tiny_models import spiking_model
from training_runs import finished, short_trainer

from neurosim.chip import ChipBank, ChipDescription, load_chip, with_values
from neurosim.chip.crossbar import ProgrammedCrossbar
from neurosim.chip.training_noise import training_noise
from neurosim.kernels.neuron import fixed_norm_spikes
from neurosim.models import checkpoint
from neurosim.models.text.tokenizer import Tokenizer
from neurosim.models.training.disturbed_neuron import Disturbance, disturbed_spikes
from neurosim.models.training.hardware import HardwareDraw, HardwareNoise, programmed
from neurosim.models.training.loop import Trainer, rounded_to_grid
from neurosim.network import NeuronBank
from neurosim.quantity import Quantity

REAL = load_chip("ag_v2c_w")
HALF = 10**6  # weight units in half a spike: charges as good as real numbers
QUIET = {
    "threshold_spread_cycle": 0.0,
    "hold_spread_cycle": 0.0,
    "threshold_spread_device": 0.0,
    "hold_spread_device": 0.0,
    "set_delay": 0.0,
    "reset_delay": 0.0,
    "off_resistance": 1e15,
}


def device_chip(**values: float) -> ChipDescription:
    """ag_v2c_w with quiet neurons but for `values`."""
    quantities = {
        key: Quantity(value, REAL.device.quantities[key].unit, "test", "assumed")
        for key, value in (QUIET | values).items()
    }
    return dataclasses.replace(REAL, device=REAL.device.with_quantities(quantities))


def on_chip(chip: ChipDescription, charge: np.ndarray, signed: bool, windows: int) -> np.ndarray:
    """Counts (windows, N) of neurons that get `charge` spikes of charge (N,) in every window."""
    size = len(charge)
    bank = NeuronBank("b", np.full(size, HALF), np.zeros(size, np.int64), 4, signed)
    simulated = ChipBank(bank, chip, seed=3)
    whole = np.rint(charge * 2 * HALF).astype(np.int64)
    return np.array([simulated.fire(whole, index) for index in range(windows)])


def in_training(
    chip: ChipDescription, charge: np.ndarray, signed: bool, windows: int
) -> np.ndarray:
    """The same from the training's neuron, one chip a window."""
    noise = HardwareNoise.from_dict(training_noise(chip))
    model = spiking_model(width=32)
    bank = model.blocks[0].hidden_neurons if not signed else model.blocks[0].conv_read
    size = bank.shift.size
    tiled = np.zeros((windows, size), np.float32)
    tiled[:, : len(charge)] = charge
    draw = HardwareDraw(noise, (5,))
    rng = np.random.default_rng(1)
    draws = rng.standard_normal(2**21, np.float32)
    disturb = draw._neurons(bank, windows, draws, rng)
    ones, zeros = mx.ones((size,)), mx.zeros((size,))
    found = disturb(mx.array(tiled[:, None]), ones, zeros)
    return np.asarray(found)[:, 0, : len(charge)]


@pytest.mark.parametrize("signed", [False, True])
def test_without_noise_it_is_the_plain_neuron(signed: bool) -> None:
    """Spikes exactly; gradients of x, scale and offset straight through where not clipped."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 3, (2, 7, 13)).astype(np.float32)
    scale = rng.uniform(0.5, 2, 13).astype(np.float32)
    offset = rng.normal(0, 1, 13).astype(np.float32)
    weight = rng.normal(0, 1, x.shape).astype(np.float32)
    firing = HardwareNoise().firing(4)
    nothing = Disturbance(
        np.zeros((2, 4, 13), np.float32), np.zeros(64, np.float32), 5, firing, 1e9
    )

    def total(*arrays: mx.array) -> mx.array:
        return (disturbed_spikes(*arrays, nothing, signed) * mx.array(weight)).sum()

    arrays = [mx.array(part) for part in (x, scale, offset)]
    plain = fixed_norm_spikes(*arrays, 4, signed)
    np.testing.assert_array_equal(disturbed_spikes(*arrays, nothing, signed), plain)
    dx, dscale, doffset = mx.grad(total, argnums=(0, 1, 2))(*arrays)
    y = x * scale + offset
    through = weight * ((y >= (-4.5 if signed else -0.5)) & (y < 4.5))
    np.testing.assert_allclose(dx, through * scale, rtol=1e-6)
    np.testing.assert_allclose(dscale, (through * x).sum((0, 1)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(doffset, through.sum((0, 1)), rtol=1e-4, atol=1e-4)


def test_delays_are_the_chips() -> None:
    """Every count of a fine ramp of charge, up to the input stage's limit and beyond."""
    chip = device_chip(set_delay=2e-6, reset_delay=1e-6)
    charge = np.linspace(-6, 6, 24) + 0.001
    found = in_training(chip, charge, True, 1)[0]
    np.testing.assert_array_equal(found, on_chip(chip, charge, True, 1)[0])
    assert np.abs(found).max() == 4
    assert (found != np.asarray(np.copysign(np.floor(np.abs(charge) + 0.5), charge))).any()


def test_leak_is_the_chips_to_first_order() -> None:
    """The charge of each spike, by bisection, moves by the leak with an error of its square."""
    errors = []
    for resistance in (4e9, 1e9):
        chip = device_chip(off_resistance=resistance)
        noise = HardwareNoise.from_dict(training_noise(chip))
        low, high = np.arange(4.0), np.arange(4.0) + 1
        for _ in range(24):
            middle = (low + high) / 2
            fired = on_chip(chip, middle, False, 1)[0] > np.arange(4)
            low, high = np.where(fired, low, middle), np.where(fired, middle, high)
        ideal = np.arange(4) + 0.5
        assert (high - ideal).min() > 0.2 * noise.leak
        errors.append(np.abs(high - noise.firing(4)[:, 0]).max() / noise.leak)
    assert errors[0] < 0.02
    assert errors[1] < 0.06


@pytest.mark.parametrize(
    "spreads",
    [
        {"threshold_spread_cycle": 0.0294},
        {"threshold_spread_device": 0.0294},
        {"threshold_spread_cycle": 0.03, "hold_spread_cycle": 0.02},
        {"threshold_spread_device": 0.02, "hold_spread_device": 0.02, "reset_delay": 1e-9},
        {"threshold_spread_cycle": 0.0294, "threshold_spread_device": 0.0294, "set_delay": 1e-6},
    ],
    ids=["C2C", "D2D", "C2C of both, landing at V_h", "D2D of both, landing near V_h", "all"],
)
def test_counts_have_the_chips_distribution(spreads: dict[str, float]) -> None:
    """P(n >= k) at 24 charges within 4.5 standard errors of two samples of 3000 neuron windows."""
    chip = device_chip(**spreads)
    charge = np.linspace(0.3, 4.8, 24)
    samples = 3000
    # one window of many neurons, because a chip's devices are drawn once
    device = on_chip(chip, np.repeat(charge, samples), False, 1).reshape(24, samples)
    trained = in_training(chip, charge, False, samples).T
    worst = 0.0
    for k in range(1, 5):
        a, b = (device >= k).mean(1), (trained >= k).mean(1)
        assert ((a > 0.1) & (a < 0.9)).any()  # the spread is seen at all
        error = np.sqrt((a * (1 - a) + b * (1 - b)) / samples + 1e-6)
        worst = max(worst, float((np.abs(a - b) / error).max()))
    assert worst < 4.5


def test_on_and_off_neurons_have_thresholds_of_their_own() -> None:
    chip = device_chip(threshold_spread_device=0.0294)
    noise = HardwareNoise.from_dict(training_noise(chip))
    model = spiking_model()
    rng = np.random.default_rng(0)
    draws = np.zeros(2**12, np.float32)
    disturb = HardwareDraw(noise, (1,))._neurons(model.blocks[0].conv_read, 500, draws, rng)
    ones, zeros = mx.ones((32,)), mx.zeros((32,))
    on = np.asarray(disturb(mx.full((500, 1, 32), 2.5), ones, zeros)).ravel()
    off = -np.asarray(disturb(mx.full((500, 1, 32), -2.5), ones, zeros)).ravel()
    assert abs(on.mean() - off.mean()) < 0.03
    assert abs(np.corrcoef(on, off)[0, 1]) < 0.03
    again = np.asarray(disturb(mx.full((500, 1, 32), 2.5), ones, zeros)).ravel()
    np.testing.assert_array_equal(on, again)  # D2D: the same in every window


@pytest.mark.parametrize("levels", [0, 16])
def test_a_programmed_crossbar_is_the_chips(levels: int) -> None:
    """Mean and deviation of every weight code within 5 standard errors; without error exactly."""
    rng = np.random.default_rng(0)
    weight = np.repeat(np.arange(-127, 128, 6, dtype=np.int8)[:, None], 800, 1)
    cells = dataclasses.replace(
        REAL.crossbar, conductance_levels=Quantity(float(levels), "1", "test", "assumed")
    )
    noise = dataclasses.replace(
        HardwareNoise.from_dict(training_noise(REAL)), conductance_levels=levels
    )
    exact = dataclasses.replace(cells, programming_error=Quantity(0.0, "1", "test", "assumed"))
    found = programmed(weight.astype(float), dataclasses.replace(noise, programming_error=0), rng)
    held = ProgrammedCrossbar.program(weight, exact, np.uint64(1)).weight
    np.testing.assert_allclose(found, held, atol=1e-4)
    found = programmed(weight.astype(float), noise, rng)
    held = ProgrammedCrossbar.program(weight, cells, np.uint64(1)).weight
    sigma = held.std(1)
    assert sigma.min() > 1
    assert np.abs((found.mean(1) - held.mean(1)) / (sigma * np.sqrt(2 / 800))).max() < 5
    assert np.abs(found.std(1) / sigma - 1).max() < 5 / np.sqrt(800)


def test_reads_are_the_chips() -> None:
    """Noise of the deviation that the chip adds; conversion to the same integers."""
    model = spiking_model(width=32)
    grid = rounded_to_grid(model)
    noise = HardwareNoise(read_noise=0.02)
    unit = model.weight_units()["blocks.0.up"]
    codes = np.rint(np.asarray(grid["blocks.0.up"]) / unit)
    rng = np.random.default_rng(0)
    spikes = np.tile(rng.integers(-4, 5, 32), (1, 3000, 1)).astype(np.float32)
    with HardwareDraw(noise, (7,)).install(model, grid, 1):
        read = np.asarray(model.blocks[0]._read("up", mx.array(spikes)))[0]
    exact = spikes[0] @ np.asarray(model.blocks[0].up)
    deviation = (read - exact).std(0) / unit
    wanted = 0.02 * np.abs(codes).max() * np.sqrt(np.abs(spikes[0, 0]).sum())
    np.testing.assert_allclose(deviation, wanted, rtol=0.07)
    model.update({"head": grid["head"]})
    chip = ProgrammedCrossbar.program(
        np.rint(np.asarray(grid["head"]) / model.weight_units()["head"]).astype(np.int8),
        load_chip("ideal").crossbar,
        np.uint64(1),
        adc_bits=4,
    )
    with HardwareDraw(HardwareNoise(adc_bits=4), (7,)).install(model, grid, 1):
        spikes = rng.integers(-4, 5, (1, 40, 32)).astype(np.float32)
        read = np.asarray(model.reader("head", mx.array(spikes), mx.array(spikes) @ model.head))
    sums = np.rint(spikes[0] @ np.asarray(grid["head"]) / model.weight_units()["head"])
    tie = np.isclose(np.abs(sums / chip.adc_step) % 1, 0.5)  # float32 decides those
    converted = np.rint(read[0] / model.weight_units()["head"])
    np.testing.assert_array_equal(converted[~tie], chip.convert(sums.astype(np.float32))[~tie])
    assert tie.mean() < 0.01


def test_read_noise_of_a_diagonal_crossbar_counts_the_pulses_of_its_taps() -> None:
    model = spiking_model(width=32, taps=3)
    grid = rounded_to_grid(model)
    spikes = np.zeros((1, 4000, 32), np.float32)
    spikes[0, ::3, 0], spikes[0, 1::3, 0] = 4, 3  # 7 pulses within any 3 tokens
    with HardwareDraw(HardwareNoise(read_noise=0.02), (7,)).install(model, grid, 1):
        read = np.asarray(model.blocks[0]._read("conv", mx.array(spikes)))[0]
        exact = np.asarray(spikes[0])
    unit = model.weight_units()["blocks.0.conv"]
    weight = np.asarray(model.blocks[0].conv)
    for j in range(3):
        read[j:] -= spikes[0, : len(spikes[0]) - j] * weight[j]
    assert (read[:, 1:] == 0).all()
    codes = np.abs(np.rint(np.asarray(grid["blocks.0.conv"]) / unit)).max()
    assert read[2:, 0].std() / unit[0] == pytest.approx(0.02 * codes * np.sqrt(7), rel=0.06)
    assert exact.shape == read.shape


def run_config(**changes: Any) -> dict[str, Any]:
    noise = HardwareNoise.from_dict(training_noise(REAL) | {"ramp": 0.5})
    return {"hardware": noise, "quantise_from": 0.0} | changes


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path, tokenizer: Tokenizer) -> None:
    whole = finished(short_trainer(tmp_path / "a", tokenizer, **run_config()))
    part = short_trainer(tmp_path / "b", tokenizer, **run_config())
    part.model.train()
    while part.step < 3:
        part.train_step()
    part.checkpoint()
    assert finished(short_trainer(tmp_path / "b", tokenizer, **run_config())) == whole
    other = finished(
        short_trainer(tmp_path / "c", tokenizer, **run_config(hardware=HardwareNoise()))
    )
    assert other != whole


def test_nothing_of_the_chip_sticks_to_the_model(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """With a vanishing rate the weights, statistics and the validation loss stay what they were."""
    trainer = short_trainer(tmp_path, tokenizer, **run_config(learning_rate=1e-9, warmup=0))
    trainer.model.train()
    before = {name: np.array(value) for name, value in tree_flatten(trainer.model.parameters())}
    clean = trainer.evaluate()
    losses = {trainer.train_step() for _ in range(4)}
    assert len(losses) == 4
    for name, value in tree_flatten(trainer.model.parameters()):
        np.testing.assert_allclose(value, before[name], atol=1e-6, err_msg=name)
    assert trainer.evaluate() == pytest.approx(clean, abs=1e-5)


def test_it_starts_from_a_checkpoint(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """The weights are the checkpoint's; another tokenizer or other sizes are refused."""
    trainer = short_trainer(tmp_path / "first", tokenizer)
    trainer.run(lambda line: None)
    folder = tmp_path / "first" / "model"
    stored = checkpoint.load(folder)
    later = short_trainer(tmp_path / "second", tokenizer, model={}, init=str(folder))
    for name, value in tree_flatten(stored.model.parameters()):
        found = dict(tree_flatten(later.model.parameters()))[name]
        np.testing.assert_array_equal(found, value, err_msg=name)
    with pytest.raises(ValueError, match="sizes differ"):
        short_trainer(tmp_path / "third", tokenizer, model={"width": 64}, init=str(folder))
    small = Tokenizer.train(["some other text, other text"] * 5, 290)
    with pytest.raises(ValueError, match="another tokenizer"):
        Trainer(later.config, tmp_path / "x", later.train_tokens, later.validation_tokens, small)


def test_the_head_stays_clipped(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """One outlier more or less decides the error of every weight of the head."""
    noise = HardwareNoise(head_clip=2.0)
    for limit, hardware in ((2.0, noise), (None, HardwareNoise())):
        trainer = short_trainer(tmp_path / str(limit), tokenizer, **run_config(hardware=hardware))
        weight = np.array(trainer.model.head)
        weight[3, 5] = 40 * weight.std()
        trainer.model.head = mx.array(weight)
        folder = trainer.run(lambda line: None)
        head = np.asarray(checkpoint.load(folder).model.head)
        ratio = np.abs(head).max() / np.sqrt((head**2).mean())
        assert ratio < 2.2 if limit else ratio > 20


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crossbar.stuck_low", 0.01),
        ("crossbar.drift_exponent", 0.05),
        ("trim.windows", 64),
        ("neuron.temperature", 330.0),
        ("faults.dead_tile_fraction", 0.1),
    ],
)
def test_what_training_cannot_stand_for_is_refused(key: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"no form of {key.replace('.dead_tile_fraction', '')}"):
        training_noise(with_values(REAL, {key: value}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"head_clip": 0.5}, "head_clip 0 or at least 1"),
        ({"threshold_device": -0.1}, "threshold_device >= 0"),
        ({"threshold_spread": 0.1}, "unknown hardware keys"),
        ({"read_noise": float("nan")}, "finite hardware.read_noise"),
        ({"set_delay": 0.6, "reset_delay": 0.5}, "below 1 window"),
        ({"conductance_levels": 1}, "conductance_levels 0 or >= 2"),
    ],
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HardwareNoise.from_dict(values)
