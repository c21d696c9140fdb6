"""A model is made smaller only as long as it stays good enough, by rows that it never saw and not by the test part."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import StratifiedKFold

from modelkit.artifact.model import onnx_answers
from modelkit.artifact.native import dump_native
from modelkit.contract.config import CandidateConfig, TrainerConfig
from modelkit.contract.recipe import CompressConfig, StudentConfig
from modelkit.data.columns import as_array
from modelkit.errors import RefusedError
from modelkit.train.compress import build_student
from modelkit.train.parts import Parts

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:'n_jobs' has no effect:FutureWarning"),
]

FOREST = {"n_estimators": 8}
NETWORK = {"hidden_layer_sizes": [32], "max_iter": 40}


@pytest.mark.parametrize(
    ("estimator", "data", "params"),
    [
        ("DecisionTreeClassifier", "builtin://breast_cancer", {}),
        ("ExtraTreeClassifier", "builtin://breast_cancer", {}),
        ("RandomForestClassifier", "builtin://wine", FOREST),
        ("ExtraTreesClassifier", "builtin://wine", FOREST),
        ("GradientBoostingClassifier", "builtin://wine", FOREST),
        ("DecisionTreeRegressor", "builtin://diabetes", {}),
        ("RandomForestRegressor", "builtin://diabetes", FOREST),
        ("GradientBoostingRegressor", "builtin://diabetes", {"n_estimators": 20, "max_depth": 6}),
    ],
)
def test_trees_are_pruned_within_the_drop(
    run_compression: Callable[..., Any], estimator: str, data: str, params: dict[str, Any]
) -> None:
    done = run_compression(estimator, "Pruning", data=data, **params)
    step = done.step
    assert step.accepted, step.message
    assert step.drop <= 0.02
    assert step.bytes_after < step.bytes_before
    assert min(step.seconds_before, step.seconds_after) > 0
    alpha = done.found.trial.candidate.params["ccp_alpha"]
    assert alpha > 0
    model = done.found.pipeline.named_steps["model"]
    assert model.ccp_alpha == alpha
    assert count_nodes(model) < count_nodes(done.fitted.named_steps["model"])


def test_the_pruned_model_is_scikit_learns_with_that_alpha_on_the_whole_training_part(
    run_compression: Callable[..., Any],
) -> None:
    from sklearn.tree import DecisionTreeClassifier

    done = run_compression("DecisionTreeClassifier", "Pruning")
    train = done.parts.train
    alpha = done.found.trial.candidate.params["ccp_alpha"]
    ours = DecisionTreeClassifier(random_state=7, ccp_alpha=alpha).fit(as_array(train.rows), train.target)
    np.testing.assert_array_equal(
        done.found.pipeline.predict_proba(done.test_rows()), ours.predict_proba(done.test_rows())
    )


def test_the_drop_is_that_of_a_fold_of_the_training_part(run_compression: Callable[..., Any]) -> None:
    from sklearn.tree import DecisionTreeClassifier

    done = run_compression("DecisionTreeClassifier", "Pruning")
    rows, target = as_array(done.parts.train.rows), done.parts.train.target
    learn, held = list(StratifiedKFold(5, shuffle=True, random_state=7).split(rows, target))[-1]

    def score(alpha: float) -> float:
        model = DecisionTreeClassifier(random_state=7, ccp_alpha=alpha).fit(rows[learn], target[learn])
        return float(accuracy_score(target[held], model.predict(rows[held])))

    drop = score(0.0) - score(done.found.trial.candidate.params["ccp_alpha"])
    assert done.step.drop == pytest.approx(drop, abs=1e-12)


def test_the_validation_part_judges_when_there_is_one(run_compression: Callable[..., Any]) -> None:
    from sklearn.tree import DecisionTreeClassifier

    def keep(parts: Parts) -> Parts:
        rows = np.arange(len(parts.train.target))
        return replace(parts, train=parts.train.take(rows[:300]), validation=parts.train.take(rows[300:]))

    done = run_compression("DecisionTreeClassifier", "Pruning", change=keep)
    train, held = done.parts.train, done.parts.validation
    alphas = (0.0, done.found.trial.candidate.params["ccp_alpha"])
    models = [
        DecisionTreeClassifier(random_state=7, ccp_alpha=alpha).fit(as_array(train.rows), train.target)
        for alpha in alphas
    ]
    before, after = (accuracy_score(held.target, model.predict(as_array(held.rows))) for model in models)
    assert done.step.drop == pytest.approx(before - after, abs=1e-12)


def test_the_test_part_has_no_say(run_compression: Callable[..., Any]) -> None:
    def spoil(parts: Parts) -> Parts:
        return replace(parts, evaluation=replace(parts.evaluation, target=parts.evaluation.target[::-1].copy()))

    plain, spoilt = (
        run_compression("RandomForestClassifier", "Pruning", data="builtin://wine", change=change, **FOREST)
        for change in (lambda parts: parts, spoil)
    )
    assert dump_native(plain.found.pipeline) == dump_native(spoilt.found.pipeline)
    assert plain.step.drop == spoilt.step.drop


def test_a_step_that_loses_too_much_is_not_taken(run_compression: Callable[..., Any]) -> None:
    done = run_compression(
        "RandomForestClassifier",
        "Distillation",
        data="builtin://digits",
        max_drop=0.05,
        student="DecisionTreeClassifier",
        student_params={"max_depth": 2},
        **FOREST,
    )
    assert not done.step.accepted
    assert done.step.drop > 0.05
    assert "more than 0.05" in done.step.message
    assert done.found.pipeline is done.fitted
    assert done.found.trial is done.trial


def test_a_step_that_saves_nothing_is_not_taken(run_compression: Callable[..., Any]) -> None:
    done = run_compression(
        "LogisticRegression",
        "Distillation",
        student="RandomForestClassifier",
        student_params={"n_estimators": 50},
        max_drop=0.1,
    )
    assert not done.step.accepted
    assert done.step.drop <= 0.1
    assert f"it needs {done.step.bytes_after} bytes" in done.step.message


@pytest.mark.parametrize(
    ("method", "estimator", "reason"),
    [
        ("Pruning", "LogisticRegression", "LogisticRegression has no ccp_alpha"),
        ("Pruning", "HistGradientBoostingClassifier", "has no ccp_alpha"),
        ("Quantization", "RandomForestClassifier", "no matrix product"),
        ("Quantization", "LogisticRegression", "no matrix product"),
        ("Quantization", "KNeighborsClassifier", "no matrix product"),
    ],
)
def test_what_does_not_apply_is_said(
    run_compression: Callable[..., Any], method: str, estimator: str, reason: str
) -> None:
    params = FOREST if "Forest" in estimator else {"max_iter": 5} if "Hist" in estimator else {}
    done = run_compression(estimator, method, data="builtin://iris", **params)
    assert not done.step.accepted
    assert reason in done.step.message
    assert done.step.bytes_before == done.step.bytes_after > 0
    assert done.found.pipeline is done.fitted


def test_a_student_learns_the_probabilities_of_its_teacher(run_compression: Callable[..., Any]) -> None:
    done = run_compression(
        "RandomForestClassifier",
        "Distillation",
        data="builtin://wine",
        student="LogisticRegression",
        n_estimators=30,
    )
    assert done.step.accepted, done.step.message
    assert done.step.bytes_after < done.step.bytes_before / 5
    assert done.found.trial.candidate.name == "LogisticRegression"
    teacher = done.fitted.predict_proba(done.test_rows())
    soft = done.found.pipeline.predict_proba(done.test_rows())
    train = done.parts.train
    hard = clone_of(done.found.pipeline).fit(train.rows, done.fitted.predict(train.rows))
    distance = [float(np.mean((found - teacher) ** 2)) for found in (soft, hard.predict_proba(done.test_rows()))]
    assert distance[0] < distance[1]


def test_soft_labels_are_weighted_rows(run_compression: Callable[..., Any]) -> None:
    """The student equals a model fitted by hand to each row once per class, by the teacher's probability."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    done = run_compression(
        "RandomForestClassifier", "Distillation", data="builtin://wine", student="LogisticRegression", **FOREST
    )
    rows = as_array(done.parts.train.rows)
    likely = done.fitted.predict_proba(rows)
    scaler = StandardScaler().fit(rows)
    scaled = np.repeat(scaler.transform(rows), 3, axis=0)
    keep = likely.ravel() >= 0.01
    labels = np.tile(done.fitted.classes_, len(rows))
    by_hand = LogisticRegression(random_state=7).fit(scaled[keep], labels[keep], sample_weight=likely.ravel()[keep])
    np.testing.assert_allclose(
        done.found.pipeline.predict_proba(done.test_rows()),
        by_hand.predict_proba(scaler.transform(done.test_rows())),
        atol=1e-6,
    )


