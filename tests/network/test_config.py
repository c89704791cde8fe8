import pytest
from pydantic import ValidationError

from okdhp_edge.network.config import HourglassConfig, MobilePoseConfig, make_hourglass_config


@pytest.mark.parametrize(
    ("own", "deployable"), [((2, 2, 2), (0, 1, 2)), ((2, 4, 6), (0,)), ((1, 2, 1), (0, 2))]
)
def test_only_branches_of_the_targets_depth_may_be_deployed(own, deployable):
    assert HourglassConfig(kind="hourglass", branches=own).deployable == deployable


def test_named_hourglasses_share_half_of_their_stacks():
    assert make_hourglass_config(8, 256, branches=3).branches == (4, 4, 4)
    assert make_hourglass_config(8, 256, branches=3).shared_stacks == 4
    assert make_hourglass_config(2, 128).branches == (2,)


@pytest.mark.parametrize("wrong", [{"branches": ()}, {"branches": (0,)}, {"encoder": "vgg"}])
def test_impossible_networks_are_refused(wrong):
    with pytest.raises(ValidationError):
        MobilePoseConfig.model_validate({"kind": "mobilepose", **wrong})
