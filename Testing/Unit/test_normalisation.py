"""Instance normalisation: values, gradients, and the order of maps in memory."""

import pytest
import torch

from SemiSegLib.config import NetworkSettings
from SemiSegLib.networks import build_network
from SemiSegLib.networks.normalisation import normalisation

torch.set_num_threads(1)
SIDES = {2: (6, 4), 3: (6, 4, 5)}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def layer_and_maps(dimensions, patches, order):
    torch.manual_seed(0)
    layer = normalisation("instance", dimensions)(7)
    with torch.no_grad():
        layer.weight.uniform_(0.5, 2)
        layer.bias.normal_()
    maps = 3 + 2 * torch.randn(patches, 7, *SIDES[dimensions])
    return layer, maps.to(memory_format=order).requires_grad_()


def by_hand(maps, weight, bias):
    """(x - mean) / sqrt(variance + 1e-5) of each map, times weight, plus bias."""
    sides = tuple(range(2, maps.dim()))
    variance = maps.var(sides, keepdim=True, correction=0)
    as_channels = [1, -1] + [1] * len(sides)
    normalised = (maps - maps.mean(sides, keepdim=True)) / (variance + 1e-5).sqrt()
    return normalised * weight.view(as_channels) + bias.view(as_channels)


@pytest.mark.parametrize("patches", [1, 3])
@pytest.mark.parametrize("gradient_last", [False, True])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_values_and_gradients_are_those_of_the_formula(dimensions, last, gradient_last, patches):
    layer, maps = layer_and_maps(dimensions, patches, LAST[dimensions] if last else torch.contiguous_format)
    upstream = torch.randn(maps.shape)
    order = LAST[dimensions] if gradient_last else torch.contiguous_format
    leaves = [maps, layer.weight, layer.bias]
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    ours, expected = layer(maps), by_hand(*exact)
    torch.testing.assert_close(ours, expected.float())
    gradients = torch.autograd.grad(ours, leaves, upstream.to(memory_format=order))
    for own, right in zip(gradients, torch.autograd.grad(expected, exact, upstream.double()), strict=True):
        torch.testing.assert_close(own, right.float(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_map_of_a_network_keeps_the_order_it_has_in_memory(dimensions):
    network = build_network(dimensions, 2, settings=NetworkSettings(normalisation="instance"))
    network.to(memory_format=LAST[dimensions])
    image = torch.randn(2, 1, *[32] * dimensions)
    maps = [*network.encode(image), *network(image).decoder]
    assert all(each.is_contiguous(memory_format=LAST[dimensions]) for each in maps)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_single_value_cannot_be_normalised(order):
    layer = normalisation("instance", 2)(7)
    with pytest.raises(ValueError, match="Expected more than 1"):
        layer(torch.randn(1, 7, 1, 1).to(memory_format=order))


def test_a_traced_network_takes_any_number_of_patches():
    layer, maps = layer_and_maps(3, 2, torch.channels_last_3d)
    traced = torch.jit.trace(layer, maps)
    more = torch.randn(5, *maps.shape[1:]).to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(traced(more), layer(more))
