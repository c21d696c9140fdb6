"""Rollouts that cannot hurt a user: a crash of the operator at any write changes neither their end nor who answers."""

import itertools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from devcluster.cluster import Cluster
from devcluster.network import find_free_port
from modelkit.contract.route import PeerConfig, RouteConfig, RuleConfig
from modelloop.desired.names import digest_label
from tests.cluster.cluster_api import connection_of, wait_for
from tests.cluster.cluster_loop import NAME, digest_of
from tests.cluster.cluster_node import Background
from tests.cluster.cluster_proxy import Faults, Moment
from tests.cluster.cluster_rollouts import Act, Ending, RolloutStory, Script, kill_at
from tests.cluster.cluster_story import World, wait_for_quiet
from tests.cluster.cluster_timeline import Moment as Change
from tests.cluster.cluster_timeline import PodFact, ServiceFact, Timeline, find_breaches
from tests.cluster.test_operator_events import AUDIT, lose_every_second, repeat_stale

PARALLEL = 8 * (os.cpu_count() or 1)
"""Stories mostly wait for holds, looks and the real controllers."""
MOST = 2
"""Kills at writes of the status, in each story and at each moment."""
STATUS = "PATCH modeldeployments/status"
KINDS = {
    STATUS, "PATCH deployments", "PATCH services", f"PATCH services/{NAME}", "PATCH configmaps", "PATCH pods",
    "DELETE deployments", "DELETE services", "POST events",
}  # fmt: skip
"""Of the writes of rollouts."""

SCRIPTS = {
    "a good candidate is promoted": Script(
        steps=[{"shadow": 100, "hold": "1s"}, {"weight": 20, "hold": "1s"}, {"weight": 60, "hold": "1s"}],
        results=[(2, "Promoted")],
    ),
    "a bad candidate is rolled back": Script(
        steps=[{"weight": 20, "hold": "60s"}], is_bad=True, results=[(2, "RolledBack")]
    ),
    "a version that gets bad in the bake time is taken back": Script(
        steps=[{"weight": 60, "hold": "1s"}],
        bake="10m",
        acts=[
            Act(
                when=lambda story: story.is_in("Baking") and story.selects(2),
                do=lambda story: story.reporters.failing.add(digest_of(2)),
            )
        ],
        results=[(2, "RolledBack")],
    ),
    "a person aborts": Script(
        steps=[{"weight": 20, "hold": "10m"}],
        acts=[Act(when=lambda story: story.is_in("Stepping"), do=lambda story: story.annotate("abort"))],
        results=[(2, "Aborted")],
    ),
    "a newer version takes its place": Script(
        steps=[{"weight": 20, "hold": "3s"}],
        acts=[Act(when=lambda story: story.is_in("Stepping"), do=lambda story: story.apply(3))],
        results=[(3, "Promoted"), (2, "Superseded")],
    ),
    "a person goes back at rest": Script(
        steps=[{"weight": 20, "hold": "1s"}],
        begins_promoted=True,
        acts=[Act(when=lambda _: True, do=lambda story: story.annotate("rollback"))],
        results=[(1, "Promoted"), (2, "Promoted")],
    ),
}

GOOD = "a good candidate is promoted"
TAKEN_BACK = "a version that gets bad in the bake time is taken back"
Undisturbed = dict[str, Ending]


@pytest.fixture(scope="session")
def timeline(cluster: Cluster, background: Background) -> Iterator[Timeline]:
    """Sees every moment of every story."""
    made = Timeline(background, *connection_of(cluster.kubeconfig))
    yield made
    made.close()


