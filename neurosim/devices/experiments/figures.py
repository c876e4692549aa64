"""The figure of a command: a panel for every experiment that has one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim.devices.experiments import figures_lab, figures_rc
from neurosim.devices.experiments.result import Experiment
from neurosim.devices.experiments.style import panels, settings

Draw = Callable[[Axes, Experiment], None]
PANELS: dict[str, tuple[Draw, ...]] = {
    "E1": (figures_lab.draw_sweeps,),
    "E2": (figures_lab.draw_statistics,),
    "E3": (figures_lab.draw_ramp,),
    "E4": (figures_lab.draw_delay,),
    "E5": (figures_lab.draw_relaxation, figures_lab.draw_arrhenius),
    "E6": (figures_lab.draw_integration,),
    "E7": (figures_lab.draw_pulses,),
    "E8": (figures_lab.draw_again,),
    "E9": (figures_lab.draw_strength,),
    "E10": (figures_rc.draw_output, figures_rc.draw_strength),
    "E11": (figures_rc.draw_frequency,),
    "E12": (figures_rc.draw_energy,),
    "E14": (figures_lab.draw_resonance,),
    "E15": (figures_lab.draw_population,),
}


def figure_of(experiments: Sequence[Experiment]) -> Figure:
    """One lettered panel after the other; the footer names devices, seed and flag."""
    drawn = [(draw, found) for found in experiments for draw in PANELS.get(found.id, ())]
    if not drawn:
        raise ValueError(
            f"expected an experiment with a figure, got {', '.join(e.id for e in experiments)}"
        )
    devices = dict.fromkeys(found.device.name for _, found in drawn)
    flags = dict.fromkeys(found.device.flag for _, found in drawn if found.device.flag)
    seeds = dict.fromkeys(f"seed {found.seed}" for _, found in drawn if found.seed is not None)
    note = "; ".join([f"device {', '.join(devices)}, simulated", *seeds, *flags])
    figure, grid = panels(len(drawn), note)
    with settings():
        for axes, (draw, found) in zip(grid, drawn, strict=True):
            draw(axes, found)
            axes.set_title(f"{found.id}: {found.title}", fontsize=7.5, loc="left")
    return figure
