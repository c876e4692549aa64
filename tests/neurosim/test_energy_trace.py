"""Counting an MLX model by running it: nothing invisible, nothing twice, the model left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from neurosim.energy.operations import InputClass, OperationCounts
from neurosim.energy.products import linear
from neurosim.energy.trace import count

WIDTH, HEADS, HIDDEN, VOCABULARY, TOKENS = 8, 2, 16, 11, 5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def __call__(self, x: mx.array) -> mx.array:
        q = self.query(self.norm1(x)).reshape(1, TOKENS, HEADS, -1).transpose(0, 2, 1, 3)
        scale = (WIDTH / HEADS) ** -0.5
        a = mx.fast.scaled_dot_product_attention(q, q, q, scale=scale, mask="causal")
        x = x + a.transpose(0, 2, 1, 3).reshape(1, TOKENS, WIDTH)
        return x + self.down(nn.relu(self.up(self.norm2(x))))


class Language(nn.Module):
    def __init__(self, layers: int = 2, tied: bool = False) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = [Block() for _ in range(layers)]
        self.tied = tied
        if not tied:
            self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def __call__(self, tokens: mx.array) -> mx.array:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.embedding.as_linear(x) if self.tied else self.lm_head(x)


@pytest.fixture(scope="module")
def counted() -> OperationCounts:
    mx.random.seed(0)
    return count(Language(), mx.array([[1, 2, 3, 4, 5]]))


def of(counts: OperationCounts, layer: str, mechanism: str) -> Any:
    found = [
        item for item in counts.operations if (item.layer, item.mechanism) == (layer, mechanism)
    ]
    assert len(found) == 1, (layer, mechanism, [i.layer for i in counts.operations])
    return found[0]


def test_every_mechanism_of_a_transformer_by_hand(counted: OperationCounts) -> None:
    assert counted.tokens == TOKENS
    assert of(counted, "embedding", "embedding").words_read == TOKENS * WIDTH
    head = of(counted, "lm_head", "head")
    assert head.multiplies == head.dense == TOKENS * WIDTH * VOCABULARY
    visible = HEADS * TOKENS * (TOKENS + 1) // 2
    for i in range(2):
        path = f"blocks.{i}"
        assert of(counted, f"{path}.up", "linear").dense == TOKENS * WIDTH * HIDDEN
        assert of(counted, f"{path}.up", "linear").bias_additions == TOKENS * HIDDEN
        assert of(counted, path, "scores").multiplies == visible * WIDTH // HEADS
        assert of(counted, path, "mixing").multiplies == visible * WIDTH // HEADS
        softmax = of(counted, path, "softmax")
        assert softmax.special_functions == visible + HEADS * TOKENS
        norm = of(counted, f"{path}.norm1", "elementwise")
        # squares, the mean's factor and two scalings; sum and epsilon; one inverse root a row
        assert norm.multiplies == TOKENS * (3 * WIDTH + 1)
        assert norm.additions == TOKENS * WIDTH and norm.special_functions == TOKENS
        own = of(counted, path, "elementwise")
        assert own.additions == 2 * TOKENS * WIDTH  # two residual sums
        assert own.compares == TOKENS * HIDDEN  # the rectifier
        assert own.multiplies == own.special_functions == 0


def test_the_activation_s_zeros_are_counted_exactly() -> None:
    mx.random.seed(1)
    layer, x = nn.Linear(WIDTH, 6), nn.relu(mx.random.normal((7, WIDTH)))
    found = count(layer, x)
    expected = linear("model", np.array(x), np.array(layer.weight), bias=True)
    assert of(found, "model", "linear") == expected
    assert expected.effective < expected.dense


def test_declared_spikes_accumulate_and_undeclared_ones_do_not() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(WIDTH, 6)

        def __call__(self, x: mx.array) -> mx.array:
            return self.fc(x)

    spikes = (mx.random.uniform(shape=(4, WIDTH)) < 0.3).astype(mx.float32)
    net = Net()
    plain, spiking = count(net, spikes), count(net, spikes, classes={"fc": InputClass("binary")})
    assert plain.macs == spiking.accumulates > 0 and plain.accumulates == spiking.macs == 0
    assert spiking.total("multiplies") == 0 < plain.total("multiplies")
    net.spike_classes = {"fc": InputClass("binary")}
    assert count(net, spikes).accumulates == spiking.accumulates
    with pytest.raises(ValueError, match="fc .linear.*declared binary"):
        count(net, spikes * 0.5)


def test_a_tied_head_is_listed_as_the_head() -> None:
    counts = count(Language(layers=1, tied=True), mx.array([[1, 2, 3, 4, 5]]))
    assert of(counts, "embedding", "head").dense == TOKENS * WIDTH * VOCABULARY


def test_convolutions_and_their_bias() -> None:
    conv = nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0))
    counts = count(conv, mx.random.normal((2, 6, 5, 3)))
    found = of(counts, "model", "convolution")
    assert found.bias_additions == 2 * 3 * 4 * 5 == found.rows * 5
    assert [item.mechanism for item in counts.operations] == ["convolution"]
    line = nn.Conv1d(4, 4, 3, groups=2)
    assert of(count(line, mx.ones((1, 9, 4))), "model", "convolution").dense == 7 * 4 * 3 * 2


def test_products_of_activations_and_what_cannot_be_seen() -> None:
    class Square(nn.Module):
        def __call__(self, x: mx.array) -> mx.array:
            return x @ x.T

    class Hidden(nn.Module):
        def __call__(self, x: mx.array) -> mx.array:
            return mx.einsum("ij,kj->ik", x, x)

    assert of(count(Square(), mx.ones((3, 4))), "model", "product").dense == 3 * 3 * 4
    with pytest.raises(ValueError, match="1 of kind 'product', 0 were seen"):
        count(Hidden(), mx.ones((3, 4)))


def test_the_model_and_mlx_are_left_as_they_were() -> None:
    model, tokens = Language(), mx.array([[1, 2, 3, 4, 5]])
    functions = (mx.matmul, mx.addmm, mx.array.__matmul__, nn.Linear.__call__, Block.__call__)
    before = np.array(model(tokens))
    count(model, tokens)
    with pytest.raises(ValueError, match="nowhere: no such input was used; seen: "):
        count(model, tokens, classes={"nowhere": InputClass("binary")})
    assert np.array_equal(np.array(model(tokens)), before)
    after = (mx.matmul, mx.addmm, mx.array.__matmul__, nn.Linear.__call__, Block.__call__)
    assert after == functions


def test_dropout_must_be_off_and_caches_are_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def __call__(self, x: mx.array, cache: object = None) -> mx.array:
            return self.drop(x)

    net = Net()
    with pytest.raises(ValueError, match=r"call model.eval\(\)"):
        count(net, mx.ones((2, 3)))
    net.eval()
    assert count(net, mx.ones((2, 3))).operations == ()
    with pytest.raises(ValueError, match="pass no cache"):
        count(net, mx.ones((2, 3)), object())
    with pytest.raises(ValueError, match=r"expected an mlx.nn.Module, got function"):
        count(lambda x: x, mx.ones(3))


def test_totals_are_the_sums_of_the_layers(counted: OperationCounts) -> None:
    for name in ("multiplies", "additions", "dense", "special_functions", "words_read"):
        assert sum(row[name] for row in counted.by_layer().values()) == counted.total(name)
    assert counted.total("effective") <= counted.total("dense")


def test_spikegpt_counts_equal_the_golden_ones() -> None:
    """22 linear layers of a 3-layer SpikeGPT: rows, non-zero inputs, effective and dense pairs."""
    from spikegpt_model import golden

    path = Path(__file__).parents[1] / "data" / "spikegpt_op_counts.json"
    expected = json.loads(path.read_text())["spikegpt_char_L3"]
    model, tokens = golden()
    counts = count(model, tokens, head="head")
    assert counts.tokens == expected["tokens"]
    found = {item.layer: item for item in counts.operations if item.mechanism in ("linear", "head")}
    assert len(found) == expected["totals"]["layers"]
    for row in expected["linear_layers"]:
        item = found[row["layer"]]
        assert (item.rows, item.nonzero) == (row["rows"], row["nonzero_inputs"]), row["layer"]
        assert (item.effective, item.dense) == (row["effective"], row["dense"]), row["layer"]
    assert sum(item.dense for item in found.values()) == expected["totals"]["dense"]
    assert counts.macs == expected["totals"]["effective"]
    # per token and layer of width 32, section 1.6: 7 special functions a channel and the norms'
    assert counts.total("special_functions") >= 48 * 3 * 7 * 32


def test_the_shipped_twin_counts_its_weights_once_a_token() -> None:
    from neurosim.models.checkpoint import TWIN, load
    from neurosim.pipeline import transformer_sizes

    twin = load(TWIN)
    tokens = np.arange(12) % 7 + 3
    found = count(twin.model, mx.array(tokens[None]), head="head")
    sizes = transformer_sizes(twin)
    matrices = ("linear", "head")
    dense = found.total("dense", lambda item: item.mechanism in matrices)
    assert found.tokens == 12 and dense == 12 * sizes.weights
    head = found.total("dense", lambda item: item.mechanism == "head")
    assert head == 12 * sizes.width * sizes.vocabulary
    seen = 12 * 13 // 2 * sizes.heads * sizes.layers  # keys 0..i of query i
    softmax = found.total("special_functions", lambda item: item.mechanism == "softmax")
    assert softmax == seen + 12 * sizes.heads * sizes.layers
    norms = [item for item in found.operations if item.layer.endswith("norm")]
    assert len(norms) == 2 * sizes.layers + 1
    assert all(item.special_functions == 12 for item in norms)
    looked_up = found.total("words_read", lambda item: item.mechanism == "embedding")
    assert looked_up == 2 * 12 * sizes.width


def test_the_shipped_spiking_model_counts_what_the_chip_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Traced in float form: |n| x fan-out of its own spikes, and nearly the chip's integers."""
    from neurosim.chip import load_chip
    from neurosim.events.engine import Simulator
    from neurosim.models import spike_transformer
    from neurosim.models.checkpoint import DEFAULT, load
    from neurosim.pipeline import spiking

    loaded = load(DEFAULT)
    loaded.model.eval()
    tokens = np.arange(12) * 5 + 3
    levels = loaded.model.config.levels
    signed = InputClass("graded", levels, signed=True)
    names = ("query", "key", "value", "output", "up", "down")
    blocks = range(loaded.model.config.layers)
    classes = {f"blocks.{i}.{name}": signed for i in blocks for name in names}
    found = count(loaded.model, mx.array(tokens[None]), classes={**classes, "head": signed})
    spikes: list[int] = []
    original = spike_transformer.fixed_norm_spikes

    def kept(*arguments: Any) -> mx.array:
        result = original(*arguments)
        spikes.append(int(mx.abs(result).sum().item()))
        return result

    monkeypatch.setattr(spike_transformer, "fixed_norm_spikes", kept)
    mx.eval(loaded.model(mx.array(tokens[None])))
    simulator = Simulator(spiking(loaded).lower(), load_chip("ideal"), 0)
    simulator.begin("decode")
    for token in tokens.tolist():
        simulator.step(token)
    counted = simulator.run().phases["decode"]
    traced = {item.layer: item for item in found.operations if item.mechanism == "linear"}
    assert set(traced) == {*classes, "head"}
    for name, item in traced.items():
        exact = counted.of(name, "synaptic_operations")
        assert exact > 0 and item.synaptic_operations == pytest.approx(exact, rel=0.1), name
    width = loaded.model.config.width
    fan_outs = dict.fromkeys(names, width) | {"up": width * loaded.model.config.ratio}
    for i in blocks:  # banks: convolution, attention, q, k, v, output, hidden read, hidden
        banks = dict(zip(names, (1, 1, 1, 5, 6, 7), strict=True))
        for name, bank in banks.items():
            expected = spikes[8 * i + bank] * fan_outs[name]
            assert traced[f"blocks.{i}.{name}"].synaptic_operations == expected, name
    assert traced["head"].synaptic_operations == spikes[-1] * loaded.model.config.vocab_size


