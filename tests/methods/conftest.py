"""Exact comparisons are the CPU's, with sums in one order. Motion that is prepared is prepared once for all tests."""

from pathlib import Path

import pytest

from tests.conftest import hide_gpus
from tests.methods.tiny import tiny
from tests.runs.sample_norm import put_in_place


@pytest.fixture(autouse=True)
def in_one_thread(one_thread):
    pass


@pytest.fixture(autouse=True, scope="module")
def on_the_cpu(no_gpu):
    pass


@pytest.fixture(scope="session")
def motion_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def own_cache(motion_cache, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_CACHE", str(motion_cache))


@pytest.fixture(scope="session")
def once(motion_cache, shapes, tmp_path_factory):
    """`once(run, name, norm, **flags)`: the folder of `run(configuration)`, which is run once for all tests."""
    known: dict[tuple, Path] = {}

    def folder(run, name, norm=True, **flags):
        key = (run, name, norm, *sorted(flags.items()))
        if key not in known:
            output = tmp_path_factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                hide_gpus(patch)
                patch.setenv("MOTIONOPS_CACHE", str(motion_cache))
                if not norm:
                    put_in_place(patch.setattr)
                run(name, tiny(name, shapes, output, **flags))
            known[key] = output
        return known[key]

    return folder


@pytest.fixture
def without_batchnorm(monkeypatch):
    put_in_place(monkeypatch.setattr)
