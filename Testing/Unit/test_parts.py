"""A batch computed in parts: the same loss and the same gradients, for every method, and nothing counted twice."""

import copy

import pytest
import torch
from ranks import freeze_statistics, pin_dropout

from SemiSegLib.methods import available, method_class
from SemiSegLib.networks import build_network
from SemiSegLib.networks.parts import InParts, interleaved
from SemiSegLib.schedules import Step

METHODS = available()


def set_parts(method, parts):
    for module in method.modules():
        if isinstance(module, InParts):
            module.parts = parts


def gradients(method, batch, stage):
    """(terms, gradients by parameter) of a batch, from the same state each time."""
    method = copy.deepcopy(method)
    torch.manual_seed(0)
    terms = method.losses(batch, Step(5, 10, stage))
    torch.stack([term.weight * term.value for term in terms.values()]).sum().backward()
    found = {name: p.grad for name, p in method.named_parameters() if p.grad is not None}
    return {name: term.value.item() for name, term in terms.items()}, found


@pytest.mark.parametrize(("name", "stage"), [(name, stage) for name in METHODS for stage in method_class(name).stages])
def test_parts_change_neither_loss_nor_gradients(name, stage, make_method, make_batch):
    """Batch statistics, which are those of a part, stand still here; two labelled and four unlabelled patches."""
    method = make_method(name, (32, 32), 3)
    pin_dropout(method)
    freeze_statistics(method)
    method.enter_stage(stage, True)
    batch = make_batch((32, 32), 3, 2, 4)
    expected, theirs = gradients(method, batch, stage)
    set_parts(method, 3)
    found, ours = gradients(method, batch, stage)
    assert found == pytest.approx(expected, rel=1e-4)
    assert ours.keys() == theirs.keys()
    largest = max(float(gradient.abs().max()) for gradient in theirs.values())
    for key in theirs:
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-3, atol=1e-5 * largest, msg=key)


@pytest.mark.parametrize("sides", [(32, 32), (32, 16, 16)])
def test_a_part_s_statistics_count_once_and_its_dropout_is_the_same_again(sides):
    torch.manual_seed(0)
    network = build_network(len(sides), 2).train()
    network.parts = 2
    image = torch.randn(4, 1, *sides)
    logits = network(image).logits
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    logits.square().mean().backward()
    assert all(torch.equal(value, buffers[name]) for name, value in network.named_buffers())
    counts = {int(value) for name, value in buffers.items() if name.endswith("num_batches_tracked")}
    assert counts == {2}
    # By hand: the parts one after the other, with the same random numbers.
    torch.manual_seed(0)
    other = build_network(len(sides), 2).train()
    assert torch.equal(torch.randn(4, 1, *sides), image)
    features = [other.encode(image[part::2]) for part in (0, 1)]
    halves = [other.decode(each).logits for each in features]
    whole = torch.stack(halves, 1).flatten(0, 1)
    torch.testing.assert_close(whole, logits)
    whole.square().mean().backward()
    for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_less_is_kept_in_memory():
    """Bytes of what autograd keeps for the way back."""
    kept = {}
    for parts in (1, 4):
        network = build_network(3, 2).train()
        network.parts = parts
        seen = {}

        def remember(tensor, seen=seen):
            seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        image = torch.randn(4, 1, 32, 32, 16)
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            loss = network(image).logits.square().mean()
        kept[parts] = sum(seen.values())
        loss.backward()
    assert kept[4] < 0.5 * kept[1]


def test_parts_of_one_cell_stay_together_in_pairs():
    network = build_network(3, 2).train()
    network.parts = 4
    network(torch.randn(4, 1, 16, 16, 16)).logits.mean().backward()  # one alone has no variance at the bottleneck
    assert int(network.encoder[0][1].num_batches_tracked) == 2


@pytest.mark.parametrize("count", [4, 5, 7])
def test_rows_come_back_in_their_order(count):
    rows = torch.arange(count)
    assert torch.equal(interleaved([rows[i::3] for i in range(3)]), rows)


def test_prediction_is_not_divided():
    network = build_network(2, 2).eval()
    network.parts = 2
    image = torch.randn(4, 1, 32, 32)
    with torch.no_grad():
        found = network(image).logits
    network.parts = 1
    assert torch.equal(found, network(image).logits)
