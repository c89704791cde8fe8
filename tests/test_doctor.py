from okdhp_edge import doctor
from okdhp_edge.backends.registry import REGISTRY


def test_every_runtime_is_examined():
    assert set(REGISTRY) <= {f.what for f in doctor.examine()}


def test_what_is_missing_comes_with_the_command_that_adds_it(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda _: False)
    by = {f.what: f for f in doctor.examine()}
    for name, entry in REGISTRY.items():
        assert by[name].remedy == entry.install
