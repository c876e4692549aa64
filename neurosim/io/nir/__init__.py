"""NIR (Neuromorphic Intermediate Representation, Pedersen et al. 2024): import and export.

docs/networks.md has the table of nodes: what each becomes, or why it is refused.
"""

from neurosim.io.nir.read import ImportedNetwork, read_nir
from neurosim.io.nir.write import to_nir, write_nir

__all__ = ["ImportedNetwork", "read_nir", "to_nir", "write_nir"]
