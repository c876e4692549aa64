"""The report as one self-contained page: no script, no network, light and dark, phone and paper."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from neurosim.energy.units import joules, percent, times, with_unit
from neurosim.reporting import charts
from neurosim.reporting.check import check_report
from neurosim.reporting.tables import (
    answer,
    boundary_rows,
    context_rows,
    prefill_rows,
    quality_of,
    title_of,
)

TEMPLATE = Path(__file__).with_name("page.html.jinja")
LINKS = {
    "2409.08290": "https://arxiv.org/abs/2409.08290",
    "2210.13107": "https://arxiv.org/abs/2210.13107",
    "Horowitz": "https://doi.org/10.1109/ISSCC.2014.6757323",
    "Jouppi": "https://doi.org/10.1109/ISCA52012.2021.00010",
    "Davies": "https://doi.org/10.1109/MM.2018.112130359",
    "Frady": "https://arxiv.org/abs/2004.12691",
    "Shafiee": "https://doi.org/10.1109/ISCA.2016.12",
    "Moitra": "https://arxiv.org/abs/2210.12899",
    "Wan et al": "https://doi.org/10.1038/s41586-022-04992-8",
    "Lemaire": "https://arxiv.org/abs/2210.13107",
}
"""Words of a source -> where it is found."""


def link_of(source: str) -> str | None:
    """The link of the first known work that a source names."""
    found = [(source.index(words), link) for words, link in LINKS.items() if words in source]
    return min(found)[1] if found else None


def _columns(*names: str) -> list[dict[str, Any]]:
    """Column heads; a trailing > aligns to the right."""
    return [{"name": name.rstrip(">"), "right": name.endswith(">")} for name in names]


def page(report: Mapping[str, Any]) -> str:
    """The whole page; ValueError for a report that may not be shown (`check_report`)."""
    check_report(report)
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(**_values(report)) + "\n"


def _values(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the template needs: texts, rows and charts."""
    model, chip = report["model"], report["chip"]
    first = report["systems"][0]["key"]
    nearest = min(
        (row for row in report["against"] if row["system"] == first), key=lambda row: row["ratio"]
    )
    marks = {
        point["context"]: "*" if point["extrapolated"] else ""
        for point in report["systems"][0]["curve"]
    }
    legacy = report["legacy"]
    return {
        "report": report,
        "title": f"What a token costs: {model['name']} on {chip['name']}",
        "subtitle": (
            f"{model['parameters'] / 1e6:.2f} M parameters, weights sha256 {model['sha256'][:12]}, "
            f"{model['multiplications_per_token']} multiplications a token between embedding and "
            f"logits; {chip['tiles']} tiles, {chip['windows_per_token']} windows a token"
        ),
        "answer": answer(report),
        "boundaries": boundary_rows(report),
        "quality": quality_of(report),
        "extrapolated": any(marks.values()),
        "context_columns": _columns(
            "", "bits/byte>", *(f"context {c}{marks[c]}>" for c in report["contexts"])
        ),
        "context_rows": [
            [row["row"], row["bits_per_byte"], *(joules(j) for j in row["joules"])]
            for row in context_rows(report)
        ],
        "prefill_columns": _columns(
            "system", "context>", "J per prompt token>", "J per prompt>", "first token after>"
        ),
        "prefill_rows": [
            [
                row["row"],
                f"{row['context']}{marks[row['context']]}",
                joules(row["prefill_J_per_token"]),
                joules(row["prefill_J"]),
                with_unit(row["time_to_first_token_s"], "s"),
            ]
            for row in prefill_rows(report)
        ],
        "systems": [_system(system, i) for i, system in enumerate(report["systems"])],
        "breakdown_columns": _columns("layer", "mechanism", "energy>"),
        "against_columns": _columns(
            "system", "baseline", "context>", "ratio>", "5 to 95 %>", "without static>"
        ),
        "against_rows": [
            [
                row["system"] if row["system"] != "chip" else chip["name"],
                title_of(report, row["baseline"]),
                row["context"],
                times(row["ratio"]),
                " to ".join(times(row["uncertainty"]["ratio"][p]) for p in ("p5", "p95")),
                times(row["ratio_without_static"]),
            ]
            for row in report["against"]
        ],
        "verdict_columns": _columns(
            "threshold", "limit (cited)>", "counted here>", "unit", "steps>", "met", "source"
        ),
        "verdict_rows": [
            [
                row["name"],
                f"{row['limit']:.3g}",
                f"{row['measured']:.3g}",
                row["unit"],
                row["steps"] or "any",
                "yes" if row["below"] else "no",
                row["source"],
            ]
            for row in report["verdicts"]
        ],
        "break_even_columns": _columns(
            "crossbar",
            "steps>",
            "measured>",
            "fetched each step>",
            "fetched once>",
            "ANN skips zeros>",
            "arithmetic only>",
        ),
        "break_even_rows": [
            [row["crossbar"], row["steps"]]
            + [
                f"{row[key]:.3f}"
                for key in (
                    "measured_rate",
                    "break_even_rate",
                    "break_even_rate_shared",
                    "break_even_rate_skipping",
                    "break_even_rate_compute_only",
                )
            ]
            for row in report["break_even"]
        ],
        "site_columns": _columns("site", "least>", "median>", "most>", "silent>", "always on>"),
        "site_rows": [
            [
                row["site"],
                f"{row['rate_min']:.3f}",
                f"{row['rate_median']:.3f}",
                f"{row['rate_max']:.3f}",
                percent(row["silent_share"]),
                percent(row["always_on_share"]),
            ]
            for row in report["sites"]
        ],
        "count_columns": _columns("count", "per token>"),
        "count_rows": [
            [name.replace("_", " "), f"{value:,.1f}"]
            for name, value in report["counts_per_token"].items()
            if value
        ],
        "charts": {
            "by_context": Markup(charts.by_context(report)),
            "spike_rates": Markup(charts.spike_rates(report["sites"])),
            "break_even": Markup(charts.break_even(report["break_even"])),
            "sensitivity": Markup(charts.sensitivity(nearest)),
        },
        "sensitivity_title": f"{title_of(report, nearest['baseline'])} over "
        f"{report['systems'][0]['title']}, decode, context {nearest['context']}, batch "
        f"{nearest['batch']}",
        "legacy": (
            f"Legacy line, not comparable with anything above ({legacy['label']}): spiking "
            f"{joules(legacy['spiking_J'])}, ANN twin {joules(legacy['ann_twin_J'])} at context "
            f"{legacy['context']}, batch {report['batch']}."
        ),
        "consistency": _consistency(report["consistency"]),
        "measured": _measured(report.get("measured")),
        "prices": [_price(row, chip["name"]) for row in report["prices"]],
        "reproduce": _reproduce(report),
    }


