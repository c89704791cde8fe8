import threading

import pytest

from okdhp_edge.backends.registry import RuntimeChoice
from okdhp_edge.errors import BackendError
from okdhp_edge.run.controls import Controls
from tests.helpers.fakes import FakeBackend, ScriptedSource
from tests.helpers.running import Picturing, run_on

FAST, SLOW = RuntimeChoice("fake", "int8"), RuntimeChoice("fake", "fp32")


def _loaded(controls):
    controls._loading.join(5)


def test_another_model_is_loaded_beside_the_run_and_taken_up():
    first, second = FakeBackend(), FakeBackend(score=0.6)
    controls = Controls(choices=(FAST, SLOW), current=SLOW, open_choice=lambda _: second)

    class Switching(Picturing):
        def write(self, result, annotated):
            if len(self.seen) == 5:
                assert controls.switch(FAST)
                _loaded(controls)
            return super().write(result, annotated)

    sink = Switching()
    report = run_on([ScriptedSource(40)], first, [sink], controls=controls)[0]
    scores = [s.poses[0].confidence for s in sink.seen]
    assert scores[0] > 0.8 and scores[-1] < 0.7
    assert report.frames == 40
    assert controls.current == FAST
    assert not first._open and second._open
    assert report.backend == second.describe()


def test_what_does_not_load_is_told_and_the_run_goes_on():
    def refuse(choice):
        raise BackendError("no such device", "plug it in")

    controls = Controls(choices=(FAST, SLOW), current=SLOW, open_choice=refuse)
    assert controls.switch(FAST)
    _loaded(controls)
    assert controls.take_loaded() is None
    assert controls.current == SLOW
    assert "no such device" in controls.trouble


def test_one_switch_at_a_time_and_only_to_what_is_offered():
    gate = threading.Event()

    def wait(choice):
        gate.wait(5)
        return FakeBackend()

    controls = Controls(choices=(FAST, SLOW), open_choice=wait)
    assert not controls.switch(RuntimeChoice("fake", "fp64"))
    assert controls.switch(FAST)
    assert not controls.switch(SLOW)
    gate.set()
    _loaded(controls)
    assert not controls.switch(SLOW)  # what is loaded waits to be taken
    loaded = controls.take_loaded()
    assert loaded is not None
    assert controls.switch(SLOW)
    controls.close()
    assert controls.take_loaded() is None


@pytest.mark.parametrize("taken", [True, False])
def test_closing_lets_go_of_what_nobody_took(taken):
    backend = FakeBackend()
    controls = Controls(choices=(FAST,), open_choice=lambda _: backend)
    controls.switch(FAST)
    _loaded(controls)
    if taken:
        controls.take_loaded()
    controls.close()
    assert controls.current == (FAST if taken else None)
    assert backend._open == taken


def test_while_a_run_is_paused_whoever_asked_is_called_until_it_goes_on():
    controls, calls = Controls(paused=True), []

    def call():
        calls.append(controls.paused)
        controls.paused = len(calls) < 3

    controls.while_paused.append(call)
    report = run_on([ScriptedSource(4)], controls=controls)[0]
    assert calls == [True] * 3 and report.frames == 4
