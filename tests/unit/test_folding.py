import pytest
import torch
from torch import nn

from coala_latent.models.folding import folded, folded_parameters, scale_and_shift


def filled(norm, seed=0):
    generator = torch.Generator().manual_seed(seed)
    norm.running_mean.normal_(0.0, 1.0, generator=generator)
    norm.running_var.uniform_(0.1, 3.0, generator=generator)
    if norm.affine:
        norm.weight.data.normal_(0.0, 1.0, generator=generator)
        norm.bias.data.normal_(0.0, 1.0, generator=generator)
    return norm.eval()


PAIRS = {
    "1d": (nn.Conv1d(3, 4, 5, stride=2, padding=2), nn.BatchNorm1d(4), (2, 3, 20)),
    "1d without bias": (nn.Conv1d(3, 4, 5, bias=False), nn.BatchNorm1d(4, eps=0.1), (2, 3, 20)),
    "2d": (nn.Conv2d(3, 4, (3, 2), dilation=2), nn.BatchNorm2d(4), (2, 3, 9, 8)),
    "depthwise": (nn.Conv2d(3, 6, 3, groups=3, bias=False), nn.BatchNorm2d(6), (2, 3, 9, 8)),
    "not affine": (nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4, affine=False), (2, 3, 5)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_one_convolution_does_what_the_pair_does(name):
    conv, norm, shape = PAIRS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted = filled(norm)(conv(x))
        before = {name: values.clone() for name, values in conv.state_dict().items()}
        fused = folded(conv, norm)
        assert type(fused) is type(conv)
        assert torch.allclose(fused(x), wanted, atol=1e-5)
        scale, shift = scale_and_shift(conv, norm)
        by_channel = (-1, *(1,) * (x.dim() - 2))
        bare = conv(x) if conv.bias is None else conv(x) - conv.bias.reshape(by_channel)
        found = bare * scale.reshape(by_channel) + shift.reshape(by_channel)
        assert torch.allclose(found, wanted, atol=1e-5)
    assert all(torch.equal(before[name], values) for name, values in conv.state_dict().items())
    assert not any(values.requires_grad for values in fused.parameters())


def test_folding_is_done_in_float64_and_rounded_once():
    conv, norm = nn.Conv1d(2, 3, 4), filled(nn.BatchNorm1d(3))
    weight, bias = folded_parameters(conv, norm)
    exact_weight, exact_bias = folded_parameters(conv.double(), norm.double())
    assert exact_weight.dtype == torch.float64
    assert torch.equal(weight, exact_weight.float())
    assert torch.equal(bias, exact_bias.float())


def test_norms_that_do_not_belong_are_refused():
    with pytest.raises(ValueError, match="3 channels, the convolution 4"):
        folded(nn.Conv1d(1, 4, 2), nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match="running statistics"):
        folded(nn.Conv1d(1, 4, 2), nn.BatchNorm1d(4, track_running_stats=False))
