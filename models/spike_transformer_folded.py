"""The trained spiking model in integers: its forward pass in software and its lowering to a
`Network`.

Weights become signed integers of `weight_bits`. Crossbars that write to the residual share one unit
per residual channel, so that the residual is an exact integer sum; crossbars that feed a bank have
one unit per output channel, which folds with the batch normalisation into that neuron's threshold
2h and bias b (all integers). The head has one unit for all logits. See `neurosim.network` for the
neuron.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from neurosim.kernels.neuron import integer_spikes
from neurosim.kernels.spike_attention import spike_attention
from neurosim.kernels.spike_linear import PackedWeight, spike_linear
from neurosim.kernels.spike_taps import spike_taps
from neurosim.models.quantise import quantise
from neurosim.models.spike_transformer import (
    WEIGHTS,
    Neurons,
    SpikeTransformer,
    SpikeTransformerConfig,
)
from neurosim.network import (
    Accumulator,
    AttentionUnit,
    Crossbar,
    DelayCrossbar,
    Embedding,
    Integers,
    Network,
    NeuronBank,
    Node,
    Readout,
    ngram_rows,
)

Array = npt.NDArray[np.float64]
Spikes = dict[str, npt.NDArray[np.int8]]


def _fold(name: str, bank: Neurons, unit: Array | float) -> NeuronBank:
    """Threshold and bias, integers in units of the incoming sum, of a normalised bank."""
    scale, offset = (np.asarray(part, np.float64) for part in bank.fixed())
    threshold = 1 / (unit * scale)  # incoming units that make one spike
    half = np.maximum(np.rint(threshold / 2), 1)
    limit = 2**31 - 1
    if (
        not np.isfinite(half).all()
        or half.max() > limit
        or np.abs(offset * threshold).max() > limit
    ):
        raise ValueError(f"{name}: a folded threshold does not fit 32 bits; is a weight all zero?")
    return NeuronBank(
        name,
        half.astype(np.int64),
        np.rint(offset * threshold).astype(np.int64),
        bank.levels,
        bank.signed,
    )


@dataclass(frozen=True, eq=False)
class FoldedSpikeTransformer:
    """Integer weights by parameter name, folded banks by site, the value of a logit unit."""

    config: SpikeTransformerConfig
    weights: dict[str, Integers]
    banks: dict[str, NeuronBank]
    logit_unit: float

    @classmethod
    def fold(cls, model: SpikeTransformer) -> FoldedSpikeTransformer:
        """Fold a trained model (running statistics, float weights) into integers."""
        units, bits = model.weight_units(), model.config.weight_bits
        residual = units["residual"]
        weights: dict[str, Integers] = {}
        for name, table, part in model.tables(residual):
            shift = np.rint(np.log2(units[name] / part)).astype(np.int32)  # codes are bits wide
            weights[name] = quantise(np.asarray(table), units[name], bits).astype(np.int32) << shift
        banks: dict[str, NeuronBank] = {}
        for i, block in enumerate(model.blocks):
            for name in WEIGHTS:
                key = f"blocks.{i}.{name}"
                weights[key] = quantise(np.asarray(block[name]), units[key], bits)
            incoming: dict[str, Array | float] = {
                "conv_read": residual,
                "attention_read": residual,
                "query_neurons": units[f"blocks.{i}.query"],
                "key_neurons": units[f"blocks.{i}.key"],
                "value_neurons": units[f"blocks.{i}.value"],
                "output_neurons": 2.0**-model.config.fraction_bits,
                "hidden_read": residual,
                "hidden_neurons": units[f"blocks.{i}.up"],
            }
            for site, unit in incoming.items():
                key = f"blocks.{i}.{site}"
                banks[key] = _fold(key, block[site], unit)
        banks["head_read"] = _fold("head_read", model.head_read, residual)
        weights["head"] = quantise(np.asarray(model.head), units["head"], bits)
        return cls(model.config, weights, banks, float(units["head"]))

    @cached_property
    def _packed(self) -> dict[str, PackedWeight]:
        """The crossbars' weights (I, O) in the form of the kernels."""
        names = [f"blocks.{i}.{name}" for i in range(self.config.layers) for name in WEIGHTS]
        crossbars = [name for name in names if not name.endswith(".conv")] + ["head"]
        return {name: PackedWeight.pack(self.weights[name], 8) for name in crossbars}

    def forward(self, tokens: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], Spikes]:
        """All tokens (L,) at once: integer logits (L, V) and the spikes (L, N) of every site."""
        config = self.config
        spikes: Spikes = {}

        def fire(site: str, charge: npt.NDArray[np.integer]) -> npt.NDArray[np.int8]:
            bank = self.banks[site]
            spikes[site] = integer_spikes(
                charge, bank.half_threshold, bank.bias, bank.levels, bank.signed
            )
            return spikes[site]

        def product(site: str, name: str) -> npt.NDArray[np.int64]:
            sums: Integers = spike_linear(spikes[site], self._packed[name])
            return sums.astype(np.int64)

        x = self.weights["embedding"][np.asarray(tokens)].astype(np.int64)  # (L, width)
        if config.ngram_rows:
            x += np.concatenate(
                [
                    self.weights[f"ngrams.{i}"][ngram_rows(tokens, i + 2, rows)]
                    for i, rows in enumerate(config.ngram_rows)
                ],
                axis=-1,
            )
        for i in range(config.layers):
            at = f"blocks.{i}."
            taps: Integers = spike_taps(fire(at + "conv_read", x), self.weights[at + "conv"])
            x += taps
            fire(at + "attention_read", x)
            q, k, v = (
                fire(at + f"{name}_neurons", product(at + "attention_read", at + name)).reshape(
                    len(x), config.heads, config.head_size
                )
                for name in ("query", "key", "value")
            )
            o, _ = spike_attention(q, k, v, np.array(config.decay_shift), config.fraction_bits)
            fire(at + "output_neurons", o.reshape(x.shape))
            x += product(at + "output_neurons", at + "output")
            fire(at + "hidden_read", x)
            fire(at + "hidden_neurons", product(at + "hidden_read", at + "up"))
            x += product(at + "hidden_neurons", at + "down")
        fire("head_read", x)
        return product("head_read", "head"), spikes

    def lower(self) -> Network:
        """The network of the chip: same integers, same site names."""
        config = self.config
        nodes: list[Node] = []
        edges: list[tuple[str, str]] = []
        layer: dict[str, str] = {}

        def add(node: Node, where: str, *sources: str) -> str:
            nodes.append(node)
            layer[node.name] = where
            edges.extend((source, node.name) for source in sources)
            return node.name

        def crossbar(name: str, where: str, source: str) -> str:
            return add(Crossbar(name, self.weights[name], config.weight_bits), where, source)

        tables = [add(Embedding("embedding", self.weights["embedding"]), "embedding")]
        slices = np.split(np.arange(config.width), max(len(config.ngram_rows), 1))
        for i, channels in enumerate(slices[: len(config.ngram_rows)]):
            name = f"ngrams.{i}"
            table = Embedding(name, self.weights[name], i + 2, int(channels[0]), config.width)
            tables.append(add(table, "embedding"))
        residual = add(Accumulator("residual", config.width), "residual", *tables)
        for i in range(config.layers):
            at, where = f"blocks.{i}.", f"block {i}"
            read = add(self.banks[at + "conv_read"], where, residual)
            conv = DelayCrossbar(at + "conv", self.weights[at + "conv"], config.weight_bits)
            edges.append((add(conv, where, read), residual))
            read = add(self.banks[at + "attention_read"], where, residual)
            qkv = [
                add(self.banks[at + f"{name}_neurons"], where, crossbar(at + name, where, read))
                for name in ("query", "key", "value")
            ]
            unit = AttentionUnit(
                at + "attention",
                config.heads,
                config.head_size,
                np.array(config.decay_shift),
                config.fraction_bits,
            )
            out = add(self.banks[at + "output_neurons"], where, add(unit, where, *qkv))
            edges.append((crossbar(at + "output", where, out), residual))
            read = add(self.banks[at + "hidden_read"], where, residual)
            up = crossbar(at + "up", where, read)
            hidden = add(self.banks[at + "hidden_neurons"], where, up)
            edges.append((crossbar(at + "down", where, hidden), residual))
        read = add(self.banks["head_read"], "head", residual)
        head = crossbar("head", "head", read)
        add(Readout("logits", config.vocab_size, self.logit_unit), "head", head)
        return Network(tuple(nodes), tuple(edges), layer)
