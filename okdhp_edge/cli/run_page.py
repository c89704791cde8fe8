"""The live page of `run`: `--web`."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from okdhp_edge.cli.console import say
from okdhp_edge.errors import ModelError, OutputError

if TYPE_CHECKING:
    import socket

    from okdhp_edge.backends.base import Backend
    from okdhp_edge.backends.registry import RuntimeChoice
    from okdhp_edge.backends.selection import Selection
    from okdhp_edge.run.controls import Controls
    from okdhp_edge.run.loop import SourceRun
    from okdhp_edge.run.pipeline import Pipeline
    from okdhp_edge.run.web.server import Address


def listen_for_viewers(
    web: str | None, token: str | None, closing: ExitStack
) -> "tuple[Address, socket.socket] | None":
    """The address of `--web` and a socket that listens there, or None without it.

    Called before outputs are opened: an address that is taken leaves files as they are.
    """
    if web is None:
        return None
    try:
        from okdhp_edge.run.web.server import listen, parse_address
    except ImportError as error:
        raise OutputError("--web needs additional packages",
                          "pip install okdhp-edge[web]") from error  # fmt: skip
    address = parse_address(web, token)
    return address, closing.enter_context(listen(address))


def serve_page(
    site: "tuple[Address, socket.socket] | None",
    pipeline: "Pipeline",
    feeds: "Sequence[SourceRun]",
    controls: "Controls",
    model: "tuple[str | None, Selection]",
    closing: ExitStack,
) -> None:
    """Show the run on a page, with every available runtime of the model to switch to; nothing
    where no page was asked for."""
    if site is None:
        return
    from okdhp_edge.run.web.hub import Hub
    from okdhp_edge.run.web.server import WebServer

    _offer(controls, pipeline, *model, closing)
    hub = Hub(controls, _make_unique_names([Path(feed.source.name).name for feed in feeds]))
    for feed, channel in zip(feeds, hub.channels, strict=True):
        feed.sinks = [*feed.sinks, channel]
    hub.attach(pipeline, feeds)
    server = closing.enter_context(WebServer(hub, *site))
    say(f"watch at {server.address.url}")


def _close_backend(pipeline: "Pipeline") -> None:
    """Close the current backend, which a viewer may have switched."""
    pipeline.backend.close()


def _make_unique_names(names: Sequence[str]) -> list[str]:
    """Number repeated names: the URLs of two cameras may end alike."""
    return [f"{name}-{i}" if names.count(name) > 1 else name for i, name in enumerate(names)]


def _offer(
    controls: "Controls",
    pipeline: "Pipeline",
    model: str | None,
    selection: "Selection",
    closing: ExitStack,
) -> None:
    """Offer viewers every available backend and precision of the model."""
    from okdhp_edge.backends.selection import choose_model, list_available_choices, load_backend
    from okdhp_edge.inference.pose_estimator import PoseEstimator
    from okdhp_edge.system.latency import StageClock

    # Found once: a model that is exported meanwhile is another one.
    folder = choose_model(model)
    skeleton = pipeline.backend.card.skeleton

    def load_choice(choice: "RuntimeChoice") -> "Backend":
        threads = pipeline.backend.describe().threads
        loaded = load_backend(str(folder), choice.backend, choice.precision, threads, say).backend
        if loaded.card.skeleton != skeleton:
            loaded.close()
            raise ModelError(f"{folder} now has different joints", "start the run again")
        # Here, beside the loop, where no frame waits for it.
        PoseEstimator(loaded, StageClock()).warm_up(pipeline.backend.warm_batch_size)
        return loaded

    controls.choices = list_available_choices(folder)
    controls.current = selection.choice
    controls.open_choice = load_choice
    closing.callback(controls.close)
    closing.callback(_close_backend, pipeline)
