# %% [markdown]
# # Measure
#
# What a frozen backbone knows: nearest neighbours and a linear classifier, with intervals and beside chance. An
# untrained network here, so that there is nothing to download: a trained one is
# `load_backbone("runs/fima/backbone.safetensors")`.

# %%
import torch

from motionops.evaluation import extract_features, knn_accuracy, linear_probe, retrieval_recall
from motionops.evaluation.pictures import retrieval_strips, tsne, tsne_picture
from motionops.models import build_backbone
from motionops.video import moving_shapes, read_frames, read_list

torch.manual_seed(0)
folder = moving_shapes.generate("shapes", train=64, test=32, workers=1, progress=False)
train, test = (read_list(folder / f"{part}.txt") for part in ("train", "test"))
backbone = build_backbone("r3d_small")
clips = {"clips": 2, "frames": 8, "stride": 2, "size": 32, "workers": 0}
gallery, query = (extract_features(backbone, videos, **clips) for videos in (train, test))
labels, truth = ([moving_shapes.CLASSES[int(video.label)] for video in videos] for videos in (train, test))
print(gallery.shape, query.shape)

# %% [markdown]
# ## Scores
#
# Nearest neighbours by cosine, a vote of twenty, and a linear classifier. A score without its interval and without
# chance says little: both depend on how many videos there are, and of how many classes.

# %%
from motionops.evaluation import bootstrap_interval, chance_recall, nearest_neighbours

recall = retrieval_recall(query, truth, gallery, labels, ks=(1, 5))
nearest = nearest_neighbours(query, gallery, 1)[:, 0].tolist()
hits = [labels[place] == own for place, own in zip(nearest, truth, strict=True)]
low, high = bootstrap_interval(hits)
print(f"R@1 {recall['R@1']:.1f} ({low:.1f} to {high:.1f}), chance {chance_recall(truth, labels)['R@1']:.1f}")
print(f"kNN {knn_accuracy(query, truth, gallery, labels, k=20):.1f}")
print(f"linear {linear_probe(gallery, labels, query, truth):.1f}")

# %% [markdown]
# ## To look at
#
# What was found for which query, and the gallery in the plane.

# %%
order = nearest_neighbours(query[::9], gallery, 4).tolist()
queries = [(read_frames(test[place].path, [0])[0], truth[place]) for place in range(0, len(test), 9)]
found = [[(read_frames(train[place].path, [0])[0], labels[place]) for place in row] for row in order]
show(retrieval_strips(queries, found, "retrieval.png"))
show(tsne_picture(tsne(gallery), labels, "tsne.png", moving_shapes.CLASSES))

# %% [markdown]
# The same with a protocol's clips, a cache of features and files of results: `motionops evaluate retrieval`,
# `linear`, `svm`, `finetune`, `lowshot` ([measuring](../evaluation.md)).
