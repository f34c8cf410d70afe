"""A server on this machine that speaks the part of the Hugging Face Hub's interface that pushes and readers use: who
somebody is, repositories, branches, lists of files, uploads by LFS, commits, and files by range.

It is no copy of the Hub: it keeps everything in memory, takes only requests that :mod:`huggingface_hub` sends, and
answers 501 to all others. ``HF_ENDPOINT`` leads clients to it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN, USER = "hf_of_the_test", "me"
_REGULAR = (".json", ".md", ".gitattributes")
"""Endings of files that are kept in git, as the Hub decides for small text; others go by LFS."""


@dataclass
class Repository:
    """A dataset repository: files by name of each branch, and the messages of its commits, the newest last."""

    private: bool
    branches: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"main": {".gitattributes": b""}})
    commits: list[str] = field(default_factory=list)

    def revision(self, name: str) -> str:
        """The id of a branch's last commit, 40 hex digits."""
        state = [(path, hashlib.sha1(content).hexdigest()) for path, content in sorted(self.branches[name].items())]
        return hashlib.sha1(json.dumps([state, len(self.commits)]).encode()).hexdigest()

    def files(self, revision: str) -> dict[str, bytes] | None:
        """Files of a branch, by its name or the id of its last commit."""
        names = [name for name in self.branches if revision in (name, self.revision(name))]
        return self.branches[names[0]] if names else None


