"""The direction of the flow; RAFT's from a file of weights: what torchvision's network says of the same pair."""

import pytest
import torch
from torchvision.models.optical_flow import Raft_Large_Weights, raft_large

from motionops.errors import UserError
from motionops.motion.pair_motion import RAFTPairs, motion_of_pairs, raft_file, tvl1_pairs


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return raft_large(weights=None).eval()


@pytest.fixture
def weights(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


@pytest.mark.parametrize("pairs", [1, 3])
def test_flow_goes_from_the_later_to_the_earlier_frame(network, weights, monkeypatch, pairs):
    monkeypatch.setattr("motionops.motion.pair_motion.RAFT_CHUNK", 2)
    pictures = torch.randint(0, 256, (pairs, 2, 128, 128, 3), dtype=torch.uint8)
    flow = RAFTPairs(weights)(pictures)
    transform = Raft_Large_Weights.C_T_V2.transforms()
    earlier, later = pictures.permute(0, 1, 4, 2, 3).unbind(1)
    with torch.no_grad():
        expected = network(*transform(later, earlier))[-1]
    torch.testing.assert_close(flow, expected, rtol=1e-4, atol=1e-3)
    edges = motion_of_pairs(pictures[None], "flow-edges", lambda flat: expected)
    assert edges.shape == (1, 1, pairs, 128, 128)


@pytest.mark.parametrize("axis", [0, 1])
def test_tvl1_goes_from_the_later_to_the_earlier_frame(axis):
    """What moved by +2 pixels is found 2 pixels back, along the axis that it moved along."""
    pairs = torch.zeros(1, 2, 32, 32, 3, dtype=torch.uint8)
    pairs[0, 0, 10:20, 10:20] = 200
    pairs[0, 1] = pairs[0, 0].roll(2, dims=1 - axis)
    inside = tvl1_pairs(pairs)[0, :, 12:18, 12:18].mean(dim=(1, 2))
    assert inside[axis].item() == pytest.approx(-2, abs=0.5)
    assert inside[1 - axis].item() == pytest.approx(0, abs=0.5)


def test_the_hub_cache_is_looked_into(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    name = Raft_Large_Weights.C_T_V1.url.rsplit("/", 1)[1]
    weights.rename(tmp_path / "checkpoints" / name)
    assert raft_file().name == name
    RAFTPairs()


@pytest.mark.parametrize("content", [b"no weights", None])
def test_a_file_of_something_else(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content is None:
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"--raft-weights: .*weights.pth does not hold the weights of raft_large as in"):
        RAFTPairs(path)
