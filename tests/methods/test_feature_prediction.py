"""The predictors of Context-Motion Decoupling: shapes, what they depend on, a GRU written out, wrong arguments."""

import pytest
import torch

from motionops.methods.context_motion.feature_prediction import ConvGRUPredictor, TransformerPredictor

SOURCE, TARGET = (2, 3, 4), (3, 2, 5)


def transformer(**changes):
    torch.manual_seed(0)
    own = {"width": 16, "heads": 4, "feedforward": 24, "encoder_layers": 1, "decoder_layers": 2}
    return TransformerPredictor(6, 7, SOURCE, TARGET, **{**own, **changes})


def gru(**changes):
    torch.manual_seed(0)
    return ConvGRUPredictor(6, 7, SOURCE, TARGET, **{"width": 8, **changes})


@pytest.mark.parametrize("make", [transformer, gru])
def test_a_map_of_the_targets_shape_from_all_of_the_source(make):
    predictor = make().eval()
    source = torch.randn(2, 6, *SOURCE, requires_grad=True)
    predicted = predictor(source)
    assert predicted.shape == (2, 7, *TARGET)
    predicted[0, :, -1].sum().backward()
    assert (source.grad[0].abs().sum(dim=0) > 0).float().mean() > (0.99 if make is transformer else 0.5)
    assert (source.grad[1] == 0).all()
    source.grad = None
    predictor(source).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in predictor.parameters())


def test_the_papers_transformer():
    """2 encoding layers, 4 decoding layers, 512 (Section 4.1); on the maps of C3D and R3D-10 at 112 x 112."""
    with torch.device("meta"):
        predictor = TransformerPredictor(512, 512, (2, 7, 7), (1, 7, 7))
        assert predictor(torch.empty(1, 512, 2, 7, 7)).shape == (1, 512, 1, 7, 7)
    assert (len(predictor.encoder), len(predictor.decoder)) == (2, 4)
    assert predictor.queries.shape == (49, 512)


def test_positions_tell_cells_apart():
    predictor = transformer(dropout=0.0).eval()
    source = torch.randn(1, 6, *SOURCE)
    cells = source.flatten(2)
    turned = cells.roll(1, dims=2).view_as(source)
    assert (predictor(source) - predictor(turned)).abs().max() > 0.01  # rounding alone: 3e-7
    assert predictor(torch.zeros_like(source)).flatten(2).std(dim=2).max() > 0.01  # and its own cells


def test_dropout_is_off_in_evaluation():
    predictor, source = transformer(dropout=0.5), torch.randn(2, 6, *SOURCE)
    assert not torch.equal(predictor(source), predictor(source))
    predictor.eval()
    torch.testing.assert_close(predictor(source), predictor(source), rtol=0, atol=0)


def test_the_gru_against_its_equations_with_kernels_of_one():
    """Then every cell is a GRU by itself: Cho et al. 2014, in torch's GRUCell up to which gate keeps the state."""
    predictor = ConvGRUPredictor(5, 3, (2, 1, 1), (3, 1, 1), width=4, kernel=1).double().eval()
    source = torch.randn(2, 5, 2, 1, 1, dtype=torch.float64)

    def linear(convolution, x):
        return x @ convolution.weight[:, :, 0, 0, 0].T + convolution.bias

    def step(x, h):
        both = torch.cat([x, h], dim=1)
        z, r = linear(predictor.gates, both).sigmoid().chunk(2, dim=1)
        n = linear(predictor.candidate, torch.cat([x, r * h], dim=1)).tanh()
        return (1 - z) * h + z * n

    h = torch.zeros(2, 4, dtype=torch.float64)
    for t in range(2):
        h = step(linear(predictor.embed, source[:, :, t, 0, 0]), h)
    expected = []
    for _ in range(3):
        first, _, second = predictor.predict
        frame = linear(second, linear(first, h).relu())
        expected.append(linear(predictor.unembed, frame))
        h = step(frame, h)
    torch.testing.assert_close(predictor(source)[..., 0, 0], torch.stack(expected, dim=2))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (transformer, {"width": 15}, "width must be even and a multiple of heads=4, got 15"),
        (transformer, {"heads": 3}, "width must be even and a multiple of heads=3, got 16"),
        (transformer, {"decoder_layers": 0}, "decoder_layers must be at least 1, got 0"),
        (transformer, {"encoder_layers": -1}, "encoder_layers must be at least 0, got -1"),
        (transformer, {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        (gru, {"width": 0}, "width must be at least 1, got 0"),
        (gru, {"kernel": 2}, "kernel must be odd, got 2"),
    ],
)
def test_wrong_numbers(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.parametrize("make", [transformer, gru])
def test_wrong_maps(make):
    with pytest.raises(ValueError, match=r"Predictor: source must be \[B, 6, 2, 3, 4\], got \[1, 6, 2, 4, 3\]"):
        make()(torch.zeros(1, 6, 2, 4, 3))
    for maker in (TransformerPredictor, ConvGRUPredictor):
        with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
            maker(0, 7, SOURCE, TARGET)
        with pytest.raises(ValueError, match="target_shape must be three positive numbers"):
            maker(6, 7, SOURCE, (1, 2))
