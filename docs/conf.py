"""Sphinx's configuration of the documentation site: `make docs` builds it, without a network and without a warning."""

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from docutils.writers.html5_polyglot import HTMLTranslator
from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "src")]

import generate  # noqa: E402 - beside this file

project = "textrnn"
author = "the authors of textrnn"
html_title = "textrnn"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "_generated"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = html_show_copyright = False

nb_execution_mode = "off"  # notebooks are shown with their stored outputs
nb_merge_streams = True
myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

default_role = "code"  # docstrings mark names with single backticks
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
nitpick_ignore_regex = [(r"py:.*", r".*")]
"""Types in signatures: most have no page here, and other projects' pages would need a network."""


NO_BREAK = "\u00a0"


def prepare(app: Sphinx, name: str, source: list[str]) -> None:
    """Lead the repository's links to notebooks/ to this site's pages; keep a figure and its unit on one line."""
    text = re.sub(r"\]\((?:\.\./)+notebooks/", "](/notebooks/", source[0])
    if app.env.doc2path(name).suffix == ".md":
        parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
        parts[::2] = [
            re.sub(r"(?<=\d) (?=[%×])|(?<=\d) (?=± )|(?<=±) (?=\d)|(?<=\d) (?=to \d)|(?<=\d to) (?=\d)", NO_BREAK, part)
            for part in parts[::2]
        ]
        text = "".join(parts)
    source[0] = text


def visit_math(writer: HTMLTranslator, node: nodes.Element) -> None:
    """Write a formula as MathML, which browsers draw without a script from another server."""
    block = isinstance(node, nodes.math_block)
    writer.body.append(str(tex2mathml(node.astext(), as_block=block)))
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Generate the reference, and register what the settings above name."""
    generate.write(DOCS / "_generated")
    generate.copy_notebooks(DOCS / "notebooks")
    app.connect("source-read", prepare)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
