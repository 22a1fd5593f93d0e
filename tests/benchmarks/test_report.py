"""The page of results: losses beside wins, plots where an axis was varied, and the same file from the same results."""

import json

import pytest

from benchmarks import report

pytest.importorskip("matplotlib")


def timing(milliseconds, memory=1.0):
    return {"median_ms": milliseconds, "p20_ms": milliseconds, "p80_ms": milliseconds, "peak_mib": memory, "samples": 7}


def record(case, ours, device="cpu", targets=(), more=(), **peers):
    return {
        "case": case,
        "device": device,
        "timings": {"motionops": timing(ours), **{name: timing(value, None) for name, value in peers.items()}},
        "times_faster_than": {name: value / ours for name, value in peers.items()},
        "targets": dict(targets),
        "share_of_copy": 0.5,
        "commit": "abc1234",
        "date": "2026-01-02",
        **dict(more),
    }


def write(folder, op, records, gpu="none"):
    machine = {"system": "Linux", "python": "3.11", "torch": "2.9", "processor": "Processor X, 2 cores"}
    machine |= {"GPU": "none"} if gpu == "none" else {"GPU 0": gpu}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{op}.json").write_text(json.dumps({"op": op, "machine": machine, "build": {}, "results": records}))


@pytest.fixture
def written(tmp_path):
    """(the page's text, its folder) of a CPU with one loss, one missed target and three values of K."""
    missed = {"eager": {"wanted": 3.0, "reached": False}}
    growth = [record(f"B 8, K {2**power}, D 16", 2.0**power) for power in (12, 14, 16)]
    write(tmp_path / "results" / "cpu", "flow_edges", [record("8×2", 2.0, eager=3.0, kornia=1.0, targets=missed)])
    write(tmp_path / "results" / "cpu", "queue_infonce", growth)
    arguments = ["--results", str(tmp_path / "results"), "--page", str(tmp_path / "docs" / "performance.md")]
    assert report.main(arguments) == 0
    return (tmp_path / "docs" / "performance.md").read_text(), tmp_path


def test_losses_and_missed_targets_are_shown(written):
    text, _ = written
    assert "| 8×2 | 2 | 1 | 50% copy | 3, 1.50 ×, – | 1, **0.50 ×**, – | eager 3 ×: **missed** |" in text
    assert "## Processor X" in text
    assert ". 2026-01-02, commits abc1234.\n" in text
    assert "No GPU has been measured yet" in text


def test_steps_and_notes_of_a_machine(tmp_path):
    folder = tmp_path / "results" / "cpu"
    write(folder, "flow_edges", [record("8×2", 2.0, eager=3.0)])
    (folder / "notes.md").write_text("Measured on a Tuesday.\n")
    (folder / "step").mkdir()
    run = {"backbone": "r3d_small", "frames": 8, "size": 32, "batch_size": 4, "precision": "32"}
    step = {"steps": 3, "milliseconds": {"networks": 2.0, "backward": 3.5}, "decoding": {"milliseconds": 44.0}}
    (folder / "step" / "fima-pyav.json").write_text(json.dumps({**step, "run": run, "commit": "abc1234"}))
    (folder / "step" / "networks.json").write_text(json.dumps({"milliseconds": {"online": 1.0}}))  # of no whole step
    text = report.page(tmp_path / "results", tmp_path / "pictures")
    assert "Measured on a Tuesday." in text
    assert "| ms | fima-pyav |\n" in text
    assert "| clip | 8×32² |" in text
    assert "| networks | 2 |\n| backward | 3.5 |\n| **all** | 5.5 |" in text
    assert "| commit | abc1234 |" in text


def test_a_varied_axis_is_plotted(written):
    text, folder = written
    plots = list((folder / "docs" / "performance").glob("*.svg"))
    assert [plot.name for plot in plots] == ["cpu-cpu-queue_infonce-k.svg"]
    assert "](performance/cpu-cpu-queue_infonce-k.svg)" in text
    assert "B 8, K …, D 16: from K 4096 to 65536, 16 times as many, time grows 16.0 times" in text


def test_the_same_results_give_the_same_files(written):
    text, folder = written
    plot = folder / "docs" / "performance" / "cpu-cpu-queue_infonce-k.svg"
    before = plot.read_bytes()
    report.main(["--results", str(folder / "results"), "--page", str(folder / "docs" / "performance.md")])
    assert (folder / "docs" / "performance.md").read_text() == text
    assert plot.read_bytes() == before


def test_results_of_uncommitted_sources_are_marked(written):
    _, folder = written
    changed = record("4×2", 2.0, more={"commit": "abc1234 with changes"})
    write(folder / "results" / "cpu", "flow_edges", [record("8×2", 2.0), changed])
    text = report.page(folder / "results", folder / "plots")
    # three further results are queue_infonce's
    assert "commits abc1234; 1 of 5 results, marked \\*, with changes that were not committed." in text
    assert "| 4×2 \\* | 2 |" in text
    assert "| 8×2 | 2 |" in text


def test_a_peer_without_a_time_says_why(written):
    _, folder = written
    left_out = {
        "left_out": {"kornia": "differs from the reference: tensor 0 is off by 0.1, allowed 0.01", "x": "a | b"}
    }
    write(folder / "results" / "cpu", "flow_edges", [record("8×2", 2.0, more=left_out, eager=3.0)])
    text = report.page(folder / "results", folder / "plots")
    assert "eager: ms, ×, MiB | kornia: ms, ×, MiB | x: ms, ×, MiB | targets |" in text
    assert "| 3, 1.50 ×, – | differs from the reference: tensor 0 is off by 0.1, allowed 0.01 | a \\| b |  |" in text


def test_aims_and_the_rates_that_shares_are_of(written):
    _, folder = written
    aims = {
        "of a copy": {"wanted": 0.85, "reached": False, "value": 0.5},
        "ms": {"wanted": 1.5, "reached": True, "value": 1.2},
    }
    rates = {"copy_gigabytes_per_second": 4300.0, "product": "bfloat16", "product_gigaflops": 790e3}
    rates["share_of_matrix_product"] = 0.25
    plain = {**rates, "product": "float32", "product_gigaflops": 50e3, "copy_gigabytes_per_second": 4200.0}
    records = [record("8×2", 1.2, targets=aims, more=rates), record("4×2", 1.2, more=plain)]
    write(folder / "results" / "cpu", "flow_edges", records)
    text = report.page(folder / "results", folder / "plots")
    assert "| 50% copy, 25% bfloat16 product | 85% of a copy: **missed** (50.0%); 1.5 ms: reached |" in text
    assert "| 50% copy, 25% product |" in text
    assert (
        " Measured beside them: a copy moves 4250 GB/s, a product in bfloat16 runs at 790000 GFLOP/s, "
        "a product in float32 runs at 50000 GFLOP/s.\n" in text
    )


def test_a_gpu_comes_first(written):
    _, folder = written
    write(folder / "results" / "h", "flow_edges", [record("8×2", 0.1, "cuda", eager=1.0)], gpu="NVIDIA H, sm_90")
    text = report.page(folder / "results", folder / "plots")
    assert text.index("## NVIDIA H") < text.index("## Processor X")
    assert "No GPU" not in text
