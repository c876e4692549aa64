"""What a chip must allow for its digital units: pulses that fit a window, packets without time."""

from __future__ import annotations

from neurosim.chip.description import ChipDescription
from neurosim.network import DigitalUnit, Network

_PEAK = 4.0  # largest |n| of a row in standard deviations: some hundred values of a Gaussian


def check_units(network: Network, chip: ChipDescription, record_times: bool = False) -> None:
    """ValueError with what to change if a chip cannot drive crossbars from digital units."""
    units = [node for node in network.of(DigitalUnit) if isinstance(node, DigitalUnit)]
    if not units:
        return
    pulse, window = chip.crossbar.pulse_width.value, chip.window.duration.value
    for unit in units:
        if unit.width == 0:
            continue
        slots = unit.levels if unit.drive == "pulse_width" else unit.reads
        if slots * pulse > window * (1.0 + 1e-12):
            raise ValueError(
                f"{unit.name}: {slots} pulses of {pulse:.3g} s do not fit into window.duration = "
                f"{window:.3g} s; expected a window of at least {slots * pulse:.3g} s, shorter "
                f"crossbar.pulse_width, or the drive bit_plane on {chip.name}"
            )
    refused = {
        'routing.transport = "instant"': chip.routing.transport != "instant",
        'routing.sync = "window"': chip.routing.sync != "window",
        "no dead tiles or links (faults)": chip.faults.any,
        "spike times not to be recorded": record_times,
    }
    wrong = [wanted for wanted, other in refused.items() if other]
    if wrong:
        raise ValueError(
            f"expected {', '.join(wrong)} for a network with digital units "
            f"({units[0].name}, ...): when their pulses and words leave is not simulated; change "
            f"it on {chip.name}"
        )


def input_rms(network: Network, crossbar: str) -> float:
    """Root mean square of the counts that a crossbar is read with, for its converter's range.

    1 for the few spikes of neurons and for the planes of a bit-plane drive; a quarter of the levels
    where one read takes a whole count, whose largest value is at full scale.
    """
    source = network[network.sources(crossbar)[0]]
    if isinstance(source, DigitalUnit) and source.drive == "pulse_width":
        return max(source.levels / _PEAK, 1.0)
    return 1.0
