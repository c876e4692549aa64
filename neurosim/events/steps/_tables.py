"""How a network is described to the step kernels: tables of int64, and a book of where things are.

A table is read as table[row * COLUMNS + column]; a book entry is the address of an array or a
number. One compiled kernel then serves every network.
"""

from __future__ import annotations

SOURCE, DELTA, CURRENT, CONDUCTANCE = 0, 1, 2, 3  # kinds of populations
LANES = 512  # populations are padded to whole 512-bit words, parts start on one

# Populations. Offsets count elements: of `state`, `until`, `params`, `holds`. Parameter k of neuron
# i is at PARAMS + k * SPAN + i * STRIDE; `STRIDE` 0: one value for all, stored for every lane.
KIND, SIZE, PADDED, FIRST, VOLTAGE, UNTIL, PARAMS, SPAN, STRIDE, HOLDS = range(10)
INPUT_0, INPUT_1, INPUT_2 = 10, 11, 12  # rows of `inputs` of receptor 0: INPUT_0 .. INPUT_1
MERGED_0, MERGED_1 = 13, 14  # where the several inputs of a receptor are summed, in `sums`
UPDATE = 15  # address of the kernel
POPULATION_COLUMNS = 16

# Inputs: one row of `counts` or `sums`, a ring of SLOTS steps of WIDTH neurons from BASE.
IS_SUM, BASE, SLOTS, WIDTH, WEIGHT = range(5)
INPUT_COLUMNS = 5

# Deliveries: synapses of one projection. DELIVER: address of the kernel; DELAYS, WEIGHTS, TARGETS,
# OFFSETS: addresses of arrays, or 0.
DELIVER, ORIGIN, TARGET, LAG, INPUT, DELAYS, WEIGHTS, NARROW, TARGETS, OFFSETS = range(10)
COLUMNS, WORDS, PLANES = 10, 11, 12  # targets; 64-bit words of a row; offset of its bit planes
DELIVERY_COLUMNS = 13

# Drives.
DRIVEN, DRIVE_INPUT, FIRST_BOUND, USUAL, REPEATS, KEY, DRAW = range(7)  # DRAW: the kernel
DRIVE_COLUMNS = 7

# The book: addresses ...
POPS, INPUTS, DELIVERIES, DRIVES, BOUNDS, STATE, UNTIL_STEPS, VALUES, HOLD_STEPS = range(9)
COUNTS, SUMS, BIT_PLANES, DRIVE_BOUNDS, RAMP, SCRATCH, NOW, TOTALS, FULL = range(9, 18)
LOG_NEURONS, LOG_STEPS, STARTS, LENGTHS, TRACED, MEETING = range(18, 24)
GIVEN_STEPS, GIVEN_NEURONS, SAMPLES = 24, 25, 26
# ... and numbers
POP_COUNT, INPUT_COUNT, DELIVERY_COUNT, DRIVE_COUNT, PARTS, RING, LOG_ROOM = range(27, 34)
WINDOW, TRACED_COUNT, TRACE_EVERY, GIVEN_COUNT, STEP_ROOM = range(34, 39)
BOOK_LENGTH = 39
