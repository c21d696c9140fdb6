"""Any TrainingResult, and the values that it and other messages are made of."""

from hypothesis import strategies as st

from modelkit.contract.metrics import METRICS
from modelkit.contract.result import ChampionResult, Difference, TrainingResult

TEXT = st.text(max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
METRIC_VALUES = st.dictionaries(st.sampled_from(METRICS), FINITE, max_size=3)
INTEGERS = st.integers(0, 2**31)
RESULTS = st.builds(
    TrainingResult,
    outcome=TEXT,
    reason=st.none() | TEXT,
    message=st.none() | TEXT,
    digest=st.none() | TEXT,
    path=st.none() | TEXT,
    metric=st.none() | TEXT,
    metrics=METRIC_VALUES,
    trivial=METRIC_VALUES,
    champion=st.none()
    | st.builds(
        ChampionResult,
        number=INTEGERS,
        metrics=METRIC_VALUES,
        differences=st.dictionaries(
            st.sampled_from(METRICS), st.builds(Difference, value=FINITE, low=FINITE, high=FINITE), max_size=3
        ),
    ),
    champion_message=st.none() | TEXT,
    train_rows=INTEGERS,
    seconds=FINITE,
)