@pytest.mark.parametrize("student", ["KNeighborsClassifier", "LinearDiscriminantAnalysis"])
def test_a_student_without_weights_learns_labels(run_compression: Callable[..., Any], student: str) -> None:
    done = run_compression(
        "RandomForestClassifier", "Distillation", data="builtin://iris", student=student, max_drop=0.1, n_estimators=30
    )
    assert done.step.accepted, done.step.message
    train = done.parts.train
    by_hand = clone_of(done.found.pipeline).fit(train.rows, done.fitted.predict(train.rows))
    rows = done.test_rows()
    np.testing.assert_array_equal(done.found.pipeline.predict(rows), by_hand.predict(rows))


def test_a_regression_student_learns_values(run_compression: Callable[..., Any]) -> None:
    done = run_compression(
        "RandomForestRegressor",
        "Distillation",
        data="builtin://diabetes",
        student="Ridge",
        max_drop=0.1,
        n_estimators=20,
    )
    assert done.step.accepted, done.step.message
    train = done.parts.train
    by_hand = clone_of(done.found.pipeline).fit(train.rows, done.fitted.predict(train.rows))
    np.testing.assert_allclose(done.found.pipeline.predict(done.test_rows()), by_hand.predict(done.test_rows()))
    truth = done.parts.evaluation.target
    assert r2_score(truth, done.found.pipeline.predict(done.test_rows())) > 0.3


