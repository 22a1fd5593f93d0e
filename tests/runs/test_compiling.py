"""--compile and --profile in a run: parts of a step, two processes, a profile that is too short."""

import json

from torch import nn

from tests.runs.graphs import operators
from tests.runs.runs import ROOT, command, finished
from trainers import fima

OF_NETWORKS = {"ghost_batch_norm"}


def test_parts_of_a_step_are_the_same_graph(tiny, graphs):
    assert fima.main(tiny(compile=True, accumulate=2, losses=("vv",), max_steps=2)) == 0
    assert len(graphs) == 1


def test_a_profile_times_networks_and_operators_apart(tiny, graphs):
    assert fima.main(tiny(compile=True, profile=1, max_steps=2)) == 0
    assert len(graphs) == 2  # the backbone, with gradients and without
    assert [operators(graph) for graph in graphs] == [OF_NETWORKS] * 2


def test_two_processes_compile_whole_backbones(tiny, tmp_path):
    """Collectives stay outside of the graphs, and the buckets in which gradients are averaged do not cut them."""
    config = tiny(output=tmp_path / "run", losses=("vv",), max_steps=2)
    script = str(ROOT / "tests" / "runs" / "run_noting_graphs.py")
    python, *line = command(config, "fima", "--devices", "2", "--compile")
    finished([python, script, *line])
    layers = list(fima.FIMA(config).backbone.modules())
    whole, norms = (sum(isinstance(layer, kind) for layer in layers) for kind in (nn.Conv3d, nn.BatchNorm3d))
    for rank in range(2):
        noted = json.loads((config.output / f"graphs-{rank}.json").read_text())
        operators = ["motionops.ghost_batch_norm.default"] * norms
        assert noted == [{"convolutions": whole, "operators": operators}] * 2  # with gradients and without


def test_a_run_that_is_too_short_for_a_profile_says_so(tiny, capsys):
    assert fima.main(tiny(profile=5, max_steps=2)) == 0
    assert "--profile: the run is over after 2 steps, of which 3 are not counted" in capsys.readouterr().err