@dataclass
class Hub:
    """What the server knows.

    Attributes:
        fail: asked before each request with its method and path; gives a status (and headers) to fail with, or None.
        requests: methods and paths, in the order in which they came.
        uploaded: contents that were sent by LFS, by SHA-256.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    uploaded: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    fail: Callable[[str, str], tuple[int, dict[str, str]] | None] = lambda method, path: None
    endpoint: str = ""

    def files(self, repository: str, branch: str = "main") -> dict[str, bytes]:
        """The files of a branch, without those that the Hub makes itself."""
        found = self.repositories[repository].branches[branch]
        return {name: content for name, content in found.items() if name != ".gitattributes"}

    def count(self, beginning: str) -> int:
        """Requests that begin so, as ``PUT /lfs``."""
        return sum(request.startswith(beginning) for request in self.requests)


@contextmanager
def serve() -> Iterator[Hub]:
    """A hub for the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _is_lfs(path: str) -> bool:
    return not path.endswith(_REGULAR)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as lists of files have it."""
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\n".encode()
    stored = pointer if _is_lfs(path) else content
    git_id = hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_id}
    if _is_lfs(path):
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": len(pointer)}
    return entry


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _answer(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        length = self.headers.get("Content-Length")
        self.body = self.rfile.read(int(length)) if length else self._chunks()
        self.hub.requests.append(f"{self.command} {path}")
        if (failure := self.hub.fail(self.command, path)) is not None:
            self._send(failure[0], {"error": "as the test asks"}, headers=failure[1])
            return
        self.query = parse_qs(address.query)
        for method, pattern, name in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method.split("|"):
                getattr(self, name)(**found.groupdict())
                return
        self._send(501, {"error": f"no {self.command} {path} here"})

    def _chunks(self) -> bytes:
        """A body in chunks, which is sent where its length is not known."""
        content = b""
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return content

    def _send(
        self, status: int, answer: Any = None, *, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        if answer is not None:
            body = json.dumps(answer).encode()
        self.send_response(status)
        known = {
            "Content-Length": str(len(body)),
            **({"Content-Type": "application/json"} if answer is not None else {}),
        }
        for name, value in {**known, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # Who asks.

    def _token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None

    def _may_write(self, repository: str) -> bool:
        """False once the request is answered, as the sender may not."""
        if self._token() != TOKEN:
            self._send(401, {"error": "Invalid username or password."})
            return False
        if repository.partition("/")[0] != USER:
            self._send(403, {"error": f"You do not have the rights for {repository}"})
            return False
        return True

    def _readable(self, repository: str, revision: str | None = None) -> dict[str, bytes] | None:
        """Files of a repository; None once the request is answered, as there is none or the sender may not see it."""
        found = self.hub.repositories.get(repository)
        if found is None or (found.private and self._token() != TOKEN):
            code = {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}
            self._send(404 if self._token() == TOKEN else 401, {"error": "Repository not found"}, headers=code)
            return None
        files = found.files("main" if revision is None else revision)
        if files is None:
            self._send(404, {"error": "Invalid rev"}, headers={"X-Error-Code": "RevisionNotFound"})
        return files

    # What is asked.

    def whoami(self) -> None:
        if self._token() == TOKEN:
            self._send(200, {"name": USER, "type": "user", "orgs": []})
        else:
            self._send(401, {"error": "Invalid credentials in Authorization header"})

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        if not self._may_write(name):
            return
        if name in self.hub.repositories:
            self._send(409, {"error": "You already created this dataset repo", "url": self.hub.endpoint})
            return
        assert asked["type"] == "dataset"
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self._send(200, {"url": f"{self.hub.endpoint}/datasets/{name}", "name": name})

    def settings(self, repository: str) -> None:
        if self._may_write(repository):
            asked = json.loads(self.body)
            self.hub.repositories[repository].private = asked.get("visibility", "private") == "private"
            self._send(200, {})

    def info(self, repository: str, revision: str | None = None) -> None:
        if self._readable(repository, revision) is not None:
            found = self.hub.repositories[repository]
            name = next(n for n in found.branches if revision in (None, n, found.revision(n)))
            known = {
                "id": repository,
                "private": found.private,
                "sha": found.revision(name),
                "tags": [],
                "siblings": [],
            }
            self._send(200, {**known, "downloads": 0, "likes": 0, "disabled": False, "gated": False})

    def branch(self, repository: str, revision: str) -> None:
        if self._may_write(repository):
            branches = self.hub.repositories[repository].branches
            branches.setdefault(revision, dict(branches["main"]))
            self._send(200, {})

    def tree(self, repository: str, revision: str, folder: str | None = None) -> None:
        files = self._readable(repository, revision)
        if files is None:
            return
        beginning = f"{folder}/" if folder else ""
        inside = {name: content for name, content in files.items() if name.startswith(beginning)}
        if folder and not inside:
            self._send(404, {"error": "not found"}, headers={"X-Error-Code": "EntryNotFound"})
            return
        folders = {
            name[: end.start()] for name in inside for end in re.finditer("/", name) if end.start() >= len(beginning)
        }
        entries = [_entry(name, content) for name, content in inside.items()]
        entries += [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in folders]
        if self.query.get("recursive", ["false"])[0].lower() != "true":
            entries = [entry for entry in entries if "/" not in entry["path"][len(beginning) :]]
        self._send(200, sorted(entries, key=lambda entry: entry["path"]))

    def paths_info(self, repository: str, revision: str) -> None:
        files = self._readable(repository, revision)
        if files is None:
            return
        form = "x-www-form" in self.headers.get("Content-Type", "")
        asked = parse_qs(self.body.decode())["paths"] if form else json.loads(self.body)["paths"]
        found = []
        for name in asked:
            if name in files:
                found.append(_entry(name, files[name]))
            elif any(path.startswith(f"{name}/") for path in files):
                found.append({"type": "directory", "path": name, "size": 0, "oid": "0" * 40})
        self._send(200, found)

    def yaml(self) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, repository: str, revision: str) -> None:
        if self._may_write(repository) and (files := self._readable(repository, revision)) is not None:
            answers = []
            for file in json.loads(self.body)["files"]:
                path = file["path"]
                there = {"oid": _entry(path, files[path])["oid"]} if path in files and not _is_lfs(path) else {}
                mode = "lfs" if _is_lfs(path) else "regular"
                answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **there})
            self._send(200, {"files": answers})

    def lfs_batch(self, repository: str) -> None:
        if not self._may_write(repository):
            return
        objects = []
        for one in json.loads(self.body)["objects"]:
            actions = {
                "upload": {"href": f"{self.hub.endpoint}/lfs/{one['oid']}"},
                "verify": {"href": f"{self.hub.endpoint}/verify/{one['oid']}"},
            }
            objects.append({**one, **({} if one["oid"] in self.hub.uploaded else {"actions": actions})})
        self._send(200, {"transfer": "basic", "objects": objects})

    def lfs_upload(self, sha256: str) -> None:
        assert hashlib.sha256(self.body).hexdigest() == sha256
        self.hub.uploaded[sha256] = self.body
        self._send(200)

    def lfs_verify(self, sha256: str) -> None:
        asked = json.loads(self.body)
        there = len(self.hub.uploaded.get(sha256, b"")) == asked["size"]
        self._send(200 if there else 404, {})

    def commit(self, repository: str, revision: str) -> None:
        if not self._may_write(repository) or (files := self._readable(repository, revision)) is None:
            return
        changed = dict(files)
        message = ""
        for line in self.body.splitlines():
            one = json.loads(line)
            value = one["value"]
            match one["key"]:
                case "header":
                    message = value["summary"]
                case "file":
                    changed[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    changed[value["path"]] = self.hub.uploaded[value["oid"]]
                case "deletedFile":
                    del changed[value["path"]]
        files.clear()
        files.update(changed)
        found = self.hub.repositories[repository]
        found.commits.append(message)
        made = found.revision(revision)
        url = f"{self.hub.endpoint}/datasets/{repository}/commit/{made}"
        self._send(200, {"success": True, "commitOid": made, "commitUrl": url, "hookOutput": ""})

    def resolve(self, repository: str, revision: str, file: str) -> None:
        files = self._readable(repository, revision)
        if files is None:
            return
        if file not in files:
            self._send(404, {"error": "Entry not found"}, headers={"X-Error-Code": "EntryNotFound"})
            return
        content, found = files[file], self.hub.repositories[repository]
        name = next(n for n in found.branches if revision in (n, found.revision(n)))
        etag = hashlib.sha256(content).hexdigest() if _is_lfs(file) else _entry(file, content)["oid"]
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": found.revision(name), "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._send(200, headers=headers, body=content)
            return
        first, last = int(asked[1]), int(asked[2] or len(content))
        if first >= len(content):
            self._send(416, headers={"Content-Range": f"bytes */{len(content)}"})
            return
        part = content[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(content)}"
        self._send(206, headers=headers, body=part)


_DATASET = r"/api/datasets/(?P<repository>[^/]+/[^/]+)"
_ROUTES = [
    ("GET", "/api/whoami-v2", "whoami"),
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "yaml"),
    ("PUT", f"{_DATASET}/settings", "settings"),
    ("GET", _DATASET, "info"),
    ("GET", f"{_DATASET}/revision/(?P<revision>[^/]+)", "info"),
    ("POST", f"{_DATASET}/branch/(?P<revision>[^/]+)", "branch"),
    ("GET", f"{_DATASET}/tree/(?P<revision>[^/]+)", "tree"),
    ("GET", f"{_DATASET}/tree/(?P<revision>[^/]+)/(?P<folder>.+)", "tree"),
    ("POST", f"{_DATASET}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("POST", f"{_DATASET}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", f"{_DATASET}/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", r"/datasets/(?P<repository>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", "/lfs/(?P<sha256>[0-9a-f]{64})", "lfs_upload"),
    ("POST", "/verify/(?P<sha256>[0-9a-f]{64})", "lfs_verify"),
    ("GET|HEAD", r"/datasets/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", "resolve"),
]
"""Methods, patterns of paths, and what answers."""
