"""The networks have the papers' sizes, resolutions and parameter counts."""

import monai.networks.nets
import pytest
import torch

from SemiSegLib.config import NetworkSettings
from SemiSegLib.networks import build_network
from SemiSegLib.networks.bank import FeatureBank
from SemiSegLib.networks.ema import make_teacher, update_teacher
from SemiSegLib.networks.points import neighbourhoods
from SemiSegLib.networks.vnet import VNet

torch.set_num_threads(1)


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_v_net_has_the_published_number_of_parameters():
    assert parameters(build_network(3, 2)) == 9_448_866
    assert parameters(build_network(3, 2, sdm=True)) == 9_448_866 + 17


def test_u_net_has_the_published_number_of_parameters():
    assert parameters(build_network(2, 4)) == 1_813_764
    assert parameters(build_network(2, 4, sdm=True)) == 1_813_764 + 3 * (9 * 16 + 1)


def test_v_net_has_the_published_blocks():
    network = VNet()
    assert [parameters(block) for block in network.encoder] == [480, 55_488, 332_352, 1_328_256, 5_310_720]
    assert [parameters(block) for block in network.down] == [4_192, 16_576, 65_920, 262_912]
    assert [parameters(block) for block in network.up] == [4_144, 16_480, 65_728, 262_528]
    assert [parameters(block) for block in network.decoder] == [6_960, 55_488, 332_352, 1_328_256]


