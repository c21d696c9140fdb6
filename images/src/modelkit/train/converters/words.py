"""TF-IDF of text by ONNX Runtime's tokenizer."""

from typing import Any

import numpy as np

from modelkit.train.converters.common import Graph, set_number_shape
from modelkit.train.steps import TOKEN

_TOKEN = r"[\p{L}\p{N}_]+"  # noqa: S105 (a pattern of words)
"""`\\w+` of Python in RE2, whose own `\\w` knows ASCII only."""
_LOCALE = "C.UTF-8"
"""For lower case beyond ASCII; every glibc of today has it, while language locales are left out of images."""
_PAD = "#"
"""Fills short rows of tokens; no word is that."""
_DOUBLE = 11
"""TensorProto.DOUBLE."""


def shape_tfidf(operator: Any) -> None:
    """A column for each word."""
    set_number_shape(operator, len(operator.raw_operator.vocabulary_))


def convert_tfidf(scope: Any, operator: Any, container: Any) -> None:
    """Words, with single words, sublinear counts and rows of unit length."""
    graph = Graph(scope, operator, container)
    vectorizer = graph.transformer
    if vectorizer.token_pattern != TOKEN or not vectorizer.sublinear_tf or vectorizer.ngram_range != (1, 1):
        raise NotImplementedError("only our own settings of TfidfVectorizer are converted")
    counts = graph.add("Cast", _count_words(graph), to=_DOUBLE)
    logarithm = graph.add("Add", graph.add("Log", graph.add("Max", counts, 1.0)), 1.0)
    damped = graph.select(graph.add("Greater", counts, 0.0), logarithm, 0.0)
    weighted = graph.add("Mul", damped, vectorizer.idf_.reshape(1, -1))
    squares = graph.add("ReduceSum", graph.add("Mul", weighted, weighted), np.array([1]), keepdims=1)
    length = graph.add("Sqrt", squares)
    # A text without a word that is known stays zero.
    length = graph.select(graph.add("Equal", length, 0.0), 1.0, length)
    graph.finish(graph.add("Div", weighted, length))


def _count_words(graph: Graph) -> str:
    """[n, words] float32."""
    vocabulary = graph.transformer.vocabulary_
    flat = graph.add("Reshape", graph.values, np.array([-1]))
    lower = graph.add(
        "StringNormalizer", flat, version=10, case_change_action="LOWER", is_case_sensitive=1, locale=_LOCALE
    )
    tokens = graph.add(
        "Tokenizer", lower, domain="com.microsoft", version=1,
        mark=0, mincharnum=1, pad_value=_PAD, tokenexp=_TOKEN,
    )  # fmt: skip
    return graph.add(
        "TfIdfVectorizer", tokens, version=9,
        mode="TF", min_gram_length=1, max_gram_length=1, max_skip_count=0,
        ngram_counts=[0], ngram_indexes=list(range(len(vocabulary))),
        pool_strings=[word.encode() for word in sorted(vocabulary, key=vocabulary.__getitem__)],
    )  # fmt: skip
