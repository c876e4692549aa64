"""Other programs' formats: NIR, SANA-FE, Parquet events, Chrome traces, lists of spikes."""

from neurosim.io.events_parquet import EventBatch, write_events
from neurosim.io.nir import ImportedNetwork, read_nir, to_nir, write_nir
from neurosim.io.spike_files import read_spikes
from neurosim.io.trace import Counter, Slice, write_trace

__all__ = [
    "Counter",
    "EventBatch",
    "ImportedNetwork",
    "Slice",
    "read_nir",
    "read_spikes",
    "to_nir",
    "write_events",
    "write_nir",
    "write_trace",
]
