"""Published closed forms, thresholds and op-only conventions, for verdicts beside our own numbers.

None of them is used in a total of ours. Each carries its source and its own unit.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurosim.energy.prices import load_prices


@dataclass(frozen=True)
class Threshold:
    """A published limit: a spiking network needs less energy while `unit` stays below `limit`."""

    name: str
    limit: float
    unit: str
    steps: int | None
    source: str

    def met(self, spikes_per_synapse: float, spike_rate: float) -> bool:
        """Whether a measured network is below it.

        `spikes_per_synapse`: synaptic operations over synapses, per token (one token taken as one
        inference); `spike_rate`: per neuron and time step.
        """
        per_synapse = self.unit == "spikes per synapse and inference"
        return (spikes_per_synapse if per_synapse else spike_rate) < self.limit


_SYNAPSE, _RATE = "spikes per synapse and inference", "spike rate per step"
THRESHOLDS = (
    Threshold("rate-coded, identical silicon", 1.72, _SYNAPSE, None, "Davidson & Furber 2021"),
    Threshold("least favourable dataflow", 0.15, _SYNAPSE, None, "Dampfhoffer et al. 2023"),
    Threshold("most favourable dataflow", 1.38, _SYNAPSE, None, "Dampfhoffer et al. 2023"),
    Threshold("against a quantised ANN", 0.057, _RATE, 5, "Yan et al. 2026, v4 to v6"),
    Threshold("one parameter worse by half", 0.034, _RATE, 5, "Yan et al. 2026, v4 to v6"),
    Threshold("one parameter better by half", 0.108, _RATE, 5, "Yan et al. 2026, v4 to v6"),
)


def yan_required_sparsity(steps: int, dataflow: str = "spatial") -> float:
    """Sparsity above which a spiking VGG16 beats the best ANN (Yan et al. v1, arXiv 2409.08290).

    `dataflow`: "spatial" or "classical"; `steps`: time steps T >= 1. From the authors' plot
    formula; an ANN density of 0.45 is inside.
    """
    if steps < 1:
        raise ValueError(f"expected at least one time step, got {steps}")
    if dataflow == "spatial":
        return 1.0 - (0.45 * 20.23 - 40.06 * steps / 2395) / (20.03 * steps)
    if dataflow == "classical":
        state = 4040.0 * steps / (216 * (1 + steps))
        saved = 0.45 * 80.23 + 2020 / 216 - state - 0.026868 * steps
        return 1.0 - saved / (64.32 * steps + 0.03 * steps / 2395)
    raise ValueError(f'expected dataflow "spatial" or "classical", got {dataflow!r}')


def yan_thresholds(steps: int) -> tuple[Threshold, ...]:
    """The limits of `yan_required_sparsity` as spike rates at this many time steps."""
    return tuple(
        Threshold(
            f"against the best ANN, {dataflow} dataflow",
            1.0 - yan_required_sparsity(steps, dataflow),
            _RATE,
            steps,
            "Yan et al. 2024, v1",
        )
        for dataflow in ("spatial", "classical")
    )


def operations_only(macs: float, accumulates: float, precision: str = "fp32") -> float:
    """The AC/MAC-only convention, J: no memory, no state, no routing, no static power.

    `precision`: "fp32" (4.6 and 0.9 pJ), "fp16" (1.5 and 0.4), "int8" (0.23 and 0.03); 45 nm.
    """
    prices = load_prices("legacy")
    names = {"fp32": "", "fp16": "_fp16", "int8": "_int8"}
    if precision not in names:
        raise ValueError(f"expected precision out of {', '.join(names)}, got {precision!r}")
    mac = prices.price(f"multiply_accumulate{names[precision]}").value
    return macs * mac + accumulates * prices.price(f"accumulate{names[precision]}").value


def convolution_operations(
    kernel: int,
    inputs: int,
    outputs: int,
    height: int,
    width: int,
    stride: int = 1,
    groups: int = 1,
) -> int:
    """Dense operations k^2 h w c_in c_out / groups of a padded convolution, as papers count."""
    rows, columns = -(-height // stride), -(-width // stride)
    return kernel**2 * rows * columns * inputs * outputs // groups


def spiking_attention_accumulates(
    steps: int, tokens: int, width: int, rates: tuple[float, float, float], head_size: int = 64
) -> float:
    """Accumulates of a linear spiking attention, Spikingformer's logs: T h N d^2 (min(k, v) + q).

    `rates` of q, k and v; h = width / head size.
    """
    query, key, value = rates
    heads = width // head_size
    return steps * heads * tokens * head_size**2 * (min(key, value) + query)


@dataclass(frozen=True)
class DeviceLine:
    """Energy per synaptic operation and per neuron update as keras-spiking 0.3.0 charges it, J."""

    name: str
    synapse: float
    neuron: float
    spiking: bool

    def energy(self, synapses: int, neurons: int, rate_per_step: float, steps: int) -> float:
        """J per inference: a spiking device pays per spike, any other for each synapse once."""
        uses = rate_per_step * steps if self.spiking else 1.0
        updates = steps if self.spiking else 1
        return self.synapse * synapses * uses + self.neuron * neurons * updates


DEVICE_LINES = (
    DeviceLine("CPU", 8.6e-9, 8.6e-9, False),
    DeviceLine("GPU", 0.3e-9, 0.3e-9, False),
    DeviceLine("ARM", 0.9e-9, 0.9e-9, False),
    DeviceLine("Loihi", 27.1e-12, 81e-12, True),
    DeviceLine("SpiNNaker", 13.3e-9, 26e-9, True),
    DeviceLine("SpiNNaker 2", 450e-12, 2.19e-9, True),
)


@dataclass(frozen=True)
class Consistency:
    """The one measured neuromorphic language model, against our prices (a fit, no prediction).

    MatMul-free 370M on 24 Loihi 2 chips: 41.5 tokens/s and 405 mJ a token in decode. The static
    power per chip is chosen so that the sum meets the measurement.
    """

    weights: float = 370e6
    chips: int = 24
    tokens_per_second: float = 41.5
    measured: float = 0.405
    static_power: float = 0.70
    label: str = "fitted: the static power is chosen to meet this measurement, no prediction"

    @property
    def dynamic(self) -> float:
        """J per token: 8-bit weights from 128 KiB SRAM, a multiply and an add each, 7 nm."""
        prices = load_prices("digital_7nm")
        each = 8 * prices.sram(131072).value + sum(
            prices.price(name).value for name in ("multiply", "accumulate")
        )
        return self.weights * each

    @property
    def static(self) -> float:
        """J per token of all chips."""
        return self.chips * self.static_power / self.tokens_per_second

    @property
    def modelled(self) -> float:
        """J per token."""
        return self.dynamic + self.static
