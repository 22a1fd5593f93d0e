"""Linear classifiers against scikit-learn and answers known beforehand."""

import warnings

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from motionops.errors import UserError
from motionops.evaluation import fit_linear
from motionops.evaluation.features.labelled_features import LabelledFeatures
from motionops.evaluation.protocols import linear, measure_linear
from motionops.evaluation.protocols.linear import FOLDS, NO_CHOICE, STRENGTHS, _choose_c, _folds, svm_warning
from motionops.video import Video


def case(seed=0, train=240, test=400, dim=24, classes=6, signal=1.0):
    """Overlapping Gaussian clouds, each channel with a scale and an offset of its own."""
    generator = torch.Generator().manual_seed(seed)
    centres = signal * torch.randn(classes, dim, generator=generator)
    labels = torch.arange(train + test) % classes
    features = centres[labels] + torch.randn(train + test, dim, generator=generator)
    features = features * (0.1 + 10 * torch.rand(dim, generator=generator)) + 5
    names = [f"class {label}" for label in labels.tolist()]
    return features[:train], names[:train], features[train:], names[train:], [f"class {k}" for k in range(classes)]


def accuracy(machine, features, names):
    answers = machine.scores(features).argmax(dim=1)
    return 100.0 * np.mean([machine.classes[answer] == name for answer, name in zip(answers, names, strict=True)])


@pytest.mark.parametrize("signal", [0.3, 0.6])
@pytest.mark.parametrize("strength", [1e-3, 1e-1, 1.0, 10.0])
def test_logistic_regression_is_scikit_learns(strength, signal):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, train_names, test, test_names, classes = case(signal=signal)
    ours = fit_linear(train, train_names, classes, C=strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=5000, tol=1e-10))
        theirs.fit(train.double().numpy(), train_names)
    expected = 100.0 * theirs.score(test.double().numpy(), test_names)
    assert accuracy(ours, test, test_names) == pytest.approx(expected, abs=1.0)
    probabilities = ours.scores(test).softmax(dim=1).numpy()
    assert np.abs(probabilities - theirs.predict_proba(test.double().numpy())).max() < 1e-3


@pytest.mark.parametrize("classes", [2, 5])
def test_svm_is_scikit_learns(classes):
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    train, train_names, test, test_names, names = case(classes=classes, signal=0.5)
    ours = fit_linear(train, train_names, names, kind="svm", C=0.1)
    scaler = StandardScaler().fit(train.double().numpy())
    theirs = LinearSVC(C=0.1, max_iter=20_000).fit(scaler.transform(train.double().numpy()), train_names)
    expected = 100.0 * theirs.score(scaler.transform(test.double().numpy()), test_names)
    assert accuracy(ours, test, test_names) == pytest.approx(expected, abs=1.0)


