"""The main job from Python: what a report holds, that it repeats, its quality, and its refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from tiny_models import twin_model

import neurosim
from neurosim import pipeline
from neurosim.chip import load_chip
from neurosim.energy import multiplies
from neurosim.energy import report as energy_report_module
from neurosim.events.engine import simulate
from neurosim.models import checkpoint
from neurosim.models.checkpoint import LoadedModel
from neurosim.models.evaluation import bits_per_byte, logits_of, token_losses
from neurosim.models.sampling import Sampler
from neurosim.models.spike_transformer_folded import FoldedSpikeTransformer
from neurosim.models.text.corpus import sample_documents
from neurosim.models.text.tokenizer import Tokenizer, token_stream
from neurosim.pipeline import RunReport, chip_bits_per_byte, run, spiking

PROMPT = "The history of the city"
INTERFACE = {
    "model": {"name", "sha256", "parameters"},
    "chip": {"name", "evidence"},
    "text": None,
    "tokens": {"prompt", "generated"},
    "spikes": {"total", "rate"},
    "counts": {"synaptic_operations", "multiplies", "weight_fetches", "neuron_spikes", "hops"},
    "energy": {
        "prefill_J_per_token",
        "decode_J_per_token",
        "by_mechanism_J",
        "by_layer_J",
        "excludes",
    },
    "baseline": {"ann_twin_decode_J_per_token", "ratio"},
    "check": {"sites", "spikes_compared", "mismatches"},
    "seed": None,
    "versions": None,
    "wall_s": None,
}


@pytest.fixture(scope="module")
def loaded(tiny_checkpoint: Path) -> LoadedModel:
    return checkpoint.load(tiny_checkpoint)


@pytest.fixture(scope="module")
def report(tiny_checkpoint: Path) -> RunReport:
    return run(PROMPT, tiny_checkpoint, "ideal", 6, 2, compare_spikes=True, quality=False)


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_plain(item) for item in value)
    return value is None or type(value) in (str, int, float, bool)


def test_report_has_the_keys_of_the_interface(report: RunReport) -> None:
    data = report.to_dict()
    for key, parts in INTERFACE.items():
        assert key in data
        if parts is not None:
            assert parts <= set(data[key]), key
    assert _plain(data)
    assert json.loads(json.dumps(data, allow_nan=False))["text"] == data["text"]


def test_report_says_what_ran(report: RunReport, loaded: LoadedModel) -> None:
    data = report.to_dict()
    prompt = loaded.tokenizer.encode(PROMPT)
    assert data["model"]["name"] == "tiny-spikes"
    assert data["model"]["sha256"] == loaded.sha256
    assert data["model"]["parameters"] == loaded.parameters
    assert data["chip"]["name"] == "ideal"
    assert data["seed"] == 2
    assert data["text"].startswith(PROMPT)
    assert data["tokens"] == {"prompt": len(prompt), "prefill": len(prompt) + 1, "generated": 6}
    assert {"neurosim", "python", "numpy", "mlx"} <= set(data["versions"])
    assert data["wall_s"] > 0


def test_numbers_of_a_report_agree_with_each_other(report: RunReport) -> None:
    """Spikes of both phases, sums of joules, and the ratio to the twin."""
    data = report.to_dict()
    size = data["tokens"]["prefill"] + 6
    spikes = sum(int(np.abs(rows).sum()) for rows in report.spikes.values())
    neurons = sum(node.neurons for node in report.network if hasattr(node, "neurons"))
    assert data["spikes"]["total"] == data["counts"]["neuron_spikes"] == spikes > 0
    assert data["spikes"]["rate"] == pytest.approx(spikes / (neurons * size))
    assert all(len(rows) == size for rows in report.spikes.values())
    energy = data["energy"]
    total = energy["decode_J_per_token"]
    assert sum(energy["by_mechanism_J"].values()) == pytest.approx(total, rel=1e-12)
    assert sum(energy["by_layer_J"].values()) == pytest.approx(total, rel=1e-12)
    assert energy["prefill_J_per_token"] > 0
    twin = data["baseline"]["ann_twin_decode_J_per_token"]
    assert data["baseline"]["ratio"] == pytest.approx(twin / total)
    assert data["baseline"]["sizes"]["ngram_rows"] == (64, 32)
    assert data["counts"]["multiplies"] == multiplies(report.network) * size == 0


def test_multiplies_come_from_the_network(
    tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were the network to multiply, the report would say so."""
    monkeypatch.setattr(energy_report_module, "multiplies", lambda network: 5 * len(network.nodes))
    found = run(PROMPT, tiny_checkpoint, "ideal", 2, quality=False)
    data = found.to_dict()
    size = data["tokens"]["prefill"] + 2
    assert data["counts"]["multiplies"] == 5 * len(found.network.nodes) * size