def test_a_result_that_hides_its_arrays_is_refused() -> None:
    class Hiding(nn.Module):
        def __call__(self, x: mx.array) -> Any:
            return _Box(x + 1)

    class _Box:
        def __init__(self, value: mx.array) -> None:
            self.value = value

    with pytest.raises(ValueError, match="as its result, got a _Box"):
        count(Hiding(), mx.ones((2, 3)))


def test_a_quantised_layer_and_a_general_convolution() -> None:
    layer = nn.QuantizedLinear(64, 32, bias=True)
    found = count(layer, mx.ones((3, 64)))
    (product,) = [item for item in found.operations if item.mechanism == "linear"]
    assert (product.dense, product.weight_bits) == (3 * 64 * 32, 4)
    assert found.total("additions", lambda item: item.mechanism == "elementwise") == 3 * 32

    class General(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = mx.ones((4, 3, 2))

        def __call__(self, x: mx.array) -> mx.array:
            return mx.conv_general(x, self.weight, padding=([2], [0]))

    (causal,) = count(General(), mx.ones((1, 5, 2))).operations
    assert causal.dense == (1 + 2 + 3 + 3 + 3) * 2 * 4  # padding is no operand
    with pytest.raises(ValueError, match="transposed"):
        count(nn.ConvTranspose1d(2, 4, 3), mx.ones((1, 5, 2)))


def _custom() -> Any:
    function: Any = mx.custom_function(mx.exp)
    function.vjp(lambda primals, cotangents, outputs: cotangents)
    return function


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: x * x.sum().item(), "reads values as it runs"),
        (lambda x: _custom()(x), "custom function of MLX"),
        (lambda x: mx.compile(lambda y: y @ y.T)(x), "inside mx.compile"),
    ],
)
def test_what_has_no_graph_is_refused_by_name(function: Any, words: str) -> None:
    class Odd(nn.Module):
        def __call__(self, x: mx.array) -> Any:
            return function(x)

    with pytest.raises(ValueError, match=words):
        count(Odd(), mx.ones((3, 3)))
