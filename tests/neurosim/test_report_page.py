"""The page in a real browser: phone, desk and paper, light and dark; skipped without chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_cases import small_report

from neurosim.reporting.page import link_of, page

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no chromium to open the page with")
PROBE = """
<script>
window.addEventListener("load", () => {
  const found = {width: innerWidth, scroll: document.documentElement.scrollWidth, texts: 0,
                 overlaps: [], outside: [], focus: 0};
  for (const svg of document.querySelectorAll("svg")) {
    const frame = svg.getBoundingClientRect();
    const boxes = [...svg.querySelectorAll("text")].map(
      t => [t.textContent, t.getBoundingClientRect()]);
    found.texts += boxes.length;
    for (const [words, b] of boxes)
      if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.bottom > frame.bottom + 1
          || b.top < frame.top - 1) found.outside.push(words);
    for (let i = 0; i < boxes.length; i++) for (let j = 0; j < i; j++) {
      const [a, b] = [boxes[i][1], boxes[j][1]];
      const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (x > 1 && y > 3) found.overlaps.push(boxes[i][0] + " | " + boxes[j][0]);
    }
  }
  const reachable = document.querySelectorAll("a[href], summary");
  for (const e of reachable) { e.focus(); found.focus += document.activeElement === e; }
  found.wanted = reachable.length;
  document.body.setAttribute("data-probe", JSON.stringify(found));
});
</script></body>"""


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return small_report()


@pytest.fixture(scope="module")
def html(report: dict[str, Any]) -> str:
    return page(report)


def run_browser(*options: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    return subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)


def probe(html: str, width: int, folder: Path) -> tuple[dict[str, Any], str]:
    """What the page looks like in a window of this width, and what the browser complained of."""
    file, frame = folder / "page.html", folder / "frame.html"
    file.write_text(html.replace("</body>", PROBE))
    # chromium's own window has a least width, so that a phone is a frame in it
    frame.write_text(
        f'<iframe id="f" src="{file.name}" style="width:{width}px;height:900px;border:0"></iframe>'
        "<script>addEventListener('load', () => setTimeout(() => document.body.setAttribute("
        "'data-probe', document.getElementById('f').contentDocument.body.dataset.probe), 300))"
        "</script>"
    )
    done = run_browser(
        "--window-size=1600,1000",
        "--allow-file-access-from-files",
        "--virtual-time-budget=4000",
        "--enable-logging=stderr",
        "--dump-dom",
        frame.as_uri(),
    )
    match = re.search(r'data-probe="([^"]*)"', done.stdout)
    assert match is not None, done.stderr
    return json.loads(match.group(1).replace("&quot;", '"')), done.stderr


@needs_browser
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("dark", [False, True])
def test_nothing_overflows_or_overlaps(width: int, dark: bool, html: str, tmp_path: Path) -> None:
    if dark:
        html = html.replace("(prefers-color-scheme: dark)", "(min-width: 1px)")
    found, complaints = probe(html, width, tmp_path)
    assert found["width"] == width
    assert found["scroll"] <= width, "the page scrolls sideways"
    assert found["texts"] > 100
    assert found["outside"] == [] and found["overlaps"] == []
    assert found["focus"] == found["wanted"] > 5, "something cannot be reached by keyboard"
    assert "CONSOLE" not in complaints, complaints


@needs_browser
def test_it_prints(html: str, tmp_path: Path) -> None:
    file, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    file.write_text(html)
    run_browser(f"--print-to-pdf={pdf}", "--no-pdf-header-footer", file.as_uri())
    data = pdf.read_bytes()
    assert data.startswith(b"%PDF")
    pages = len(re.findall(rb"/Type\s*/Page[^s]", data))
    assert 3 <= pages <= 24  # a table squeezed beside its chart takes a page a row


NARROW = """
<script>
addEventListener("load", () => {
  const narrow = [...document.querySelectorAll("td, th")].filter(
    c => c.offsetHeight > 0 && c.textContent.length > 8 && c.clientWidth < 40).length;
  const right = e => e.getBoundingClientRect().right;
  const beyond = [...document.querySelectorAll("table")].filter(
    t => t.scrollWidth > t.clientWidth + 1 || right(t) > right(t.parentElement) + 1).length;
  document.body.setAttribute("data-narrow", JSON.stringify([narrow, beyond]));
});
</script></body>"""


def columns(html: str, width: int, folder: Path) -> list[int]:
    """Cells too narrow for their words, and tables wider than their place, details open."""
    file = folder / "columns.html"
    file.write_text(html.replace("<details>", "<details open>").replace("</body>", NARROW))
    done = run_browser(f"--window-size={width},1000", "--dump-dom", file.as_uri())
    match = re.search(r'data-narrow="([^"]*)"', done.stdout)
    assert match is not None, done.stderr
    found: list[int] = json.loads(match.group(1))
    return found


@needs_browser
@pytest.mark.parametrize("width", [760, 1000, 1440])
@pytest.mark.parametrize("paper", [False, True])
def test_no_column_is_squeezed(width: int, paper: bool, html: str, tmp_path: Path) -> None:
    if paper:
        html = html.replace("@media print", "@media all")
    assert columns(html, width, tmp_path) == [0, 0]


@needs_browser
def test_squeezed_columns_and_wide_tables_are_seen(html: str, tmp_path: Path) -> None:
    anywhere = html.replace("overflow-wrap: break-word", "overflow-wrap: anywhere")
    squeezed = anywhere.replace("collapse; width: 100%", "collapse; width: 90px")
    wide = html.replace("collapse; width: 100%", "collapse; width: 120%")
    assert len({html, anywhere, squeezed, wide}) == 4
    assert columns(squeezed, 1000, tmp_path)[0] > 0
    assert columns(wide, 1000, tmp_path)[1] > 0


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def parsed(html: str) -> _Page:
    found = _Page()
    found.feed(html)
    return found


def test_one_file_without_scripts_or_requests(parsed: _Page, html: str) -> None:
    for tag, attributes in parsed.tags:
        assert tag not in ("script", "iframe", "img", "object")
        assert not str(attributes.get("src", "")).startswith("http")
        if tag == "link":
            assert attributes["href"] == "data:,"
    assert "url(" not in html and "@import" not in html


def test_every_chart_has_a_name_and_every_axis_a_unit(parsed: _Page, html: str) -> None:
    charts = [attributes for tag, attributes in parsed.tags if tag == "svg"]
    assert len(charts) >= 8
    names = {attributes["id"] for _, attributes in parsed.tags if attributes.get("id")}
    for chart in charts:
        assert all(part in names for part in str(chart["aria-labelledby"]).split())
    for label in (
        "energy per decoded token (J)",
        "context (tokens)",
        "dynamic energy per decoded token (J)",
        "spikes per channel and time step (1)",
        "input spike rate per time step (1)",
        "energy ratio, baseline / system (1)",
    ):
        assert f">{label}<" in html


def test_the_page_says_what_it_must(parsed: _Page, report: dict[str, Any]) -> None:
    words = " ".join(" ".join(parsed.words).split())
    for part in (
        report["boundary"]["counted"],
        "bits per byte in exact integers",
        "Legacy line, not comparable",
        "fitted: the static power is chosen",
        "not printed: the same network with continuous neurons",
        *report["chip"]["flags"],
    ):
        assert part in words, part
    for row in report["prices"]:
        assert row["source"] in words


@needs_browser
def test_the_probe_sees_what_is_too_large(html: str, tmp_path: Path) -> None:
    """The check of the layout can fail: larger letters overlap and leave their charts."""
    large = html.replace("svg text { font-size: 10.5px;", "svg text { font-size: 24px;")
    assert large != html
    found = probe(large, 390, tmp_path)[0]
    assert found["outside"] and found["overlaps"]


def test_text_from_outside_is_escaped() -> None:
    report = small_report()
    report["model"]["name"] = "<script>alert(1)</script>"
    assert "<script>alert" not in page(report)


def test_links_of_sources() -> None:
    assert link_of("Horowitz, ISSCC 2014").endswith("ISSCC.2014.6757323")  # type: ignore[union-attr]
    assert link_of("design choice") is None
