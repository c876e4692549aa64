"""Clip factors of quantisation sites: the calibration that a folder carries.

`config.json` holds them under `neurosim.clips`: {site: factor}, sites named as in `sites.py`, 1
where none is given. A site's scale is fl(fl(max |x| / T) clip), and 1 clip where max |x| / T is 0;
all in the type of x, the factor rounded to it first. Values above clip times the maximum saturate
at +-T.
q, k and v share their input, and gate and up theirs: their factors are those of q_proj.pre and
gate_proj.pre, and the others' entries, where written, are equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from neurosim.models.braingpt.sites import site_names

LEAST, MOST = 0.01, 1.0
_SHARED = {
    "k_proj.pre": "q_proj.pre",
    "v_proj.pre": "q_proj.pre",
    "up_proj.pre": "gate_proj.pre",
}


def source_of(site: str) -> str:
    """The site that a site shares its counts with, or the site itself."""
    layer, _, rest = site.partition(".")
    return f"{layer}.{_SHARED.get(rest, rest)}"


def checked(clips: Mapping[str, float], layers: int) -> dict[str, float]:
    """Factors of a model with so many layers; refuses unknown sites, bad numbers, disagreement."""
    known = set(site_names(layers))
    for site, factor in clips.items():
        if site not in known:
            raise ValueError(f"clips: no site {site!r} in a model of {layers} layers")
        if not isinstance(factor, int | float) or not LEAST <= factor <= MOST:
            raise ValueError(f"clips: expected {site} from {LEAST} to {MOST}, got {factor!r}")
        if clips.get(source_of(site), factor) != factor:
            raise ValueError(f"clips: {site} and {source_of(site)} read the same counts but differ")
    return {site: float(factor) for site, factor in clips.items()}


def read_clips(folder: Path | str, layers: int) -> dict[str, float]:
    """The factors of a model folder; {} if it has none."""
    path = Path(folder) / "config.json"
    ours = json.loads(path.read_text(encoding="utf-8")).get("neurosim") or {}
    try:
        return checked(ours.get("clips") or {}, layers)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
