"""The page of explanations: numbers, what would break out of it, and the page in a real browser."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from doubles.browser import BROWSER, look_at
from typing_extensions import override

from textrnn.evaluation.explanations import Explanation, Word
from textrnn.reporting.explanation_page import Shown, mistakes_title, render_explanations

HOSTILE = (
    "</style></span><script>document.title='broken'</script>",
    "<!--<script>",
    "<img src=x onerror=\"document.title='broken'\">",
    '" onmouseover="document.title=1" x="',
    "&lt;b&gt; &amp; ]]> \x00\x1b[31m \u2028 \u202egnorw",
    "a-name-without-a-space-" * 9,
)
ACTIONS = """
<pre id="seen"></pre>
<script>
addEventListener("load", () => {
  const word = document.querySelector("section .word");
  word.focus();
  const tip = getComputedStyle(word, "::after");
  const strong = [...document.querySelectorAll("section .strong")];
  document.getElementById("seen").textContent = JSON.stringify({
    title: document.title,
    texts: [...document.querySelectorAll("section > .text")].map((one) => one.textContent),
    told: tip.content,
    fixed: tip.position,
    lines: strong.slice(0, 2).map((one) => getComputedStyle(one).textDecorationStyle),
    wide: document.documentElement.scrollWidth <= innerWidth,
  });
});
</script>
"""


class Elements(HTMLParser):
    """The elements of a page, and the attributes of its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def shown(text: str, label: str, true_label: str | None, *, error: float = 0.0) -> Shown:
    """An explanation of a text of at least 12 characters, of which the first three are cut off."""
    words = (Word(3, 6, 1.5, 2.0), Word(7, 9, -0.7, -0.1), Word(9, 12, 0.04, 0.0))
    read = (3, len(text))
    return Shown(Explanation(text, label, 0.75, 1.1 - error, 0.26, words, read, 1024), true_label)


def test_sums_signs_and_what_is_cut_off() -> None:
    page = render_explanations("gru s0: explanation", [shown("in the end it was fine", "positive", "negative")])
    assert "1. positive: 75.0 %; the true label is negative" in page
    assert "Logit +1.10; of vectors of zeros +0.26; sum of the words +0.84 (error 0, 0 %)." in page.replace(
        "1.1e-16", "0"
    )
    assert '<span class="cut">in </span>' in page
    assert (
        'class="word for strong" style="--size:1.00" tabindex="-1" data-told="the: share +1.50, occlusion +2.00"'
        in page
    )
    assert 'class="word against strong" style="--size:0.47"' in page
    assert 'class="word for" style="--size:0.03"' in page
    assert "<td>the</td>" in page
    assert "add up, even" not in page
    wrong = render_explanations("x", [shown("in the end it was fine", "positive", None, error=0.5)])
    assert "the shares don't add up, even with 1,024 steps" in wrong
    assert "the true label" not in wrong
    assert "There are no texts." in render_explanations(mistakes_title("gru s0", "test"), [])


def test_words_that_occur_again_add_up_in_the_table() -> None:
    words = (Word(0, 3, 1.0, 0.5), Word(4, 7, 0.25, 0.5), Word(8, 11, -2.0, -1.0))
    page = render_explanations("x", [Shown(Explanation("Bad bad old", "a", 0.5, 0, 0.75, words, (0, 11), 16))])
    assert re.findall(r"<tr><td>(\w+)</td>.*?>(\d)</td>.*?>(.\d\.\d\d)</td>", unescape(page)) == (
        [("bad", "2", "+1.25"), ("old", "1", "\N{MINUS SIGN}2.00")]
    )


def test_nothing_of_a_text_becomes_an_element_or_an_attribute() -> None:
    hostile = Elements(render_explanations(HOSTILE[0], [shown(text, text, text) for text in HOSTILE]))
    plain = Elements(render_explanations("x", [shown("a plain text without markup", "a", "b")] * len(HOSTILE)))
    assert hostile.tags == plain.tags
    assert hostile.attributes == plain.attributes
    assert "script" not in plain.tags
    page = render_explanations("a folder \udcff", [])  # a path that is not UTF-8
    assert page.isascii()
    assert "default-src 'none'" in page


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_in_a_browser_the_page_fits_a_phone_and_loads_nothing(tmp_path: Path) -> None:
    texts = [text.replace("\x00", "") for text in HOSTILE]
    text = render_explanations("gru s0", [shown(one, one, one) for one in texts])
    page = look_at(text, tmp_path, 400)
    assert page.console == []
    assert not page.hosts & set(re.findall(r"https?://[^/\"'`\s]*", text))
    # The page itself lets no script run, the test's neither.
    text = re.sub(r"<meta http-equiv=[^>]*>", "", text).replace("</html>", f"{ACTIONS}</html>")
    found = re.search(r'<pre id="seen">(.*?)</pre>', look_at(text, tmp_path, 400).dom, re.DOTALL)
    assert found is not None
    seen = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["title"] == "gru s0"
    assert seen["texts"] == texts
    assert seen["told"] == f'"{texts[0][3:6]}: share +1.50, occlusion +2.00"'
    assert seen["fixed"] == "fixed"
    assert seen["lines"] == ["solid", "dashed"]
    assert seen["wide"]
