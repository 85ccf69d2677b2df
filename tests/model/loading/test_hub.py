"""Models from the hub: pinned commits, and errors that say what to do. The hub is replaced by a fake."""

from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub import errors

from heretic.errors import ModelError
from heretic.model.loading.checkpoint import find_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Replaces the functions of huggingface_hub that find_checkpoint calls."""

    def __init__(self, directory: Path, files: list[str]) -> None:
        self.snapshot = directory / "models--owner--name" / "snapshots" / COMMIT
        self.files = files
        self.ignored: list[str] = []
        self.config = b""
        self.failure: Exception | None = None
        self.offline = False
        self.lacking: list[str] = []
        """Files of the repository that are not in the cache."""

    def model_info(self, name: str, revision: str | None, timeout: float) -> Any:
        if self.failure:
            raise self.failure
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files])

    def list_repo_files(self, name: str, revision: str | None = None) -> list[str]:
        """Called where the hub answered that it is busy or broken."""
        assert isinstance(self.failure, errors.HfHubHTTPError)
        if self.failure.response.status_code != 429:
            raise self.failure
        self.failure = None
        return self.files

    def snapshot_download(
        self, name: str, revision: str | None, ignore_patterns: list[str], local_files_only: bool = False
    ) -> str:
        self.ignored, self.offline = ignore_patterns, local_files_only
        if local_files_only and not all(any(fnmatch(file, each) for each in ignore_patterns) for file in self.lacking):
            raise errors.LocalEntryNotFoundError("incomplete")
        for file in {*self.files} - {*self.lacking}:
            if Path(file).suffix in (".json", ".safetensors"):
                self.write(file)
        return str(self.snapshot)

    def hf_hub_download(self, name: str, file: str, revision: str | None, local_files_only: bool = False) -> str:
        if local_files_only:
            if file in self.lacking:
                raise errors.LocalEntryNotFoundError("incomplete")
        elif self.failure:
            raise self.failure
        return str(self.write(file))

    def write(self, file: str) -> Path:
        path = self.snapshot / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.config if file == "config.json" else b"")
        return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    faked = Hub(tmp_path, ["config.json", "model.safetensors", "pytorch_model.bin"])
    for name in ("list_repo_files", "snapshot_download", "hf_hub_download"):
        monkeypatch.setattr(f"huggingface_hub.{name}", getattr(faked, name))
    monkeypatch.setattr(
        "huggingface_hub.HfApi.model_info", lambda _, *args, **kwargs: faked.model_info(*args, **kwargs)
    )
    return faked


@pytest.mark.parametrize("revision", [None, "main"])
def test_the_revision_is_the_downloaded_commit(hub: Hub, revision: str | None) -> None:
    checkpoint = find_checkpoint("owner/name", revision)
    assert (checkpoint.revision, checkpoint.directory) == (COMMIT, hub.snapshot)


def test_the_same_weights_are_not_downloaded_twice(hub: Hub) -> None:
    find_checkpoint("owner/name")
    assert "*.bin" in hub.ignored
    hub.files.remove("model.safetensors")
    find_checkpoint("owner/name")
    assert "*.bin" not in hub.ignored


def test_a_gguf_file_of_a_repository(hub: Hub) -> None:
    checkpoint = find_checkpoint("owner/name/quants/model-Q4_K_M.gguf")
    assert (checkpoint.gguf_file, checkpoint.revision) == ("model-Q4_K_M.gguf", COMMIT)
    assert checkpoint.directory == hub.snapshot / "quants"


def test_a_repository_of_gguf_files_alone(hub: Hub) -> None:
    hub.files[:] = ["README.md", "a-Q4_0.gguf", "a-Q8_0.gguf"]
    with pytest.raises(ModelError, match=r"owner/name/a-Q4_0\.gguf, owner/name/a-Q8_0\.gguf"):
        find_checkpoint("owner/name")


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "https://hub.invalid"))


FAILURES: list[tuple[Any, str]] = [
    (errors.GatedRepoError("no", response=response(403)), "accept its terms.*hf auth login"),
    (errors.RepositoryNotFoundError("no", response=response(404)), "Check the spelling"),
    (errors.RevisionNotFoundError("no", response=response(404)), "no revision main.*model_commit"),
    (errors.LocalEntryNotFoundError("no"), "can't be reached.*connection"),
    (errors.HfHubHTTPError("500 broken", response=response(500)), "failed .HfHubHTTPError: 500 broken"),
    (OSError("disk"), "failed .OSError: disk"),
]


@pytest.mark.parametrize(("failure", "says"), FAILURES, ids=[type(each[0]).__name__ for each in FAILURES])
def test_errors_say_what_failed_and_what_to_do(hub: Hub, failure: Exception, says: str) -> None:
    hub.failure, hub.lacking = failure, ["model.safetensors"]
    with pytest.raises(ModelError, match=says):
        find_checkpoint("owner/name", "main")


def test_a_missing_file_of_a_repository(hub: Hub) -> None:
    hub.failure = errors.RemoteEntryNotFoundError("no", response=response(404))
    with pytest.raises(ModelError, match=r"holds no gone\.gguf"):
        find_checkpoint("owner/name/gone.gguf")


def test_without_a_connection_the_cache_is_used_without_another_request(hub: Hub) -> None:
    hub.failure = errors.HTTPError("no network")
    assert find_checkpoint("owner/name").revision == COMMIT
    # Of the two formats of the same weights, one was downloaded.
    assert hub.offline and "*.bin" in hub.ignored


def test_without_a_connection_weights_that_are_not_safetensors_must_be_whole(hub: Hub) -> None:
    hub.failure = errors.HTTPError("no network")
    hub.lacking = ["pytorch_model.bin"]
    assert find_checkpoint("owner/name").revision == COMMIT
    hub.files.remove("model.safetensors")
    (hub.snapshot / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cache does not hold all of it"):
        find_checkpoint("owner/name")


def test_a_busy_hub_is_asked_again(hub: Hub) -> None:
    hub.failure = errors.HfHubHTTPError("too many requests", response=response(429))
    assert find_checkpoint("owner/name").revision == COMMIT
    assert not hub.offline


@pytest.mark.parametrize("name", ["owner/name", "owner/name/model-Q4_K_M.gguf"])
def test_without_connection_and_cache_the_error_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fake: the hub's own library finds no server at this address."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(ModelError, match=r"hub's cache does not hold all of it, and the hub can't be reached"):
        find_checkpoint(name)
    assert waits == [], "a connection that failed is tried again"


@pytest.mark.parametrize(
    "name",
    ["./nothing", "/nothing/here", "a/b/c", "owner/", "nothing.gguf", "~/nothing", "~nobody.of.this.name/nothing"],
)
def test_a_name_that_is_no_hub_id_is_a_missing_path(name: str) -> None:
    with pytest.raises(ModelError, match="the path does not exist"):
        find_checkpoint(name)


@pytest.mark.parametrize("failure", [errors.HTTPError("no network"), FAILURES[1][0]])
def test_a_misspelled_path_is_shown_what_is_there(
    hub: Hub, failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "llama-3").mkdir(parents=True)
    with pytest.raises(ModelError, match=r"does not exist \(.*models has llama-3\)"):
        find_checkpoint(str(tmp_path / "models" / "lama-3"))
    # These may be names of the hub, which is asked.
    hub.failure = failure
    monkeypatch.setattr("huggingface_hub.snapshot_download", nothing_cached)
    for name, found in (
        ("models/lama-3", "models has llama-3"),
        ("models/x", "models has no x"),
        ("model", "this directory has models"),
    ):
        with pytest.raises(ModelError, match=rf"path here \(.*{found}\)"):
            find_checkpoint(name)


def test_a_name_that_no_path_can_have_is_an_error_too(hub: Hub) -> None:
    hub.failure = ValueError("not a name")
    for name in ("owner\0/name", "name\0"):
        with pytest.raises(ModelError, match="is not a path here, and fetching it"):
            find_checkpoint(name)


def nothing_cached(*_: Any, **__: Any) -> str:
    raise errors.LocalEntryNotFoundError("nothing")


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (b'{"quantization_config": {"quant_method": "gptq"}}', r"quantised \(gptq\).*pip install optimum gptqmodel"),
        (b'{"quantization_config": {"quant_method": "awq"}}', r"quantised \(awq\).*pip install gptqmodel"),
        (b'{"quantization_config": {"group_size": 64, "bits": 4}}', "Apple's MLX"),
    ],
)
def test_a_quantisation_that_cannot_be_read_is_named_before_the_weights_are_fetched(
    hub: Hub, config: bytes, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    hub.config = config
    with pytest.raises(ModelError, match=text):
        find_checkpoint("owner/name")
    assert not (hub.snapshot / "model.safetensors").exists()


def test_a_hub_that_fails_leaves_what_is_cached(hub: Hub) -> None:
    hub.failure = errors.HfHubHTTPError("503 down", response=response(503))
    assert find_checkpoint("owner/name").revision == COMMIT
    assert hub.offline
    assert find_checkpoint("owner/name/a-Q4_0.gguf").revision == COMMIT
    hub.lacking = ["model.safetensors", "a-Q4_0.gguf"]
    for name in ("owner/name", "owner/name/a-Q4_0.gguf"):
        with pytest.raises(ModelError, match="503 down"):
            find_checkpoint(name)


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("named", [1, 2])
def test_all_parts_of_a_split_file_are_downloaded(hub: Hub, named: int, connected: bool) -> None:
    if not connected:
        hub.failure = errors.HTTPError("no network")
    checkpoint = find_checkpoint(f"owner/name/q/a-0000{named}-of-00002.gguf")
    assert checkpoint.weight_files() == ["a-00001-of-00002.gguf", "a-00002-of-00002.gguf"]
    assert checkpoint.gguf_file == "a-00001-of-00002.gguf"