@pytest.mark.parametrize(
    ("estimator", "data"), [("MLPClassifier", "builtin://digits"), ("MLPRegressor", "builtin://diabetes")]
)
def test_a_network_is_quantized(run_compression: Callable[..., Any], estimator: str, data: str) -> None:
    network = {"hidden_layer_sizes": [32, 32], "max_iter": 40}
    done = run_compression(estimator, "Quantization", data=data, max_drop=0.03, **network)
    assert done.step.accepted, done.step.message
    assert done.step.bytes_after < done.step.bytes_before / 2
    served = done.found.quantized
    assert served is not None
    rows = done.test_rows()
    answers, _ = onnx_answers(served.session, served.layout, done.dataset.columns, rows)
    expected = done.fitted.predict(rows)
    if done.classes is None:
        assert np.corrcoef(answers, expected)[0, 1] > 0.99
    else:
        assert np.mean(answers == expected) > 0.95


def test_a_quantized_answer_does_not_depend_on_the_other_rows(run_compression: Callable[..., Any]) -> None:
    done = run_compression("MLPClassifier", "Quantization", data="builtin://digits", max_drop=0.03, **NETWORK)
    served, rows = done.found.quantized, done.test_rows()[:40]
    _, together = onnx_answers(served.session, served.layout, done.dataset.columns, rows)
    alone = [onnx_answers(served.session, served.layout, done.dataset.columns, rows[[i]])[1][0] for i in range(40)]
    np.testing.assert_allclose(together, np.array(alone), atol=1e-6)


