"""The network that predicts is the network that was trained, only faster."""

import pytest
import torch
from torch import nn

from SemiSegLib.compute.devices import Compute
from SemiSegLib.inference.folding import for_inference
from SemiSegLib.networks import build_network

torch.set_num_threads(1)


@pytest.fixture(params=[2, 3])
def trained(request):
    """(network, images): batch statistics, scales and shifts are not those of a fresh network."""
    torch.manual_seed(0)
    network = build_network(request.param, 3, sdm=True).train()
    images = 1 + 2 * torch.randn(2, 1, *[32] * request.param)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                module.weight.uniform_(0.5, 2)
                module.bias.normal_()
        for _ in range(5):
            network(images)
    return network.eval(), images


@torch.no_grad()
def test_logits_stay_the_same(trained):
    network, images = trained
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = for_inference(network, Compute(torch.device("cpu"), torch.float32, ""))
    expected = network(images).logits
    torch.testing.assert_close(folded(images).logits, expected, atol=1e-4 * float(expected.std()), rtol=1e-4)
    assert not any(isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)) for module in folded.modules())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@torch.no_grad()
def test_half_precision_is_as_good_as_that_of_autocast(trained):
    network, images = trained
    compute = Compute(torch.device("cpu"), torch.bfloat16, "")
    expected = network(images).logits
    with compute.autocast():
        usual = (network(images).logits.float() - expected).norm()
        folded = (for_inference(network, compute)(images).logits.float() - expected).norm()
    assert folded < 1.5 * usual
