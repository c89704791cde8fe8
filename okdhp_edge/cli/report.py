"""`okdhp-edge report`."""

from pathlib import Path
from typing import Annotated

import typer

from okdhp_edge.cli.console import handle_errors, print_json, say, table


@handle_errors
def report(
    files: Annotated[
        list[Path],
        typer.Argument(help="Reports of `run --report FILE.json`; the first is the baseline."),
    ],
    html: Annotated[Path | None, typer.Option(help="Self-contained HTML report to write.")] = None,
) -> None:
    """Compare runs and hardware targets side by side, with 95 % intervals."""
    from okdhp_edge.report.compare import compare_reports, read_reports
    from okdhp_edge.report.pages import render_report_page
    from okdhp_edge.system.files import write_text
    from okdhp_edge.system.outputs import check_outputs

    check_outputs({"--html": html}, files)
    reports = read_reports(files)
    rows = compare_reports(reports)
    table("side by side", ("", *(r["label"] for r in reports)),
          [(row["what"], *row["cells"]) for row in rows])  # fmt: skip
    if html:
        write_text(html, render_report_page(reports, rows if len(reports) > 1 else []))
        say(f"page: {html}")
    print_json({"reports": [r["label"] for r in reports], "comparison": rows})
