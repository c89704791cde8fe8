import pytest

from okdhp_edge.errors import GateError
from okdhp_edge.quantize.search.gate import check_drop


@pytest.mark.parametrize(("before", "after"), [(60.0, 59.0), (60.0, 61.0)])
def test_within_the_limit_passes(before, after):
    check_drop("openvino", "pck@0.2", before, after, 1.0)


@pytest.mark.parametrize("after", [58.9, float("nan")])
def test_beyond_the_limit_names_profile_and_both_numbers(after):
    with pytest.raises(GateError, match=r"openvino has pck@0.2 .* below float 60.00"):
        check_drop("openvino", "pck@0.2", 60.0, after, 1.0)


def test_what_was_tried_is_told():
    with pytest.raises(GateError, match=r"\(limit 1\); mse was the best of 4 trials"):
        check_drop("openvino", "pck@0.2", 60.0, 50.0, 1.0, "mse was the best of 4 trials")
