"""From the files of a package to documents: one reader per source, and the rules common to all."""

from __future__ import annotations

import bz2
import gzip
import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from neurosim.models.text.sources import Source
from neurosim.models.text.wikitext import plain_text

CLEANING_VERSION = 1  # part of the manifest: a change here makes cached texts be built again
MINIMUM_CHARACTERS = 40
_SHORT_PARAGRAPH = 60

_EMPTY_BRACKETS = re.compile(r"\s?\(\s*(?:[;,/]\s*)*\)")
_BRACKET_START = re.compile(r"\(\s*(?:[;,]\s*)+")
_BRACKET_END = re.compile(r"(?:\s*[;,])+\s*\)")
_SPACE = re.compile(r"[^\S\n]+")
# Control and format characters (Unicode Cc and the common Cf), line feed excepted.
_CONTROL = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]"
)
_BEFORE_PUNCTUATION = re.compile(r" +([,.;:?!](?=\s|$))")


@dataclass(frozen=True)
class Document:
    """A text with its title; paragraphs are separated by a line feed."""

    title: str
    text: str
    source: str = ""


def normalise(text: str) -> str:
    """NFC, no control characters, single spaces, no empty lines."""
    text = unicodedata.normalize("NFC", text).replace("\r", "\n")
    text = _CONTROL.sub("", _SPACE.sub(" ", text))
    lines = (line.strip() for line in _SPACE.sub(" ", text).split("\n"))
    return "\n".join(line for line in lines if line)


def tidy_brackets(text: str) -> str:
    """Remove what is left of a bracket once pronunciations and foreign scripts are gone."""
    text = _EMPTY_BRACKETS.sub("", text)
    text = _BRACKET_END.sub(")", _BRACKET_START.sub("(", text))
    return _BEFORE_PUNCTUATION.sub(r"\1", text)


def read_vital(files: list[Path]) -> Iterator[tuple[str, str]]:
    """JSON object, title -> {title, extract, description, topic}."""
    for title, entry in json.loads(files[0].read_text(encoding="utf-8")).items():
        yield title, tidy_brackets(entry["extract"])


# The file has one article a line and no titles: these are the subjects, in its order.
_WIKI_DEMO_TITLES = (
    "Anarchism",
    "Autism",
    "Albedo",
    "A",
    "Alabama",
    "Achilles",
    "Abraham Lincoln",
    "Aristotle",
    "An American in Paris",
    "Academy Award for Best Production Design",
    "Academy Awards",
    "Actresses",
    "Animalia",
    "International Atomic Time",
    "Altruism",
    "Ayn Rand",
    "Alain Connes",
    "Allan Dwan",
    "Algeria",
    "List of Atlas Shrugged characters",
    "Anthropology",
    "Agricultural science",
    "Alchemy",
    "Alien",
    "Astronomer",
    "ASCII",
    "Austin",
    "Animation",
    "Apollo",
    "Andre Agassi",
)
_GLUED_SENTENCE = re.compile(r"(?<=[a-z0-9)\"”])\.(?=[A-Z][a-zA-Z ])")
_GLUED_HEADING = re.compile(
    r"^(?:[A-Z][\w,'’–\- ]{1,58} [a-z]{3,}|[A-Z][a-z]{4,})(?=[A-Z][a-z]* )", re.M
)


def read_wiki_demo(files: list[Path]) -> Iterator[tuple[str, str]]:
    """One article a line; paragraph ends and headings are glued to what follows."""
    lines = [line for line in files[0].read_text(encoding="utf-8").split("\n") if line.strip()]
    for title, line in zip(_WIKI_DEMO_TITLES, lines, strict=True):
        paragraphs = _GLUED_SENTENCE.sub(".\n", line)
        yield title, tidy_brackets(_GLUED_HEADING.sub("", paragraphs))


def read_gensim_wiki(files: list[Path]) -> Iterator[tuple[str, str]]:
    """MediaWiki export, bzip2: articles of the main name space that are not redirects."""
    with bz2.open(files[0]) as stream:
        for _, element in ElementTree.iterparse(stream):
            if element.tag.rpartition("}")[2] != "page":
                continue
            page = {child.tag.rpartition("}")[2]: child for child in element.iter()}
            if page["ns"].text == "0" and "redirect" not in page:
                text = tidy_brackets(plain_text(page["text"].text or ""))
                prose = [p for p in text.split("\n") if len(p) >= _SHORT_PARAGRAPH]
                yield page["title"].text or "", "\n".join(prose)
            element.clear()


