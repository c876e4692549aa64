"""The report's numbers, from a model and a chip to one dictionary that figures are made from."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from neurosim.chip.description import ChipDescription, load_chip
from neurosim.energy import chip_prices, multiplies
from neurosim.energy.accelerator import accelerator_prices
from neurosim.energy.compare import LEGACY, legacy_joules
from neurosim.energy.published import Consistency
from neurosim.energy.report import ASSUMES, BOUNDARY, EXCLUDES
from neurosim.energy.terms import Breakdown
from neurosim.energy.uncertainty import sensitivity, uncertainty
from neurosim.kernels import fast_blas
from neurosim.models.checkpoint import DEFAULT, TWIN, LoadedModel, load
from neurosim.models.evaluation import bits_per_byte, logits_of, token_losses
from neurosim.models.text.corpus import sample_documents
from neurosim.models.text.tokenizer import token_stream
from neurosim.network import NeuronBank
from neurosim.pipeline import chip_bits_per_byte, spiking, versions
from neurosim.reporting.sites import break_even_rows, site_rows, verdicts
from neurosim.reporting.systems import (
    BOUNDARIES,
    SYSTEMS,
    TWIN_BOUNDARY,
    WHAT,
    System,
    plain,
    price_list,
)
from neurosim.reporting.twins import Baseline, baselines, missing_rows
from neurosim.reporting.walk import Walk, check_contexts, walk

CONTEXTS = (1, 128, 1024, 8192)
QUALITY_TOKENS = 256
FORMAT = "neurosim report 1"
Progress = Callable[[str, int, int], None]


def _quiet(stage: str, done: int, total: int) -> None:
    """No progress."""


def study(
    model: str | Path | LoadedModel = DEFAULT,
    chip: str | Path | ChipDescription = "ag_v2c_w",
    contexts: Sequence[int] = CONTEXTS,
    systems: Sequence[str] = ("chip", "loihi1", "digital_45nm"),
    twin: str | Path | LoadedModel = TWIN,
    seeds: Sequence[int] = (0, 1, 2),
    batch: int = 1,
    progress: Progress = _quiet,
) -> dict[str, Any]:
    """Everything the report says, in plain values; see docs/energy.md for the keys.

    Args:
        model: a spiking model folder or a loaded model.
        chip: the memristor chip: a name, a TOML file or a description.
        contexts: context lengths; beyond the trained one the spike rates of the last measured
            tokens are taken and the rows say so.
        systems: out of `neurosim.reporting.systems.SYSTEMS`.
        twin: the ANN twin's folder.
        seeds: chips to draw for the quality; energies are of the first.
            Digital and neuromorphic systems compute exactly: their counts are those of `ideal`.
        batch: texts decoded at once: they share fetched weights and static power.
        progress: called with (stage, done, total).

    Raises:
        ValueError: bad contexts or systems, a model that does not spike.
        UnpricedError: a system that lacks a price, with everything it lacks.
    """
    started = time.perf_counter()
    wanted = check_contexts(contexts)
    if not seeds or not systems or batch < 1:
        raise ValueError("expected at least one seed, one system and a batch of at least 1")
    fast_blas.enable()
    loaded = model if isinstance(model, LoadedModel) else load(model)
    opponent = twin if isinstance(twin, LoadedModel) else load(twin)
    description = chip if isinstance(chip, ChipDescription) else load_chip(chip)
    priced = [System(name, description) for name in dict.fromkeys(systems)]
    folded = spiking(loaded)
    network = folded.lower()
    trained = loaded.model.config.context
    text = token_stream(sample_documents(), loaded.tokenizer, 0)

    def counted(on: ChipDescription) -> Walk:
        tell = partial(progress, f"counting on {on.name}")
        return walk(network, on, text, wanted, trained, seed=seeds[0], tell=tell)

    walked = counted(description)
    exact = walked if description.computes_exactly else counted(load_chip("ideal"))
    stream = text[: QUALITY_TOKENS + 1]
    losses = token_losses(logits_of(folded), stream, trained)
    on_chip = {
        str(seed): chip_bits_per_byte(network, description, loaded, stream, seed, None, progress)
        for seed in ([] if description.computes_exactly else seeds)
    }
    levels = max(bank.levels for bank in network.of(NeuronBank) if isinstance(bank, NeuronBank))
    rows = baselines(opponent, stream, levels)
    walks = {system.name: walked if system.name == "chip" else exact for system in priced}
    decoded = {
        system.name: {
            c: system.price(walks[system.name], walks[system.name].decode(c), "decode", batch)
            for c in wanted
        }
        for system in priced
    }
    main = _main_context(wanted, trained)
    counts = walked.decode(main)
    return {
        "format": FORMAT,
        "boundary": {"counted": BOUNDARY, "excludes": list(EXCLUDES), "assumes": list(ASSUMES)},
        "kinds": {
            "counted": "spikes, synaptic operations, hops, state accesses, fetches: exact integers",
            "modelled": "every joule: a count times a price, or an integral of the simulator",
            "cited": "published numbers, each with its source",
            "measured": "bits per byte on the text, seconds of this run; no joule in this report",
        },
        "model": {
            "name": loaded.name,
            "sha256": loaded.sha256,
            "parameters": loaded.parameters,
            "tokenizer_sha256": loaded.tokenizer.sha256,
            "trained_context": trained,
            "multiplications_per_token": multiplies(network),
        },
        "chip": {
            "name": description.name,
            "evidence": description.evidence.weakest,
            "assumed": list(description.evidence.assumed),
            "flags": list(description.flags),
            **walked.placement.to_dict(),
        },
        "quality": {
            "text": "bundled sample, held out from training",
            "tokens": len(stream) - 1,
            "ideal_bits_per_byte": bits_per_byte(losses, stream[1:], loaded.tokenizer),
            "chip_bits_per_byte": on_chip,
        },
        "contexts": list(wanted),
        "main_context": main,
        "batch": batch,
        "tokens_per_decode_figure": walked.decoded,
        "systems": [
            _system(system, walks[system.name], decoded[system.name], wanted, main)
            for system in priced
        ],
        "baselines": [_baseline(row, description, wanted, batch) for row in rows],
        "baselines_missing": missing_rows(),
        "against": _against(decoded, rows, description, main, batch),
        "counts_per_token": counts.per_token(),
        "sites": site_rows(walked),
        "break_even": break_even_rows(exact, chip_prices(description.numbers()), "digital_45nm"),
        "verdicts": verdicts(walked, counts),
        "legacy": {
            "label": LEGACY,
            "context": main,
            **legacy_joules(network, counts, rows[0].sizes, main),
        },
        "consistency": _consistency(),
        "prices": price_list({name: by[main] for name, by in decoded.items()}),
        "seeds": list(seeds),
        "versions": versions(),
        "wall_s": time.perf_counter() - started,
    }


def _main_context(contexts: Sequence[int], trained: int) -> int:
    """The longest context that was measured; the shortest asked for if none was."""
    known = [context for context in contexts if context <= trained]
    return max(known) if known else min(contexts)


def _system(
    system: System,
    walked: Walk,
    decoded: dict[int, Breakdown],
    contexts: Sequence[int],
    main: int,
) -> dict[str, Any]:
    curve = []
    for context in contexts:
        prefill = system.price(walked, walked.prefill(context), "prefill")
        now = decoded[context]
        curve.append(
            {
                "context": context,
                "extrapolated": walked.extrapolated(context),
                "decode_J_per_token": now.total,
                "decode_seconds_per_token": now.seconds_per_token,
                "prefill_J_per_token": prefill.total,
                "prefill_J": prefill.total * context,
                "time_to_first_token_s": prefill.seconds_per_token * context,
            }
        )
    return {
        "key": system.name,
        "title": system.title,
        "what": WHAT[system.name],
        "kind": "modelled",
        "boundary": dict(BOUNDARIES[system.name]),
        "curve": curve,
        "main": plain(decoded[main]),
    }


def _baseline(
    row: Baseline, chip: ChipDescription, contexts: Sequence[int], batch: int
) -> dict[str, Any]:
    prices = accelerator_prices(chip_prices(chip.numbers()))
    curve = []
    for context in contexts:
        now, prefill = row.price(prices, context, None, batch), row.prefill(prices, context)
        curve.append(
            {
                "context": context,
                "decode_J_per_token": now.total,
                "decode_J_per_token_cache_in_dram": row.price(prices, context, "dram", batch).total,
                "decode_seconds_per_token": now.seconds_per_token,
                "prefill_J_per_token": prefill.total,
                "prefill_J": prefill.total * context,
                "time_to_first_token_s": prefill.seconds_per_token * context,
            }
        )
    return {
        **row.to_dict(),
        "system": "digital_45nm",
        "kind": "modelled",
        "boundary": dict(TWIN_BOUNDARY),
        "curve": curve,
    }


def _against(
    decoded: dict[str, dict[int, Breakdown]],
    rows: Sequence[Baseline],
    chip: ChipDescription,
    main: int,
    batch: int,
) -> list[dict[str, Any]]:
    """Each system beside each baseline: the ratio with its context, batch, band and movers."""
    prices = accelerator_prices(chip_prices(chip.numbers()))
    found = []
    for name, by_context in decoded.items():
        for row in rows:
            ours, theirs = by_context[main], row.price(prices, main, None, batch)
            found.append(
                {
                    "system": name,
                    "baseline": row.key,
                    "context": main,
                    "batch": batch,
                    "phase": "decode",
                    "ratio": theirs.total / ours.total,
                    "ratio_is": f"{row.title} / {name}: above 1 the spiking side needs less",
                    "ratio_without_static": (theirs.total - theirs.of("static"))
                    / (ours.total - ours.of("static")),
                    "uncertainty": uncertainty(ours, theirs),
                    "sensitivity": sensitivity(ours, theirs),
                }
            )
    return found


def _consistency() -> dict[str, Any]:
    row = Consistency()
    return {
        "what": "MatMul-free language model, 370M, 24 Loihi 2 chips, decode, 41.5 tokens/s",
        "label": row.label,
        "dynamic_J_per_token": row.dynamic,
        "static_J_per_token": row.static,
        "modelled_J_per_token": row.modelled,
        "measured_J_per_token": row.measured,
    }


__all__ = ["CONTEXTS", "SYSTEMS", "study"]
