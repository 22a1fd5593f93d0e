"""What all tests share: the backends that an operator's test list runs on.

Set MOTIONOPS_REQUIRE=cpu,emulated to make a backend that cannot run a failure and not a skip (.ci/run does).
"""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import motionops
from motionops import library
from motionops.commandline import TRAINER_PARTS

ROOT = Path(__file__).resolve().parent.parent

# As readers do (motionops.video.dataset.start_worker): garbage of earlier tests may wait for threads that a fork lacks.
os.register_at_fork(after_in_child=gc.freeze)
REAL_VIDEOS = ROOT.parent / "shared" / "data"
EMULATED_NAMESPACE = "motionops_emulated"

# The modules whose register() gives an operator its shapes and gradients.
OPERATOR_MODULES = sorted(
    f"motionops.{path.parent.name}.{path.stem}"
    for path in (ROOT / "motionops").glob("*/*.py")
    if "\ndef register(namespace: str)" in path.read_text()
)


# What does nothing without parts that are not everywhere. On a machine without network it is left out, by name; single
# tests ask for their parts themselves.
NEEDED = {
    "trainers": TRAINER_PARTS,
    "evaluation": (*TRAINER_PARTS, "sklearn"),
    "video": ("av", "tqdm"),
    "motion": ("av", "tqdm"),
    "methods": TRAINER_PARTS,
    "training/test_checkpoint.py": ("lightning",),
    "training/test_run_folder.py": ("lightning", "yaml"),
    "models/test_backbones.py": ("safetensors", "torchvision"),
    "models/test_export.py": ("safetensors", "torchvision"),
    "models/test_image_weights.py": ("safetensors", "torchvision"),
    "fuzz": ("hypothesis",),
    "views/test_motion_extents.py": ("hypothesis",),
    "flow/test_tvl1_accuracy.py": ("scipy",),
}
MISSING = {path: [part for part in parts if find_spec(part) is None] for path, parts in NEEDED.items()}
collect_ignore = [path for path, parts in MISSING.items() if parts]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """At the end, since -q leaves out the head."""
    for path, parts in MISSING.items():
        if parts:
            terminalreporter.write_line(f"left out: tests/{path}, which needs {', '.join(parts)}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")
    parser.addoption("--backend", default="", help="leave out the other backends: cpu, emulated, cuda, with commas")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cuda: needs a GPU and a build for it; skipped without, or failed if required")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda"):
        require(Backend("cuda"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--backend")
    if wanted:
        others = [item for item in items if backend_of(item) not in (None, *wanted.split(","))]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


# Of the environment, what libraries put there when they are first used is not looked at, but what a run goes by is.
OF_RUNS = re.compile(
    "(MOTIONOPS|SLURM|TORCHELASTIC|CUDA|NVIDIA|MASTER|TORCH)_|(LOCAL_)?(RANK|WORLD_SIZE)$|COLUMNS$|(PYTHON)?PATH$"
    "|HOME$|TMPDIR$|OMP_NUM_THREADS$"
)
OF_LIBRARIES = {"TORCHINDUCTOR_CACHE_DIR", "CUDA_MODULE_LOADING"}


def shared_state() -> dict[str, Any]:
    """What all tests of a process have in common, and a later one would find changed."""
    environment = {name: value for name, value in os.environ.items() if OF_RUNS.match(name)}
    # torch's readers take SIGCHLD for good, and SIGALRM is pytest-timeout's
    numbers = signal.valid_signals() - {signal.SIGCHLD, signal.SIGALRM}
    return {
        "the environment": {name: value for name, value in environment.items() if name not in OF_LIBRARIES},
        "the working directory": os.getcwd(),
        "torch's default type": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's threads": torch.get_num_threads(),
        "whether gradients are computed": torch.is_grad_enabled(),
        "signal handlers": {getattr(number, "name", number): signal.getsignal(number) for number in numbers},
        "sys.excepthook": sys.excepthook,
        "sys.argv": list(sys.argv),
    }


@pytest.fixture(autouse=True)
def nothing_left_changed() -> Iterator[None]:
    """Fail a test that leaves changed what another one may go by: which one fails then would depend on their order."""
    before = shared_state()
    yield
    changed = changes(before, shared_state())
    assert not changed, f"left changed by the test: {'; '.join(changed)}"


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is another value after than before, by name."""
    told = []
    for name in sorted(before.keys() | after.keys(), key=str):
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            told += [f"{name}, {each}" for each in changes(one, other)]
        elif one != other:
            told.append(f"{name}: {one!r} is now {other!r}")
    return told


def backend_of(item: pytest.Item) -> str | None:
    """What the fixture `backend` gives a test; None where it has none."""
    return item.callspec.params.get("backend") if hasattr(item, "callspec") else None


@cache
def load_emulated() -> str | None:
    """Build and load the CUDA sources compiled for the host. Returns why that is not possible, or None."""
    target = ROOT / "tests" / "emulator" / "_emulated.so"
    build = subprocess.run(
        [sys.executable, "-m", "build_support.ninja_build", "emulated"], cwd=ROOT, capture_output=True, text=True
    )
    if build.returncode != 0:
        return f"the emulated build failed: {(build.stderr or build.stdout).strip()[-2000:]}"
    torch.ops.load_library(target)
    for name in OPERATOR_MODULES:
        op = name.rsplit(".", 1)[1]
        if hasattr(getattr(torch.ops, EMULATED_NAMESPACE), op):
            import_module(name).register(EMULATED_NAMESPACE)
    return None


@dataclass(frozen=True)
class Backend:
    """Where an operator runs: the public functions reach it while the fixture is alive."""

    name: str  # cpu, emulated, cuda

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.name == "cuda" else "cpu")

    @property
    def namespace(self) -> str:
        return EMULATED_NAMESPACE if self.name == "emulated" else library.NAMESPACE

    @property
    def ops(self):
        """The raw operators, for opcheck."""
        return getattr(torch.ops, self.namespace)

    def tensor(self, value: Tensor) -> Tensor:
        """Bring an input to the backend's device; strides are kept."""
        return value.to(self.device)

    def why_unavailable(self) -> str | None:
        if self.name == "emulated":
            return load_emulated()
        if self.name == "cuda" and not motionops.has_cuda():
            return "this build has CPU operators only"
        if self.name == "cuda" and not torch.cuda.is_available():
            return "no GPU"
        return None


def require(backend: Backend) -> None:
    """Skip the test where the backend cannot run, or fail it where MOTIONOPS_REQUIRE names it."""
    reason = backend.why_unavailable()
    if reason is not None:
        if backend.name in os.environ.get("MOTIONOPS_REQUIRE", "").split(","):
            pytest.fail(f"backend {backend.name} is required here: {reason}")
        pytest.skip(f"backend {backend.name}: {reason}")


@pytest.fixture(params=["cpu", "emulated", "cuda"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Run a test on every backend; inside, `motionops.<op>` calls that backend."""
    chosen = Backend(request.param)
    require(chosen)
    with library.use_namespace(chosen.namespace):
        yield chosen


@pytest.fixture(scope="module")
def no_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """The CPU for what a file's tests and its own fixtures run, here and in other processes; not if marked `cuda`.

    Losses and weights are compared exactly there: cuDNN may add a gradient in another order each time. And two
    processes need two GPUs, or none.
    """
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("cuda") is None:
            hide_gpus(patch)
        yield


def hide_gpus(patch: pytest.MonkeyPatch) -> None:
    # The driver reads the variable when it is first asked, and keeps its answer for the tests that want a GPU.
    torch.cuda.is_available()
    patch.setenv("CUDA_VISIBLE_DEVICES", "")
    patch.setattr(torch.cuda, "is_available", lambda: False)
    patch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def shared() -> Path:
    """Where the real videos are, if they are."""
    if not REAL_VIDEOS.is_dir():
        pytest.skip(f"the real videos are not there: {REAL_VIDEOS}")
    return REAL_VIDEOS


@pytest.fixture
def originals(shared: Path) -> Path:
    return shared / "originals"


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A MovingShapes of 16 training and 8 test videos."""
    from motionops.video import moving_shapes

    return moving_shapes.generate(tmp_path_factory.mktemp("shapes"), train=16, test=8, progress=False)


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.fx.GraphModule]]:
    """Compile with what inductor is given, forward and backward, and without its compiler; collect the graphs."""
    from motionops.training import compiling

    seen = []

    def backend(graph, inputs):
        seen.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    monkeypatch.setattr(compiling, "BACKEND", backend)
    torch._dynamo.reset()
    yield seen
    torch._dynamo.reset()
