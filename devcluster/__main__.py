"""The command line: `python -m devcluster up`, and so on.

Progress goes to standard error, results to standard output.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from devcluster import base_image, images, toolset
from devcluster.cluster import Cluster, remove_orphans
from devcluster.errors import DevClusterError
from devcluster.lifecycle import is_healthy
from devcluster.shell import say
from devcluster.state import DEFAULT_NAME, Tier, list_names, load_state


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 1 with one clear sentence when it can't be done."""
    options = build_parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except DevClusterError as exc:
        say(f"devcluster: {exc}")
        return 1
    except KeyboardInterrupt:
        say("devcluster: interrupted; the same command continues, `down` cleans up")
        return 130


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(prog="python -m devcluster", description="A real Kubernetes for tests and demos.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(run=run)
        return sub

    def named(name: str, run: Callable[[argparse.Namespace], int], about: str) -> argparse.ArgumentParser:
        sub = command(name, run, about)
        sub.add_argument("--name", default=DEFAULT_NAME, help=f"the cluster's name (default: {DEFAULT_NAME})")
        return sub

    def tiered(sub: argparse.ArgumentParser) -> None:
        tiers = [str(each) for each in Tier]
        sub.add_argument("--tier", choices=tiers, default=str(Tier.NODE), help="how much of a cluster (default: node)")

    up = named("up", _up, "make a cluster, or repair it; does nothing when it is running")
    tiered(up)
    up.add_argument("--owner-pid", type=int, help="remove the cluster once this process is gone")
    down = named("down", _down, "remove a cluster and every trace of it")
    which = down.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="all clusters of this user")
    which.add_argument("--stale", action="store_true", help="only clusters whose owner is gone")
    status = command("status", _status, "say what runs; exit code 1 when the named cluster isn't healthy")
    status.add_argument("--name", help="only this cluster")
    named("kubeconfig", _kubeconfig, "print the path of a cluster's kubeconfig")
    load = named("load-image", _load_image, "copy images from the local store into a cluster")
    load.add_argument("image", nargs="+")
    tiered(command("tools", _tools, "build all programs that a tier needs"))
    command("binary", _binary, "print the path of one tool, built when missing").add_argument("program")
    command("base-image", _base_image, "print the base image that can be had here, made when none can be pulled")
    build = command("build-image", _build_image, "build an image with Docker or, without an engine, buildah")
    build.add_argument("-f", "--file", type=Path, required=True, help="the Dockerfile")
    build.add_argument("-t", "--tag", required=True)
    build.add_argument("--base", help="the value of the build argument BASE_IMAGE")
    build.add_argument("context", type=Path)
    return parser


def _up(options: argparse.Namespace) -> int:
    cluster = Cluster(options.name, options.tier, owner_pid=options.owner_pid)
    cluster.up()
    say(f"the cluster {cluster.name} is ready: export KUBECONFIG={cluster.kubeconfig}")
    return 0


def _down(options: argparse.Namespace) -> int:
    if options.stale:
        remove_orphans()
        return 0
    for name in list_names() if options.all else [options.name]:
        Cluster(name).down()
        say(f"the cluster {name} is gone")
    return 0


def _status(options: argparse.Namespace) -> int:
    names = [options.name] if options.name else list_names()
    healthy = True
    for name in names:
        state = load_state(name)
        if state is None:
            print(f"{name}: not there")
            healthy = False
            continue
        is_well = is_healthy(state)
        healthy = healthy and is_well
        cluster = Cluster(name, state.tier)
        print(
            f"{name}: {'running' if is_well else 'broken'}, tier {state.tier}, {cluster.server}, {cluster.kubeconfig}"
        )
    if not names:
        print("no clusters")
    return 0 if healthy else 1


def _kubeconfig(options: argparse.Namespace) -> int:
    print(Cluster(options.name).kubeconfig)
    return 0


def _load_image(options: argparse.Namespace) -> int:
    Cluster(options.name, Tier.NODE).load_image(*options.image)
    return 0


def _tools(options: argparse.Namespace) -> int:
    toolset.binaries(toolset.NODE_TOOLS if options.tier == Tier.NODE else toolset.APISERVER_TOOLS)
    return 0


def _binary(options: argparse.Namespace) -> int:
    print(toolset.binary(options.program))
    return 0


def _base_image(_: argparse.Namespace) -> int:
    print(base_image.ensure_base_image())
    return 0


def _build_image(options: argparse.Namespace) -> int:
    images.build_image(options.file, options.tag, options.context, options.base)
    return 0


if __name__ == "__main__":
    sys.exit(main())
