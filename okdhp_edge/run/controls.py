"""Runtime controls shared by the web page and the loop."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from okdhp_edge.backends.base import Backend
from okdhp_edge.backends.registry import RuntimeChoice
from okdhp_edge.errors import to_one_line
from okdhp_edge.pose.result import MIN_JOINT_SCORE

_MAX_TROUBLE_CHARS = 300


@dataclass
class Controls:
    """Shared by the loop and whoever steers it.

    Attributes:
        stop: set to end the run after the frame in hand.
        paused: whether frames are left alone; those of a live source are dropped and counted.
        threshold: score from which a joint is drawn.
        choices: what `switch` takes.
        current: what runs; None where nothing else was offered.
        trouble: why the last switch did not happen, for people.
        while_paused: called a few times a second as long as the run is paused.
        while_idle: called in the loop's thread a few times a second as long as no result comes;
            one that returns False ends the run.
    """

    threshold: float = MIN_JOINT_SCORE
    choices: Sequence[RuntimeChoice] = ()
    current: RuntimeChoice | None = None
    open_choice: Callable[[RuntimeChoice], Backend] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    paused: bool = False
    trouble: str = ""
    while_paused: list[Callable[[], None]] = field(default_factory=list)
    while_idle: list[Callable[[], bool]] = field(default_factory=list)
    _loaded: tuple[Backend, RuntimeChoice] | None = None
    _loading: threading.Thread | None = None

    def switch(self, choice: RuntimeChoice) -> bool:
        """Load another way to run the model beside the loop, which takes it up when it is ready.

        Returns:
            Whether it was begun: not while another one loads, and only for one of `choices`.
        """
        busy = self._loading is not None and self._loading.is_alive()
        if busy or self._loaded is not None or choice not in self.choices:
            return False
        self.trouble = ""
        self._loading = threading.Thread(target=self._load, args=(choice,), daemon=True)
        self._loading.start()
        return True

    def _load(self, choice: RuntimeChoice) -> None:
        assert self.open_choice is not None
        try:
            self._loaded = self.open_choice(choice), choice
        except Exception as error:  # whatever a runtime raises: the page must not show it as loaded
            self.trouble = to_one_line(str(error), _MAX_TROUBLE_CHARS)

    def wait_while_paused(self, poll_s: float) -> None:
        """Return when the run goes on, or ends."""
        while self.paused and not self.stop.wait(poll_s):
            for call in self.while_paused:
                call()

    def handle_idle(self) -> None:
        """Call what wants to be called while no result comes."""
        if not all([call() for call in self.while_idle]):  # noqa: C419 (each is called)
            self.stop.set()

    def take_loaded(self) -> Backend | None:
        """The model that has been loaded since the last call; for the loop alone."""
        if self._loaded is None:
            return None
        (loaded, self.current), self._loaded = self._loaded, None
        return loaded

    def close(self) -> None:
        """Wait for what is loading, and let go of it."""
        if self._loading is not None:
            self._loading.join()
        if self._loaded is not None:  # nothing ran it
            self._loaded[0].close()
            self._loaded = None
