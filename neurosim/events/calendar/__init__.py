"""Engine "calendar": any neuron with closed-form crossings, in the order of a bucketed calendar."""

from neurosim.events.calendar.engine import NAME, begin, cost, supports

__all__ = ["NAME", "begin", "cost", "supports"]