def read_wordnet(files: list[Path]) -> Iterator[tuple[str, str]]:
    """`offset lex type count(hex) word lex_id ... | gloss`: one document a sense, "word: gloss"."""
    for path in files:
        for line in path.read_text(encoding="utf-8").split("\n"):
            if not line or line.startswith(" "):
                continue
            fields, _, gloss = line.partition(" | ")
            word = fields.split(" ")[4].replace("_", " ")
            word = re.sub(r"\((?:a|p|ip)\)$", "", word)
            yield word, f"{word}: {gloss.strip()}"


_FOLDOC_LINK = re.compile(r"\{([^{}]*?)\s*\((?:https?:|ftp:|mailto:|/)?[^{}()]*\)\}")
_FOLDOC_REFERENCE = re.compile(r"\{([^{}]*)\}")
_FOLDOC_LABEL = re.compile(r"(?:^|(?<=\d\. ))<[^<>]*>\s*")
_FOLDOC_ASIDE = re.compile(
    r"\(\d{4}(?:-\d\d?){0,2}\)|\[[^\[\]]*\]\.?|\{[^{}]*\}\.?|[Ss]ee (?:also )?\{[^{}]*\}\."
)
_FOLDOC_ADDRESS = re.compile(r"<?(?:https?|ftp)://\S+|<[^<>\s]+@[^<>\s]+>|\([^()\s]+\.html\)")


def _foldoc_paragraph(lines: list[str]) -> str:
    """One paragraph of an entry unwrapped, or "" where it is a drawing, a table or a bare link."""
    indents = [len(line) - len(line.lstrip(" ")) for line in lines]
    body = [line.strip() for line in lines]
    if max(indents) > 5 or any("\t" in line or re.search(r"\S {3,}\S", line) for line in lines):
        return ""
    text = " ".join(body)
    if _FOLDOC_ASIDE.fullmatch(text):
        return ""
    text = _FOLDOC_LABEL.sub("", text)
    text = _FOLDOC_REFERENCE.sub(r"\1", _FOLDOC_LINK.sub(r"\1", text))
    text = _FOLDOC_ADDRESS.sub("", text)
    return text if len(text) >= 20 else ""


def read_foldoc(files: list[Path]) -> Iterator[tuple[str, str]]:
    """dictd text: head words in the first column, then paragraphs indented by three spaces."""
    text = gzip.decompress(files[0].read_bytes()).decode("utf-8")
    title, paragraphs = "", list[str]()
    for block in re.split(r"\n[ \t]*\n", text):
        lines = [line for line in block.split("\n") if line.strip()]
        if not lines:
            continue
        if lines[0].startswith((" ", "\t")):
            paragraphs.append(_foldoc_paragraph(lines))
            continue
        yield title, "\n".join(p for p in paragraphs if p)
        title, paragraphs = lines[0].partition("%%%")[0].strip(), []
    yield title, "\n".join(p for p in paragraphs if p)


READERS: dict[str, Callable[[list[Path]], Iterator[tuple[str, str]]]] = {
    "vital": read_vital,
    "wiki_demo": read_wiki_demo,
    "gensim_wiki": read_gensim_wiki,
    "wordnet": read_wordnet,
    "foldoc": read_foldoc,
}


def clean(pairs: Iterable[tuple[str, str]], source: str) -> Iterator[Document]:
    """Normalised documents: no empty title, none under 40 characters, no text twice."""
    seen: set[str] = set()
    for raw_title, raw_text in pairs:
        title, text = normalise(raw_title).replace("\n", " "), normalise(raw_text)
        if title and len(text) >= MINIMUM_CHARACTERS and text not in seen:
            seen.add(text)
            yield Document(title, text, source)


def read(source: Source, directory: Path) -> Iterator[Document]:
    """The cleaned documents of a source whose files lie under `directory`."""
    files = [directory / file.path for file in source.files]
    return clean(READERS[source.name](files), source.name)
