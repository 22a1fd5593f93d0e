"""Convolutions that a CPU gets wrong in bfloat16 are found, and run in float32."""

import copy
import math

import pytest
import torch
from torch import nn

from motionops.models import build_backbone
from motionops.models.bfloat16_convolutions import _wrong_lengths, float32_where_wrong, wrong_lengths
from motionops.models.temporal_detail import finer_in_time
from tests.models.wrong_bfloat16 import plant

# Of two independent frames, the wrong gradient and the right one share 2 of their 3 and 4 parts: 2 / sqrt(12) is 55
# degrees. Rounding turns these gradients by 2 to 12.
ALIKE = math.cos(math.radians(20))


@pytest.fixture(autouse=True)
def asked_anew():
    """What one test's processor answers is not for the others'. One thread: the networks are tiny."""
    _wrong_lengths.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    _wrong_lengths.cache_clear()


@pytest.fixture(params=[0.0, math.nan])
def wrong(request, monkeypatch):
    plant(monkeypatch, request.param)


def small():
    torch.manual_seed(0)
    return build_backbone("r3d_small", widths=(4, 4, 8, 8)).to(memory_format=torch.channels_last_3d)


def clips(frames=8):
    return torch.rand(2, 3, frames, 16, 16).contiguous(memory_format=torch.channels_last_3d)


def gradients(network, clip, low):
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        y = network(clip)
    assert y.dtype == (torch.bfloat16 if low else torch.float32)
    (y.float() * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
    return {name: layer.weight.grad.clone() for name, layer in network.named_modules() if isinstance(layer, nn.Conv3d)}


def cosines(network, clip):
    exact, rounded = gradients(network, clip, low=False), gradients(network, clip, low=True)
    return {name: float(torch.cosine_similarity(exact[name].ravel(), rounded[name].ravel(), dim=0)) for name in exact}


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "lengths"),
    [
        (3, 1, 1, (2,)),
        ((3, 1, 1), 1, (1, 0, 0), (2,)),
        (3, (1, 2, 2), 1, (2,)),
        (3, 2, 1, (2,)),  # once `finer_in_time` has made it stride 1
        ((1, 3, 3), 1, (0, 1, 1), ()),
        (3, 1, 0, ()),
        (1, 1, 0, ()),
    ],
)
@pytest.mark.parametrize("channels", [(3, 8), (45, 64)])
def test_wrong_lengths_are_found(wrong, channels, kernel, stride, padding, lengths):
    assert wrong_lengths(nn.Conv3d(*channels, kernel, stride, padding)) == lengths
    assert wrong_lengths(nn.Conv3d(*channels, kernel, stride, padding, bias=False)) == lengths


@pytest.mark.parametrize("part", ["value", "input", "bias"])
def test_a_wrong_value_or_gradient_of_input_or_bias_is_found(monkeypatch, part):
    right = torch.nn.functional.conv3d

    def conv3d(x, weight, bias, *how):
        if x.dtype == torch.bfloat16:
            if part == "value":
                return right(x, weight, bias, *how) * 1.1
            turned = x if part == "input" else bias
            turned = turned.detach() + 1.1 * (turned - turned.detach())
            x, bias = (turned, bias) if part == "input" else (x, turned)
        return right(x, weight, bias, *how)

    monkeypatch.setattr(torch.nn.functional, "conv3d", conv3d)
    assert wrong_lengths(nn.Conv3d(4, 4, 3, padding=1)) == (1, 2, 3, 4, 5, 6)


def test_asking_draws_no_numbers_and_keeps_the_threads():
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    wrong_lengths(nn.utils.skip_init(nn.Conv3d, 4, 4, 3, padding=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("frames", [4, 8, 16])
def test_on_this_processor_gradients_are_float32s(frames):
    network, clip = small(), clips(frames)
    with float32_where_wrong(network):
        assert min(cosines(network, clip).values()) > ALIKE


def test_float32_mends_what_is_wrong(wrong):
    network, clip = small(), clips()
    lost = {name for name, cosine in cosines(network, clip).items() if not cosine > ALIKE}
    assert lost == {"layer3.conv2.0", "layer4.conv1.0", "layer4.conv2.0"}  # those of 2 frames after 8, stride 1
    with float32_where_wrong(network) as found:
        assert lost <= found.keys()
        assert set(found.values()) == {(2,)}
        assert min(cosines(network, clip).values()) > ALIKE
    assert {name for name, cosine in cosines(network, clip).items() if not cosine > ALIKE} == lost


def test_also_where_time_is_made_finer(wrong):
    network, clip = small(), clips(4)
    with finer_in_time(network, 2):
        assert not cosines(network, clip)["layer3.conv1.0"] > ALIKE
        with float32_where_wrong(network):
            assert min(cosines(network, clip).values()) > ALIKE


def test_also_in_copies_and_compiled(wrong):
    network, clip = small(), clips()
    with float32_where_wrong(network):
        expected = gradients(network, clip, low=True)
        again = copy.deepcopy(network)
        torch._dynamo.reset()
        compiled = torch.compile(again, backend="aot_eager", fullgraph=True)
        for name, gradient in gradients(compiled, clip, low=True).items():
            torch.testing.assert_close(gradient, expected[name.removeprefix("_orig_mod.")], rtol=0.05, atol=0.05)


def test_without_autocast_nothing_changes(wrong):
    network, clip = small(), clips()
    expected, weights = gradients(network, clip, low=False), network.state_dict().keys()
    with float32_where_wrong(network):
        assert all(torch.equal(expected[name], g) for name, g in gradients(network, clip, low=False).items())
        assert network.state_dict().keys() == weights


def test_the_way_back_is_found_also_after_an_error(wrong):
    network = small()
    with pytest.raises(RuntimeError, match="stop"), float32_where_wrong(network):
        raise RuntimeError("stop")
    assert not any("_conv_forward" in vars(layer) for layer in network.modules())
