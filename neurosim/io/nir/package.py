"""The nir package, imported when first needed."""

from __future__ import annotations

from typing import Any


def nir_package() -> Any:
    """The module `nir`; ValueError names the extra where it is missing."""
    try:
        import nir
    except ImportError as error:
        raise ValueError(
            'reading and writing NIR needs the package nir; pip install "neurosim-memristor[nir]"'
        ) from error
    return nir
