"""One HTML file that needs nothing else: the page's parts, the drawing library and the data in one text."""

import html
import json
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from textrnn.base.errors import InputError

HERE = Path(__file__).parent
PARTS = ("theme.js", "curves.js", "search.js", "tables.js", "page.js")
"""The page's own scripts, in the order in which they run."""
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "base-uri 'none'; form-action 'none'; connect-src {connect}"
)
"""The browser refuses to load or send anything, whatever texts and names are in the data."""


def drawing_library() -> str:
    """Return plotly.js from the Python package, without importing that.

    Raises:
        InputError: it is not installed.
    """
    found = find_spec("plotly")
    folders = [] if found is None else list(found.submodule_search_locations or [])
    for folder in folders:
        script = Path(folder, "package_data", "plotly.min.js")
        if script.is_file():
            return script.read_text(encoding="utf-8")
    raise InputError('textrnn report draws with plotly, which is not installed; type pip install "textrnn[report]".')


def render(content: dict[str, Any], library: str, *, live: bool = False) -> str:
    """Return the HTML of a page; `live` makes it ask its server for news."""
    data = {**content, "live": live, "written": datetime.now(UTC).isoformat(timespec="seconds")}
    policy = POLICY.format(connect="'self'" if live else "'none'")
    title = html.escape(f"{content['title']} - textrnn report").encode("ascii", "xmlcharrefreplace").decode()
    scripts = "\n".join(part(name) for name in PARTS)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{part("theme.css")}{part("page.css")}</style>
</head>
{part("page.html")}
<script type="application/json" id="data">{script_json(data)}</script>
<script>{library}</script>
<script>{scripts}</script>
</html>
"""


def script_json(data: Any) -> str:
    """Return JSON that can stand in a script element: ASCII, and without characters that HTML reads as markup.

    `</script>` and `<!--` would end or change the element (https://html.spec.whatwg.org/#restrictions-for-contents-of-
    script-elements); U+2028 and all other characters outside ASCII are escapes.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def part(name: str) -> str:
    """Return the text of a file beside this one."""
    return (HERE / name).read_text(encoding="utf-8")
