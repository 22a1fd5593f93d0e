"""Linear classifiers on frozen features: multinomial logistic regression, and the linear support vector machine.

Each channel is standardised by the training videos. C of the fit (the weight of the videos' losses against
½‖W‖², as scikit-learn writes it) is given, or the best of STRENGTHS by 3-fold cross-validation on the training videos
alone, clips of one recording always in one fold. None of the five papers states its C. Nothing depends on the order of
the videos.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from motionops.commandline import warn
from motionops.errors import UserError
from motionops.evaluation.features.given import given_classes, given_features
from motionops.extras import require

Kind = Literal["logistic", "svm"]
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
NO_CHOICE = 1.0  # where no class has two recordings to choose by
FOLDS = 3

_ITERATIONS, _TOLERANCE = 2000, 1e-7
_LOGITS = 1 << 23  # held at once; of float64 64 MiB, and some times that with what backward needs
# Seconds of a core for a video, a channel and a class of one SVM fit (4000 videos, 512 channels, 100 classes: 28 s).
_SVM_SECONDS, _LONG = 1.4e-7, 3600.0
_NEVER = -1e9  # the bias of a class without a video: finite, and below all others


class LinearClassifier(NamedTuple):
    """``scores = (x - mean) / scale @ weight.T + bias``; float64 on the CPU, K classes, C channels.

    Attributes:
        classes: K labels, the columns of the scores.
        mean, scale: ``[C]``, of the training features; a channel that is constant has scale 1.
        weight, bias: ``[K, C]`` and ``[K]``.
        C: of the fit.
        chosen: whether cross-validation chose it.
    """

    classes: list
    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    C: float
    chosen: bool

    def scores(self, features: Tensor) -> Tensor:
        """``[N, C]`` -> ``[N, K]`` float64: logits of the logistic regression, distances of the SVM."""
        return ((features.detach().cpu().double() - self.mean) / self.scale) @ self.weight.T + self.bias


def fit_linear(
    features: Tensor,
    labels: Sequence,
    classes: Sequence,
    *,
    kind: Kind = "logistic",
    C: float | None = None,
    groups: Sequence[str | None] | None = None,
    seed: int = 0,
) -> LinearClassifier:
    """Fit a classifier.

    Args:
        features: ``[N, C]``, finite.
        labels: N of the ``classes``.
        classes: K of them, strings or integers, the columns of the scores; one without a video is allowed.
        kind: "logistic" or "svm" (scikit-learn's LinearSVC: squared hinge, one against the rest).
        C: as scikit-learn's: the larger, the weaker the regularisation; None chooses it.
        groups: N names of recordings, None for a video that is one by itself.
        seed: of the folds.

    Raises:
        ValueError: sizes that do not fit, a feature that is not finite, a C that is not positive.
        UserError: fewer than two classes have a video.
        ImportError: "svm" without scikit-learn.
    """
    if kind == "svm":
        require("the linear SVM", "sklearn")
    features, labels = given_features("fit_linear", "features", features), given_classes("fit_linear", "labels", labels)
    if len(features) != len(labels) or (groups is not None and len(groups) != len(labels)):
        raise ValueError(
            f"fit_linear: features must be [N, C] with a label and a group each, got {list(features.shape)}, "
            f"{len(labels)} labels and {len(labels) if groups is None else len(groups)} groups"
        )
    if C is not None and not 0 < C < float("inf"):
        raise ValueError(f"fit_linear: C must be positive, got {C}")
    if len(set(labels)) < 2:
        raise UserError(f"a classifier needs two classes with training videos, got {len(set(labels))}")
    numbers = {name: place for place, name in enumerate(classes)}
    if unknown := [label for label in labels if label not in numbers]:
        raise ValueError(f"fit_linear: labels must be among classes, got {unknown[0]!r}")
    values = features.detach().cpu().double().numpy()
    # Sorted by class and content: sums, folds and fits then do not depend on the order of the list.
    order = sorted(range(len(labels)), key=lambda n: (numbers[labels[n]], _content(values[n])))
    values, truth = values[order], np.array([numbers[labels[n]] for n in order])
    names = [(groups[n] if groups else None) or f"{place}" for place, n in enumerate(order)]

    chosen = C is None
    if kind == "svm" and (line := svm_warning(*values.shape, len(set(labels)), chosen)):
        warn(line)
    if chosen:
        C = _choose_c(values, truth, names, len(classes), kind, seed)
        chosen = C is not None
    mean, scale = _standard(values)
    C = NO_CHOICE if C is None else float(C)
    weight, bias = _FITS[kind]((values - mean) / scale, truth, len(classes), C)
    arrays = (torch.from_numpy(np.ascontiguousarray(array)) for array in (mean, scale, weight, bias))
    return LinearClassifier(list(classes), *arrays, C, chosen)


def svm_warning(videos: int, channels: int, classes: int, cross_validation: bool) -> str | None:
    """How long the fits of a linear SVM will take, where that is more than an hour; None where it is less.

    Cross-validation fits each strength to two thirds of the videos, FOLDS times, and the best once more to all.
    """
    fits = 1 + len(STRENGTHS) * (FOLDS - 1) if cross_validation else 1
    seconds = _SVM_SECONDS * videos * channels * classes * fits
    if seconds < _LONG:
        return None
    less = "; --C takes one fit instead" if cross_validation else ""
    return (
        f"the linear SVM of {videos} videos and {classes} classes takes about {seconds / 3600:.0f} hours of one "
        f"core{less}; linear, the logistic regression, takes about a fifteenth"
    )


def linear_probe(
    train: Tensor,
    train_labels: Tensor | Sequence,
    test: Tensor,
    test_labels: Tensor | Sequence,
    *,
    kind: Kind = "logistic",
    C: float | None = None,
    groups: Sequence[str | None] | None = None,
    seed: int = 0,
) -> float:
    """Top-1 accuracy in per cent of a classifier of frozen features: what do they hold?

    Args:
        train: ``[N, C]`` features; test: ``[M, C]``.
        train_labels, test_labels: N and M classes, integers or strings of one kind.
        kind, C, groups, seed: as of :func:`fit_linear`.

    It is a check of features (a probe on still frames must be near chance where only motion tells the classes apart),
    and not the papers' linear protocol where that trains on augmented clips.

    Raises:
        ValueError, UserError: as of :func:`fit_linear`; test features of other sizes, or without a label each.
    """
    train, test = (given_features("linear_probe", *each) for each in (("train", train), ("test", test)))
    known = given_classes("linear_probe", "train_labels", train_labels)
    asked = given_classes("linear_probe", "test_labels", test_labels)
    if test.shape[1:] != train.shape[1:] or len(test) != len(asked):
        raise ValueError(
            f"linear_probe: test must be [M, C] as train, {list(train.shape)}, is [N, C], with a label each, got "
            f"{list(test.shape)} and {len(asked)} labels"
        )
    classes = sorted(set(known))
    machine = fit_linear(train, known, classes, kind=kind, C=C, groups=groups, seed=seed)
    answers = machine.scores(test).argmax(dim=1).tolist()
    return 100.0 * sum(classes[answer] == label for answer, label in zip(answers, asked, strict=True)) / len(asked)


def _standard(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel; 1 for one that does not vary."""
    scale = values.std(axis=0)
    return values.mean(axis=0), np.where(scale > 1e-12 * np.abs(values).max(axis=0, initial=1.0), scale, 1.0)


def _content(row: np.ndarray) -> bytes:
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _choose_c(
    values: np.ndarray, truth: np.ndarray, groups: Sequence[str], classes: int, kind: Kind, seed: int
) -> float | None:
    """The strength with the most right answers on held-out folds, the smaller one of two; None where none can tell."""
    folds = _folds(truth, groups, seed)
    right = dict.fromkeys(STRENGTHS, 0)
    judged = 0
    for fold in range(FOLDS):
        held = folds == fold
        # Only videos whose class the other folds know can tell one strength from another.
        held &= np.isin(truth, truth[~held])
        rest = folds != fold
        if not held.any() or len(set(truth[rest])) < 2:
            continue
        judged += int(held.sum())
        mean, scale = _standard(values[rest])
        for strength in STRENGTHS:
            weight, bias = _FITS[kind]((values[rest] - mean) / scale, truth[rest], classes, strength)
            answers = (((values[held] - mean) / scale) @ weight.T + bias).argmax(axis=1)
            right[strength] += int((answers == truth[held]).sum())
    return max(STRENGTHS, key=lambda strength: right[strength]) if judged else None


def _folds(truth: np.ndarray, groups: Sequence[str], seed: int) -> np.ndarray:
    """Fold of each video: the recordings of each class are shuffled and dealt out in turn; a recording stays whole."""
    generator = np.random.default_rng(seed)
    fold_of: dict[str, int] = {}
    turn = 0
    for label in np.unique(truth):
        own = list(dict.fromkeys(group for group, other in zip(groups, truth, strict=True) if other == label))
        for place in generator.permutation(len(own)):
            if own[place] not in fold_of:
                fold_of[own[place]] = turn % FOLDS
                turn += 1
    return np.array([fold_of[group] for group in groups])


def _fit_logistic(
    values: np.ndarray, truth: np.ndarray, classes: int, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """argmin of ½‖W‖² + C Σ cross-entropy, the bias free: L-BFGS on all videos, on the GPU where there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    inputs = torch.from_numpy(values).to(device)
    target = torch.from_numpy(truth).to(device)
    weight = torch.zeros(classes, values.shape[1], dtype=torch.float64, device=device, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, device=device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_ITERATIONS,
        tolerance_grad=_TOLERANCE,
        tolerance_change=1e-12,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    # A class without a video must not draw on the others: its bias would run to minus infinity.
    present = torch.zeros(classes, dtype=torch.bool, device=device)
    present[target.unique()] = True

    parts = list(zip(*(rows.split(max(1, _LOGITS // classes)) for rows in (inputs, target)), strict=True))

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = torch.zeros((), dtype=torch.float64, device=device)
        for number, (rows, own) in enumerate(parts):
            with torch.enable_grad():
                logits = (rows @ weight.T + bias).masked_fill(~present, -torch.inf)
                loss = torch.nn.functional.cross_entropy(logits, own, reduction="sum") / len(target)
                if number == 0:
                    loss = loss + 0.5 * (weight**2).sum() / (strength * len(target))
            loss.backward()
            losses += loss.detach()
        return losses

    optimizer.step(closure)
    bias = bias.detach().masked_fill(~present, _NEVER)
    return weight.detach().cpu().numpy(), bias.cpu().numpy()


def _fit_svm(values: np.ndarray, truth: np.ndarray, classes: int, strength: float) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.svm import LinearSVC

    machine = LinearSVC(C=strength, dual="auto", max_iter=20_000, random_state=0).fit(values, truth)
    weight, bias = np.zeros((classes, values.shape[1])), np.full(classes, _NEVER)
    own, offset = machine.coef_, machine.intercept_
    if len(machine.classes_) == 2:
        own, offset = np.concatenate([-own, own]), np.concatenate([-offset, offset])
    weight[machine.classes_], bias[machine.classes_] = own, offset
    return weight, bias


_FITS: dict[str, Callable[[np.ndarray, np.ndarray, int, float], tuple[np.ndarray, np.ndarray]]] = {
    "logistic": _fit_logistic,
    "svm": _fit_svm,
}
