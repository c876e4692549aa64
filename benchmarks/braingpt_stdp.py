"""Whether the STDP-inspired rules help held-out loss: against nothing, and against gradients.

    python -m benchmarks.braingpt_stdp [--model FOLDER --tokens FILE.npz] [--json FILE]

A small byte-level model, converted to spike counts of 4 bits, learns on for a fixed number of
tokens by each rule. Every rule gets the same tokens in the same order; its
setting is the best of a list on validation rows; the loss is that of test rows that neither saw,
the median over three orders of the training rows.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optim
import numpy as np
import numpy.typing as npt

from neurosim.kernels.dense import cross_entropy
from neurosim.models.braingpt.mlx_model import MlxBrainGPT, from_weights
from neurosim.models.braingpt.model import Options
from neurosim.models.braingpt.stdp import StdpTrainer, ThreeFactor
from neurosim.models.braingpt.stored import StoredModel

GOLDEN = Path(__file__).parents[1].parent / "shared" / "golden" / "braingpt" / "trained"
ROW, TEST, VALIDATION = 128, 48, 16  # bytes of a row; rows
BATCH, PASSES, BITS = 4, 4, 4
SEEDS = (0, 1, 2)
Rows = npt.NDArray[np.integer]
Learn = Callable[[MlxBrainGPT, list[Rows]], None]


def batches(rows: Rows, seed: int) -> Iterator[Rows]:
    """Batches of all passes over the training rows."""
    for number in range(PASSES):
        order = np.random.default_rng((seed, number)).permutation(len(rows))
        for start in range(0, len(rows) - BATCH + 1, BATCH):
            yield rows[order[start : start + BATCH]]


def loss_of(model: MlxBrainGPT, rows: Rows) -> float:
    """Cross-entropy of next bytes inside the rows, nats."""
    parts = []
    for start in range(0, len(rows), 16):
        part = rows[start : start + 16]
        logits = model(part[:, :-1])
        targets = mx.array(part[:, 1:].reshape(-1).astype(np.int32))
        parts.append(np.asarray(cross_entropy(logits.reshape(-1, logits.shape[-1]), targets)))
    return float(np.concatenate(parts).mean(dtype=np.float64))


def by_stdp(rule: ThreeFactor | None, centred: bool, rate: float = 0.0, beta: float = 1.0) -> Learn:
    """One of the rules of `stdp`."""

    def learn(model: MlxBrainGPT, given: list[Rows]) -> None:
        trainer = StdpTrainer(model, rule, centred=centred, rate=rate, beta=beta)
        for batch in given:
            trainer.step(batch)

    return learn


def by_gradient(rate: float) -> Learn:
    """Adam through the quantisers, a constant rate."""

    def learn(model: MlxBrainGPT, given: list[Rows]) -> None:
        optimizer = optim.Adam(rate, bias_correction=True)

        def loss(network: MlxBrainGPT, batch: Rows) -> mx.array:
            logits = network(batch[:, :-1])
            targets = mx.array(batch[:, 1:].reshape(-1).astype(np.int32))
            return cross_entropy(logits.reshape(-1, logits.shape[-1]), targets).mean()

        step = nn.value_and_grad(model, loss)
        for batch in given:
            _, gradients = step(model, batch)
            optimizer.update(model, gradients)
            mx.eval(model.parameters(), optimizer.state)

    return learn


def methods() -> dict[str, dict[str, Learn]]:
    """Rule -> setting -> how it learns."""
    rates = (1e-4, 1e-3, 3e-3, 1e-2)

    def three(*signs: int, centred: bool, beta: float = 1.0) -> dict[str, Learn]:
        return {
            f"rate {sign * rate:g}, decay {decay:g}": by_stdp(
                ThreeFactor(rate=sign * rate, decay=decay), centred, beta=beta
            )
            for sign in signs
            for rate in rates
            for decay in ((0.0, 1.0) if not centred else (0.0,))
        }

    return {
        "per-layer STDP (published code)": {
            f"rate {rate:g}": by_stdp(None, False, rate) for rate in (1e-6, 1e-5, 1e-4, 1e-3)
        },
        "three-factor STDP, G of the batch": three(1, centred=False),
        "three-factor STDP, G = 1/2 always (no task)": three(1, centred=False, beta=0.0),
        "three-factor STDP or anti-STDP, centred factor per token": three(1, -1, centred=True),
        "gradient through the quantisers": {
            f"rate {rate:g}": by_gradient(rate) for rate in (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
        },
    }


def measure(model: Path, tokens: Path, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """All rules: chosen setting, and the test losses of every order of the training rows."""
    stored = StoredModel(model)
    with np.load(tokens) as file:
        stream = file[file.files[0]].reshape(-1)
    rows = stream[: len(stream) // ROW * ROW].reshape(-1, ROW).astype(np.int64)
    test, validation, train = np.split(rows, [TEST, TEST + VALIDATION])

    def fresh(options: Options) -> MlxBrainGPT:
        return from_weights(stored.config, stored.floats, options)

    spiking = Options("causal", "exact", bits=BITS)
    found: dict[str, Any] = {
        "train_tokens": len(list(batches(train, 0))) * BATCH * (ROW - 1),
        "test_tokens": len(test) * (ROW - 1),
        "ann": loss_of(fresh(Options("ann", "exact")), test),
        "nothing": loss_of(fresh(spiking), test),
        "rules": {},
    }
    tell(f"ANN {found['ann']:.4f}, {BITS} bits untrained {found['nothing']:.4f} nats per byte")
    for name, settings in methods().items():
        scores = {}
        for setting, learn in settings.items():
            network = fresh(spiking)
            learn(network, list(batches(train, SEEDS[0])))
            scores[setting] = loss_of(network, validation)
        best = min(scores, key=lambda setting: scores[setting])
        losses = []
        for seed in SEEDS:
            network = fresh(spiking)
            settings[best](network, list(batches(train, seed)))
            losses.append(loss_of(network, test))
        record = {"setting": best, "test": losses, "median": statistics.median(losses)}
        found["rules"][name] = record | {"validation": scores}
        change = record["median"] - found["nothing"]
        tell(
            f"{name}: {record['median']:.4f} ({change:+.4f}; {best}; {min(losses):.4f} to "
            f"{max(losses):.4f})"
        )
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, default=GOLDEN / "qwen2", help="byte-level model")
    parser.add_argument("--tokens", type=Path, default=GOLDEN / "eval_tokens.npz")
    parser.add_argument("--json", type=Path, help="write everything there")
    options = parser.parse_args()
    found = measure(options.model, options.tokens)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