def test_quantization_leaves_the_log_as_it_was(
    run_compression: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    level = logging.getLogger().level
    run_compression("MLPClassifier", "Quantization", data="builtin://digits", **NETWORK)
    assert logging.getLogger().level == level
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_steps_follow_each_other_and_the_drop_is_against_the_chosen_model(run_compression: Callable[..., Any]) -> None:
    done = run_compression(
        "RandomForestClassifier",
        "Pruning",
        "Distillation",
        "Quantization",
        data="builtin://digits",
        max_drop=0.1,
        student="MLPClassifier",
        student_params={"hidden_layer_sizes": [16], "max_iter": 40},
        **FOREST,
    )
    pruned, distilled, quantized = done.found.steps
    assert [step.method for step in done.found.steps] == ["Pruning", "Distillation", "Quantization"]
    assert all(step.accepted for step in done.found.steps), [step.message for step in done.found.steps]
    assert pruned.bytes_after == distilled.bytes_before
    assert distilled.bytes_after == quantized.bytes_before
    assert max(step.drop for step in done.found.steps) <= 0.1


def test_the_same_run_makes_the_same_model(run_compression: Callable[..., Any]) -> None:
    one, two = (
        run_compression(
            "RandomForestClassifier",
            "Distillation",
            "Quantization",
            data="builtin://digits",
            max_drop=0.1,
            student="MLPClassifier",
            student_params=NETWORK,
            **FOREST,
        )
        for _ in range(2)
    )
    assert dump_native(one.found.pipeline) == dump_native(two.found.pipeline)
    assert one.found.quantized is not None
    assert one.found.quantized.model == two.found.quantized.model
    plain = [replace(step, seconds_before=0.0, seconds_after=0.0) for step in one.found.steps]
    assert plain == [replace(step, seconds_before=0.0, seconds_after=0.0) for step in two.found.steps]


@pytest.mark.parametrize(
    ("compress", "reason", "text"),
    [
        (CompressConfig(methods=("Prune",), max_drop=0.1), "BadCompression", "expected Pruning, Distillation"),
        (CompressConfig(methods=("Distillation",), max_drop=0.1), "BadCompression", "needs a student"),
        (
            CompressConfig(methods=("Distillation",), max_drop=0.1, student=StudentConfig(estimator="Rigde")),
            "UnknownEstimator",
            "compress.student: the estimator 'Rigde'",
        ),
        (
            CompressConfig(methods=("Distillation",), max_drop=0.1, student=StudentConfig(estimator="Ridge")),
            "TaskMismatch",
            "compress.student: the task is Classification",
        ),
        (
            CompressConfig(
                methods=("Distillation",),
                max_drop=0.1,
                student=StudentConfig(estimator="DecisionTreeClassifier", params={"depth": 3}),
            ),
            "BadParameter",
            "no parameter 'depth'",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_done_is_refused_before_data_is_read(
    plain_config: TrainerConfig, compress: CompressConfig, reason: str, text: str
) -> None:
    with pytest.raises(RefusedError, match=text) as refused:
        build_student(replace(plain_config, compress=compress), "accuracy")
    assert refused.value.reason == reason


def test_a_student_must_have_the_probabilities_that_the_metric_needs(plain_config: TrainerConfig) -> None:
    student = StudentConfig(estimator="LinearSVC")
    asked = CompressConfig(methods=("Distillation",), max_drop=0.1, student=student)
    with pytest.raises(RefusedError, match="gives no probabilities"):
        build_student(replace(plain_config, compress=asked), "roc_auc")


@pytest.fixture
def plain_config() -> TrainerConfig:
    from modelkit.contract.config import DataConfig, StoreConfig

    return TrainerConfig(
        namespace="default",
        name="small",
        number=1,
        version="1-abc",
        trigger="Created",
        store=StoreConfig(uri="file:///nowhere"),
        data=DataConfig(uri="x", display_uri="x", target="target"),
        candidates=(CandidateConfig(estimator="LogisticRegression"),),
    )


def count_nodes(model: Any) -> int:
    """Of a tree, or of all trees of an ensemble."""
    return sum(tree.tree_.node_count for tree in np.ravel(getattr(model, "estimators_", [model])))


def clone_of(pipeline: Any) -> Any:
    from sklearn.base import clone

    return clone(pipeline)