def test_ideal_has_no_mismatch_beyond_the_context_too(tiny_checkpoint: Path) -> None:
    """40 tokens with a context of 32: the state goes on."""
    data = run("A", tiny_checkpoint, "ideal", 40, compare_spikes=True, quality=False).to_dict()
    sites = 9
    size = data["tokens"]["prefill"] + 40
    per_token = 7 * 32 + 64 + 32  # seven banks of the block's width, its hidden one, the head's
    assert data["check"] == {
        "sites": sites,
        "spikes_compared": size * per_token,
        "mismatches": 0,
    }


def test_check_finds_every_difference(loaded: LoadedModel, report: RunReport) -> None:
    """One spike changed is one mismatch; a real chip has many; a missing site is refused."""
    folded = FoldedSpikeTransformer.fold(loaded.model)  # type: ignore[arg-type]
    result = simulate(folded.lower(), load_chip("ideal"), [0, 5, 6, 7])
    assert pipeline.check(folded, result)["mismatches"] == 0
    spikes = {name: rows.copy() for name, rows in result.spikes.items()}
    spikes["head_read"][3, 31] += 1
    spikes["blocks.0.conv_read"][0, 0] -= 2
    assert pipeline.check(folded, replace(result, spikes=spikes))["mismatches"] == 2
    del spikes["head_read"]
    with pytest.raises(ValueError, match="head_read"):
        pipeline.check(folded, replace(result, spikes=spikes))
    noisy = simulate(folded.lower(), load_chip("ag_v2c_w"), [0, 5, 6, 7])
    assert pipeline.check(folded, noisy)["mismatches"] > 20