@pytest.mark.parametrize(("dimensions", "sides"), [(2, (32, 48)), (3, (32, 16, 16))])
def test_outputs_have_the_resolutions_that_the_methods_count_on(dimensions, sides):
    network = build_network(dimensions, 3, sdm=True)
    output = network(torch.randn(2, 1, *sides))
    assert output.logits.shape == (2, 3, *sides)
    assert output.sdm.shape == (2, 2, *sides)
    assert output.sdm.abs().max() <= 1
    assert output.bottleneck.shape == (2, 256, *(side // 16 for side in sides))
    assert [m.shape[1] for m in output.decoder] == [128, 64, 32, 16]
    assert [m.shape[2] for m in output.decoder] == [sides[0] // 2**level for level in (3, 2, 1, 0)]
    torch.testing.assert_close(output.probabilities.sum(1), torch.ones(2, *sides))


@pytest.mark.parametrize(("dimensions", "sides"), [(2, (32, 32)), (3, (16, 16, 16))])
def test_encoding_and_decoding_is_the_network(dimensions, sides):
    network = build_network(dimensions, 2).eval()
    image = torch.randn(1, 1, *sides)
    features = network.encode(image)
    assert [f.shape[1] for f in features] == [16, 32, 64, 128, 256]
    assert [f.shape[2] for f in features] == [sides[0] // 2**level for level in range(5)]
    torch.testing.assert_close(network.decode(features).logits, network(image).logits)


@pytest.mark.parametrize(("dimensions", "sides"), [(2, (32, 32)), (3, (16, 16, 16))])
def test_dropout_is_active_in_training_only(dimensions, sides):
    network, image = build_network(dimensions, 2), torch.randn(2, 1, *sides)
    network.train()
    assert not torch.equal(network(image).logits, network(image).logits)
    network.eval()
    assert torch.equal(network(image).logits, network(image).logits)


@pytest.mark.parametrize(("dimensions", "sides"), [(2, (32, 32)), (3, (32, 16, 16))])
def test_instance_normalisation_sees_every_patch_by_itself(dimensions, sides):
    torch.manual_seed(0)
    images = torch.randn(3, 1, *sides)
    alone = {}
    for kind in ("batch", "instance"):
        network = build_network(dimensions, 2, settings=NetworkSettings(normalisation=kind, dropout=0.0)).train()
        alone[kind] = torch.allclose(network(images).logits[:2], network(images[:2]).logits, atol=1e-5)
        assert parameters(network) == parameters(build_network(dimensions, 2))
    assert alone == {"batch": False, "instance": True}


@pytest.mark.parametrize(("dimensions", "sides"), [(2, (32, 32)), (3, (16, 16, 16))])
def test_dropout_may_be_left_out_or_weaker(dimensions, sides):
    image = torch.randn(2, 1, *sides)
    network = build_network(dimensions, 2, settings=NetworkSettings(dropout=0.0)).train()
    assert torch.equal(network(image).logits, network(image).logits)
    kinds = (torch.nn.Dropout, torch.nn.Dropout2d, torch.nn.Dropout3d)
    rates = {
        share: [
            m.p
            for m in build_network(dimensions, 2, settings=NetworkSettings(dropout=share)).modules()
            if isinstance(m, kinds)
        ]
        for share in (0.5, 1.0)
    }
    assert rates[0.5] == [rate / 2 for rate in rates[1.0]]
    assert max(rates[1.0]) == 0.5


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize(("dimensions", "sides"), [(2, (32, 32)), (3, (32, 32, 16))])
def test_deep_supervision_gives_coarser_logits_while_training(dimensions, sides, parts):
    network = build_network(dimensions, 3, settings=NetworkSettings(deep_supervision=True)).train()
    network.parts = parts
    image = torch.randn(4, 1, *sides)
    coarse = network(image).coarse
    assert [tuple(logits.shape) for logits in coarse] == [(4, 3, *(side // n for side in sides)) for n in (4, 2)]
    assert network.eval()(image).coarse == []
    assert build_network(dimensions, 3).train()(image).coarse == []


@pytest.mark.parametrize("kind", ["batch", "instance"])
@pytest.mark.parametrize(("dimensions", "sides"), [(2, (32, 48)), (3, (32, 16, 48))])
def test_dynunet_is_monais_network(dimensions, sides, kind):
    norm = ("instance", {"affine": True}) if kind == "instance" else "batch"
    shape = ([3] * 5, [1, 2, 2, 2, 2], [2] * 4)
    theirs = monai.networks.nets.DynUNet(dimensions, 1, 3, *shape, filters=[16, 32, 64, 128, 256], norm_name=norm)
    settings = NetworkSettings(architecture="dynunet", normalisation=kind, dropout=0.0)
    ours = build_network(dimensions, 3, settings=settings)
    assert parameters(ours) == parameters(theirs)
    pairs = zip(ours.encoder, [theirs.input_block, *theirs.downsamples, theirs.bottleneck], strict=True)
    for mine, other in [*pairs, *zip(ours.decoder, reversed(theirs.upsamples), strict=True)]:
        mine.load_state_dict(other.state_dict())
    ours.mask_head.load_state_dict(theirs.output_block.conv.conv.state_dict())
    image = torch.randn(2, 1, *sides)
    torch.testing.assert_close(ours(image).logits, theirs(image))
    assert build_network(dimensions, 2, sdm=True, settings=settings)(image).sdm.shape == (2, 1, *sides)


@pytest.mark.parametrize("parts", [1, 2])
def test_dynunet_has_dropout_and_deep_supervision_as_the_papers_network(parts):
    settings = NetworkSettings(architecture="dynunet", normalisation="instance", deep_supervision=True)
    network, image = build_network(3, 3, settings=settings).train(), torch.randn(4, 1, 32, 32, 16)
    network.parts = parts
    found = network(image)
    assert [tuple(logits.shape[2:]) for logits in found.coarse] == [(8, 8, 4), (16, 16, 8)]
    assert [maps.shape[1] for maps in found.decoder] == [128, 64, 32, 16]
    assert found.bottleneck.shape == (4, 256, 2, 2, 1)
    assert not torch.equal(network(image).logits, network(image).logits)
    network.eval()
    assert torch.equal(network(image).logits, network(image).logits)
    assert network(image).coarse == []


def test_the_teacher_is_the_student_after_the_first_step_and_then_follows_slowly():
    student = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    teacher = make_teacher(student)
    for parameter in student.parameters():
        parameter.data.normal_()
    update_teacher(teacher, student, 0.99, 0)
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))
    before = [parameter.clone() for parameter in teacher.parameters()]
    for parameter in student.parameters():
        parameter.data.normal_()
    for iteration, decay in ((1, 0.5), (9, 0.9), (99, 0.99), (5000, 0.99)):
        expected = [decay * b + (1 - decay) * s for b, s in zip(before, student.parameters(), strict=True)]
        update_teacher(teacher, student, 0.99, iteration)
        for ours, wanted in zip(teacher.parameters(), expected, strict=True):
            torch.testing.assert_close(ours, wanted)
        before = [parameter.clone() for parameter in teacher.parameters()]


def test_the_teacher_never_takes_gradients_and_keeps_its_own_batch_statistics():
    student = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    teacher = make_teacher(student)
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    student(torch.randn(8, 3))
    teacher(torch.randn(8, 3) + 5)
    own = teacher[1].running_mean.clone()
    update_teacher(teacher, student, 0.99, 0)
    assert torch.equal(teacher[1].running_mean, own)
    assert not torch.equal(student[1].running_mean, own)


@pytest.mark.parametrize("sides", [(32, 16), (16, 16, 32)])
def test_features_at_voxels_are_those_of_the_dense_upsampling(sides):
    """Against interpolating all maps, concatenating them, and a real convolution with zero padding."""
    dimensions = len(sides)
    maps = [torch.randn(2, c, *(side // 2**level for side in sides)) for c, level in ((3, 0), (4, 2), (5, 4))]
    mode = "bilinear" if dimensions == 2 else "trilinear"
    dense = torch.cat([torch.nn.functional.interpolate(m, sides, mode=mode, align_corners=True) for m in maps], 1)
    weight = torch.randn(7, 12, *[3] * dimensions)
    convolve = torch.nn.functional.conv2d if dimensions == 2 else torch.nn.functional.conv3d
    expected = convolve(dense, weight, padding=1)
    points = torch.stack([torch.randint(side, (60,)) for side in (2, *sides)], 1)
    points[:4, 1:] = torch.tensor([[0] * dimensions, [side - 1 for side in sides]] * 2)  # corners
    found = neighbourhoods(maps, points, sides).flatten(1) @ weight.flatten(2).transpose(1, 2).flatten(1).T
    wanted = torch.stack([expected[(p[0], slice(None), *p[1:])] for p in points.tolist()])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)


def test_gradients_reach_the_maps_through_the_sampled_voxels_only():
    features = torch.randn(2, 3, 8, 8, requires_grad=True)
    points = torch.tensor([[1, 4, 4]])
    neighbourhoods([features], points, (8, 8)).sum().backward()
    reached = torch.zeros(2, 3, 8, 8)
    reached[1, :, 3:6, 3:6] = 1
    assert torch.equal(features.grad, reached)


def test_the_bank_keeps_the_newest():
    bank = FeatureBank(5, (2,))
    assert not bank.filled.any()
    for number in range(7):
        bank.push(torch.full((1, 2), float(number)))
        assert bank.filled.sum() == min(number + 1, 5)
    assert sorted(bank.entries[:, 0].tolist()) == [2, 3, 4, 5, 6]
    bank.push(torch.arange(8.0).reshape(8, 1).expand(8, 2))  # more than fit
    assert sorted(bank.entries[:, 0].tolist()) == [3, 4, 5, 6, 7]
    assert set(bank.state_dict()) == {"entries", "pushed"}


def test_the_bank_takes_no_gradients():
    bank = FeatureBank(5, (2,))
    bank.push(torch.randn(3, 2, requires_grad=True))
    assert not bank.entries.requires_grad
    assert FeatureBank(5, (2,), random=True).filled.all()
