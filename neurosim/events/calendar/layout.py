"""Columns of the neurons' and the devices' tables."""

# cells (N, 16): all neurons; s, V, 1/s. CROSSING: next firing or phase change, inf if there is none
KIND, CROSSING, LAST, VOLTAGE, EXCITATORY, INHIBITORY, READY = range(7)
RATE, REST, THRESHOLD, RESET, REFRACTORY, E_RATE, I_RATE, E_POWER, I_POWER = range(7, 16)
CELL_COLUMNS = 16
SOURCE, LIF_KIND, CURRENT_KIND, SWITCH_KIND = 0.0, 1.0, 2.0, 3.0
DEVICE = EXCITATORY  # column with the row of a switch in the devices' table

# devices (M, 34): PHASE, WAIT (s, end of a delay), UPPER and LOWER (armed thresholds at the
# membrane, V), CYCLE, LATENT (2, see `draw_cycle`), integrals of V and V^2 OFF and ON, energy of
# the packets (J), START (V); then constants
PHASE, WAIT, UPPER, LOWER, CYCLE, LATENT, LATENT_END = 0, 1, 2, 3, 4, 5, 7
OFF_1, OFF_2, ON_1, ON_2, PACKETS, START = range(7, 13)
CAPACITANCE, DRIVE, OFF, ON, SET_DELAY, RESET_DELAY, UP, DOWN = range(13, 21)
MEANS, MEANS_END, SPREADS, SPREADS_END = 21, 23, 23, 28
ON_BRANCH, OFF_BRANCH, OUTPUT, LEAK, LEAK_VOLTAGE, CURRENT = range(28, 34)
DEVICE_COLUMNS = 34
OFF_PHASE, SETTING, ON_PHASE, RESETTING = 0.0, 1.0, 2.0, 3.0