@pytest.fixture(scope="session")
def undisturbed(world: World, timeline: Timeline) -> dict[str, Ending]:
    """How the stories end, by their names, when nothing goes wrong."""

    def tell(script: Script) -> Ending:
        story = RolloutStory(world, timeline, script)
        story.prepare()
        story.proxy.faults.counts = lambda write: "/leases" not in write
        story.begin()
        faults = story.play_on(None)
        wait_for_quiet(story.proxy, 2.0)
        return story.end(None, faults)

    with ThreadPoolExecutor(PARALLEL) as pool:
        ends = dict(zip(SCRIPTS, pool.map(tell, SCRIPTS.values()), strict=True))
    wrong = ["\n  ".join([name, *end.faults, end.log]) for name, end in ends.items() if end.faults]
    assert not wrong, "\n".join(wrong)
    return ends


def test_a_moment_without_anybody_to_answer_is_seen() -> None:
    old, new = digest_of(1), digest_of(2)
    rule = RuleConfig(other=new, weight=20.0)
    peer = PeerConfig(number=2, http="10.0.0.2:8080", grpc="10.0.0.2:8081")
    route = RouteConfig(revision="r", measurement="m", peers={new: peer}, rules={old: rule})
    begin = [
        Change(1, "Service", NAME, ServiceFact(digest_label(old), "10.0.0.1")),
        Change(2, "Service", "new", ServiceFact(digest_label(new), "10.0.0.2")),
        Change(3, "Pod", "old", PodFact(digest_label(old), True, "r")),
        Change(4, "Pod", "new", PodFact(digest_label(new), True, "r")),
        Change(5, "ConfigMap", "route", route),
    ]

    def told(*changes: Change) -> str:
        return "; ".join(find_breaches([*begin, *changes], NAME))

    untold = replace(route, revision="s", rules={}, peers={})
    without_rules = Change(6, "ConfigMap", "route", untold)
    assert told() == ""
    assert "which has no Ready pod" in told(Change(6, "Pod", "new", None))
    assert "which has no Ready pod" in told(without_rules, Change(7, "Pod", "new", None)), "the old pod wasn't told yet"
    told_of_it = Change(7, "Pod", "old", PodFact(digest_label(old), True, "s"))
    assert told(without_rules, told_of_it, Change(8, "Pod", "new", None)) == ""
    assert "whose Service is gone" in told(Change(6, "Service", "new", None))
    assert "the Service selects" in told(without_rules, told_of_it, Change(8, "Pod", "old", None))
    assert "the Service is gone" in told(Change(6, "Service", NAME, None))


def pick_moments(name: str, writes: Counter[str]) -> Iterator[tuple[str, int, Moment]]:
    """At which writes, by kind and number, the operator dies in a story: always at some of the status', and at a
    third of the other kinds; the rest is for other stories."""
    for side, moment in enumerate(Moment):
        for place, (kind, count) in enumerate(sorted(writes.items())):
            turn = place + side + list(SCRIPTS).index(name)
            most = MOST if kind == STATUS else int(turn % 3 == 0)
            # Other numbers for the other moment, and in another story.
            shift = turn % 4 / 4
            yield from ((kind, 1 + int((index + shift) * count / most), moment) for index in range(most))


def test_every_kind_of_write_is_one_at_which_the_operator_dies(undisturbed: Undisturbed) -> None:
    picked = {(kind, moment) for name in SCRIPTS for kind, _, moment in pick_moments(name, undisturbed[name].writes)}
    assert picked >= {(kind, moment) for kind in KINDS for moment in Moment}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_kill_at_any_write_changes_nothing_when(
    world: World, timeline: Timeline, undisturbed: Undisturbed, name: str
) -> None:
    expected = undisturbed[name]
    moments = list(pick_moments(name, expected.writes))

    def tell(kind: str, number: int, moment: Moment) -> Ending:
        story = RolloutStory(world, timeline, SCRIPTS[name])
        story.prepare()
        kill_at(story, kind, number, moment)
        return story.play(expected)

    with ThreadPoolExecutor(PARALLEL) as pool:
        ends = list(pool.map(lambda moment: tell(*moment), moments))
    wrong = [
        "\n  ".join([f"killed {moment}, at {kind} {number} of {expected.writes[kind]}:", *end.faults, end.log])
        for (kind, number, moment), end in zip(moments, ends, strict=True)
        if end.faults
    ]
    assert not wrong, "\n".join(wrong)
    # How many looks there are is a matter of time, and so how often the status is written.
    missed = [moment for moment, end in zip(moments, ends, strict=True) if not end.killed and moment[0] != STATUS]
    assert not missed, "all of them died"


