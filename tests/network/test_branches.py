"""Which outputs enter the ensemble: the last of every branch, and nothing else."""

import pytest
import torch

from okdhp_edge.network.branches import SingleBranch
from okdhp_edge.network.build import build_network
from okdhp_edge.network.config import HourglassConfig

PICTURES = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)


def _net(own, shared=1):
    torch.manual_seed(0)
    config = HourglassConfig(
        kind="hourglass", width=16, shared_stacks=shared, branches=own, aggregation="depthwise"
    )
    return build_network(config, 5).eval()


SHAPES = [(1, 1), (2, 2, 2), (1, 2, 3), (3, 1, 2, 1), (4, 4)]


@pytest.mark.parametrize("own", SHAPES)
@pytest.mark.parametrize("shared", [0, 2])
def test_every_stack_is_supervised_once(own, shared):
    with torch.no_grad():
        outputs = _net(own, shared)(PICTURES)
    assert len(outputs.supervised()) == shared + sum(own)
    assert [b.shape[1] for b in outputs.branches] == list(own)
    assert all(h.shape == (2, 5, 16, 16) for h in outputs.supervised())


@pytest.mark.parametrize("own", SHAPES)
def test_one_hot_weights_make_the_ensemble_that_branchs_last_heatmaps(own):
    net = _net(own)
    for branch in range(len(own)):
        one_hot = torch.zeros(2, len(own), 5)
        one_hot[:, branch] = 1
        net.aggregation.weights = lambda _, w=one_hot: w
        with torch.no_grad():
            outputs = net(PICTURES)
        torch.testing.assert_close(outputs.ensemble, outputs.last(branch))


@pytest.mark.parametrize("own", [(2, 2), (1, 3)])
def test_a_middle_stack_does_not_enter_the_ensemble_but_the_last_does(own):
    net = _net(own)
    with torch.no_grad():
        before = net(PICTURES)
        for branch, depth in enumerate(own):
            last = net.branches[branch].own.stacks[depth - 1].score
            last.bias += 1
            moved = net(PICTURES)
            last.bias -= 1
            assert not torch.allclose(moved.ensemble, before.ensemble)
            if depth > 1:
                head = net.branches[branch].own.stacks[0].score
                feedback = net.branches[branch].own.stacks[0].score_back
                kept = feedback.weight.clone()
                feedback.weight.zero_()
                still = net(PICTURES)
                head.bias += 1
                moved = net(PICTURES)
                head.bias -= 1
                feedback.weight.copy_(kept)
                torch.testing.assert_close(moved.ensemble, still.ensemble)


@pytest.mark.parametrize("own", [(1, 2), (2, 1, 3)])
def test_a_single_branch_computes_what_it_did_among_the_others(own):
    net = _net(own)
    with torch.no_grad():
        outputs = net(PICTURES)
        for branch in range(len(own)):
            torch.testing.assert_close(SingleBranch(net, branch)(PICTURES), outputs.last(branch))


def test_batch_size_one_works():
    with torch.no_grad():
        assert _net((1, 1))(PICTURES[:1]).ensemble.shape == (1, 5, 16, 16)
