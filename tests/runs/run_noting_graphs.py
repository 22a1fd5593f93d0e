"""A trainer that notes what torch.compile is given, each rank in <output>/graphs-<rank>.json; nothing is generated.

python tests/runs/run_noting_graphs.py trainers/fima.py [FLAGS]
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path

import torch

from motionops.commandline import run
from motionops.ranks import world
from motionops.training import compiling

# Lightning starts the other processes of a run with the command line that is left: they know the trainer by this.
TRAINER = "MOTIONOPS_TEST_TRAINER"


def noting(graph, inputs):
    targets = [str(node.target) for node in graph.graph.nodes]
    seen.append(
        {
            "convolutions": sum("conv3d" in target for target in targets),
            "operators": [target for target in targets if target.startswith("motionops.")],
        }
    )
    (output / f"graphs-{world()[0]}.json").write_text(json.dumps(seen))
    return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)


if __name__ == "__main__":
    if TRAINER not in os.environ:
        os.environ[TRAINER] = sys.argv.pop(1)
    output = Path(sys.argv[sys.argv.index("--output") + 1])
    seen: list[dict] = []
    trainer = import_module(f"trainers.{Path(os.environ[TRAINER]).stem}")
    compiling.BACKEND = noting
    sys.exit(run(trainer.main, type(trainer.PRESETS["demo"]), trainer.PRESETS))
