"""Live progress of the demo's steps: spinners and times on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column

PLAIN_SECONDS = 5.0
"""Least time between two plain lines of a step."""


class Step:
    """One step under way; `say` tells what is being waited for."""

    def __init__(self, progress: "Progress", title: str, task: TaskID | None) -> None:
        self._progress = progress
        self._title = title
        self._task = task
        self._said = ""
        self._shown: float | None = None
        self.started = time.monotonic()

    def say(self, message: str) -> None:
        """Show `message`; repeating the last one shows nothing new."""
        now = time.monotonic()
        too_soon = not self._progress.is_live and self._shown is not None and now - self._shown < PLAIN_SECONDS
        if message == self._said or too_soon:
            return
        self._said, self._shown = message, now
        self._progress.show(self._title, message, self._task, time.monotonic() - self.started)


class Progress:
    """All steps of a run."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = (
            RichProgress(
                SpinnerColumn(finished_text="[green]✓[/green]"),
                TextColumn("[bold]{task.description}[/bold]", table_column=Column(min_width=50, no_wrap=True)),
                TimeElapsedColumn(table_column=Column(min_width=7, no_wrap=True)),
                TextColumn(
                    "[dim]{task.fields[message]}[/dim]",
                    table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
                ),
                console=console,
                expand=True,
            )
            if console.is_terminal
            else None
        )

    @property
    def is_live(self) -> bool:
        """Whether lines are redrawn in place."""
        return self._live is not None

    def __enter__(self) -> "Progress":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, title: str, message: str, task: TaskID | None, seconds: float) -> None:
        """Show what a step waits for."""
        if self._live is not None and task is not None:
            self._live.update(task, message=message)
        else:
            print(f"  [{seconds:5.0f}s] {title}: {message}", flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step; its end is shown with its length."""
        task = self._live.add_task(title, total=1, message="") if self._live is not None else None
        if self._live is None:
            print(f"→ {title}", flush=True)
        step = Step(self, title, task)
        yield step
        if self._live is not None and task is not None:
            self._live.update(task, completed=1, message="")
        else:
            print(f"✓ {title} ({time.monotonic() - step.started:.0f}s)", flush=True)
