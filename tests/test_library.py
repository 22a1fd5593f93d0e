"""Loading the operators, taking arrays, and what the build says of itself."""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

import motionops
from motionops import info, library
from motionops.arrays import as_tensor

ROOT = Path(__file__).parent.parent


def test_the_public_names_are_there():
    for name in motionops.__all__:
        assert getattr(motionops, name) is not None


def test_import_needs_torch_and_numpy_only():
    others = ["torchvision", "av", "lightning", "tyro", "sklearn", "matplotlib", "nvidia.dali", "cupy", "scipy"]
    others += ["tqdm", "yaml", "safetensors", "tensorboard", "cv2", "tests"]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({others!r})); "  # None: importing it is an ImportError
    program = blocked + "import motionops, motionops.video, motionops.motion, motionops.views, motionops.evaluation"
    subprocess.run([sys.executable, "-c", program], check=True)


MISSING = {
    "import motionops.models": ("torchvision", "train"),
    "import motionops.training.run": ("lightning", "train"),
    "import motionops.training.run_folder": ("lightning", "train"),
    "from motionops.models import read_metadata; read_metadata('x')": ("safetensors", "train"),
    "from motionops.video import read_video; read_video('x')": ("av", "video"),
    "from motionops.evaluation.pictures.drawing import figure; figure(1, 1, width=1, height=1)": (
        "matplotlib",
        "train",
    ),
    "from motionops.evaluation import fit_linear; fit_linear([], [], [], kind='svm')": ("sklearn", "train"),
}


def test_a_missing_part_names_the_extra():
    program = (
        "import sys\n"
        "import motionops\n"
        f"for call, (part, extra) in {MISSING!r}.items():\n"
        "    sys.modules[part] = None\n"  # importing it is then an ImportError
        "    try:\n"
        "        exec(call)\n"
        "    except ImportError as error:\n"
        "        assert str(error).endswith(f\"pip install 'motionops[{extra}]'\"), (call, error)\n"
        "    else:\n"
        "        raise AssertionError(call)\n"
        "    del sys.modules[part]\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_namespaces_change_back():
    before = library.ops()
    with library.use_namespace("motionops_other"):
        assert library.ops().name == "motionops_other"
    assert library.ops() is before


def import_with(tmp_path, change: str) -> subprocess.CompletedProcess:
    """Import a copy of the package in a process of its own, after `change`, which may name `package`, its folder."""
    package = tmp_path / "motionops"
    shutil.copytree(ROOT / "motionops", package, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    program = f"import pathlib, sys; sys.path.insert(0, {str(tmp_path)!r}); package = pathlib.Path({str(package)!r})\n"
    program += change + "\nimport motionops; print(motionops.__file__)"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("(package / '_operators.so').write_bytes(b'no library')", "does not load with torch .*: install a wheel"),
        ("import torch; torch.__version__ = '2.10.0'", "motionops needs torch 2.11 or newer, this is 2.10.0"),
        (
            f"import torch; torch.ops.load_library({str(ROOT / 'motionops' / '_operators.so')!r})",
            "another copy of motionops' operators is loaded in this process .*_operators.so",
        ),
    ],
)
def test_operators_that_do_not_load_say_what_to_do(tmp_path, change, message):
    result = import_with(tmp_path, change)
    assert result.returncode == 1, result.stdout
    assert re.search(f"ImportError: .*{message}", result.stderr.strip().splitlines()[-1]), result.stderr


def test_without_operators_what_is_called_says_what_to_do(tmp_path):
    """A network's file is read, and its features are computed, where no operator was built."""
    program = """(package / '_operators.so').unlink()
import torch, motionops
from motionops.models import build_backbone, load_backbone, save_backbone
from motionops.evaluation import extract_features
assert not motionops.has_cuda()
file = package.parent / "backbone.safetensors"
save_backbone(build_backbone("r3d_small"), file, frames="4", stride="2", size="32")
network = load_backbone(file)
assert network.eval()(torch.rand(1, 3, 4, 32, 32)).shape[1] == network.channels
from motionops.video.encoding import write_video
from motionops.video import Video
write_video(package.parent / "video.mp4", torch.zeros(8, 48, 64, 3, dtype=torch.uint8).numpy())
print(extract_features(network, [Video(str(package.parent / "video.mp4"), None)], clips=1).shape)
from motionops import info
assert info.main() == 0
motionops.flow_edges(torch.zeros(1, 1, 2, 4, 4))"""
    result = import_with(tmp_path, program)
    assert f"{[1, 128]}" in result.stdout, result.stderr
    assert re.search("operators +not there: install a wheel", result.stdout)
    expected = "ImportError: .*the compiled operators, is not there: install a wheel"
    assert re.search(expected, result.stderr.strip().splitlines()[-1]), result.stderr


