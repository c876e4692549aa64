"""The compiled engine: equal to the NumPy model, and to itself however the tokens come."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from braingpt_cases import GOLDEN, needs_golden, write_model
from model_folders import random_weights, small_config, write_folder

from neurosim.models.braingpt import (
    BrainGPT,
    EventCounter,
    Options,
    SiteRecord,
    load,
    rows,
    silu,
    site_names,
)
from neurosim.models.braingpt.convert import convert
from neurosim.models.braingpt.memory import estimate_memory
from neurosim.models.braingpt.stored import StoredModel

IDS = np.random.default_rng(5).integers(0, 97, 45)
WEIGHTS = [4, 8, 32]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, biases, tied head."""
    return write_model(tmp_path_factory.mktemp("models") / "tiny")


def by_steps(model: object, ids: np.ndarray, lengths: list[int]) -> np.ndarray:
    """Logits of ids that come in pieces of these lengths."""
    cache, parts, start = model.new_cache(), [], 0
    for length in lengths:
        parts.append(model(ids[start : start + length], cache))
        start += length
    assert start == len(ids)
    return np.concatenate(parts)


@pytest.mark.parametrize("weight_bits", WEIGHTS)
@pytest.mark.parametrize("lengths", [[1] * 45, [45], [20, 1, 1, 23], [44, 1]])
def test_however_the_tokens_come(folder: Path, weight_bits: int, lengths: list[int]) -> None:
    model = load(folder, weight_bits=weight_bits)
    np.testing.assert_array_equal(by_steps(model, IDS, lengths), model(IDS))


@pytest.mark.parametrize("weight_bits", WEIGHTS)
def test_batch_with_padding(folder: Path, weight_bits: int) -> None:
    model = load(folder, weight_bits=weight_bits)
    lengths = (45, 1, 17, 30)
    ids, mask = np.zeros((4, 45), int), np.zeros((4, 45), int)
    for row, length in enumerate(lengths):
        ids[row, 45 - length :], mask[row, 45 - length :] = IDS[:length], 1
    cache = model.new_cache()
    logits = model(ids, cache, mask)
    following = model(np.array([[3], [5], [7], [9]]), cache)
    for row, (length, token) in enumerate(zip(lengths, (3, 5, 7, 9), strict=True)):
        np.testing.assert_array_equal(logits[row, 45 - length :], model(IDS[:length]))
        alone = model(np.append(IDS[:length], token), last=True)
        np.testing.assert_array_equal(following[row, 0], alone)


@pytest.mark.parametrize("weight_bits", WEIGHTS)
def test_threads_change_no_bit(folder: Path, weight_bits: int) -> None:
    one, two = (load(folder, weight_bits=weight_bits, threads=n) for n in (1, 2))
    np.testing.assert_array_equal(one(IDS), two(IDS))


@pytest.mark.parametrize("backend", ["cpu", "numpy"])
@pytest.mark.parametrize("attention", ["float", "spiking"])
def test_nothing_depends_on_later_tokens(folder: Path, backend: str, attention: str) -> None:
    if backend == "cpu" and attention == "spiking":
        pytest.skip("the engine has float attention only")
    model = load(folder, backend=backend, attention=attention)
    changed = IDS.copy()
    changed[-1] = (changed[-1] + 1) % 97
    before, after = model(IDS)[:-1], model(changed)[:-1]
    if backend == "cpu":
        np.testing.assert_array_equal(before, after)
    else:  # BLAS sums in an order that may depend on sizes, which are the same here
        np.testing.assert_allclose(before, after, rtol=1e-6, atol=1e-6)


def test_the_reference_mode_does_depend_on_them(folder: Path) -> None:
    """The published scale over the whole tensor: the reason for mode "causal"."""
    model = load(folder, mode="reference", silu="exact")
    first = model(IDS[:2], last=False)[0]
    others = [model(np.array([IDS[0], token]))[0] for token in range(20)]
    assert max(np.abs(first - other).max() for other in others) > 1e-3


