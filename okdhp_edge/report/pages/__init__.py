"""The two pages, live and report: each one file with its style and script inside."""

import json
from collections.abc import Sequence
from importlib import resources
from typing import Any


def render_live_page() -> str:
    """The page of a run that is going on; it asks the server it came from for everything."""
    return _assemble_page("live.html")


def render_report_page(
    reports: Sequence[dict[str, Any]], comparison: Sequence[dict[str, Any]]
) -> str:
    """A self-contained HTML page.

    Args:
        reports: of `RunReport.with_samples`, with a `label` each.
        comparison: rows of `compare.compared`; none for a single report.
    """
    data = json.dumps({"reports": list(reports), "comparison": list(comparison)})
    # `</script` ends a script inside a string too, and `<!--<script` keeps it from ending.
    return _assemble_page("report.html").replace("/*DATA*/", data.replace("<", "\\u003c"))


def _assemble_page(name: str) -> str:
    page = _read_resource("head.html") + _read_resource(name)
    for mark, part in (("/*STYLE*/", "style.css"), ("/*STAGES*/", "stages.js")):
        page = page.replace(mark, _read_resource(part))
    return page


def _read_resource(name: str) -> str:
    return (resources.files(__name__) / name).read_text(encoding="utf-8")
