"""Finding compilers, and the one line that says what is missing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from build_support import toolchain
from build_support.toolchain import BuildError, find_cuda, find_cxx, parse_architectures

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("MOTIONOPS_CUDA", "TORCH_CUDA_ARCH_LIST", "CUDA_HOME", "CUDA_PATH", "CXX"):
        monkeypatch.delenv(name, raising=False)


def fake_nvcc(folder: Path, version: str = "13.0") -> Path:
    """A toolkit whose nvcc is a wrapper elsewhere: only `--dryrun` tells where it is."""
    toolkit = folder / "toolkit"
    (toolkit / "include").mkdir(parents=True)
    (toolkit / "include" / "cuda_runtime_api.h").touch()
    (toolkit / "lib64").mkdir()
    (toolkit / "lib64" / "libcudart_static.a").touch()
    (folder / "bin").mkdir()
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = --version ]; then echo "Cuda compilation tools, release {version}, V{version}.1"\n'
        f'else echo "#\\$ TOP={toolkit}" >&2; fi\n'
    )
    nvcc.chmod(0o755)
    return nvcc


def only_path(monkeypatch, folder: Path) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(toolchain, "DEFAULT_NVCC", str(folder / "none"))


def test_a_wrapped_nvcc_leads_to_its_toolkit(tmp_path, monkeypatch):
    nvcc = fake_nvcc(tmp_path)
    monkeypatch.setenv("PATH", f"{nvcc.parent}{os.pathsep}{os.environ['PATH']}")
    cuda, reason = find_cuda("13.2")
    assert reason == "nvcc 13.0, torch with CUDA 13.2"
    assert cuda.include == tmp_path / "toolkit" / "include"
    assert cuda.runtime == tmp_path / "toolkit" / "lib64" / "libcudart_static.a"
    assert cuda.gencode == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]


def test_cuda_home_goes_before_path(tmp_path, monkeypatch):
    fake_nvcc(tmp_path)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    cuda, _ = find_cuda("13.2")
    assert cuda.nvcc == str(tmp_path / "bin" / "nvcc")


def test_without_nvcc_the_cpu_operators_are_built(tmp_path, monkeypatch):
    only_path(monkeypatch, tmp_path)
    assert find_cuda("13.2") == (None, "nvcc not found (looked in CUDA_HOME, PATH, /usr/local/cuda)")


def test_another_major_version_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{fake_nvcc(tmp_path, '12.8').parent}{os.pathsep}{os.environ['PATH']}")
    assert find_cuda("13.2") == (None, "nvcc is 12.8, but torch was built with CUDA 13.2")
    monkeypatch.setenv("MOTIONOPS_CUDA", "1")
    cuda, reason = find_cuda("13.2")
    assert (cuda.version, reason) == ("12.8", "nvcc 12.8, MOTIONOPS_CUDA=1")


def test_a_cpu_build_of_torch_needs_no_nvcc(tmp_path, monkeypatch):
    assert find_cuda(None) == (None, "torch is a CPU-only build")
    monkeypatch.setenv("MOTIONOPS_CUDA", "1")
    monkeypatch.setenv("PATH", f"{fake_nvcc(tmp_path).parent}{os.pathsep}{os.environ['PATH']}")
    assert find_cuda(None)[1] == "nvcc 13.0, MOTIONOPS_CUDA=1"
    only_path(monkeypatch, tmp_path)
    with pytest.raises(BuildError, match="MOTIONOPS_CUDA=1, but nvcc not found"):
        find_cuda(None)


def test_the_user_decides(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", f"{fake_nvcc(tmp_path).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("MOTIONOPS_CUDA", "0")
    assert find_cuda("13.2") == (None, "MOTIONOPS_CUDA=0")
    monkeypatch.setenv("MOTIONOPS_CUDA", "yes")
    with pytest.raises(BuildError, match="MOTIONOPS_CUDA must be 0, 1 or unset, got 'yes'"):
        find_cuda("13.2")


def test_architectures():
    assert parse_architectures("8.0;9.0+PTX") == ["8.0", "9.0+PTX"]
    assert parse_architectures("9.0a 10.0") == ["9.0a", "10.0"]
    with pytest.raises(BuildError, match=r"TORCH_CUDA_ARCH_LIST must be a list like .*, got 'Hopper' in it"):
        parse_architectures("8.0 Hopper")


def test_a_missing_compiler_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match=r"no-such-compiler not found\. On Debian and Ubuntu: apt-get install g\+\+"):
        find_cxx()


def test_setup_says_what_is_missing_before_it_downloads(tmp_path):
    result = subprocess.run(
        [sys.executable, "build_support/environment.py", "--venv", str(tmp_path / "venv")],
        cwd=ROOT,
        env={**os.environ, "CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert (
        result.stderr
        == "error: no C++ compiler: no-such-compiler not found. On Debian and Ubuntu: apt-get install g++\n"
    )
    assert not (tmp_path / "venv").exists()


def test_a_second_setup_does_nothing():
    if not (ROOT / ".venv" / ".motionops-setup").exists():
        pytest.skip("this environment was not made by make setup")
    result = subprocess.run(["make", "--dry-run", "setup"], cwd=ROOT, capture_output=True, text=True)
    assert "Nothing to be done" in result.stdout
