"""The page's text, and the page in a real browser, without a network."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doubles.browser import BROWSER, look_at
from doubles.report_runs import make_evaluation, make_run, make_sweep
from typing_extensions import override

from textrnn.base.errors import InputError
from textrnn.reporting import page as page_module
from textrnn.reporting.content import whole_content
from textrnn.reporting.page import drawing_library, render, script_json

HOSTILE = (
    "</script><script>document.title='broken'</script>",
    "<!--<script>",
    "<img src=x onerror=\"document.title='broken'\">",
    "\u2028\u2029 ${document.title='broken'} `' \" \\ %{x} $y$",
    "<a href='javascript:document.title=1'>&lt;b&gt;</a> &amp; ]]>",
    "__proto__",
    "a-name-without-a-space-" * 9,
)

pytestmark = pytest.mark.usefixtures("own_cache")
LONE = "\udcff"
"""As in a file name that is not UTF-8; the browser's --dump-dom crashes on it, its page doesn't."""
ACTIONS = """
<pre id="seen"></pre>
<script>
addEventListener("load", () => setTimeout(async () => {
  const seen = { title: document.title, added: document.querySelectorAll("img, a, body script[src]").length };
  const rows = () => [...document.querySelectorAll("#runs tbody tr")];
  const headings = [...document.querySelectorAll("#runs thead button")];
  const curves = document.getElementById("curves-1");
  seen.rows = rows().length;
  seen.first = rows()[0].textContent;
  headings.find((one) => one.textContent.startsWith("val/accuracy")).click();
  seen.firstAfterSorting = rows()[0].textContent;
  rows()[0].click();
  await new Promise((done) => setTimeout(done, 300));
  seen.chosen = document.getElementById("chosen").textContent;
  const point = { x: 1, y: 1, customdata: data.runs[0].path };
  curves.emit("plotly_click", { points: [point] });
  seen.clicked = document.getElementById("chosen").textContent;
  curves.emit("plotly_hover", { points: [point], event: { clientX: 9, clientY: 9 } });
  seen.tip = document.getElementById("tip").textContent;
  document.getElementById("parallel").emit("plotly_selected", { points: data.runs.slice(0, 3).flatMap((run, place) =>
    [{ x: 0, customdata: run.path }, ...(place ? [{ x: 1, customdata: run.path }] : [])]) });
  await new Promise((done) => setTimeout(done, 300));
  seen.boxed = document.getElementById("chosen").textContent;
  const word = document.getElementById("word");
  word.value = "onerror";
  word.dispatchEvent(new Event("input"));
  seen.marks = [...document.querySelectorAll("mark")].map((one) => one.textContent);
  const smoothing = document.getElementById("smoothing");
  smoothing.value = 0.9;
  smoothing.dispatchEvent(new Event("input"));
  await new Promise((done) => setTimeout(done, 300));
  seen.smoothed = curves.data.at(-1).y.filter((one) => one !== null).length;
  seen.buttons = [...document.querySelectorAll(".modebar-btn")].map((one) => one.outerHTML.split(">")[0]);
  seen.plots = [...document.querySelectorAll(".plot")].map((plot) => plot.data?.length ?? 0);
  seen.wide = document.documentElement.scrollWidth <= innerWidth;
  seen.end = document.title;
  document.getElementById("seen").textContent = JSON.stringify(seen);
}, 300));
</script>
"""


class Scripts(HTMLParser):
    """The elements of a page, and the texts of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    @override
    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append("")

    @override
    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"]:
            self.scripts[-1] += data


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A sweep whose runs, classes and reviews have names that would break out of a page."""
    folder = make_sweep(tmp_path / "a<b>&c", 10, steps=300, evaluated=False)
    for number, text in enumerate(HOSTILE):
        make_run(folder / f"run{number}", {"model.cell": text, text: 1}, name=text, steps=300, evaluated=False)
    best = folder / "trial000"
    classes = HOSTILE[:3]
    make_evaluation(best / "evaluation-test", np.random.default_rng(0), 0.8, classes, texts=HOSTILE[:5])
    return folder


def test_json_in_a_script_has_no_markup_and_comes_back() -> None:
    data = {name: [*HOSTILE, LONE] for name in (*HOSTILE, LONE)}
    text = script_json(data)
    assert text.isascii()
    assert not set(text) & set("<>&")
    assert json.loads(text) == data


def test_the_page_has_no_elements_of_its_data(hostile: Path) -> None:
    content = whole_content([str(hostile)])
    found, plain = (Scripts(render(one, "library();")) for one in (content, whole_content([str(hostile / "trial001")])))
    assert found.tags == plain.tags
    assert found.tags.count("script") == 3
    data = json.loads(found.scripts[0])
    assert {run["label"] for run in data["runs"]} >= set(HOSTILE)
    assert data["live"] is False


def test_the_page_refuses_to_load_and_to_send(tmp_path: Path) -> None:
    make_run(tmp_path / "a", {}, steps=20)
    text = render(whole_content([str(tmp_path / "a")]), "")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert "connect-src 'none'" in policy[1]
    assert "connect-src 'self'" in render(whole_content([str(tmp_path / "a")]), "", live=True)


def test_without_plotly_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Plotly" in drawing_library()
    assert "</script" not in drawing_library()
    monkeypatch.setattr(page_module, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "textrnn\[report\]"'):
        drawing_library()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium")
def test_in_a_browser_the_page_draws_selects_and_runs_nothing_of_its_data(hostile: Path, tmp_path: Path) -> None:
    text = render(whole_content([str(hostile)]), drawing_library())
    page = look_at(text.replace("</html>", f"{ACTIONS}</html>"), tmp_path, 500)
    assert page.console == []
    found = re.search(r'<pre id="seen">(.*?)</pre>', page.dom, re.DOTALL)
    assert found is not None
    seen = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert seen["title"] == seen["end"] == f"{hostile} - textrnn report"
    assert (seen["added"], seen["rows"]) == (0, 17)
    assert "★" in seen["first"]
    assert seen["first"] != seen["firstAfterSorting"]
    assert (seen["chosen"], seen["clicked"]) == ("1 of 17 runs selected", "2 of 17 runs selected")
    assert "val/accuracy" in seen["tip"]
    assert seen["boxed"] == "2 of 17 runs selected"  # those in the boxes of both axes
    assert seen["marks"] == ["onerror"]
    assert seen["smoothed"] > 0
    assert all(count > 0 for count in seen["plots"]), seen["plots"]
    assert seen["wide"]
    assert not any("loud" in button for button in seen["buttons"])
    assert not page.hosts & set(re.findall(r"https?://[^/\"'`\s]*", text))
