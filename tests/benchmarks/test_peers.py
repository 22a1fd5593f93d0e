"""The glue between the losses of others and ours, with the losses played by PyTorch's own."""

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from benchmarks import peers
from benchmarks.contrast import bench_queue_infonce, bench_region_contrast
from motionops.contrast import queue_infonce_reference, region_contrast_reference
from tests.contrast.samples import queue_sample, region_sample

GPU = torch.device("cuda")


def cross_entropy(rows, columns, classes, *, reduction="mean", **_):
    return F.cross_entropy(rows.float() @ columns.float().T, classes, reduction=reduction)


class Liger:
    def __init__(self, reduction="mean"):
        self.reduction = reduction

    def __call__(self, columns, rows, classes):
        return cross_entropy(rows, columns, classes, reduction=self.reduction)


class FlashProb:
    @staticmethod
    def apply(rows, columns):
        return torch.logsumexp(rows.flatten(1) @ columns.flatten(1).T, dim=1)


PLAYED = {
    "cut_cross_entropy": SimpleNamespace(linear_cross_entropy=cross_entropy),
    "liger_kernel.transformers": SimpleNamespace(LigerFusedLinearCrossEntropyLoss=Liger),
    "inf_cl.flash": SimpleNamespace(FlashProb=FlashProb),
}


@pytest.fixture
def played(monkeypatch):
    monkeypatch.setattr(peers, "optional", PLAYED.get)


def test_a_queue_beside_its_positives(played):
    sample = queue_sample(5, 37, 16, dtype=torch.float64)
    query, key, queue = (sample[name].float() for name in ("query", "key", "queue"))
    query.requires_grad_()
    expected = queue_infonce_reference(query, key, queue).loss
    sums = peers.logsumexps(torch.bfloat16, GPU, column_gradient=False)
    assert list(sums) == ["cut-cross-entropy"]
    for of_queue in sums.values():
        loss = bench_queue_infonce.with_logsumexp(of_queue)(query, key, queue)
        torch.testing.assert_close(loss, expected)
        gradients = [torch.autograd.grad(value, query, retain_graph=True)[0] for value in (loss, expected)]
        torch.testing.assert_close(*gradients)


def test_soft_targets(played):
    sample = region_sample(2, 3, (2, 1, 2), (2, 3, 1), 16)
    features = [sample[name].requires_grad_() for name in ("query", "key")]
    expected = region_contrast_reference(**sample)
    sums = peers.logsumexps(torch.bfloat16, GPU, column_gradient=True)
    assert list(sums) == ["cut-cross-entropy", "Inf-CL"]
    for of_cells in sums.values():
        loss = bench_region_contrast.with_logsumexp(of_cells)(**sample)
        torch.testing.assert_close(loss, expected)
        ours, theirs = (torch.autograd.grad(value, features, retain_graph=True) for value in (expected, loss))
        torch.testing.assert_close(theirs, ours)


def test_cut_cross_entropy_is_for_16_bits_and_all_are_for_a_gpu(played):
    assert not peers.logsumexps(torch.float32, GPU, column_gradient=False)
    assert not peers.logsumexps(torch.bfloat16, torch.device("cpu"), column_gradient=True)


def test_what_is_not_installed():
    assert not peers.installed("no_such_package")
    assert not peers.installed("no_such_package.part")
    assert peers.installed("torch.nn")


def test_cupy_takes_torchs_memory(monkeypatch):
    taken = []
    allocators = SimpleNamespace(
        PythonFunctionAllocator=lambda take, give_back: SimpleNamespace(malloc=(take, give_back)),
        set_allocator=taken.append,
    )
    modules = {"cupy": SimpleNamespace(cuda=allocators), "cupyx.scipy.ndimage": "the filters"}
    monkeypatch.setattr(peers, "optional", modules.get)
    monkeypatch.setattr(torch.cuda, "caching_allocator_alloc", lambda size, device: 1000 * device + size)
    given = []
    monkeypatch.setattr(torch.cuda, "caching_allocator_delete", given.append)
    assert peers.cupy_filters() == "the filters"
    ((take, give_back),) = taken
    assert take(64, 1) == 1064
    give_back(1064, 1)
    assert given == [1064]
    monkeypatch.setattr(peers, "optional", {}.get)
    assert peers.cupy_filters() is None
