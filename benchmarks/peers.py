"""Peers that a machine may lack: what is installed is measured, what is not is named."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module, util
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

# module -> what it is called in the results
OPTIONAL = {
    "kornia": "kornia",
    "scipy": "SciPy",
    "cv2": "OpenCV",
    "cv2.optflow": "OpenCV's optflow",  # of its contrib build alone
    "skimage": "scikit-image",
    "torchvision": "torchvision",
    "cupy": "CuPy",
    "cut_cross_entropy": "cut-cross-entropy",
    "liger_kernel": "Liger",
    "inf_cl": "Inf-CL",
    "quack": "QuACK",
}


def installed(name: str) -> bool:
    """Whether a module can be found; nothing is imported."""
    try:
        return util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package that a module would lie in
        return False


def missing() -> list[str]:
    """The peers that are not measured here, by what they are called."""
    return [title for name, title in OPTIONAL.items() if not installed(name)]


def optional(name: str) -> ModuleType | None:
    """A module, or None where it, or something that it needs, is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return None


def cupy_filters() -> ModuleType | None:
    """CuPy's ndimage, or None; it is given torch's memory, so that its peak is measured as the others' are."""
    filters, cupy = optional("cupyx.scipy.ndimage"), optional("cupy")
    if filters is not None:

        def take(size: int, device: int) -> int:
            return torch.cuda.caching_allocator_alloc(size, device)

        def give_back(pointer: int, device: int) -> None:
            torch.cuda.caching_allocator_delete(pointer)

        cupy.cuda.set_allocator(cupy.cuda.PythonFunctionAllocator(take, give_back).malloc)
    return filters


def linear_cross_entropies(query: Tensor, key: Tensor, temperature: float) -> dict[str, Callable[[], tuple]]:
    """The fused losses of others, as InfoNCE in a batch: a row's class is its own key. But for torch's, on a GPU alone.

    Args:
        query: [N, D], the rows; key: [M, D], the classes; both want gradients.
        temperature: divides the similarities.

    Returns:
        name -> function that returns (loss, gradient of query, gradient of key); those that are installed and take the
        type.
    """
    found: dict[str, Callable[[], tuple]] = {}
    own = torch.arange(len(query), device=query.device)

    def with_gradients(loss: Callable[[], Tensor]) -> Callable[[], tuple]:
        def step() -> tuple:
            value = loss()
            return value, *torch.autograd.grad(value, (query, key))

        return step

    options = getattr(torch.nn, "LinearCrossEntropyOptions", None)  # of torch 2.14 and newer
    if options is not None:
        found["torch, in chunks"] = with_gradients(
            lambda: functional.linear_cross_entropy(query / temperature, key, own, options=options())
        )
    if query.device.type != "cuda":
        return found
    apple = optional("cut_cross_entropy") if query.dtype.itemsize == 2 else None
    if apple is not None:
        found["cut-cross-entropy"] = with_gradients(
            lambda: apple.linear_cross_entropy(query / temperature, key, own, filter_eps=None)
        )
    liger = optional("liger_kernel.transformers")
    if liger is not None:
        fused = liger.LigerFusedLinearCrossEntropyLoss()
        found["Liger"] = with_gradients(lambda: fused(key, query / temperature, own))
    quack = optional("quack.linear_cross_entropy") if query.dtype.itemsize == 2 else None
    if quack is not None:
        found["QuACK"] = with_gradients(lambda: quack.chunked_linear_cross_entropy(query / temperature, key, own))
    contrast = optional("inf_cl")
    if contrast is not None:
        width = min(query.shape[1], INF_CL_WIDTH)
        found["Inf-CL"] = with_gradients(
            lambda: contrast.cal_flash_loss(query, key, own, 1 / temperature, width).mean()
        )
    return found


# Of the largest gradient: cut-cross-entropy adds the blocks of columns up in the features' own type, where ours and the
# eager formula's product add in float32. Seen on an H100 with bfloat16: 4 % and 5 % (2^14, 2^16 columns), 7 % (2^20).
# QuACK keeps logits in 16 bits: one of 10 is off by up to 0.03, and so is its weight by 3 %.
BOUNDS = {"cut-cross-entropy": 0.1, "QuACK": 0.1}

# Inf-CL reads the features in pieces of this width, a power of two.
INF_CL_WIDTH = 256


def logsumexps(
    dtype: torch.dtype, device: torch.device, *, column_gradient: bool
) -> dict[str, Callable[[Tensor, Tensor, float], Tensor]]:
    """log Σ exp(rows · columns / temperature), ``[N]``, from the fused losses of others: the part of a contrast that
    they have in common with losses whose positives are no columns. On a GPU alone.

    cut-cross-entropy gives the cross-entropy of a class, which is that sum less the class's logit: for class 0 it is
    added again, a product of [N] rows, whose gradient takes their one-hot term away. Inf-CL gives the sum itself, and
    always the gradient of the columns too: where none is wanted it would do twice the work, and is left out. Liger's is
    not here: without a reduction it scales all gradients by the first row's (0.8.5; linkedin/Liger-Kernel, issue 968).

    Returns:
        name -> function of (rows [N, D], columns [M, D], temperature); those that are installed and take ``dtype``.
    """
    found: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {}
    if device.type != "cuda":
        return found

    def of_class_0(cross_entropy: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
        def logsumexp(rows: Tensor, columns: Tensor, temperature: float) -> Tensor:
            scaled = (rows / temperature).to(columns.dtype)
            first = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
            return cross_entropy(scaled, columns, first).float() + scaled.float() @ columns[0].float()

        return logsumexp

    # Its backward pass takes 16-bit rows alone; filter_eps=None: by default it leaves small gradients out.
    apple = optional("cut_cross_entropy") if dtype.itemsize == 2 else None
    if apple is not None:
        found["cut-cross-entropy"] = of_class_0(
            lambda rows, columns, first: apple.linear_cross_entropy(
                rows, columns, first, reduction="none", filter_eps=None
            )
        )
    contrast = optional("inf_cl.flash") if column_gradient else None
    if contrast is not None:

        def inf_cl(rows: Tensor, columns: Tensor, temperature: float) -> Tensor:
            width = min(rows.shape[1], INF_CL_WIDTH)
            pieces = ((rows / temperature).float(), columns.float())
            return contrast.FlashProb.apply(*(piece.view(len(piece), -1, width) for piece in pieces))

        found["Inf-CL"] = inf_cl
    return found
