"""What a benchmark records: a peer that differs costs its own time alone, shares are of the operator's type."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import conftest
from benchmarks.conftest import Comparison
from benchmarks.measure import Timing

ROOT = Path(__file__).parents[2]
RATES = {torch.float32: 200.0, torch.bfloat16: 800.0}


class Benchmark:
    """What is used of pytest-benchmark's fixture."""

    def pedantic(self, work, rounds):
        work()


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Call a comparison of 10 ms for the operator and 20 ms for each peer; returns its record, or None."""
    monkeypatch.setattr(conftest, "FOLDER", tmp_path)
    monkeypatch.setattr(conftest, "commit", lambda: "abc1234")
    monkeypatch.setattr(conftest, "_lines", [])
    monkeypatch.setattr(conftest, "_matrix_rate", lambda device, dtype: RATES[dtype])
    monkeypatch.setattr(conftest, "_copy_bandwidth", lambda device: 4.0)
    monkeypatch.setattr(
        conftest,
        "measure",
        lambda candidates, device, seconds: {
            name: Timing(*[10.0 if name == "motionops" else 20.0] * 3, 1.0 if name == "motionops" else 50.0, 7)
            for name in candidates
        },
    )
    monkeypatch.setenv("MOTIONOPS_BENCH_SECONDS", "0.01")

    def call(**arguments):
        settings = {"ours": ones, "reference": ones, "peers": {"eager": ones}, **arguments}
        Comparison("some_op", torch.device("cpu"), Benchmark())("a case", **settings)
        files = list(tmp_path.glob("results/*/some_op.json"))
        return json.loads(files[0].read_text())["results"][0] if files else None

    return call


def ones():
    return torch.ones(3)


def raises():
    raise RuntimeError("no kernel image\nand more lines")


def test_a_peer_that_differs_is_left_out_and_named(compare, capsys):
    record = compare(
        peers={"eager": ones, "rounded": lambda: ones() * 1.001, "absent": raises, "shorter": lambda: torch.ones(2)},
        targets={"eager": 1.5, "rounded": 1.5},
    )
    assert list(record["timings"]) == ["motionops", "eager"]
    assert record["left_out"] == {
        "rounded": "differs from the reference: tensor 0 is off by 0.001, allowed 0.00011",
        "absent": "RuntimeError: no kernel image",
        "shorter": "differs from the reference: tensor 0 has shape [2] instead of [3]",
    }
    assert record["targets"] == {"eager": {"wanted": 1.5, "reached": True}}
    assert any("rounded is left out: differs from the reference" in line for line in conftest._lines)


def test_the_operator_itself_must_not_differ(compare):
    with pytest.raises(pytest.fail.Exception, match=r"a case: not timed, as it differs from the reference: tensor 0"):
        compare(ours=lambda: ones() * 1.001)
    with pytest.raises(RuntimeError, match="no kernel image"):
        compare(ours=raises)
    assert compare(peers={})["timings"].keys() == {"motionops"}


def test_a_share_is_of_the_products_of_its_type(compare):
    # 10^6 operations in 10 ms are 0.1 GFLOP/s
    record = compare(operations=10**6)
    assert (record["product"], record["share_of_matrix_product"]) == ("float32", 0.1 / 200)
    record = compare(operations=10**6, products=torch.bfloat16)
    assert (record["product"], record["share_of_matrix_product"]) == ("bfloat16", 0.1 / 800)
    assert record["product_gigaflops"] == 800


def test_a_gpus_float32_products_name_their_rounding(monkeypatch):
    names = []
    for precision in ("highest", "high"):
        monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda precision=precision: precision)
        names += [conftest.product_name(torch.float32, torch.device(kind)) for kind in ("cpu", "cuda")]
    assert names == ["float32", "float32", "float32", "float32 (TF32)"]


def test_aims_of_the_operator_alone(compare):
    # 20 MB in 10 ms are 2 GB/s, half of a copy; 1 MiB is a fiftieth of eager's
    aims = {"of a copy": 0.6, "ms": 10.0, "of eager's memory": 0.01}
    record = compare(moved_bytes=20_000_000, aims=aims)
    assert record["targets"] == {
        "of a copy": {"wanted": 0.6, "reached": False, "value": 0.5},
        "ms": {"wanted": 10.0, "reached": True, "value": 10.0},
        "of eager's memory": {"wanted": 0.01, "reached": False, "value": 0.02},
    }
    assert "of eager's memory" not in compare(peers={}, aims=aims, moved_bytes=1)["targets"]


def test_a_peer_that_does_a_portion_is_given_all_of_its_time(compare):
    record = compare(peers={"a tenth": ones}, portions={"a tenth": 0.1}, targets={"a tenth": 15.0})
    assert record["timings"]["a tenth"]["median_ms"] == 200
    assert record["targets"] == {"a tenth": {"wanted": 15.0, "reached": True}}


def test_a_hurried_run_compiles_no_peer_and_leaves_slow_ones_out(compare, monkeypatch):
    def slow():
        time.sleep(0.6)
        return ones()

    monkeypatch.setenv("MOTIONOPS_BENCH_HURRY", "1")
    record = compare(peers={"eager": ones, "torch.compile": raises, "slow": slow})
    assert record["left_out"]["torch.compile"] == "no time to compile it"
    assert record["left_out"]["slow"].startswith("no time for it: a call took 0.")
    assert list(record["timings"]) == ["motionops", "eager"]


def test_results_go_where_they_are_asked_to(compare, monkeypatch, tmp_path):
    monkeypatch.setenv("MOTIONOPS_BENCH_RESULTS", str(tmp_path / "elsewhere"))
    assert compare() is None  # not in the usual folder
    assert list((tmp_path / "elsewhere").glob("*/some_op.json"))


def test_no_seconds_only_check(compare, monkeypatch):
    monkeypatch.setenv("MOTIONOPS_BENCH_SECONDS", "0")
    assert compare() is None
    with pytest.raises(pytest.fail.Exception):
        compare(ours=lambda: 2 * ones())


class Item(SimpleNamespace):
    """What is asked of pytest's items."""

    def __init__(self, file, name, device):
        super().__init__(path=file, name=name, callspec=SimpleNamespace(params={"device": device}))

    __hash__ = object.__hash__


