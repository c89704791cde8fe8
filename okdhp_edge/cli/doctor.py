"""`okdhp-edge doctor`."""

from okdhp_edge.cli.console import handle_errors, print_json, table


@handle_errors
def doctor() -> None:
    """Show what this machine can run and how to install what is missing."""
    from dataclasses import asdict

    from okdhp_edge.doctor import run_checks

    findings = run_checks()
    table("doctor", ("what", "state", "remedy"), [(f.what, f.state, f.remedy) for f in findings])
    print_json({"findings": [asdict(f) for f in findings]})
