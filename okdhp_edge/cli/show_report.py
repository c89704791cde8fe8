"""What a run measured, on the terminal."""

from typing import TYPE_CHECKING

from okdhp_edge.cli.console import say, table

if TYPE_CHECKING:
    from okdhp_edge.run.report import RunReport

_AUTO = "auto"


def show_report(result: "RunReport") -> None:
    """Print the stage table and the run's metadata."""
    totals = {"frame age": result.frame_age, "end to end": result.end_to_end}
    stages = [*result.stages.items(), *((n, s) for n, s in totals.items() if s)]
    if stages:
        table(
            f"{result.source}: latency in ms over {stages[0][1].n} frames "
            f"({result.warmup} warm-up frames excluded)",
            ("stage", "mean", "p50", "p90", "p95", "p99", "max"),
            [(n, *(f"{v:.2f}" for v in (s.mean, s.p50, s.p90, s.p95, s.p99, s.max)))
             for n, s in stages],
        )  # fmt: skip
    ran = result.backend
    skipped = f", {result.skipped} skipped" if result.skipped else ""
    rate = f"{result.fps:.1f} FPS; " if stages else ""  # of warm-up alone there is none
    frames = "1 frame" if result.frames == 1 else f"{result.frames} frames"
    say(f"{rate}{frames} ({result.frames_with_people} with people), "
        f"{result.dropped} dropped{skipped}")  # fmt: skip
    if granted := result.source_facts.get("granted"):
        say(f"the camera delivers {granted['width']}x{granted['height']} at {granted['fps']:g} FPS "
            f"{granted['fourcc']}; {result.source_facts['reconnects']} reconnects")  # fmt: skip
    say(f"ran on {ran.backend} {ran.version}, {ran.device}, {ran.threads or 'default'} threads")
    asked = "" if result.precision_asked == _AUTO else f" (requested {result.precision_asked})"
    say(f"precision {ran.precision}{asked}")
    for line in (*result.flags, *result.source_facts.get("notes", ())):
        say(line)
