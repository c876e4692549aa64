"""What one time step does to a neuron: the constants of each model, computed in float64.

Exact (Rotter & Diesmann 1999) for LIF and CurrentLIF; exponential Euler for ConductanceLIF.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neurosim.populations.models import LIF, ConductanceLIF, CurrentLIF, Population

Floats = npt.NDArray[np.float64]


def _pull(time_step: float, membrane: Floats, synapse: Floats) -> Floats:
    """Voltage after a step per unit of g before it: P = e^(-h/tau_m) (h/tau_m) (e^x - 1) / x.

    x = h (1/tau_m - 1/tau_s); equal time constants are the limit x = 0.
    """
    x = time_step * (1.0 / membrane - 1.0 / synapse)
    safe = np.where(x == 0.0, 1.0, x)
    ratio = np.where(x == 0.0, 1.0, np.expm1(safe) / safe)
    pull: Floats = np.exp(-time_step / membrane) * (time_step / membrane) * ratio
    return pull


def propagators(population: Population, time_step: float) -> list[Floats]:
    """The parameters (N,) of a population in the order the step kernels read them.

    LIF: decay of V, constant, threshold, reset. CurrentLIF: these, V per g_e, V per g_i, decay of
    g_e, of g_i. ConductanceLIF: -h/tau, V_rest, threshold, reset, E_e, E_i, decay of g_e, of g_i.
    """
    model = population.model
    if not isinstance(model, LIF):
        raise ValueError(f"expected a LIF model, got {type(model).__name__}")
    tau, rest = population.parameter("time_constant"), population.parameter("resting_voltage")
    threshold = population.parameter("threshold_voltage")
    reset = population.parameter("reset_voltage")
    decay, constant = np.exp(-time_step / tau), -np.expm1(-time_step / tau) * rest
    if not isinstance(model, CurrentLIF):
        return [decay, constant, threshold, reset]
    tau_e = population.parameter("excitatory_time_constant")
    tau_i = population.parameter("inhibitory_time_constant")
    decays = [np.exp(-time_step / tau_e), np.exp(-time_step / tau_i)]
    if isinstance(model, ConductanceLIF):
        reversals = [population.parameter(f"{kind}_reversal") for kind in model.receptors]
        return [-time_step / tau, rest, threshold, reset, *reversals, *decays]
    pulls = [_pull(time_step, tau, tau_e), _pull(time_step, tau, tau_i)]
    return [decay, constant, threshold, reset, *pulls, *decays]