def test_the_two_scores_of_an_svm_are_the_sides_of_scikit_learns():
    """Of classes of unequal numbers, between which the line does not run through the middle."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC

    train, _, test, *_ = case(classes=2, signal=0.5)
    names = ["b" if n % 5 else "a" for n in range(len(train))]
    ours = fit_linear(train, names, ["a", "b"], kind="svm", C=0.1).scores(test)
    theirs = make_pipeline(StandardScaler(), LinearSVC(C=0.1, max_iter=20_000)).fit(train.double().numpy(), names)
    side = torch.from_numpy(theirs.decision_function(test.double().numpy()))
    assert side.mean() > 0.3
    torch.testing.assert_close(ours, torch.stack([-side, side], dim=1), rtol=0, atol=0.01)


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_features_that_are_the_class_score_100(kind):
    labels = torch.arange(8).repeat(6)
    names = [f"{label}" for label in labels.tolist()]
    features = torch.nn.functional.one_hot(labels, 8).float()
    machine = fit_linear(features, names, [f"{k}" for k in range(8)], kind=kind)
    assert accuracy(machine, features, names) == 100


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_the_order_of_the_videos_changes_nothing(kind):
    train, train_names, test, _, classes = case(signal=0.4)
    groups = [f"g{n // 4}" for n in range(len(train))]
    first = fit_linear(train, train_names, classes, kind=kind, groups=groups)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1)).tolist()
    again = fit_linear(
        train[order], [train_names[n] for n in order], classes, kind=kind, groups=[groups[n] for n in order]
    )
    assert again.C == first.C
    assert torch.equal(again.scores(test), first.scores(test))


@pytest.mark.parametrize("seed", range(6))
def test_the_strength_is_the_one_that_scikit_learn_chooses(seed):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, *_ = case(seed, train=48, test=0, dim=12, signal=0.6)
    values = (train.double() ** 3).numpy()  # heavy tails: it matters which videos a channel is standardised by
    truth, groups = np.arange(48) % 6, [str(n) for n in range(48)]
    # 16 videos a fold: the accuracies are exact, and two strengths are equally good for both or for neither.
    folds = PredefinedSplit(_folds(truth, groups, seed))
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000, tol=1e-10))
    search = GridSearchCV(pipeline, {"logisticregression__C": STRENGTHS}, cv=folds, refit=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search.fit(values, truth)
    expected = search.best_params_["logisticregression__C"]
    assert _choose_c(values, truth, groups, 6, "logistic", seed) == expected


def test_the_chosen_strength_is_the_one_of_the_fit():
    train, names, test, test_names, classes = case(train=48, dim=200, signal=0.15)
    machine = fit_linear(train, names, classes)
    assert machine.chosen
    assert accuracy(machine, test, test_names) > 100 / 6
    again = fit_linear(train, names, classes, C=machine.C)
    assert torch.equal(machine.scores(test), again.scores(test))
    single = fit_linear(train[:6], names[:6], classes)  # one video a class
    assert not single.chosen
    assert single.C == 1.0


def test_recordings_stay_in_one_fold():
    truth = np.repeat(np.arange(5), 12)
    groups = [f"g{n // 3}" for n in range(60)]  # 4 recordings a class
    folds = _folds(truth, groups, seed=0)
    assert set(folds) == set(range(FOLDS))
    assert all(len(set(folds[3 * g : 3 * g + 3])) == 1 for g in range(20))
    for label in range(5):
        assert len(set(folds[truth == label])) == FOLDS


@pytest.mark.parametrize("kind", ["logistic", "svm"])
def test_a_class_without_a_video_is_never_answered(kind):
    train, names, test, _, classes = case()
    machine = fit_linear(train, names, [*classes, "unseen"], kind=kind, C=1.0)
    scores = machine.scores(test)
    assert bool(torch.isfinite(scores).all())
    assert int((scores.argmax(dim=1) == len(classes)).sum()) == 0
    same = fit_linear(train, names, classes, kind=kind, C=1.0)
    assert torch.allclose(scores[:, :-1], same.scores(test), atol=1e-8)


def test_a_channel_that_never_changes_says_nothing():
    train, names, test, test_names, classes = case()
    with_constant = [torch.cat([features, torch.full((len(features), 1), 7.0)], dim=1) for features in (train, test)]
    machine = fit_linear(with_constant[0], names, classes, C=1.0)
    plain = fit_linear(train, names, classes, C=1.0)
    assert accuracy(machine, with_constant[1], test_names) == accuracy(plain, test, test_names)


def test_wrong_arguments():
    features, names, *_, classes = case()
    with pytest.raises(ValueError, match=r"features must be \[N, C\] with a label and a group each"):
        fit_linear(features, names[:3], classes)
    with pytest.raises(ValueError, match="row 0 is not finite"):
        fit_linear(features * float("nan"), names, classes)
    with pytest.raises(ValueError, match="C must be positive, got 0"):
        fit_linear(features, names, classes, C=0)
    with pytest.raises(UserError, match="two classes with training videos, got 1"):
        fit_linear(features, ["class 0"] * len(names), classes)


def test_where_the_strength_is_from_is_told(monkeypatch):
    """A video a class leaves nothing to choose by: the fold that holds one has nothing to compare it with."""

    def measured(labels, **how):
        videos = [Video(f"{n}.mp4", label) for n, label in enumerate(labels)]
        features = LabelledFeatures(torch.randn(len(videos), 4), videos, [])
        monkeypatch.setattr(measure_linear, "frozen_features", lambda *given, **named: features)
        others = [Video(f"other/{video.path}", video.label) for video in videos]
        metrics = measure_linear.evaluate_linear(None, videos, others, warn=lambda line: None, **how)
        return metrics["C_from"], metrics["C"]

    assert measured("aabb" * 3, C=0.25) == ("given", 0.25)
    assert measured("aabb" * 3)[0] == "cross-validation"
    assert measured("ab") == ("default: nothing to choose by", NO_CHOICE)


def test_logits_in_parts_give_the_same_fit(monkeypatch):
    """Of a large set they are never held whole: parts of 3 videos against all 40 at once."""
    features, labels = torch.randn(40, 6, generator=torch.Generator().manual_seed(3)), [n % 4 for n in range(40)]
    whole = fit_linear(features, labels, [0, 1, 2, 3], C=1.0)
    monkeypatch.setattr(linear, "_LOGITS", 12)
    parts = fit_linear(features, labels, [0, 1, 2, 3], C=1.0)
    torch.testing.assert_close(parts.weight, whole.weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(parts.bias, whole.bias, rtol=0, atol=1e-5)


def test_a_long_svm_is_announced(monkeypatch, capsys):
    """Kinetics-400's training set, as measured on 4000 videos and scaled: 1.9 hours a fit, 11 fits' worth."""
    assert svm_warning(4000, 512, 100, True) is None  # 5 minutes
    assert "240436 videos and 400 classes takes about 21 hours" in svm_warning(240436, 512, 400, True)
    assert "about 2 hours of one core; linear" in svm_warning(240436, 512, 400, False)
    monkeypatch.setattr(linear, "_LONG", 0.0)
    fit_linear(torch.eye(8), [n % 2 for n in range(8)], [0, 1], kind="svm", C=1.0)
    assert "the linear SVM of 8 videos and 2 classes takes about 0 hours of one core; linear" in capsys.readouterr().err
