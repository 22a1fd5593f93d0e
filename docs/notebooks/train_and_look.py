# %% [markdown]
# # Train and look
#
# A published method, FIMA, for 10 steps on generated videos, and what its report shows. The demo preset goes on for
# some minutes, and its numbers are worth reading ([results](../results.md)).

# %%
from pathlib import Path

from motionops.commands.train import main
from motionops.video import moving_shapes

moving_shapes.generate("shapes", train=24, test=16, workers=1, progress=False)
lists = ["--data", "shapes", "--list", "shapes/train.txt", "--test-list", "shapes/test.txt"]
small = ["--batch-size", "4", "--max-steps", "10", "--workers", "0", "--log-every", "2", "--evaluation-clips", "1"]
status = main(["fima", *lists, *small])
print("exit status", status)

# %% [markdown]
# ## What a run leaves
#
# The weights, everything to resume, what was logged, and a report of pictures (`report/report.html` holds them all).

# %%
run = Path("runs/fima")
print(*sorted(str(file.relative_to(run)) for file in run.rglob("*") if file.is_file()), sep="\n")
show(run / "report" / "training.png")

# %% [markdown]
# ## What counts as foreground
#
# FIMA contrasts pixels of the foreground alone. After so few steps the mask knows little of what moves.

# %%
show(run / "report" / "foreground.png")

# %% [markdown]
# ## The weights elsewhere
#
# An ordinary network: [use it elsewhere](../elsewhere.md).

# %%
import torch

from motionops.models import load_backbone

backbone = load_backbone(run / "backbone.safetensors").eval()
print(backbone.name, backbone.channels, backbone.clip_settings)
print(backbone(torch.zeros(1, 3, 8, 32, 32)).shape)
