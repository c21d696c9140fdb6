"""Thousands of ModelTrainings from outside: what a load client sends and what an observer counts.

`python -m bench.fleet create|change …` is the load client, in a process of its own so that it doesn't share an
interpreter with the observer. It prints the Unix time of its first request.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

Object = dict[str, Any]

API_VERSION = "modelloop.dev/v1alpha1"
TRAININGS = "/apis/modelloop.dev/v1alpha1/{}modeltrainings"
JOBS = "/apis/batch/v1/{}jobs"
NAMESPACES = 10
CONNECTIONS = 24
PAGE = 500


def namespace_of(number: int) -> str:
    """The namespace of the CR with this number."""
    return f"bench-{number % NAMESPACES}"


def build_training(number: int) -> Object:
    """A ModelTraining with a few candidates and gates, as users write them."""
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelTraining",
        "metadata": {"name": f"model-{number}", "namespace": namespace_of(number)},
        "spec": {
            "data": {"uri": "builtin://breast_cancer", "target": "target"},
            "candidates": [
                {"estimator": "LogisticRegression", "params": {"C": 0.5}},
                {"estimator": "RandomForestClassifier", "params": {"n_estimators": 200, "max_depth": 8}},
            ],
            "gates": [{"metric": "f1", "min": 0.9}, {"metric": "accuracy", "min": 0.85}],
        },
    }


class Fleet:
    """One API server as the administrator."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def send(self, method: str, path: str, body: Object, content_type: str = "application/json") -> Object:
        """One write; raises aiohttp.ClientResponseError."""
        headers = {"Content-Type": content_type}
        async with self._session.request(method, path, data=json.dumps(body), headers=headers) as answer:
            answer.raise_for_status()
            sent: Object = await answer.json()
            return sent

    async def create(self, number: int) -> None:
        """Create one ModelTraining."""
        await self.send("POST", TRAININGS.format(f"namespaces/{namespace_of(number)}/"), build_training(number))

    async def change(self, number: int) -> None:
        """Change a field of its spec that starts no run: what is measured is the way to its status."""
        path = f"{TRAININGS.format(f'namespaces/{namespace_of(number)}/')}/model-{number}"
        await self.send("PATCH", path, {"spec": {"retries": 3}}, "application/merge-patch+json")

    async def make_namespaces(self) -> None:
        """The namespaces of the CRs and the operator's own."""
        for name in ("modelloop-system", *(namespace_of(number) for number in range(NAMESPACES))):
            body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            with contextlib.suppress(aiohttp.ClientResponseError):
                await self.send("POST", "/api/v1/namespaces", body)

    async def count(self, path: str) -> int:
        """How many objects there are, without reading them."""
        async with self._session.get(path.format(""), params={"limit": "1"}) as answer:
            answer.raise_for_status()
            page = await answer.json()
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount", 0))

    async def list(self, path: str) -> AsyncIterator[Object]:
        """Every object."""
        token = ""
        while True:
            query = {"limit": str(PAGE)} | ({"continue": token} if token else {})
            async with self._session.get(path.format(""), params=query) as answer:
                answer.raise_for_status()
                page = await answer.json()
            for item in page["items"]:
                yield item
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def wait_for_generation(self, generation: int, wanted: int) -> None:
        """Until `wanted` ModelTrainings have this `status.observedGeneration`, by a watch."""
        async with self._session.get(TRAININGS.format(""), params={"limit": "1"}) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        seen: set[str] = {
            body["metadata"]["uid"]
            async for body in self.list(TRAININGS)
            if body.get("status", {}).get("observedGeneration") == generation
        }
        query = {"watch": "1", "resourceVersion": version}
        async with self._session.get(TRAININGS.format(""), params=query) as answer:
            buffer = b""
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for body in (json.loads(line)["object"] for line in lines):
                    if body.get("status", {}).get("observedGeneration") == generation:
                        seen.add(body["metadata"]["uid"])
                if len(seen) >= wanted:
                    return


@contextlib.asynccontextmanager
async def connect(kubeconfig: Path) -> AsyncIterator[Fleet]:
    """A Fleet that logs in with the certificate in a kubeconfig."""
    config = json.loads(kubeconfig.read_text())  # devcluster writes JSON, which is YAML too
    (cluster,), (user,) = config["clusters"], config["users"]
    context = ssl.create_default_context(
        cadata=base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode()
    )
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = (Path(folder) / part for part in ("client-certificate-data", "client-key-data"))
        for path in (certificate, key):
            path.write_bytes(base64.b64decode(user["user"][path.name]))
        context.load_cert_chain(certificate, key)
    connector = aiohttp.TCPConnector(ssl=context, limit=CONNECTIONS + 8)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=600)
    async with aiohttp.ClientSession(cluster["cluster"]["server"], connector=connector, timeout=timeout) as session:
        yield Fleet(session)


async def _load(kubeconfig: Path, what: str, count: int) -> None:
    async with connect(kubeconfig) as fleet:
        work: Callable[[int], Awaitable[None]] = {"create": fleet.create, "change": fleet.change}[what]
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                await work(number)

        print(time.time(), flush=True)
        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        print(time.time(), flush=True)


def main() -> None:
    """The load client's entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["create", "change"])
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    arguments = parser.parse_args()
    asyncio.run(_load(arguments.kubeconfig, arguments.what, arguments.count))


if __name__ == "__main__":
    main()
