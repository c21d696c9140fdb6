"""The bytes and names of capture segments."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.store.segments import CorruptSegmentError, SegmentNames, compress_segment, decompress_segment

STARTED = datetime(2026, 3, 1, 14, tzinfo=UTC)


@given(st.lists(st.binary(max_size=50).map(lambda text: text.replace(b"\n", b"") + b"\n")))
def test_a_segment_gives_back_its_lines(lines: list[bytes]) -> None:
    assert decompress_segment(compress_segment(lines)) == b"".join(lines)


def test_a_segment_cut_anywhere_is_corrupt() -> None:
    whole = compress_segment([b'{"id": "a"}\n'] * 20)
    for end in range(len(whole)):
        with pytest.raises(CorruptSegmentError):
            decompress_segment(whole[:end])


def test_a_segment_with_a_flipped_byte_is_corrupt() -> None:
    whole = bytearray(compress_segment([b'{"id": "a"}\n'] * 20))
    whole[len(whole) // 2] ^= 0xFF
    with pytest.raises(CorruptSegmentError):
        decompress_segment(bytes(whole))


def test_a_last_line_without_its_end_is_corrupt() -> None:
    with pytest.raises(CorruptSegmentError, match="incomplete"):
        decompress_segment(compress_segment([b'{"id": "a"}\n', b'{"id":']))


def test_names_lie_in_the_hour_and_never_repeat_over_a_restart_of_the_pod() -> None:
    first = SegmentNames("team", "cancer", "requests", "pod-0", STARTED)
    second = SegmentNames("team", "cancer", "requests", "pod-0", STARTED + timedelta(seconds=1))
    paths = [names.next_path("2026-03-01T14") for names in (first, first, second, second)]
    assert len(set(paths)) == 4
    assert all(path.startswith("captures/team/cancer/requests/2026-03-01T14/pod-0-") for path in paths)
    assert sorted(paths) == paths


def test_a_pod_name_can_not_leave_the_folder() -> None:
    path = SegmentNames("team", "cancer", "requests", "../../x", STARTED).next_path("2026-03-01T14")
    assert path.count("/") == 5
