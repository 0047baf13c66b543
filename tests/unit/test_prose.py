"""The project's sentences: American spelling, and none of the phrases that readers stumble over.

README, contributing guide, changelog, docs, notebooks, configuration, sweep files, and in the package docstrings,
comments and texts. A phrase may run over the end of a line.
"""

import json
import re
import tokenize
from collections.abc import Iterator
from io import StringIO
from itertools import product
from pathlib import Path

import pytest
from support import ROOT

FILES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "notebooks/*.ipynb", "train.sbatch"),
    *("conf/**/*.yaml", "sweeps/*", "src/textrnn/**/*.py", "src/textrnn/**/*.[ch]"),
)

PHRASES = {
    "come to": "give, reach, result in",
    "comes to": "gives, reaches, results in",
    "came to": "gave, reached, resulted in",
    "is told": "is reported, learns",
    "are told": "are reported, learn",
    "be told": "be reported, learn",
    "tell of": "show",
    "tells of": "shows",
    "tells whether": "shows whether",
    "tells how": "shows how",
    "tells that": "shows that",
    "is no number": "is NaN, is not a number",
    "are no numbers": "are NaN, are not numbers",
    "the way of": "the data pipeline, the path of",
    "go on": "continue",
    "goes on": "continues",
    "going on": "continuing",
    "gone on": "continued",
    "went on": "continued",
    "is what is": "is",
    "to look at it": "view",
    "brings w&b": "uploads to W&B",
    "of its time": "from then",
    "of the time when": "from when",
    "hands out": "passes, returns",
    "handed out": "passed, returned",
    "hands on": "passes on",
    "handed on": "passed on",
    "gives back": "returns",
    "gives it back": "returns it",
    "let go of": "released",
    "stands in": "is in, replaces",
    "stands at": "is at",
    "stands still": "doesn't change",
    "stands beside": "is beside",
    "stands behind": "follows",
    "stands there": "is there",
    "whoever": "a user who, a process that",
    "be had": "be obtained",
    "held against": "compared with",
    "under way": "running, in progress",
    "at hand": "current",
    "there are not": "missing",
    "anew": "again",
    "hear of": "receive",
    "hears of": "receives",
    "is no accident": "is not by chance",
    "is no file": "is not a file",
    "is no mapping": "is not a mapping",
    "is no model": "is not a model",
    "is no name": "is not a name",
    "is no part": "is not part",
    "is no path": "is not a path",
    "is no run": "is not a run",
    "is no word": "is not a word",
    "left aside": "ignored",
    "not whole": "damaged, incomplete",
    "rooms": "packages",
    **{
        f"{count} a {unit}": f"{count} per {unit}"
        for count, unit in product(
            ("one", "bytes", "numbers", "processes", "threads"),
            ("core", "device", "gpu", "group", "layer", "line", "node", "rank", "review", "run", "seed", "step"),
        )
    },
    "one a worker": "one per worker",
    "numbers a word": "components per word",
}
"""Phrase: what to write instead. A phrase that ends in * stands for all words with this beginning."""

SPELLINGS = {
    **{f"{stem}our*": f"{stem}or" for stem in ("behavi", "col", "fav", "flav", "hon")},
    **{
        f"{stem}is{ending}*": f"{stem}iz{ending}"
        for stem, ending in product(
            (
                *("emphas", "factor", "final", "general", "initial", "maxim", "minim", "normal", "optim", "organ"),
                *("parallel", "penal", "quant", "random", "recogn", "regular", "serial", "special", "standard"),
                *("summar", "synchron", "token", "util", "vector", "visual"),
            ),
            ("e", "ing", "ation"),
        )
    },
    "analyse": "analyze",
    "analysed": "analyzed",
    "analysing": "analyzing",
    "artefact*": "artifact",
    "centre*": "center",
    "defence": "defense",
    "grey*": "gray",
    "judgement": "judgment",
    "labelled": "labeled",
    "labelling": "labeling",
    "learnt": "learned",
    "licence*": "license",
    "modelled": "modeled",
    "modelling": "modeling",
    "neighbouring": "adjacent",
    "signalled": "signaled",
    "whilst": "while",
}

INSTEAD = PHRASES | SPELLINGS
BREAK = r'(?: +| *"? *\n[ #*]*(?:f?")?)'
"""Between two words of a phrase: spaces, or the end of a line of prose, of a comment or of a text in several parts."""

PATTERNS = {phrase: re.compile(BREAK.join(phrase.rstrip("*").split())) for phrase in INSTEAD}
"""For a text in small letters; without \\b, which would make the search slow."""


def places(text: str, *, in_python: bool = False) -> Iterator[str]:
    """Each forbidden phrase of a text: its line, and what to write instead; of Python only comments and texts."""
    small = text.lower()
    found = sorted(
        (match.start(), phrase)
        for phrase, pattern in PATTERNS.items()
        if all(word in small for word in phrase.rstrip("*").split())
        for match in pattern.finditer(small)
        if not re.search(r"(\w|\bthere )$", small[max(match.start() - 7, 0) : match.start()])
        if phrase.endswith("*") or not re.match(r"\w", small[match.end() : match.end() + 1])
    )
    prose = _prose(text) if in_python and found else []
    for start, phrase in found:
        if not in_python or any(first <= start < end for first, end in prose):
            line = text.count("\n", 0, start) + 1
            yield f"{line}: write {INSTEAD[phrase]!r} instead of {phrase!r}"


def _prose(source: str) -> list[tuple[int, int]]:
    """Where comments and texts of a Python file begin and end."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return [
        (starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1])
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if tokenize.tok_name[token.type] in ("COMMENT", "STRING", "FSTRING_MIDDLE")
    ]


def _text(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def test_every_sentence_is_plain_american_english() -> None:
    found = []
    for path in sorted({path for pattern in FILES for path in ROOT.glob(pattern) if path.is_file()}):
        name = path.relative_to(ROOT).as_posix()
        found += [f"{name}:{place}" for place in places(_text(path), in_python=path.suffix == ".py")]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The run goes on.", ["1: write 'continues' instead of 'goes on'"]),
        ("# It goes\n# on.", ["1: write 'continues' instead of 'goes on'"]),
        ('f"it goes "\n    f"on"', ["1: write 'continues' instead of 'goes on'"]),
        ("\nColours", ["2: write 'color' instead of 'colour*'"]),
        ("There is no run, and bygone ones.", []),
        ("## It goes\n\nOn Mondays", []),
        ("going = on  # continues", []),
    ],
)
def test_what_is_found(text: str, found: list[str]) -> None:
    assert list(places(text)) == found


def test_code_is_not_read() -> None:
    assert list(places("colour = 1", in_python=True)) == []
    assert list(places("color = 'colour'", in_python=True)) == ["1: write 'color' instead of 'colour*'"]
