"""`make demo` and `make demo-down`."""

import sys

from rich.console import Console

from demo.environment import DemoError, find_environment
from demo.progress import Progress
from demo.story import Story
from demo.summary import show
from devcluster.errors import DevClusterError


def main(arguments: list[str]) -> int:
    """Run the demo (`up`) or remove it (`down`); returns the exit code."""
    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160)
    try:
        environment = find_environment()
        if arguments == ["down"]:
            environment.down()
            console.print("the demo is removed")
            return 0
        if arguments != ["up"]:
            console.print("usage: python -m demo up|down")
            return 64
        with Progress(console) as progress:
            story = Story(environment, progress)
            story.tell()
        show(console, story, environment)
    except (DemoError, DevClusterError) as exc:
        console.print(f"the demo stopped: {exc}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted: `make demo` goes on from here, `make demo-down` removes everything")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