def test_a_copy_of_the_package_loads(tmp_path):
    result = import_with(tmp_path, "")
    assert result.returncode == 0, result.stderr
    assert str(tmp_path) in result.stdout


def test_arrays_share_memory():
    array = np.arange(6.0).reshape(2, 3)
    tensor = as_tensor("op", "x", array)
    array[0, 0] = 5
    assert tensor[0, 0] == 5
    assert as_tensor("op", "x", tensor) is tensor


class Exporter:
    """An array of a library of its own."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **arguments):
        return self.tensor.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


def test_arrays_of_other_libraries():
    tensor = torch.rand(1, 1, 2, 2, 2)
    shared = as_tensor("op", "x", Exporter(tensor))
    assert shared.data_ptr() == tensor.data_ptr()
    torch.testing.assert_close(motionops.frame_difference(Exporter(tensor)), motionops.frame_difference(tensor))


# An operator takes the array where it lies, and the library takes the result where it lies. In a process of its own: a
# process with JAX's threads is not to be forked, as the readers of other tests are.
SHARED_BOTH_WAYS = """
import numpy as np
import motionops
from motionops.arrays import as_tensor

values = np.random.default_rng(0).random((2, 3, 4, 5, 6), dtype=np.float32)
{make}
assert as_tensor("op", "x", array).data_ptr() == address(array)
result = motionops.frame_difference(array)
assert address(back(result)) == result.data_ptr()
np.testing.assert_allclose(result.cpu().numpy(), (values - np.roll(values, 1, axis=2) + 1) / 2, atol=1e-6)
"""
JAX = """
import jax
array = jax.device_put(values, jax.devices()[0])
address, back = lambda x: x.unsafe_buffer_pointer(), jax.dlpack.from_dlpack
"""
CUPY = """
import cupy
array = cupy.asarray(values)
address, back = lambda x: x.data.ptr, cupy.from_dlpack
"""


@pytest.mark.parametrize(("library", "make"), [("jax", JAX), ("cupy", CUPY)])
def test_arrays_go_in_and_out_without_a_copy(library, make):
    if find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    if library == "cupy" and not (torch.cuda.is_available() and motionops.has_cuda()):
        pytest.skip("needs a GPU")
    program = SHARED_BOTH_WAYS.format(make=make)
    # JAX otherwise takes three quarters of a GPU's memory at once, which other tests may be using.
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "op: x must be a tensor or an array with __dlpack__ .*, got NoneType"),
        ([1.0], "got list"),
        (np.array(["text"]), "op: x must be an array that torch can share, got numpy.ndarray"),
    ],
)
def test_no_arrays(value, message):
    with pytest.raises(TypeError, match=message):
        as_tensor("op", "x", value)


def test_scripts_of_torch_call_the_operators():
    program = (
        "import torch, motionops\n"
        "script = torch.jit.CompilationUnit('def f(x):\\n    return torch.ops.motionops.flow_edges(x, 10.0)\\n')\n"
        "flow = torch.randn(1, 1, 2, 4, 4)\n"
        "assert torch.equal(script.f(flow), motionops.flow_edges(flow))\n"
        "print(torch.jit._builtins._find_builtin(torch.ops.motionops.flow_edges._op))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "motionops::flow_edges", done.stderr


def test_info_prints_build_machine_and_parts(capsys):
    assert info.main() == 0
    printed = capsys.readouterr().out
    for expected in ("build", "machine", "parts", motionops.__version__, torch.__version__, "torchvision", "lightning"):
        assert expected in printed
    assert ("CUDA operators        no (" in printed) != motionops.has_cuda()
