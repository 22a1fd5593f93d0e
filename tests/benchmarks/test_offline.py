"""Packed here and unpacked elsewhere: the same tree, with the operators' library in its place."""

import shutil
import subprocess
import sys

import pytest

from benchmarks.offline import pack

SHOWN = {"capture_output": True, "text": True}


def git(*words):
    subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], check=True, capture_output=True)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with one committed file, one that is not, and a built library."""
    root = tmp_path / "project"
    (root / "motionops").mkdir(parents=True)
    (root / "motionops" / "__init__.py").write_text("def has_cuda():\n    return 'as built'\n")
    git("-C", str(root), "init", "-q")
    git("-C", str(root), "add", ".")
    git("-C", str(root), "commit", "-q", "-m", "one")
    (root / "notes").write_text("not committed")
    (root / "motionops" / "operators.so").write_bytes(b"\x7fELF" + bytes(1000))
    monkeypatch.setattr(pack, "ROOT", root)
    return root


def test_there_and_back(project, tmp_path, capsys):
    packed, tree = tmp_path / "packed", tmp_path / "there"
    assert pack.main([str(packed), "--wheels"]) == 0
    assert "with operators.so" in capsys.readouterr().out
    shutil.rmtree(project)
    script = f'. "{packed}/unpack.sh" && pwd && echo "$PYTHONPATH"'
    done = subprocess.run(
        ["bash", "-c", script], env={"TREE": str(tree), "PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}, **SHOWN
    )
    assert done.returncode == 0, done.stderr
    assert f"motionops in {tree}/motionops/motionops CUDA operators: as built" in done.stdout
    assert f"{tree}/motionops:{tree}/site" in done.stdout
    assert (tree / "motionops" / "motionops" / "operators.so").stat().st_size == 1004
    assert not (tree / "motionops" / "notes").exists()


def test_nothing_built_is_told(project, tmp_path, capsys):
    (project / "motionops" / "operators.so").unlink()
    assert pack.main([str(tmp_path / "packed")]) == 1
    assert "make build first" in capsys.readouterr().err


def test_wheels_are_for_the_machine_there_and_one_that_is_not_there_is_named(project, tmp_path, monkeypatch, capsys):
    asked = []

    def run(command, **settings):
        if "pip" not in command:
            return real(command, **settings)
        asked.append(command)
        return subprocess.CompletedProcess(command, int("absent" in command))

    real = subprocess.run
    monkeypatch.setattr(pack.subprocess, "run", run)
    assert pack.main([str(tmp_path / "packed"), "--python", "3.13", "--wheels", "av>=18,<19", "absent"]) == 0
    assert [command[-1] for command in asked] == ["av>=18,<19", "absent"]
    assert asked[0][asked[0].index("--python-version") + 1] == "3.13"
    assert capsys.readouterr().err == "no wheel found: absent\n"