@pytest.mark.parametrize("silu", ["exact", "table"])
@pytest.mark.parametrize("bits", [2, 4, 6, 8])
@pytest.mark.parametrize("weight_bits", WEIGHTS)
def test_equals_the_numpy_model(folder: Path, silu: str, bits: int, weight_bits: int) -> None:
    """Counts may differ where float32 rounds a tie the other way, by one spike, and after that."""
    records = SiteRecord(), SiteRecord()
    engine = load(folder, silu=silu, bits=bits, weight_bits=weight_bits)
    stored = StoredModel(folder)
    weights = {
        name: stored.integers(name, max(weight_bits, 8) if "embed" in name else weight_bits)
        for name, shape in stored.config.weight_shapes().items()
        if len(shape) == 2 and weight_bits < 32
    }
    real = {name: weight.dequantise() for name, weight in weights.items()}
    real |= {n: stored.floats(n) for n in stored.config.weight_shapes() if n not in real}
    plain = BrainGPT(stored.config, real, Options(silu=silu, bits=bits))
    logits = [m(IDS, listener=r) for m, r in zip((engine, plain), records, strict=True)]
    assert set(records[0].counts) == set(records[1].counts) == set(site_names(2))
    off = {
        site: np.abs(records[0].counts[site].astype(int) - records[1].counts[site])
        for site in site_names(2)
    }
    first = next((site for site in site_names(2) if off[site].any()), "embed.post")
    assert off[first].max() <= 1
    assert off[first].mean() < 2e-3  # integer sums over few levels make exact ties
    if bits > 4:  # with fewer, one flip is a large step and moves much that follows
        assert np.mean([(part > 0).mean() for part in off.values()]) < 0.01
        assert np.abs(logits[0] - logits[1]).mean() < 0.01 * np.abs(logits[1]).max()


@needs_golden
def test_staircase_of_a_checkpoint() -> None:
    """Counts of the trained golden model under per-token scales, staircase by look-up."""
    ids = np.load(GOLDEN / "trained" / "eval_tokens.npz")
    ids = ids[ids.files[0]].reshape(-1)[:100].astype(int)
    records = SiteRecord(), SiteRecord()
    for backend, record in zip(("cpu", "numpy"), records, strict=True):
        load(GOLDEN / "trained", silu="staircase", backend=backend)(ids, listener=record)
    first = [site for site in site_names(3) if site[:2] in ("em", "L0")]
    found, wanted = (np.concatenate([r.counts[s].ravel() for s in first]) for r in records)
    assert (found != wanted).mean() < 1e-3  # a tie that falls the other way moves those after it


def test_events_are_counts_times_fan_out(folder: Path) -> None:
    record, counter = SiteRecord(), EventCounter()
    model = load(folder, weight_bits=8)
    model(IDS, listener=record)
    model(IDS[:20], cache := model.new_cache(), listener=counter)
    model(IDS[20:], cache, listener=counter)
    unary = sum(
        int(np.abs(record.counts[s].astype(int)).sum()) * record.fan_outs[s] for s in record.counts
    )
    assert counter.operations["unary"] == unary
    assert counter.multiply_accumulates == 45 * 2 * (32 * (32 + 16 + 16) + 32 * 32 + 3 * 32 * 72)
    assert counter.operations["graded"] <= counter.multiply_accumulates
    order = [counter.operations[code] for code in ("signed_digit", "bit_plane", "unary")]
    assert order == sorted(order)


