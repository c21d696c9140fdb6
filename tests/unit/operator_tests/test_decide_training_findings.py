"""What a run found in its data, and what compression did, stays in its record within bounds."""

from dataclasses import replace

from modelkit.contract.codec import dumps
from modelkit.contract.result import Compression, Finding, TrainingResult
from tests.unit.operator_tests.operator_states import result
from tests.unit.operator_tests.training_world import begun, last


def finding(number: int, *, severe: bool = False) -> Finding:
    """A finding about one column."""
    return Finding(
        column=f"c{number}", rule="OutOfRange", value=0.1234567891, limit=0.0, message="too large", severe=severe
    )


def test_warnings_of_a_version_are_kept_severe_ones_first_and_at_most_five() -> None:
    world = begun()
    world.complete(replace(result(), findings=(*map(finding, range(7)), finding(7, severe=True)), trials=12))
    world.settle()
    record = last(world)
    assert [found.column for found in record.findings] == ["c7", "c0", "c1", "c2", "c3"]
    assert record.findings[0].value == 0.123457
    assert record.trials == 12


def test_a_refused_run_keeps_what_it_was_refused_for() -> None:
    world = begun()
    refused = TrainingResult(
        outcome="Failed", reason="DataInvalid", message="column 'c1' …", findings=(finding(1, severe=True),)
    )
    world.fail(dumps(refused))
    world.settle()
    record = last(world)
    assert (record.verdict, record.reason) == ("Failed", "DataInvalid")
    assert [(found.column, found.rule, found.severe) for found in record.findings] == [("c1", "OutOfRange", True)]


def test_a_failure_that_left_no_result_has_no_findings() -> None:
    world = begun()
    world.fail("Killed")
    world.settle()
    assert last(world).findings == ()


def test_compression_is_told_with_loss_and_gain() -> None:
    taken = Compression(
        method="Pruning",
        accepted=True,
        drop=0.0012345678,
        bytes_before=100,
        bytes_after=60,
        seconds_before=2e-5,
        seconds_after=1e-5,
        message="x" * 600,
    )
    world = begun()
    world.complete(replace(result(), compressions=(taken,)))
    world.settle()
    (step,) = last(world).compressions
    assert (step.method, step.accepted, step.drop, step.bytes_after) == ("Pruning", True, 0.001235, 60)
    assert step.message is not None
    assert len(step.message) == 512