@pytest.mark.parametrize("chip", ["ideal", "ag_v2c_w"])
def test_the_same_arguments_give_the_same_report(
    chip: str, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it but the time, quality included; another seed gives another text."""
    monkeypatch.setattr(pipeline, "QUALITY_TOKENS", 24)
    first, second, other = (
        run(PROMPT, tiny_checkpoint, chip, 8, seed, compare_spikes=True).to_dict()
        for seed in (4, 4, 5)
    )
    for data in (first, second, other):
        data.pop("wall_s")
    assert json.dumps(first) == json.dumps(second)
    assert first["text"] != other["text"]
    if chip == "ag_v2c_w":
        assert first["check"]["mismatches"] > 0
        assert first["chip"]["flags"]
        assert first["chip"]["inherited"]


def test_names_and_objects_are_the_same(tiny_checkpoint: Path, loaded: LoadedModel) -> None:
    by_name = run(PROMPT, str(tiny_checkpoint), "ideal", 3, quality=False).to_dict()
    by_object = run(PROMPT, loaded, load_chip("ideal"), 3, quality=False).to_dict()
    for data in (by_name, by_object):
        data.pop("wall_s")
    assert by_name == by_object


def test_text_is_the_model_s_own_greedy_continuation(
    tiny_checkpoint: Path, loaded: LoadedModel
) -> None:
    """Temperature 0 on the ideal chip: the largest logit of the folded model, token by token."""
    folded = FoldedSpikeTransformer.fold(loaded.model)  # type: ignore[arg-type]
    ids = [0, *loaded.tokenizer.encode(PROMPT)]
    for _ in range(7):
        logits = folded.forward(np.array(ids))[0][-1].copy()
        logits[0] = np.iinfo(np.int64).min
        ids.append(int(logits.argmax()))
    greedy = Sampler(temperature=0.0)
    found = run(PROMPT, tiny_checkpoint, "ideal", 7, sampler=greedy, quality=False).to_dict()
    assert found["text"] == loaded.tokenizer.decode(ids[1:])
    assert found["sampling"] == {"temperature": 0.0, "top_k": 20}


def test_progress_ends_at_its_total(tiny_checkpoint: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(pipeline, "QUALITY_TOKENS", 5)
    seen: dict[str, list[tuple[int, int]]] = {}

    def progress(stage: str, done: int, total: int) -> None:
        seen.setdefault(stage, []).append((done, total))

    run("A city", tiny_checkpoint, "ideal", 4, progress=progress)
    quality = ["programming, seed 0", "quality on ideal, seed 0"]
    assert list(seen) == ["programming", "prefill", "decode", *quality]
    for stage, steps in seen.items():
        total = steps[0][1]
        if stage.startswith("programming"):  # counts weights, a crossbar at a time
            done = [step[0] for step in steps]
            assert done[0] == 0 and done == sorted(set(done)) and steps[-1] == (total, total)
        else:
            assert steps == [(done, total) for done in range(1, total + 1)]
    assert seen["decode"][-1] == (4, 4)


# Quality.


def test_chip_quality_on_ideal_is_the_folded_model_s(loaded: LoadedModel) -> None:
    """Token by token on the chip, windows that start afresh; at once in software."""
    folded = spiking(loaded)
    text = token_stream(sample_documents(), loaded.tokenizer, 0)[:75]
    context = loaded.model.config.context
    assert 2 * context < 75
    for most, size in ((None, 74), (1, context)):
        found = chip_bits_per_byte(folded.lower(), load_chip("ideal"), loaded, text, 0, most)
        losses = token_losses(logits_of(folded), text, context, most)
        expected = bits_per_byte(losses, text[1 : size + 1], loaded.tokenizer)
        assert found == pytest.approx(expected, rel=1e-12)


def test_quality_of_a_report(
    tiny_checkpoint: Path, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ideal beside the chip with several seeds, on text the report names."""
    monkeypatch.setattr(pipeline, "QUALITY_TOKENS", 40)
    quality = run("A", tiny_checkpoint, "ag_v2c_w", 1, seed=7).to_dict()["quality"]
    text = token_stream(sample_documents(), loaded.tokenizer, 0)[:41]
    losses = token_losses(logits_of(spiking(loaded)), text, loaded.model.config.context)
    expected = bits_per_byte(losses, text[1:], loaded.tokenizer)
    assert quality["ideal_bits_per_byte"] == pytest.approx(expected)
    assert quality["tokens"] == 40
    assert set(quality["chip_bits_per_byte"]) == {"7", "8", "9"}
    values = list(quality["chip_bits_per_byte"].values())
    assert len({quality["ideal_bits_per_byte"], *values}) == 4
    ideal = run("A", tiny_checkpoint, "ideal", 1).to_dict()["quality"]
    assert ideal["chip_bits_per_byte"] == {}
    assert "quality" not in run("A", tiny_checkpoint, "ideal", 1, quality=False).to_dict()


# What it looks like.


def test_representations(report: RunReport, tiny_checkpoint: Path) -> None:
    joules = report.to_dict()["energy"]["decode_J_per_token"]
    text = f"tiny-spikes on ideal: 6 tokens, {joules:.4g} J/token, 0 mismatches"
    assert repr(report) == f"RunReport({text})"
    risky = run("<b>&", tiny_checkpoint, "ideal", 1, quality=False)
    page = risky._repr_html_()
    assert page.startswith("<p>&lt;b&gt;&amp;")
    assert "<table" in page
    assert "mismatches" not in repr(risky)


def test_the_package_imports_the_job_lazily() -> None:
    """`import neurosim` needs neither MLX nor Numba; `neurosim.run` is the job."""
    assert neurosim.run is run
    assert neurosim.RunReport is RunReport
    with pytest.raises(AttributeError, match="no attribute 'walk'"):
        _ = neurosim.walk
    code = (
        "import sys, neurosim; assert not {'mlx', 'mlx.core', 'numba'} & set(sys.modules); "
        "print(neurosim.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == neurosim.__version__


# Refusals.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": 0}, "expected tokens >= 1, got 0"),
        ({"tokens": -3}, "expected tokens >= 1, got -3"),
        ({"seed": -1}, "expected seed >= 0, got -1"),
        ({"prompt": ""}, "expected a prompt, got an empty one"),
        ({"prompt": " \n\t"}, "expected a prompt, got an empty one"),
        ({"prompt": "city " * 40}, r"at most 31 tokens \(the model's context\), got \d+"),
        ({"prompt": "a\ud800b"}, "UTF-8"),
        ({"chip": "nobody"}, "nobody"),
        ({"model": "/nowhere"}, "no model folder at /nowhere"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refusals(arguments: dict[str, Any], message: str, tiny_checkpoint: Path) -> None:
    settings = {"prompt": PROMPT, "model": tiny_checkpoint, "chip": "ideal", "tokens": 2}
    with pytest.raises(ValueError, match=message):
        run(**(settings | {"quality": False} | arguments))


def test_the_longest_prompt_fits(tiny_checkpoint: Path, loaded: LoadedModel) -> None:
    """31 tokens and end-of-text fill the context of 32."""
    text = " ".join(document.text for document in sample_documents())
    ids = loaded.tokenizer.encode(text)[:31]
    while len(loaded.tokenizer.encode(loaded.tokenizer.decode(ids))) != 31:
        ids = ids[:-1] + loaded.tokenizer.encode(" a")
    prompt = loaded.tokenizer.decode(ids)
    data = run(prompt, tiny_checkpoint, "ideal", 1, quality=False).to_dict()
    assert data["tokens"]["prefill"] == 32
    with pytest.raises(ValueError, match="at most 31 tokens .* got 32"):
        run(prompt + "\x00", tiny_checkpoint, "ideal", 1, quality=False)


def test_a_twin_does_not_run_on_a_chip(tokenizer: Tokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "twin"
    checkpoint.save(folder, twin_model(0, vocab_size=tokenizer.vocab_size), tokenizer)
    with pytest.raises(ValueError, match="holds a Transformer; expected a spiking model"):
        run(PROMPT, folder, "ideal", 2)


def test_a_model_with_nan_is_refused_in_memory_too(loaded: LoadedModel) -> None:
    """Not only in files: a model handed over by a caller."""
    copy = checkpoint.load(loaded.folder)
    copy.model.head = mx.full(copy.model.head.shape, np.nan)
    with pytest.raises(ValueError, match="NaN"):
        run(PROMPT, replace(loaded, model=copy.model), "ideal", 2, quality=False)


# The sampler.


def test_sampler_follows_the_softmax_of_the_best() -> None:
    """Frequencies at temperature 2 among the 3 largest, the banned one left out."""
    logits = np.array([9.0, 1.0, 2.0, -5.0, 3.0])
    sampler = Sampler(temperature=2.0, top_k=3, banned=0)
    generator = np.random.default_rng(0)
    drawn = [sampler.choose(logits, generator) for _ in range(4000)]
    weights = np.exp(np.array([1.0, 2.0, 3.0]) / 2)
    shares = [drawn.count(token) / 4000 for token in (1, 2, 4)]
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.03)
    assert set(drawn) == {1, 2, 4}
    assert logits[0] == 9.0  # the caller's array is untouched


def test_sampler_is_greedy_at_temperature_zero_or_with_one_choice() -> None:
    logits = np.array([9.0, 1.0, 3.0, 3.0])
    for sampler in (Sampler(0.0), Sampler(5.0, top_k=1)):
        assert {sampler.choose(logits, np.random.default_rng(s)) for s in range(20)} == {2}
    assert Sampler(0.0, banned=2).choose(logits, np.random.default_rng(0)) == 0


@pytest.mark.parametrize(("temperature", "top_k"), [(-0.1, 5), (1.0, -1), (float("nan"), 5)])
def test_sampler_refuses(temperature: float, top_k: int) -> None:
    with pytest.raises(ValueError, match="expected temperature >= 0, top_k >= 0"):
        Sampler(temperature, top_k)
