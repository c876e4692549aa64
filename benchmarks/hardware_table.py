"""The table of docs/hardware-aware.md from the results of benchmarks/sweeps/hardware_aware*.toml.

    python -m benchmarks.hardware_table FOLDER [FOLDER ...]

Mean and standard deviation of bits per byte over the drawn chips, and what part of the lost bits a
cure gets back: (lost without - lost with) / lost without, where lost without is that of the shipped
model, untrimmed, and lost with counts from the cured model's own ideal, or from the shipped one's.
The ideal values are those of the integers on the same tokens.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from neurosim.kernels import fast_blas
from neurosim.models.checkpoint import DEFAULT, load
from neurosim.models.held_out import held_out, test_stream
from neurosim.sweep import load_results

_LEAST = 0.005  # bits per byte: a smaller loss is no measure of what was recovered
Key = tuple[str, str, int]  # model, case, trim windows


def results(
    folders: list[Path],
) -> tuple[dict[Key, list[float]], dict[Key, list[float]], list[str], int]:
    """Bits per byte and J per token by key, cases in order, tokens of a point.

    A sweep without cases stands under the name of its chip.
    """
    bits: dict[Key, list[float]] = defaultdict(list)
    joules: dict[Key, list[float]] = defaultdict(list)
    cases: list[str] = []
    tokens = 0
    for row in (row for folder in folders for row in load_results(folder).to_pylist()):
        if row["status"] != "ok":
            raise ValueError(f"a point failed: {row['error']}; run the sweep again")
        case = row["case"] or row["chip"]
        key = (row["model"], case, int(row["trim.windows"]))
        bits[key].append(row["bits_per_byte"])
        joules[key].append(row["energy_J_per_token"])
        if tokens not in (0, row["tokens"]):
            raise ValueError(f"expected sweeps of one length, got {tokens} and {row['tokens']}")
        tokens = row["tokens"]
        if case not in cases:
            cases.append(case)
    if (DEFAULT.name, cases[0] if cases else "", 0) not in bits:
        raise ValueError(
            f"expected results of the shipped model, untrimmed, found none in {folders}"
        )
    return bits, joules, cases, tokens


def ideals(models: dict[str, Path], tokens: int) -> dict[str, float]:
    """Bits per byte of each model in integers, on the sweep's tokens."""
    found = {}
    for name, folder in models.items():
        loaded = load(folder)
        found[name] = held_out(loaded, test_stream(loaded.tokenizer)[: tokens + 1])
    return found


def model_folders(folders: list[Path]) -> dict[str, Path]:
    """Model name -> folder, from the sweeps' own records of their specifications."""
    found = {}
    for folder in folders:
        spec = json.loads((folder / "sweep.json").read_text())["spec"]
        for name in spec["models"]:
            path = DEFAULT if name == "shipped" else Path(spec["folder"]) / name
            found[load(path).name] = path
    return found


def markdown(folders: list[Path]) -> str:
    """Both tables."""
    bits, joules, cases, tokens = results(folders)
    own = ideals(model_folders(folders), tokens)
    shipped = DEFAULT.name
    keys = sorted({(model, trim) for model, _, trim in bits}, key=lambda k: (k[0] != shipped, *k))
    lines = [
        f"| model | trim | ideal | {' | '.join(cases)} | energy on {cases[-1]} |",
        "| --- " * (len(cases) + 4) + "|",
    ]
    for model, trim in keys:
        cells = []
        for case in cases:
            values = bits.get((model, case, trim), [])
            cell = f"{np.mean(values):.4f} ({np.std(values, ddof=1):.4f})" if values else ""
            cells.append(cell)
        spent = joules.get((model, cases[-1], trim), [])
        energy = f"{np.mean(spent) * 1e6:.3f} µJ" if spent else ""
        row = [model, "yes" if trim else "", f"{own[model]:.4f}", *cells, energy]
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", f"| recovered of what is lost | trim | {' | '.join(cases)} |"]
    lines.append("| --- " * (len(cases) + 2) + "|")
    lines.append(
        "| lost, bits per byte | | "
        + " | ".join(f"{np.mean(bits[shipped, case, 0]) - own[shipped]:.4f}" for case in cases)
        + " |"
    )
    for model, trim in keys:
        if (model, trim) == (shipped, 0):
            continue
        cells = []
        for case in cases:
            values = bits.get((model, case, trim), [])
            if not values:
                cells.append("")
                continue
            lost = np.mean(bits[shipped, case, 0]) - own[shipped]
            if lost < _LEAST:
                cells.append("-")
                continue
            both = [1 - (np.mean(values) - own[of]) / lost for of in (model, shipped)]
            cells.append(f"{both[0]:.0%} / {both[1]:.0%}")
        lines.append(f"| {model} | {'yes' if trim else ''} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="results of the sweeps")
    options = parser.parse_args()
    fast_blas.enable()
    print(markdown(options.folders))


if __name__ == "__main__":
    main()
