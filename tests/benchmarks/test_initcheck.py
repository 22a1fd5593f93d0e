"""Whose uninitialised reads fail. Reports have the form that the tool's manual shows, and that of older versions."""

import sys

import pytest

from benchmarks import initcheck

OURS = """========= Uninitialized __global__ memory read of size 4 bytes
=========     at void motionops::<unnamed>::flow_edges_kernel<float>(motionops::FlowEdges)+0x70 in flow_edges.cu:41
=========     by thread (31,0,0) in block (1,0,0)
=========     Address 0x7f3c7ec000fc
=========
"""
INLINED = """========= Uninitialized __global__ memory read of size 4 bytes
=========     at __ldg(const float *)+0x70 in sm_32_intrinsics.hpp:113
=========     by thread (31,0,0) in block (1,0,0)
=========         Device Frame: motionops::<unnamed>::flow_edges_kernel<float>(motionops::FlowEdges)+0x60 in e.cu:41
=========
"""
COPY = "========= Uninitialized access at 0x7f3c7ec000fc on access by cudaMemcpy source\n=========\n"
TORCH = """========= Uninitialized __global__ memory read of size 4 bytes
=========     at 0x70 in /pytorch/Reduce.cuh:41:void at::native::reduce_kernel<512, 1, float>(float)
=========     by thread (31,0,0) in block (1,0,0)
=========
"""


def written(*found):
    return "========= COMPUTE-SANITIZER\n" + "".join(found) + f"========= ERROR SUMMARY: {len(found)} errors\n"


@pytest.mark.parametrize("report", [OURS, INLINED, COPY], ids=["ours", "inlined", "copy"])
def test_reads_that_may_be_ours_fail(report):
    status, text = initcheck.verdict(written(TORCH, report, TORCH), 0)
    assert status == 1
    assert report.splitlines()[0].removeprefix("========= ") in text
    assert "initcheck: 1 reports of our kernels, 2 of others', 3 errors in all" in text


def test_reads_of_torch_are_named_and_pass():
    status, text = initcheck.verdict(written(TORCH, TORCH), 0)
    assert status == 0
    assert "not ours, 2 times: at 0x70 in /pytorch/Reduce.cuh:41:void at::native::reduce_kernel" in text
    assert "initcheck: 0 reports of our kernels, 2 of others', 2 errors in all" in text


def test_nothing_wrong():
    assert initcheck.verdict(written(), 0)[0] == 0


@pytest.mark.parametrize(
    ("log", "code", "said"),
    [
        ("", 0, "did not come to its summary"),
        ("========= COMPUTE-SANITIZER\n", 1, "did not come to its summary"),
        (written(), 3, "the program ended with status 3"),
        ("========= ERROR SUMMARY: 7 errors\n", 0, "the errors were not understood"),
    ],
)
def test_a_run_that_says_nothing_is_no_success(log, code, said):
    status, text = initcheck.verdict(log, code)
    assert status == 1
    assert said in text


@pytest.mark.parametrize(("report", "status"), [(TORCH, 0), (OURS, 1)], ids=["torch", "ours"])
def test_the_tool_is_run_unfiltered(tmp_path, capsys, report, status):
    tool = tmp_path / "compute-sanitizer"
    tool.write_text(
        f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\nwords = sys.argv[1:]\n"
        f"Path(words[words.index('--log-file') + 1]).write_text({written(report)!r})\n"
        f"Path({str(tmp_path / 'words')!r}).write_text(' '.join(words))\n"
    )
    tool.chmod(0o755)
    assert initcheck.main(["--sanitizer", str(tool), "the", "program"]) == status
    words = (tmp_path / "words").read_text()
    assert words.startswith("--tool initcheck ")
    assert words.endswith(" the program")
    assert "kernel" not in words  # a filter would hide torch's writes from the tool
    assert "1 errors in all" in capsys.readouterr().out
