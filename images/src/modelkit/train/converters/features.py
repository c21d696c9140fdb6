"""Our own transformers: times as numbers, and the selection of features."""

import math
from typing import Any

import numpy as np

from modelkit.artifact.transformers import DAY, ORIGIN, WEEK, WEEKDAY_OF_1970, YEAR
from modelkit.train.converters.common import Graph, set_number_shape


def shape_selector(operator: Any) -> None:
    """The columns that stay."""
    set_number_shape(operator, int(operator.raw_operator.support_.sum()))


def convert_selector(scope: Any, operator: Any, container: Any) -> None:
    """FeatureSelector."""
    graph = Graph(scope, operator, container)
    kept = np.flatnonzero(graph.transformer.support_).astype(np.int64)
    graph.finish(graph.add("Gather", graph.values, kept, axis=1))


def shape_times(operator: Any) -> None:
    """See TimeFeatures."""
    set_number_shape(operator, sum(map(len, operator.raw_operator.feature_labels())))


def convert_times(scope: Any, operator: Any, container: Any) -> None:
    """TimeFeatures, in the same order of operations."""
    graph = Graph(scope, operator, container)
    parts = []
    for position, clock in enumerate(graph.transformer.has_clock_):
        column = graph.column(position)
        days = graph.add("Div", graph.add("Sub", column, ORIGIN), DAY)
        turns = graph.add("Div", column, DAY)
        weekday = graph.add("Add", graph.add("Floor", turns), WEEKDAY_OF_1970)
        parts += [days, *_cycle(graph, graph.add("Div", weekday, WEEK)), *_cycle(graph, graph.add("Div", days, YEAR))]
        if clock:
            parts += _cycle(graph, turns)
    graph.finish(graph.add("Concat", *parts, axis=1))


def _cycle(graph: Graph, turns: str) -> list[str]:
    angle = graph.add("Mul", graph.add("Sub", turns, graph.add("Floor", turns)), 2 * math.pi)
    return [graph.add("Sin", angle), graph.add("Cos", angle)]
