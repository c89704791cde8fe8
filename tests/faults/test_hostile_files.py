"""Files from strangers: read, or refused in one line; never a traceback, a hang or a crash."""

from pathlib import Path

import pytest

from tests.faults.runner import BAD, try_many
from tests.faults.targets import TARGETS, make_valid

COUNT, SEED = 500, 20261126


@pytest.fixture(scope="session")
def valid(tmp_path_factory, exported, trained) -> dict[str, Path]:
    return make_valid(tmp_path_factory.mktemp("valid"), exported, trained)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_the_valid_file_is_read(valid, target):
    """A target whose valid file is refused would find nothing."""
    target.read(valid[target.name])


def test_five_hundred_broken_files(valid, tmp_path):
    found = try_many(valid, tmp_path, COUNT, SEED)
    bad = [c for c in found if c.outcome in BAD]
    assert not bad, "\n".join(f"{c.target} {c.seed} {c.outcome}: {c.said[-600:]}" for c in bad[:5])
    outcomes = {c.outcome for c in found}
    assert outcomes == {"read", "refused"}
