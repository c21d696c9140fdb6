"""Promise 1: a crash of the operator at any write loses nothing and duplicates nothing."""

import itertools
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.cluster_api import make_namespace
from tests.cluster.cluster_proxy import Moment
from tests.cluster.cluster_story import End, Story, World

PARALLEL = 5 * (os.cpu_count() or 1)
"""Stories mostly wait for the real controllers."""


def kill_at_every_write(world: World, moment: Moment, expected: End) -> Iterator[tuple[int, End]]:
    """Stories whose operator dies at the first, second, … write, until a story ends before its turn to die."""

    def tell(number: int) -> tuple[int, End]:
        story = Story(world, make_namespace(world.api))
        story.proxy.faults.kill_at, story.proxy.faults.moment = number, moment
        return number, story.play(expected)

    with ThreadPoolExecutor(PARALLEL) as pool:
        for batch in itertools.count():
            numbers = range(batch * PARALLEL + 1, (batch + 1) * PARALLEL + 1)
            ends = list(pool.map(tell, numbers))
            yield from ends
            if not all(end.killed for _, end in ends):
                return


@pytest.mark.parametrize("moment", list(Moment), ids=lambda moment: moment.name.lower())
def test_a_kill_at_any_write_leads_to_the_same_end(world: World, undisturbed: End, moment: Moment) -> None:
    told = []
    killed = 0
    for number, end in kill_at_every_write(world, moment, undisturbed):
        killed += end.killed
        if end.faults:
            hit = end.writes[number - 1] if number <= len(end.writes) else "nothing"
            lines = "\n  ".join(end.faults)
            told.append(f"killed {moment} at write {number}, {hit}:\n  {lines}\n{end.log}")
    assert not told, "\n".join(told)
    assert killed >= len(undisturbed.writes) - 5, "the kills cover the whole story"
