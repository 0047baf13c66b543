"""A page of explanations: texts with each word's share as its color. It has no script."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from textrnn.reporting.page import part

if TYPE_CHECKING:
    from textrnn.evaluation.explanations import Explanation, Word

POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
STRONGEST = 6
"""Words for a class in a table, and words against it."""
VISIBLE = 0.15
"""Words from this part of the largest share are underlined, so that the sign needs no color."""
HINT = """\
A word's color is its share of the logit by integrated gradients; all shares add up to the difference between the text's
logit and that of vectors of zeros. The logit of a probability p is log(p / (1 - p)). Point at a word or tap it for its
share and for its occlusion: how much the logit falls with &lt;unk&gt; in place of the word."""
LEGEND = """\
<span><span class="word for strong" style="--size:1">for the class</span> blue, underlined</span>
<span><span class="word against strong" style="--size:1">against it</span> orange, dashed</span>
<span class="cut">not read: the text is too long</span>"""


class Shown(NamedTuple):
    """An explanation on a page."""

    explanation: "Explanation"
    true_label: str | None = None
    """The text's own label, if it is known."""


def mistakes_title(run: str, split: str) -> str:
    """Return the title of a page about mistakes."""
    return f"{run}: most confident mistakes on {split}"


def render_explanations(title: str, shown: Sequence[Shown]) -> str:
    """Return the HTML of a page."""
    sections = "\n".join(_section(number, *one) for number, one in enumerate(shown, 1))
    body = f"""<title>{escape(title)}</title>
<style>{part("theme.css")}{part("explanation.css")}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<p class="hint">{HINT}</p>
<p class="legend">{LEGEND}</p>
{sections or "<p>There are no texts.</p>"}
</body>
</html>
"""
    ascii_body = body.encode("ascii", "xmlcharrefreplace").decode()  # lone surrogates of a path too
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
{ascii_body}"""


def _section(number: int, explanation: "Explanation", true_label: str | None) -> str:
    label = escape(explanation.label)
    true = "" if true_label is None else f"; the true label is {escape(true_label) or 'none'}"
    return f"""<section>
<h2>{number}. {label}: {100 * explanation.probability:.1f} %{true}</h2>
<p class="hint">{_sum(explanation)}</p>
<p class="text" dir="auto">{_text(explanation, lambda word: word.share)}</p>
<div class="panels">
{_table(f"For {label}", explanation, 1)}
{_table(f"Against {label}", explanation, -1)}
</div>
<details><summary>Text by occlusion</summary>
<p class="text" dir="auto">{_text(explanation, lambda word: word.occlusion)}</p></details>
</section>"""


def _sum(explanation: "Explanation") -> str:
    """Say what the shares add up to."""
    total = sum(word.share for word in explanation.words)
    difference = explanation.logit - explanation.baseline_logit
    error = f"{abs(explanation.error):.2g}"
    if abs(difference) > 0:
        error += f", {100 * abs(explanation.error / difference):.2g} %"
    if not explanation.is_complete:
        error = f"<strong>{error}: the shares don't add up, even with {explanation.steps:,} steps</strong>"
    logit, baseline, words = map(_signed, (explanation.logit, explanation.baseline_logit, total))
    return f"Logit {logit}; of vectors of zeros {baseline}; sum of the words {words} (error {error})."


def _text(explanation: "Explanation", size: "Callable[[Word], float]") -> str:
    """Return the text with a span for each word, in the color of its size."""
    text, (start, end) = explanation.text, explanation.read
    largest = max((abs(size(word)) for word in explanation.words), default=0) or 1
    parts, place = [_cut(text[:start])], start
    for word in explanation.words:
        parts.append(escape(text[place : word.start]))
        strength = abs(size(word)) / largest
        kind = ("for" if size(word) > 0 else "against") + " strong" * (strength >= VISIBLE)
        told = f"{text[word.start : word.end]}: share {_signed(word.share)}, occlusion {_signed(word.occlusion)}"
        parts.append(
            f'<span class="word {kind}" style="--size:{strength:.2f}" tabindex="-1" data-told="{escape(told)}">'
            f"{escape(text[word.start : word.end])}</span>"
        )
        place = word.end
    return "".join([*parts, escape(text[place:end]), _cut(text[end:])]) or "(an empty text)"


def _cut(text: str) -> str:
    return f'<span class="cut">{escape(text)}</span>' if text else ""


def told_words(explanation: "Explanation", sign: int) -> str:
    """Return the strongest words for the class (sign 1) or against it (-1) with their shares, as `dull +1.20, ...`."""
    return ", ".join(f"{name} {_signed(share)}" for name, _, share, _ in _strongest(explanation, sign))


def _strongest(explanation: "Explanation", sign: int) -> list[tuple[str, int, float, float]]:
    """Return the strongest words of a sign: name, times, sum of shares, sum of occlusions.

    A word that occurs again adds up, in lower case.
    """
    found: dict[str, list[Word]] = defaultdict(list)
    for word in explanation.words:
        found[explanation.text[word.start : word.end].lower()].append(word)
    sums = [
        (name, len(words), sum(word.share for word in words), sum(word.occlusion for word in words))
        for name, words in found.items()
    ]
    return sorted((one for one in sums if sign * one[2] > 0), key=lambda one: -sign * one[2])[:STRONGEST]


def _table(caption: str, explanation: "Explanation", sign: int) -> str:
    """Return the table of the strongest words of a sign."""
    rows = "\n".join(
        f'<tr><td>{escape(name)}</td><td class="number">{times}</td><td class="number">{_signed(share)}</td>'
        f'<td class="number">{_signed(occluded)}</td></tr>'
        for name, times, share, occluded in _strongest(explanation, sign)
    )
    return f"""<table><caption>{caption}</caption>
<thead><tr><th>Word</th><th class="number">Times</th><th class="number">Share</th><th class="number">Occlusion</th></tr>
</thead><tbody>
{rows or '<tr><td colspan="4">no word</td></tr>'}
</tbody></table>"""


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