def _reproduce(report: Mapping[str, Any]) -> str:
    """The command and the versions behind the numbers."""
    contexts, seeds = (map(str, report[key]) for key in ("contexts", "seeds"))
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    return (
        f"neurosim report --chip {report['chip']['name']} --contexts {','.join(contexts)} --seeds "
        f"{' '.join(seeds)}; versions {versions}; tokenizer sha256 "
        f"{report['model']['tokenizer_sha256'][:12]}; {report['wall_s']:.0f} s."
    )


def _system(system: Mapping[str, Any], index: int) -> dict[str, Any]:
    return {
        "title": system["title"],
        "what": system["what"],
        "static": percent(system["main"]["static_share"]),
        "shares": Markup(charts.shares(system, f"shares-{index}")),
        "by_layer": Markup(charts.by_layer(system, f"layers-{index}")),
        "sankey": Markup(charts.sankey(system, f"sankey-{index}", with_static=True)),
        "sankey_dynamic": Markup(charts.sankey(system, f"flows-{index}", with_static=False)),
        "rows": [
            [layer, mechanism, joules(value)]
            for layer, parts in system["main"]["by_layer_and_mechanism_J"].items()
            for mechanism, value in parts.items()
            if value > 0
        ],
    }


def _consistency(row: Mapping[str, Any]) -> str:
    return (
        f"Consistency, {row['what']}: {joules(row['dynamic_J_per_token'])} dynamic and "
        f"{joules(row['static_J_per_token'])} static make {joules(row['modelled_J_per_token'])} a "
        f"token; measured {joules(row['measured_J_per_token'])}. It is {row['label']}."
    )


def _measured(found: Mapping[str, Any] | None) -> str | None:
    if found is None:
        return None
    net, idle = found["net_J_per_token"], sum(found["idle_W"].values())
    return (
        f"{joules(net['median'])} a token ({joules(net['p5'])} to {joules(net['p95'])}, "
        f"{found['repeats']} repeats) above an idle power of {idle:.2f} W; "
        f"{joules(found['with_idle_J_per_token'])} with it. Boundary: {found['boundary']}. "
        f"Machine: {found['machine']}. It is never compared with the modelled joules above."
    )


def _price(row: Mapping[str, Any], chip: str) -> dict[str, Any]:
    unit = "" if row["unit"] == "1" else row["unit"]
    system = chip if row["system"] == "chip" else row["system"]
    band = row["band"]
    return {
        "name": f"{row['name'].replace('_', ' ')} ({system})",
        "value": with_unit(row["value"], unit) if unit else f"{row['value']:g}",
        "band": " to ".join(with_unit(v, unit) if unit else f"{v:g}" for v in band) if band else "",
        "evidence": row["evidence"],
        "source": row["source"],
        "link": link_of(row["source"]),
    }