def test_an_untied_head_and_no_biases(tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "llama", 3, model_type="llama", tie_word_embeddings=False, head_dim=12
    )
    engine, plain = load(folder), load(folder, dtype="float64")
    assert np.abs(engine(IDS) - plain(IDS)).max() < 0.05 * np.abs(plain(IDS)).max()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "reference"}, "choose backend='numpy'"),
        ({"attention": "spiking"}, "choose backend='numpy'"),
        ({"dtype": "float64"}, "float32"),
        ({"weight_bits": 5}, "4, 8 or 32"),
        ({"bits": 9}, "2 to 8"),
        ({"bits": 0}, "2 to 8"),
        ({"threads": 0}, "at least 1 thread"),
        ({"silu": "staircase"}, "pulses"),
        ({"silu": "soft"}, "staircase, table, exact"),
    ],
)
def test_impossible_options(folder: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(folder, backend="cpu", **given)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros(0, int), "at least one token"),
        (np.zeros((1, 1, 1), int), "token ids"),
        (np.array([0.5]), "integers"),
        (np.array([97]), "0 to 96"),
        (np.array([-1]), "0 to 96"),
    ],
)
@pytest.mark.parametrize("backend", ["cpu", "numpy"])
def test_wrong_tokens(folder: Path, backend: str, ids: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(folder, backend=backend)(ids)


def test_positions_are_integers(folder: Path) -> None:
    with pytest.raises(ValueError, match="integers"):
        load(folder)(IDS[:2], positions=np.array([[0.5, 1.5]]))


def test_a_sliding_window_is_the_longest_text(tmp_path: Path) -> None:
    path = write_model(tmp_path / "slides")
    data = json.loads((path / "config.json").read_text())
    data |= {"use_sliding_window": True, "sliding_window": 64}
    (path / "config.json").write_text(json.dumps(data))
    assert load(path).config.max_position_embeddings == 64


def test_right_padding_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="left"):
        load(folder)(IDS[None], mask=np.arange(45)[None] < 40)


def test_a_cache_of_another_batch_is_refused(folder: Path) -> None:
    model = load(folder)
    model(IDS, cache := model.new_cache())
    with pytest.raises(ValueError, match="batch of 1"):
        model(np.zeros((2, 1), int), cache)


class _Refuses:
    """A listener that fails at a site."""

    def __init__(self, site: str) -> None:
        self.wanted = site

    def site(self, name: str, *values: object) -> None:
        if name == self.wanted:
            raise RuntimeError(name)


@pytest.mark.parametrize("site", ["L0.q_proj.pre", "L0.o_proj.pre", "L1.o_proj.post"])
@pytest.mark.parametrize("backend", ["cpu", "numpy", "mlx"])
def test_a_call_that_fails_leaves_the_cache_as_it_was(
    folder: Path, backend: str, site: str
) -> None:
    model = load(folder, backend=backend)
    cache = model.new_cache()
    with pytest.raises(RuntimeError):
        model(np.stack([IDS, IDS]), cache, listener=_Refuses(site))
    assert cache.length == 0
    model(IDS[:20], cache)
    with pytest.raises(RuntimeError):
        model(IDS[30:], cache, listener=_Refuses(site))
    assert cache.length == 20
    again = np.asarray(model(IDS[20:], cache))
    np.testing.assert_allclose(again, np.asarray(model(IDS))[20:], rtol=1e-5, atol=1e-5)


