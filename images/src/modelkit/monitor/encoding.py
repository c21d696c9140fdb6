"""What a model answered, and what was true, as arrays of numbers."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from modelkit.data.profile import category_key, parse_numbers
from modelkit.monitor.reference import Reference

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]


def encode_answers(reference: Reference, values: "pa.ChunkedArray") -> Floats:
    """Predictions or labels as numbers: of a classification the positions in the version's classes. NaN for no number,
    an infinite one, or another class."""
    if reference.classes is None:
        numbers, _ = parse_numbers(values.to_numpy())
        return np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float64)
    positions = {category_key(label): float(position) for position, label in enumerate(reference.classes)}
    encoded = values.combine_chunks().dictionary_encode()
    found = [positions.get(category_key(value), np.nan) for value in encoded.dictionary.to_pylist()]
    codes = encoded.indices.fill_null(len(found)).to_numpy(zero_copy_only=False)
    answers: Floats = np.array([*found, np.nan])[codes]
    return answers


def stack(probabilities: "pa.ChunkedArray") -> NDArray[np.float64]:
    """Lists of one length as an (n, classes) array. Flattening skips null lists."""
    flat = probabilities.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(probabilities), -1) if len(probabilities) else np.empty((0, 2))
