"""Writes a calibrated preset as TOML: numbers with bands, standard errors and covariance."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurosim.devices.calibration.calibrate import Calibration, metadata_of
from neurosim.quantity import Quantity


def _entry(quantity: Quantity) -> str:
    parts = [f"value = {quantity.value!r}", f"unit = {json.dumps(quantity.unit)}"]
    parts += [f"evidence = {json.dumps(quantity.evidence)}"]
    parts += [f"source = {json.dumps(quantity.source)}"]
    if quantity.band is not None:
        parts.append(f"band = [{float(quantity.band[0])!r}, {float(quantity.band[1])!r}]")
    return "{ " + ", ".join(parts) + " }"


def _plain(value: Any) -> str | None:
    """A metadata value as TOML; None for what TOML has no word for."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str):
        return json.dumps(value)
    if isinstance(value, list) and all(isinstance(v, int | float | str) for v in value):
        return json.dumps(value)
    return None


def toml_of(result: Calibration) -> str:
    """The preset file's text. [calibration] is for people: `load_device` skips it."""
    preset = result.preset
    lines = [
        "# Written by `neurosim device calibrate`. band: 95 % interval of what was measured.",
        f"name = {json.dumps(preset.name)}",
        f"status = {json.dumps(preset.status)}",
        f"citation = {json.dumps(preset.citation)}",
        f"note = {json.dumps(preset.note)}",
        "",
        *(f"{key} = {_entry(quantity)}" for key, quantity in preset.quantities.items()),
    ]
    tables: dict[str, list[str]] = {}
    for dotted, text in preset.texts.items():
        table, _, key = dotted.partition(".")
        tables.setdefault(table, []).append(f"{key} = {json.dumps(text)}")
    for dotted, quantity in preset.extras.items():
        table, _, key = dotted.partition(".")
        tables.setdefault(table, []).append(f"{key} = {_entry(quantity)}")
    for table, entries in tables.items():
        lines += ["", f"[{table}]", *entries]
    lines += ["", "[calibration]"]
    lines.append(f"notes = {json.dumps(list(result.notes), ensure_ascii=False)}")
    lines += ["", "[calibration.files]  # name -> sha256"]
    lines += [f"{json.dumps(t.path.name)} = {json.dumps(t.digest)}" for t in result.tables]
    lines += ["", "[calibration.standard_errors]"]
    lines += [f"{json.dumps(key)} = {found.error!r}" for key, found in result.estimates.items()]
    for block, (names, matrix) in result.covariances.items():
        rows = [[float(value) for value in row] for row in matrix]
        lines += ["", f"[calibration.covariance.{block}]", f"names = {json.dumps(list(names))}"]
        lines.append(f"matrix = {json.dumps(rows)}")
    lines += _metadata(metadata_of(result.tables))
    return "\n".join(lines) + "\n"


def _metadata(data: Mapping[str, Any]) -> list[str]:
    written = {key: _plain(value) for key, value in data.items()}
    kept = [f"{json.dumps(key)} = {text}" for key, text in written.items() if text is not None]
    return ["", "[calibration.metadata]", *kept] if kept else []


def write_preset(result: Calibration, path: str | Path) -> Path:
    """Write the file in one step: a reader sees the old one or the new one, whole."""
    target = Path(path)
    if target.suffix != ".toml":
        raise ValueError(f"expected a preset file that ends in .toml, got {str(path)!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(toml_of(result))
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target
