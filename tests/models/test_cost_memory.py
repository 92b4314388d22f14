"""The cost card's bytes: data that operations read and write, and live data at the peak, computed by hand."""

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from steps.models.cost import cost_of
from steps.reparam.expand import expand
from steps.reparam.fold import absorb_norms, fold
from tests.models.costs import FLOAT, PIXELS, Call, image


def test_memory_access_is_inputs_outputs_and_weights_of_each_operation() -> None:
    pointwise = cost_of(nn.Conv2d(8, 12, 1, bias=False), image())
    assert pointwise.memory_access_bytes == FLOAT * (PIXELS * (8 + 12) + 8 * 12)  # Ma et al. 2018, section 2
    normed = cost_of(nn.Sequential(nn.Conv2d(8, 12, 1, bias=False), nn.BatchNorm2d(12)), image())
    assert normed.memory_access_bytes - pointwise.memory_access_bytes == FLOAT * (2 * 12 * PIXELS + 4 * 12)
    for activation in (nn.ReLU(), nn.ReLU(inplace=True)):
        assert cost_of(activation, image()).memory_access_bytes == FLOAT * 2 * 8 * PIXELS
    assert cost_of(Call(lambda x: x.flatten(1).unsqueeze(0)), image()).memory_access_bytes == 0


def test_an_expanded_tensor_is_read_once() -> None:
    broadcast = cost_of(Call(lambda x: x * x[:, :1].expand_as(x)), image())
    assert broadcast.memory_access_bytes == FLOAT * PIXELS * (8 + 1 + 8)


def one_site() -> nn.Module:
    """Return a convolution that keeps its input's shape, so that a RepVGG block has all three branches."""
    return nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)).eval()


def test_branches_double_the_peak_of_live_activations() -> None:
    """Computed by hand, in feature maps of equal size: a convolution needs two, its input and its output.

    In the block, while the second branch's norm runs, four are live: the input (the identity branch still reads
    the input), the first branch's output, and the norm's input and output.
    """
    network = one_site()
    expand(network, "repvgg", example_NCHW=image())
    plain = absorb_norms(fold(network), image())
    one_map = FLOAT * 8 * PIXELS
    assert cost_of(network, image()).peak_live_bytes == 4 * one_map
    assert cost_of(plain, image()).peak_live_bytes == 2 * one_map


def test_the_peak_follows_data_not_names() -> None:
    one_map = FLOAT * 8 * PIXELS

    def held_for_nothing(images: Tensor) -> Tensor:
        first = images.exp()
        second = first.exp()  # the variable `first` still exists, but nothing reads it again
        return second.exp()

    def residual(images: Tensor) -> Tensor:
        return images.exp().exp().exp() + images

    named, skip = cost_of(Call(held_for_nothing), image()), cost_of(Call(residual), image())
    assert (named.peak_live_bytes, named.peak_held_bytes) == (2 * one_map, 4 * one_map)
    assert skip.peak_live_bytes == 3 * one_map


def test_views_and_work_in_place_need_no_memory_of_their_own() -> None:
    one_map = FLOAT * 8 * PIXELS
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Unflatten(1, (8, -1)))
    assert cost_of(network, image()).peak_live_bytes == 2 * one_map


def test_what_is_held_is_what_the_allocator_saw() -> None:
    """The operations here need no scratch memory."""

    def several(images: Tensor) -> Tensor:
        first, second = images.exp(), images.sigmoid()
        return (first + second).relu_().flatten(1)

    network, example = Call(several), image()
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        network(example)
    assert profiled.profiler is not None and profiled.profiler.kineto_results is not None
    events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    assert cost_of(network, example).peak_held_bytes - example.nbytes == peak > 0
