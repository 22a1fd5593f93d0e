"""Whether float32 products may be taken in TF32, as torch is told."""

import torch
from torch import Tensor

from motionops.library import NAMESPACE, current_namespace


def tf32_allowed(features: Tensor) -> bool:
    """Whether the kernels may round the products of ``features`` to TF32.

    What torch's own matrix products may do is asked (``torch.set_float32_matmul_precision``, ``torch.backends``' old
    and new settings), and only where it matters: the CPU's kernels and those of 16-bit types have no such choice.
    """
    if features.dtype != torch.float32 or (features.is_cpu and current_namespace() == NAMESPACE):
        return False
    return _tf32_matmul()


def _tf32_matmul() -> bool:
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


# What torch.compiler.assume_constant_result does, without importing the compiler, which takes as long as torch itself.
_tf32_matmul._dynamo_marked_constant = True