def test_something_of_everything_comes_first_and_curves_last():
    items = [
        Item("bench_a.py", "bench_growth", "cpu"),
        Item("bench_a.py", "bench_forward", "cpu"),
        Item("bench_a.py", "bench_forward", "cuda"),
        Item("bench_a.py", "bench_backward", "cpu"),
        Item("video/bench_b.py", "bench_forward", "cpu"),
        Item("views/bench_c.py", "bench_forward", "cpu"),
    ]
    assert conftest.in_order_of_worth(items) == [items[1], items[2], items[5], items[4], items[3], items[0]]


def test_one_device_alone(tmp_path):
    command = [sys.executable, "-m", "pytest", "benchmarks/contrast", "--collect-only", "-q", "--device"]
    for device, other in (("cpu", "cuda"), ("cuda", "cpu")):
        shown = subprocess.run([*command, device], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        cases = [line for line in shown.splitlines() if "::" in line]
        # by what a case runs on, not by a word in its name
        assert any("bench_inside_a_cuda_graph" in case for case in cases)
        assert not any(f"[{other}" in case or f"-{other}]" in case or f"-{other}-" in case for case in cases)


def test_a_peer_that_rounds_more_has_a_bound_of_its_own(compare):
    bounds = {"rounded": 0.01, "absent": 0.1}
    record = compare(peers={"rounded": lambda: ones() * 1.001}, bounds=bounds)
    assert record["bounds"] == {"rounded": 0.01}
    assert "left_out" not in record
    assert "rounded" in compare(peers={"rounded": lambda: ones() * 1.02}, bounds=bounds)["left_out"]
    with pytest.raises(pytest.fail.Exception):
        compare(ours=lambda: ones() * 1.001, bounds=bounds)
