"""MediaWiki markup to plain paragraphs: as much of the language as encyclopaedic prose needs."""

from __future__ import annotations

import html
import re

_COMMENT = re.compile(r"<!--.*?-->", re.S)
_REFERENCE = re.compile(r"<ref\b[^<>]*/>|<ref\b[^<>]*>.*?</ref\s*>", re.S | re.I)
_BLOCK = re.compile(
    r"<(gallery|timeline|source|syntaxhighlight|poem|table|imagemap|chem|score)\b[^>]*>.*?</\1\s*>",
    re.S | re.I,
)
_MATHEMATICS = re.compile(r"<math\b[^>]*>.*?</math\s*>", re.S | re.I)
_BREAK = re.compile(r"<br\s*/?>", re.I)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_TEMPLATE = re.compile(r"\{\{([^{}]*)\}\}")
_TABLE = re.compile(r"\{\|(?:(?!\{\||\|\}).)*\|\}", re.S)
_LINK = re.compile(r"\[\[([^\[\]|]*)(?:\|([^\[\]]*))?\]\]")
_EXTERNAL = re.compile(r"\[(?:https?:|ftp:|//)[^\s\]]*\s*([^\]]*)\]")
_HEADING = re.compile(r"^\s*(=+)\s*(.*?)\s*=+\s*$")
_MAGIC_WORD = re.compile(r"__[A-Z]+__")
_CONVERT = re.compile(r"([\d.,]+)")
_LAST_SECTIONS = frozenset(
    (
        "see also",
        "references",
        "external links",
        "further reading",
        "notes",
        "bibliography",
        "footnotes",
        "sources",
        "citations",
        "notes and references",
        "works cited",
        "works",
        "discography",
        "filmography",
    )
)
_FORMULA_MARK = "\x00"
# Templates whose last positional argument is the text itself.
_TEXT_TEMPLATES = frozenset(
    ("lang", "nowrap", "transl", "small", "smallcaps", "sic", "abbr", "nobr", "nihongo")
)


def _template(match: re.Match[str]) -> str:
    """What a template shows: the text of a few, number and unit of {{convert}}, else nothing."""
    name, *arguments = [part.strip() for part in match.group(1).split("|")]
    name = name.lower()
    positional = [a for a in arguments if "=" not in a]
    if name in ("convert", "cvt") and len(positional) >= 2 and _CONVERT.fullmatch(positional[0]):
        return f"{positional[0]} {positional[1]}"
    if (name in _TEXT_TEMPLATES or name.startswith("lang-")) and positional:
        return positional[-1] if name != "abbr" else positional[0]
    return "–" if name in ("ndash", "spaced ndash", "snd") else ""


def _link(match: re.Match[str]) -> str:
    """The words a link shows; nothing for pictures, categories and other languages."""
    target, label = match.group(1), match.group(2)
    if re.match(r"\s*(?:file|image|category)\s*:", target, re.I):
        return ""
    if label is not None:
        return label
    return "" if re.match(r"\s*:?[a-z\-]{2,12}:", target) else target.lstrip(":")


def _until_stable(pattern: re.Pattern[str], replacement: object, text: str) -> str:
    """Replace the innermost matches until none is left (nested templates, tables and files)."""
    count = 1
    while count:
        text, count = pattern.subn(replacement, text)  # type: ignore[call-overload]
    return text


def _is_prose(line: str) -> bool:
    """Whether a line of markup is running text, not a list item, a table row or a formula."""
    return bool(line) and line[0] not in "*#:;|!{}=" and _FORMULA_MARK not in line


def plain_text(markup: str) -> str:
    """Running text of an article in MediaWiki markup, one paragraph a line.

    Lists, tables, formulas, references, pictures and the sections after the prose ("See also",
    "References", ...) are dropped; headings too.
    """
    text = _COMMENT.sub("", markup)
    text = _REFERENCE.sub("", text)
    text = _BLOCK.sub("", text)
    text = _MATHEMATICS.sub(_FORMULA_MARK, text)
    text = _until_stable(_TEMPLATE, _template, text)
    text = _until_stable(_TABLE, "", text)
    text = _EXTERNAL.sub(r"\1", text)
    text = _until_stable(_LINK, _link, text).replace("[[", "").replace("]]", "")
    text = _BREAK.sub(" ", text)
    text = _TAG.sub("", text)
    text = _MAGIC_WORD.sub("", text)
    text = html.unescape(html.unescape(text)).replace("'''", "").replace("''", "")
    paragraphs = []
    for line in text.split("\n"):
        heading = _HEADING.match(line)
        if heading:
            if len(heading.group(1)) == 2 and heading.group(2).lower() in _LAST_SECTIONS:
                break
            continue
        line = line.strip(" \t")
        if _is_prose(line):
            paragraphs.append(line)
    return "\n".join(paragraphs)
