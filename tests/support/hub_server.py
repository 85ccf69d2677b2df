"""A stand-in for the Hugging Face hub, which no test can reach: the calls of an upload, on loopback.

It speaks what huggingface_hub asks of the real one for one commit: whoami, creating a repository, its files, which
files are large, git LFS's batch call, the PUT of large files, and the commit. Large files that arrived are known by
their digest, as there.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "x" * 34
OWNER = "somebody"


@dataclass
class Hub:
    """What the server holds, and how it is to misbehave."""

    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    puts: list[str] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    """Status to answer with, by the beginning of the call ("PUT", "POST /api/models/somebody/model/commit")."""
    stalled_after: int | None = None
    """The number of large files after which a further one is never answered."""
    stalling: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._call(b"")

    def do_POST(self) -> None:
        self._call(self._body())

    def do_PUT(self) -> None:
        self._call(self._body())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _call(self, body: bytes) -> None:
        path = self.path.split("?")[0]
        call = f"{self.command} {path}"
        self.hub.calls.append(call)
        status = next((code for start, code in self.hub.failures.items() if call.startswith(start)), None)
        if status is not None:
            self._answer({"error": f"refused, said to {self.headers.get('Authorization')}"}, status)
        elif self.command != "PUT" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer({"error": "Invalid credentials"}, 401)
        else:
            self._serve(path, body)

    def _serve(self, path: str, body: bytes) -> None:
        hub = self.hub
        if path == "/api/whoami-v2":
            self._answer({"name": OWNER, "type": "user"})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif path.startswith("/lfs/"):
            self._put(path.removeprefix("/lfs/"), body)
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._batch(json.loads(body))
        else:
            owner, name, *rest = path.removeprefix("/api/models/").split("/")
            files = hub.repositories.get(f"{owner}/{name}")
            if files is None:
                self._answer({"error": "Repository not found"}, 404)
            elif rest[:1] == ["preupload"]:
                self._preupload(json.loads(body))
            elif rest[:1] == ["commit"]:
                self._commit(f"{owner}/{name}", files, body)
            else:
                siblings = [{"rfilename": each} for each in files]
                self._answer({"id": f"{owner}/{name}", "sha": _digest(files), "siblings": siblings, "tags": []})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        if name in self.hub.repositories:
            self._answer({"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"}, 409)
            return
        self.hub.repositories[name] = {".gitattributes": b""}
        self.hub.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
        self._answer({"url": f"{self.hub.url}/{name}"})

    def _preupload(self, asked: dict[str, Any]) -> None:
        modes = {True: "lfs", False: "regular"}
        self._answer(
            {
                "files": [
                    {
                        "path": each["path"],
                        "uploadMode": modes[each["path"].endswith(".safetensors")],
                        "shouldIgnore": False,
                    }
                    for each in asked["files"]
                ]
            }
        )

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = []
        for each in asked["objects"]:
            answer = {"oid": each["oid"], "size": each["size"]}
            if each["oid"] not in self.hub.large:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{each['oid']}"}}
            objects.append(answer)
        self._answer({"transfer": "basic", "objects": objects})

    def _put(self, digest: str, body: bytes) -> None:
        if self.hub.stalled_after is not None and len(self.hub.puts) >= self.hub.stalled_after:
            self.hub.stalling.set()
            self.hub.released.wait(20)
            return
        assert hashlib.sha256(body).hexdigest() == digest
        self.hub.puts.append(digest)
        self.hub.large[digest] = body
        self._answer({})

    def _commit(self, name: str, files: dict[str, bytes], body: bytes) -> None:
        header, *operations = [json.loads(line) for line in body.splitlines()]
        if header["value"].get("parentCommit") not in (None, _digest(files)):
            self._answer({"error": "A commit has happened since"}, 412)
            return
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            else:
                del files[value["path"]]
        digest = _digest(files)
        self._answer({"commitUrl": f"{self.hub.url}/{name}/commit/{digest}", "commitOid": digest})

    def _answer(self, content: Any, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _digest(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