def test_a_long_prompt_that_fails_in_a_later_piece(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurosim.models.braingpt.engine.PIECE", 16)
    model = load(folder)
    cache, seen = model.new_cache(), list[str]()

    class Second:
        def site(self, name: str, *values: object) -> None:
            seen.append(name)
            if seen.count("L1.down_proj.pre") == 2:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        model(IDS, cache, listener=Second())
    assert cache.length == 0
    np.testing.assert_array_equal(model(IDS, cache), model(IDS))


@pytest.mark.parametrize("weight_bits", WEIGHTS)
def test_pieces_of_a_batch(folder: Path, weight_bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts beyond a piece, padded, after others in a cache: the bits of one at a time."""
    model = load(folder, weight_bits=weight_bits)
    whole = [model(np.concatenate([IDS[:9], IDS[::-1]])), model(np.concatenate([IDS[:5], IDS]))]
    monkeypatch.setattr("neurosim.models.braingpt.engine.PIECE", 14)
    first, mask = np.stack([IDS[:9], np.roll(IDS[:9], 4)]), np.ones((2, 9), int)
    first[1, 4:], mask[1, :4] = IDS[:5], 0
    cache = model.new_cache()
    model(first, cache, mask)
    second = np.stack([IDS[::-1], IDS])
    np.testing.assert_array_equal(model(second, cache)[0], whole[0][9:])
    cache = model.new_cache()
    model(first, cache, mask, last=True)
    np.testing.assert_array_equal(model(second, cache, last=True), [whole[0][-1], whole[1][-1]])


@pytest.mark.parametrize("name", ["self_attn.o_proj.bias", "self_attn.q_norm.weight"])
def test_unknown_weights_are_refused(tmp_path: Path, name: str) -> None:
    """A Llama with attention_bias has one on o_proj, which would be left out without a word."""
    config = small_config()
    weights = random_weights(config) | {f"model.layers.1.{name}": np.ones(32, np.float32)}
    folder = write_folder(tmp_path / "more", config, weights, "llama")
    with pytest.raises(ValueError, match=f"unknown weights model.layers.1.{name}"):
        load(folder)


@pytest.mark.parametrize("backend", ["cpu", "numpy", "mlx"])
def test_the_config_says_the_bits_that_are_computed(folder: Path, backend: str) -> None:
    assert load(folder, backend=backend, bits=3).config.bits == 3


def test_floats_of_16_bits_are_estimated_as_they_are_kept(folder: Path, tmp_path: Path) -> None:
    halves = load(convert(folder, tmp_path / "16", weight_bits=16, warn=lambda text: None))
    other = replace(halves.config, weight_bits=32)
    assert estimate_memory(halves.config) == estimate_memory(other)
    assert halves.nbytes == load(folder).nbytes


@pytest.mark.parametrize("backend", ["cpu", "numpy", "mlx"])
def test_positions_given_by_hand(folder: Path, backend: str) -> None:
    """Rotary scores depend on distances: gaps between tokens matter, a common shift does not."""
    model = load(folder, backend=backend, silu="exact", bits=8)
    usual = np.arange(12)[None]
    expected, shifted, wider = (
        np.asarray(model(IDS[:12], positions=p)) for p in (usual, usual + 7, 3 * usual)
    )
    np.testing.assert_array_equal(expected, np.asarray(model(IDS[:12])))
    assert np.abs(shifted - expected).mean() < 0.2 * np.abs(wider - expected).mean()
    with pytest.raises(ValueError, match="positions of shape"):
        model(IDS[:12], positions=usual[:, :5])


def test_the_look_ups_at_their_edges() -> None:
    """Half a step rounds away from zero, and an edge belongs to the value above it."""
    halves = ((np.arange(-300, 300) + 0.5) / 16).astype(np.float32)
    counts, scales = np.ones((1, 1), np.int8), np.ones(1, np.float32)
    one, none, work = np.ones((1, 1), np.int8), np.zeros(0, np.float32), np.empty(255, np.float32)

    def through(x: np.floating, kind: int, edges: np.ndarray, values: np.ndarray) -> float:
        out = np.empty((1, 1), np.float32)
        up = (one, np.ones(1, np.float32))
        rows.gate_rows(counts, scales * x, *up, kind, edges, values, none, none, work, out)
        return float(out[0, 0])

    step, values = np.array([silu.TABLE_STEP], np.float32), silu.table_values().astype(np.float32)
    found = [through(x, rows.TABLE, step, values) for x in halves]
    np.testing.assert_array_equal(found, silu.table(halves))
    edges, heights = np.array([-1, 2], np.float32), np.array([5, 6, 7], np.float32)
    at = [through(np.float32(x), rows.STAIRCASE, edges, heights) for x in (-1.5, -1, 0, 2, 3)]
    assert at == [5, 6, 6, 7, 7]


def test_an_untied_head_takes_memory(tmp_path: Path) -> None:
    two = [
        load(write_model(tmp_path / str(tied), tie_word_embeddings=tied)) for tied in (True, False)
    ]
    assert two[1].nbytes - two[0].nbytes == 4 * 97 * 32
