"""The probe finds a class that is there and none that is not."""

import pytest
import torch

from motionops.errors import UserError
from motionops.evaluation import linear_probe
from motionops.evaluation.protocols.linear import STRENGTHS


def test_finds_what_is_there_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(320) % 8
    features = torch.randn(320, 16, generator=generator)
    seen = features.clone()
    seen[:, :8] += 4 * torch.nn.functional.one_hot(labels, 8)
    assert linear_probe(seen[:240], labels[:240], seen[240:], labels[240:]) > 90
    assert linear_probe(features[:240], labels[:240], features[240:], labels[240:]) < 30


def test_at_the_strength_that_scikit_learn_chooses_it_is_scikit_learns():
    selection, linear = pytest.importorskip("sklearn.model_selection"), pytest.importorskip("sklearn.linear_model")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = torch.Generator().manual_seed(1)
    names = [f"class {number % 5}" for number in range(250)]
    features = torch.randn(250, 12, generator=generator, dtype=torch.float64)
    features[:, :5] += 1.5 * torch.nn.functional.one_hot(torch.arange(250) % 5, 5)
    search = selection.GridSearchCV(
        make_pipeline(StandardScaler(), linear.LogisticRegression(max_iter=1000)),
        {"logisticregression__C": list(STRENGTHS)},
        cv=selection.StratifiedKFold(3, shuffle=True, random_state=0),
    ).fit(features[:150].numpy(), names[:150])
    chosen = search.best_params_["logisticregression__C"]
    expected = 100 * search.score(features[150:].numpy(), names[150:])
    assert linear_probe(features[:150], names[:150], features[150:], names[150:], C=chosen) == pytest.approx(expected)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"test must be \[M, C\] as train, \[6, 2\], is \[N, C\]"):
        linear_probe(torch.ones(6, 2), [0, 1] * 3, torch.ones(6, 3), [0, 1] * 3)
    with pytest.raises(ValueError, match=r"with a label each, got \[6, 2\] and 2 labels"):
        linear_probe(torch.ones(6, 2), [0, 1] * 3, torch.ones(6, 2), [0, 1])
    with pytest.raises(ValueError, match="with a label and a group each"):
        linear_probe(torch.ones(6, 2), [0, 1], torch.ones(6, 2), [0, 1] * 3)
    with pytest.raises(UserError, match="two classes with training videos, got 1"):
        linear_probe(torch.ones(6, 2), [0] * 6, torch.ones(6, 2), [0] * 6)
