"""What torch is told of float32 matrix products, by its old settings and its new ones: TF32 where it is allowed.

Both APIs cannot be mixed within a process, so each setting has one of its own: forked from one in which nothing else
was run, since autograd's threads do not live through a fork.
"""

import json
import os
import subprocess
import sys
import traceback
from functools import cache
from pathlib import Path

import pytest
import torch

from motionops import library
from tests.conftest import EMULATED_NAMESPACE, load_emulated
from tests.contrast.budget import loss_and_gradients
from tests.contrast.every_operator import OPERATORS, features_of, sample_of

ROOT = Path(__file__).resolve().parents[2]

# The setting, and whether torch's own products on CUDA may then be taken in TF32 (torch's notes on numerical accuracy).
SETTINGS = {
    "pass": False,
    "torch.backends.cuda.matmul.allow_tf32 = True": True,
    "torch.backends.cuda.matmul.allow_tf32 = False": False,
    "torch.set_float32_matmul_precision('highest')": False,
    "torch.set_float32_matmul_precision('high')": True,
    "torch.set_float32_matmul_precision('medium')": True,
    "torch.backends.fp32_precision = 'ieee'": False,
    "torch.backends.fp32_precision = 'tf32'": True,
    "torch.backends.cuda.matmul.fp32_precision = 'ieee'": False,
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'": True,
    "torch.backends.cudnn.conv.fp32_precision = 'tf32'": False,
    "torch.backends.mkldnn.matmul.fp32_precision = 'bf16'": False,
}
# Products then have 10 bits of fraction in place of 23: a gradient is off by some 1e-4 of its largest value, not 1e-7.
TF32_ERROR = 1e-5


def errors(device: str, dim: int = 40) -> dict[str, float]:
    """How far each operator's gradient of float32 queries is from that of float64; the other types have to run."""
    found = {}
    for op, (operator, reference) in OPERATORS.items():
        sample = sample_of(op, dim)
        wide = {name: value.double() if value.is_floating_point() else value for name, value in sample.items()}
        truth = loss_and_gradients(reference, wide, ("query", "key"))["query"]
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            typed = {
                name: (value.to(dtype) if name in features_of(sample) else value).to(device)
                for name, value in sample.items()
            }
            gradient = loss_and_gradients(operator, typed, ("query", "key"))["query"].cpu()
            if dtype == torch.float32:
                found[op] = ((gradient - truth).abs().max() / truth.abs().max()).item()
    return found


def errors_with(setting: str, device: str) -> dict[str, float]:
    """`errors` in a process in which torch was told `setting`."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            exec(setting, {"torch": torch})
            answer = json.dumps(errors(device))
        except BaseException:
            answer = json.dumps(traceback.format_exc())
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = json.loads(pipe.read())
    os.waitpid(child, 0)
    assert isinstance(answer, dict), answer
    return answer


def print_errors(namespace: str) -> None:
    """Print, as JSON, what `errors_with` finds for every setting: the program of the process that is forked from."""
    if namespace == EMULATED_NAMESPACE:
        assert load_emulated() is None
    with library.use_namespace(namespace):
        print(json.dumps({setting: errors_with(setting, "cpu") for setting in SETTINGS}))


@cache
def all_errors(namespace: str) -> dict[str, dict[str, float]]:
    program = f"from tests.contrast.test_matmul_precision import print_errors; print_errors({namespace!r})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("setting", SETTINGS)
def test_tf32_is_used_where_torch_allows_it(backend, setting):
    if backend.name == "cuda":
        pytest.skip("a process that has used the GPU cannot be forked: test_cuda_follows_torch")
    for op, error in all_errors(backend.namespace)[setting].items():
        if SETTINGS[setting] and backend.name == "emulated":
            assert error > TF32_ERROR, f"{op}: products in float32 where TF32 is allowed"
        else:
            assert error < TF32_ERROR, f"{op}: off by {error}"


@pytest.mark.parametrize("dim", [40, 136])  # the second by torch's own products, where an operator has such a way
@pytest.mark.parametrize("precision", ["ieee", "tf32"])
def test_cuda_follows_torch(backend, precision, dim):
    if backend.name != "cuda":
        pytest.skip("needs a GPU")
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = precision
    try:
        found = errors("cuda", dim)
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    for op, error in found.items():
        assert (error > TF32_ERROR) == (precision == "tf32"), f"{op}: off by {error}"
