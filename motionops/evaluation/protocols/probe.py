"""A linear classifier on frozen features that fits on any machine: what do the features hold?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def linear_probe(
    train: Tensor, train_labels: Tensor | Sequence, test: Tensor, test_labels: Tensor | Sequence, *, seed: int = 0
) -> float:
    """Top-1 accuracy in per cent, on the test features, of a logistic regression fitted to the training features.

    Args:
        train: ``[N, C]`` features; test: ``[M, C]``. Each channel is standardised by the training set.
        train_labels, test_labels: N and M classes, integers or strings of one kind.
        seed: of the folds by which the strength of the regularisation is chosen.

    The regularisation is the best of five strengths by 3-fold cross-validation on the training set alone, so that the
    score is what the features hold and not what one setting finds. It is a check of features (a probe on still
    frames must be near chance where only motion tells the classes apart), not the papers' linear protocol, which trains
    on augmented clips.

    Raises:
        ValueError: sizes that do not fit, fewer than two classes, or a class with fewer than three training videos.
        ImportError: scikit-learn is missing.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import GridSearchCV, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError("linear_probe needs scikit-learn: pip install 'motionops[train]'") from error
    train, test = (features.detach().cpu().double().numpy() for features in (train, test))
    train_labels, test_labels = np.asarray(train_labels), np.asarray(test_labels)
    if train.ndim != 2 or test.ndim != 2 or train.shape[1] != test.shape[1]:
        raise ValueError(f"linear_probe: train and test must be [N, C] and [M, C], got {train.shape} and {test.shape}")
    if len(train) != len(train_labels) or len(test) != len(test_labels) or len(test) == 0:
        raise ValueError(
            f"linear_probe: one label a video is needed: {len(train)} and {len(test)} videos, "
            f"{len(train_labels)} and {len(test_labels)} labels"
        )
    counts = np.unique(train_labels, return_counts=True)[1]
    if len(counts) < 2 or counts.min() < 3:
        raise ValueError(
            "linear_probe: train_labels must hold two classes of three videos or more, got classes of "
            f"{counts.tolist()} videos"
        )
    search = GridSearchCV(
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        {"logisticregression__C": [1e-3, 1e-2, 1e-1, 1.0, 10.0]},
        cv=StratifiedKFold(3, shuffle=True, random_state=seed),
    )
    return 100.0 * float(search.fit(train, train_labels).score(test, test_labels))
