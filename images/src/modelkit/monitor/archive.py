"""Finished hours in the store: their summaries, and the answers that later feedback may ask for.

A summary is counts. The answers (keys and what the model said, no features), the hashes of whole rows and, where one is
wanted, a sample of the rows lie beside the segments that they were made of, so that whoever removes an hour's captures
removes them, too.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from io import BytesIO

import pyarrow as pa

from modelkit.contract.codec import ContractError
from modelkit.contract.files import answers_path, sample_path, sketch_path, summaries_directory
from modelkit.errors import ModelKitError, StoreObjectNotFoundError
from modelkit.monitor.duplicates import RowSketch, sketch_from_bytes, sketch_to_bytes
from modelkit.monitor.hours import Source
from modelkit.monitor.labels import ANSWERS
from modelkit.monitor.reference import Reference
from modelkit.monitor.sample import RowSample, SampleError, dump_rows, load_rows
from modelkit.monitor.summary import Summary, SummaryError, summary_from_plain, summary_to_plain

logger = logging.getLogger(__name__)

FORMAT = 2
"""Format of a stored summary; one of another is computed anew."""
_ANSWERS_ROWS = 262_144
"""Rows of one file of answers: what is in memory at once."""


class AnswersError(ModelKitError):
    """A finished hour's answers are gone or can't be read."""


@dataclass(frozen=True, slots=True)
class StoredHour:
    """A finished hour, and what it was made of."""

    summary: Summary
    segments: int
    answers: int
    """Files of answers."""
    sample: int = 0
    """Up to how many rows the stored sample holds; 0: there is none."""


class Archive:
    """The finished hours of one version of a deployment."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._profile = hash_profile(source.reference, source.columns)
        self._directory = summaries_directory(source.namespace, source.deployment, source.digest, self._profile)
        self.hours = frozenset(
            entry.path.rpartition("/")[2].removesuffix(".json") for entry in source.store.list(self._directory)
        )
        """Those that have a summary, e.g. `2026-03-01T14`."""

    def read(self, hour: str) -> StoredHour | None:
        """What is stored of `hour`; None when there is nothing that this release and this version can use."""
        if hour not in self.hours:
            return None
        try:
            plain = json.loads(self._source.store.read(self._path(hour)))
            if plain["format"] != FORMAT:
                return None
            summary = summary_from_plain(plain["summary"], self._source.reference)
            segments = int(plain["segments"])
            whole = replace(summary, sketch=self._read_sketch(hour, segments))
            return StoredHour(whole, segments, int(plain["answers"]), int(plain["sample"]))
        except StoreObjectNotFoundError:
            return None
        except (ContractError, SummaryError, ValueError, KeyError, TypeError) as exc:
            logger.warning("a stored summary can't be used", extra={"hour": hour, "error": type(exc).__name__})
            return None

    def write(self, hour: str, stored: StoredHour) -> None:
        """Store a summary, after its answers, its sample and the sketch of its rows."""
        self._source.store.write(self._sketch_path(hour, stored.segments), sketch_to_bytes(stored.summary.sketch))
        plain = {
            "format": FORMAT,
            "segments": stored.segments,
            "answers": stored.answers,
            "sample": stored.sample,
            "summary": summary_to_plain(stored.summary),
        }
        self._source.store.write(self._path(hour), json.dumps(plain, separators=(",", ":")).encode())

    def read_answers(self, hour: str, stored: StoredHour) -> Iterator[pa.Table]:
        """The rows of `hour` in the shape of `labels.ANSWERS`, file by file; raises AnswersError."""
        for number in range(stored.answers):
            path = self.answers_path(hour, stored.segments, number)
            try:
                table = pa.ipc.open_file(BytesIO(self._source.store.read(path))).read_all()
            except (StoreObjectNotFoundError, pa.ArrowException) as exc:
                raise AnswersError(f"the answers {path} can't be read: {type(exc).__name__}") from exc
            if table.schema != ANSWERS:
                raise AnswersError(f"the answers {path} have other columns than this release writes")
            yield table

    def read_sample(self, hour: str, stored: StoredHour) -> pa.Table:
        """Rows of `hour` for `RowSample.merge`; raises SampleError."""
        path = self._sample_path(hour, stored.segments)
        try:
            return load_rows(self._source.store.read(path), self._source.reference.features)
        except StoreObjectNotFoundError as exc:
            raise SampleError(f"the sample {path} is gone") from exc
        except SampleError as exc:
            raise SampleError(f"the sample {path} can't be read: {exc}") from exc

    def write_sample(self, hour: str, segments: int, sample: RowSample) -> None:
        """Store an hour's sample; raises StoreError."""
        self._source.store.write(self._sample_path(hour, segments), dump_rows(sample))

    def _sample_path(self, hour: str, segments: int) -> str:
        return sample_path(self._folder(hour), self._source.digest, segments)

    def answers_path(self, hour: str, segments: int, number: int) -> str:
        """See `contract.files`."""
        return answers_path(self._folder(hour), self._source.digest, self._profile, segments, number)

    def _read_sketch(self, hour: str, segments: int) -> RowSketch:
        """Of no rows when it went with the captures, or is damaged: duplicates are counted in the other hours."""
        try:
            return sketch_from_bytes(self._source.store.read(self._sketch_path(hour, segments)))
        except StoreObjectNotFoundError:
            return RowSketch()
        except (pa.ArrowException, KeyError, ValueError, TypeError) as exc:
            logger.warning("a sketch of rows can't be used", extra={"hour": hour, "error": type(exc).__name__})
            return RowSketch()

    def _sketch_path(self, hour: str, segments: int) -> str:
        return sketch_path(self._folder(hour), self._source.digest, self._profile, segments)

    def _folder(self, hour: str) -> str:
        return f"{self._source.requests.directory}/{hour}"

    def _path(self, hour: str) -> str:
        return f"{self._directory}/{hour}.json"


class AnswersWriter:
    """Writes the answers of one hour as they come, in files of about `_ANSWERS_ROWS`."""

    def __init__(self, source: Source, archive: Archive, hour: str, segments: int) -> None:
        self._source, self._archive = source, archive
        self._hour, self._segments = hour, segments
        self._waiting: list[pa.Table] = []
        self.files = 0

    def add(self, answers: pa.Table) -> None:
        """Take rows in the shape of `labels.ANSWERS`; raises StoreError."""
        self._waiting.append(answers)
        if sum(table.num_rows for table in self._waiting) >= _ANSWERS_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits; raises StoreError."""
        table = pa.concat_tables(self._waiting) if self._waiting else ANSWERS.empty_table()
        self._waiting = []
        if table.num_rows == 0:
            return
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, ANSWERS, options=pa.ipc.IpcWriteOptions(compression="zstd")) as file:
            file.write_table(table)
        path = self._archive.answers_path(self._hour, self._segments, self.files)
        self._source.store.write(path, sink.getvalue().to_pybytes())
        self.files += 1


def hash_profile(reference: Reference, columns: Sequence[str] = ()) -> str:
    """Sixteen hex digits that change whenever any bin does, or the columns whose groups are compared."""
    bins = [dict(reference.features), reference.predictions, reference.scores, reference.calibration]
    entries = [*bins, *([list(columns)] if columns else [])]
    return sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()[:16]
