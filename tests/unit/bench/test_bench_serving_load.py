"""The load client of the serving benchmark ends, whatever it meets."""

import json
import socket
from base64 import b64encode
from dataclasses import asdict

import pytest

from bench.serving_load import Load, main

MESSAGE = b64encode(b"GET / HTTP/1.1\r\n\r\n").decode()


@pytest.mark.parametrize("grpc", [False, True])
def test_a_server_that_takes_connections_and_never_answers_ends_the_load(grpc: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        load = Load(silent.getsockname()[1], 2, 0.01, MESSAGE, grpc, patience=0.05)
        with pytest.raises(ValueError, match=r"no answer in 0\.05 s"):
            main(json.dumps(asdict(load)))
