"""Sharing between two processes, started as pods start them."""

from pathlib import Path

import httpx
import pytest

from modelkit.contract.codec import dumps, loads
from modelkit.contract.config import StoreConfig
from modelkit.contract.route import PeerConfig, RouteConfig, RouteReport, RuleConfig
from modelkit.store.store import Store
from tests.unit.serve.serve_models import cancer, store_example
from tests.unit.serve.serve_process import running_pod, server_config
from tests.unit.serve.serve_rollout import newer_cancer, wait_until


def test_a_pod_follows_the_route_of_its_environment_until_it_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(StoreConfig(uri=f"file://{tmp_path / 'store'}"), {})
    old, new = store_example(store, cancer()), store_example(store, newer_cancer())
    path = tmp_path / "route.json"
    monkeypatch.setenv("MODELLOOP_ROUTE", str(path))
    root = tmp_path / "store"
    with (
        running_pod(server_config(root, old), tmp_path, "stable") as stable,
        running_pod(server_config(root, new), tmp_path, "newer") as newer,
    ):
        place = newer.url.removeprefix("http://")
        peer = PeerConfig(number=4, http=place, grpc=f"127.0.0.1:{newer.grpc_port}")
        rule = RuleConfig(other=new.digest, weight=50, compare=100, timeout_seconds=10.0)
        # One file for both, as all pods mount one ConfigMap: there is a rule for one of them.
        path.write_text(
            dumps(RouteConfig(revision="1", measurement="m", peers={new.digest: peer}, rules={old.digest: rule}))
        )

        def report(url: str) -> RouteReport:
            return loads(RouteReport, httpx.get(f"{url}/rollout").raise_for_status().content)

        for pod in (stable, newer):
            wait_until(lambda pod=pod: report(pod.url).revision == "1")
        body = {"features": cancer().values(1)}
        found = [httpx.post(f"{stable.url}/predict", json=body).raise_for_status().json() for _ in range(10)]
        assert [answer["version"] for answer in found] == ["3", "4"] * 5
        wait_until(lambda: report(stable.url).pairs.requests == 10)
        assert (report(stable.url).other, report(newer.url).other) == (new.digest, "")
        assert newer.stop() == 0
        assert httpx.post(f"{stable.url}/predict", json=body).raise_for_status().json()["version"] == "3"
        assert stable.stop() == 0