def test_an_operator_that_dies_at_every_third_write_gets_there(
    world: World, timeline: Timeline, undisturbed: Undisturbed
) -> None:
    def tell(name: str) -> Ending:
        story = RolloutStory(world, timeline, SCRIPTS[name])
        story.prepare()
        story.proxy.faults.moment = Moment.AFTER
        story.proxy.faults.kill_at = 3
        return story.play(undisturbed[name], kill_again_after=3)

    with ThreadPoolExecutor() as pool:
        ends = list(pool.map(tell, (GOOD, TAKEN_BACK)))
    for end in ends:
        assert not end.faults, "\n".join([*end.faults, end.log])
        assert end.killed > 5


def lose_pods_and_routes(faults: Faults) -> None:
    """Nobody hears of a pod or of a ConfigMap."""
    faults.drop = lambda plural, _event: plural in ("pods", "configmaps")


def test_events_change_nothing_that_are_lost_or_come_twice(
    world: World, timeline: Timeline, undisturbed: Undisturbed
) -> None:
    def tell(disturb: Callable[[Faults], None], name: str) -> Ending:
        story = RolloutStory(world, timeline, SCRIPTS[name], overrides=AUDIT, MODELLOOP_AUDIT_SECONDS="1")
        story.prepare()
        disturb(story.proxy.faults)
        return story.play(undisturbed[name])

    cases = list(itertools.product((lose_pods_and_routes, lose_every_second, repeat_stale), (GOOD, TAKEN_BACK)))
    with ThreadPoolExecutor(PARALLEL) as pool:
        ends = list(pool.map(lambda case: tell(*case), cases))
    for (disturb, name), end in zip(cases, ends, strict=True):
        assert not end.faults, "\n".join([disturb.__name__, name, *end.faults, end.log])


SHORT_LEASE = {
    "modelloop.cluster.lease.LEASE_SECONDS": 4.0,
    "modelloop.cluster.lease.RENEW_DEADLINE": 3.0,
    "modelloop.cluster.lease.RETRY_SECONDS": 0.5,
}


def test_a_second_operator_finishes_what_one_began_that_stands_still_and_comes_back(
    world: World, timeline: Timeline, undisturbed: Undisturbed
) -> None:
    def tell(name: str) -> Ending:
        begun = Act(when=lambda story: story.is_in("Stepping"), do=lambda story: story.operator.signal(signal.SIGSTOP))
        script = replace(SCRIPTS[name], acts=[begun, *SCRIPTS[name].acts])
        story = RolloutStory(world, timeline, script, overrides=SHORT_LEASE)
        first = story.operator
        second = replace(first, kubeconfig=world.cluster.kubeconfig, pod_name="operator-1", port=find_free_port())
        story.prepare()
        second.start()
        try:
            wait_for(lambda: second.probe("/readyz")[0] == 200, what="a standby")
            story.begin()
            faults = story.play_on(undisturbed[name])
            first.signal(signal.SIGCONT)
            assert first.wait(10), "its Lease is somebody else's"
            wait_for_quiet(story.proxy, 1.0)
            end = story.end(undisturbed[name], faults)
            assert "modelloop_lease_held 1.0" in second.probe("/metrics")[1]
            return end
        finally:
            second.kill()

    with ThreadPoolExecutor() as pool:
        ends = list(pool.map(tell, (GOOD, TAKEN_BACK)))
    for end in ends:
        assert not end.faults, "\n".join([*end.faults, end.log])
