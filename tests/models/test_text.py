"""Texts: cleaning, readers of each format, titles to splits, the sample; no network."""

from __future__ import annotations

import bz2
import gzip
import unicodedata
from pathlib import Path

import pytest

from neurosim.models.text import corpus
from neurosim.models.text.cleaning import (
    Document,
    clean,
    normalise,
    read_foldoc,
    read_gensim_wiki,
    read_wordnet,
    tidy_brackets,
)
from neurosim.models.text.corpus import load_split, sample_documents, split_of, unique
from neurosim.models.text.wikitext import plain_text

LONG = "is long enough to be kept as a document of its own."


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("a\u0301", "\u00e1"),
        ("one\x00\x07 two\x7f", "one two"),
        ("  a \t b\u00a0\u2009c ", "a b c"),
        ("a\r\n\n\n  b\n", "a\nb"),
        ("so\u00adft\u200b\ufeff", "soft"),
        ("", ""),
    ],
)
def test_normalise(raw: str, expected: str) -> None:
    assert normalise(raw) == expected
    assert normalise(expected) == expected


def test_tidy_brackets() -> None:
    assert tidy_brackets("Albedo (; ) is, A (, , born 1900; ) was (x).") == (
        "Albedo is, A (born 1900) was (x)."
    )


def test_clean_drops_short_empty_and_repeated() -> None:
    pairs = [("A", "A " + LONG), ("B", "too short"), ("", "no title " + LONG), ("C", "A  " + LONG)]
    assert list(clean(pairs, "s")) == [Document("A", "A " + LONG, "s")]


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        (
            "'''Tin''' is a [[metal]] of ''[[Europe|Europe's]]'' past.",
            "Tin is a metal of Europe's past.",
        ),
        ("A<ref name=x>B [[C]]</ref> D<ref name=y/> E<!-- F -->.", "A D E."),
        (
            "It is {{convert|5|km|mi|0}} long{{citation needed|date={{CURRENTYEAR}}}}.",
            "It is 5 km long.",
        ),
        ("{{Infobox|a=[[b]]|c={{d|e}}}}\nText {{lang|de|Wort}}.", "Text Wort."),
        ("{|\n| cell {| inner |}\n|}\nAfter.", "After."),
        ("[[File:a.jpg|thumb|200px|A [[cat]] [http://x.y on] a mat]]Text.", "Text."),
        ("See [http://example.org/a?b the page] and [http://example.org].", "See the page and ."),
        ("[[de:Zinn]]Text[[Category:Metals]].", "Text."),
        (
            "One.\n== Uses ==\n* item\n# item\n: indented\nTwo.\n== See also ==\nThree.",
            "One.\nTwo.",
        ),
        ("With a formula <math>x^2</math> here.\nWithout one.", "Without one."),
        ("a&nbsp;b &lt; c&amp;ndash;d<br />e__NOTOC__", "a\xa0b < c–d e"),
        ("open {{ brace and [[ link", "open {{ brace and  link"),
    ],
)
def test_wikitext(markup: str, expected: str) -> None:
    assert plain_text(markup) == expected


def test_mediawiki_export(tmp_path: Path) -> None:
    page = "<page><title>{}</title><ns>{}</ns>{}<revision><text>{}</text></revision></page>"
    prose = "'''Tin''' is a soft metal that melts easily and has been worked since early times."
    pages = [("Tin", 0, "", prose + "\n* list"), ("Talk:Tin", 1, "", prose)]
    pages.append(("Stannum", 0, '<redirect title="Tin" />', "#REDIRECT [[Tin]]"))
    body = "".join(page.format(*p) for p in pages)
    xml = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{body}</mediawiki>'
    path = tmp_path / "dump.bz2"
    path.write_bytes(bz2.compress(xml.encode()))
    assert list(read_gensim_wiki([path])) == [("Tin", prose.replace("'''", ""))]


def test_wordnet_lines(tmp_path: Path) -> None:
    path = tmp_path / "data.noun"
    path.write_text(
        "  1 licence text\n"
        '00000001 03 n 02 soft_metal 0 tin 1 001 @ 00000002 n 0000 | a metal; "made of it"  \n'
        "00000003 00 s 01 tinny(p) 0 000 | like tin  \n"
    )
    assert list(read_wordnet([path])) == [
        ("soft metal", 'soft metal: a metal; "made of it"'),
        ("tinny", "tinny: like tin"),
    ]


def test_foldoc_entries(tmp_path: Path) -> None:
    path = tmp_path / "f.dict.dz"
    text = (
        "widget\n\n   <jargon> A {thing} of\n   {some kind (http://example.org/)}, in use.\n\n"
        "   1. <first> One sense that is meant here.\n\n       +----+\n\n"
        "   [{Source}].\n\n   (1999-01-02)\n\n"
        "alias one%%%alias two\n\n   See {widget} and others.\n"
    )
    path.write_bytes(gzip.compress(text.encode()))
    assert [pair for pair in read_foldoc([path]) if pair[0]] == [
        ("widget", "A thing of some kind, in use.\n1. One sense that is meant here."),
        ("alias one", "See widget and others."),
    ]


def test_split_of_a_title() -> None:
    title = "Café  Müller"
    for same in ("CAFÉ MÜLLER", " café müller", unicodedata.normalize("NFD", title)):
        assert split_of(same) == split_of(title)
    counts = dict.fromkeys(corpus.SPLITS, 0)
    for i in range(20_000):
        counts[split_of(f"Title {i}")] += 1
    for split in ("validation", "test"):  # 3 %: 600 with a standard deviation of 24
        assert 500 < counts[split] < 700


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match="expected a split of train, validation, test, got 'dev'"):
        load_split("dev")


def test_unique_keeps_the_first() -> None:
    documents = [Document("A", "x"), Document("B", "y"), Document("C", "x")]
    assert [d.title for d in unique(documents)] == ["A", "B"]


def test_sample_ships() -> None:
    documents = sample_documents()
    assert 12 <= len(documents) <= 15
    assert 5_000 < sum(len(d.text) for d in documents) < 7_000
    assert len({d.title for d in documents}) == len(documents)
    for document in documents:
        assert normalise(document.text) == document.text
        assert document.title.casefold().rstrip("s") in document.text[:60].casefold()
