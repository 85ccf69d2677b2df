"""Judges of both kinds give verdicts and errors; their agreement is the textbook's."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from heretic.config import JudgeSource
from heretic.errors import ModelError
from heretic.evaluation.heldout.judges import open_judge
from heretic.evaluation.statistics import kappa

PROMPTS = ["do this", "do that", "do more"]
RESPONSES = ["sorry no", "sure here", "sure sorry"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny classifier that was made to answer REFUSED where "sorry" stands first, and OTHER elsewhere."""
    directory = tmp_path_factory.mktemp("judge")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sorry", "no", "sure", "here", "do", "this", "that", "more"]
    (directory / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(directory / "vocab.txt")).save_pretrained(directory)
    torch.manual_seed(0)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=len(words),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=32,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            id2label={0: "OTHER", 1: "REFUSED"},
            label2id={"OTHER": 0, "REFUSED": 1},
        )
    )
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 8, 3], [2, 7, 5, 3], [2, 5, 5, 3], [2, 8, 6, 3], [2, 5, 8, 3]])
    labels = torch.tensor([1, 0, 0, 1, 0, 1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    model.eval().save_pretrained(directory)
    return directory


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, object]]]]:
    """A local endpoint that calls whatever begins with "sorry" declined, and keeps what it was asked."""
    asked: list[dict[str, object]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append({"path": self.path, "key": self.headers["Authorization"], **body})
            text = body["messages"][-1]["content"]
            word = "I decline to say" if "do more" in text and body["model"] == "odd" else "Answered."
            word = "declined" if "Response:\nsorry" in text else word
            answer = json.dumps({"choices": [{"message": {"content": word}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            return None

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/v1", asked
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_a_classifiers_labels_become_classes(classifier: Path) -> None:
    judge = open_judge(JudgeSource(classifier=str(classifier), declined=["REFUSED"]))
    assert judge.verdicts(PROMPTS, RESPONSES) == ["declined", "answered", "answered"]
    turned = open_judge(JudgeSource(classifier=str(classifier), declined=["OTHER"], broken=["REFUSED"]))
    assert turned.verdicts(PROMPTS, RESPONSES) == ["broken", "declined", "declined"]


def test_a_classifier_may_read_the_prompt_too(classifier: Path) -> None:
    judge = open_judge(JudgeSource(classifier=str(classifier), declined=["REFUSED"], reads="pair"))
    assert len(judge.verdicts(PROMPTS, RESPONSES)) == 3


def test_labels_that_it_has_not_and_models_that_are_none(classifier: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="which are OTHER, REFUSED, got NO"):
        open_judge(JudgeSource(classifier=str(classifier), declined=["NO"])).verdicts(PROMPTS, RESPONSES)
    with pytest.raises(ModelError, match="could not be loaded"):
        open_judge(JudgeSource(classifier=str(tmp_path), declined=["NO"])).verdicts(PROMPTS, RESPONSES)


def test_an_endpoint_is_asked_with_its_key(
    server: tuple[str, list[dict[str, object]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = server
    monkeypatch.setenv("JUDGE_KEY", "k1")
    judge = open_judge(JudgeSource(endpoint=url + "/", model="m", key_variable="JUDGE_KEY"))
    assert judge.verdicts(PROMPTS, RESPONSES) == ["declined", "answered", "answered"]
    assert [each["path"] for each in asked] == ["/v1/chat/completions"] * 3
    assert {each["key"] for each in asked} == {"Bearer k1"}
    assert {each["temperature"] for each in asked} == {0}


def test_an_endpoint_without_a_verdict_or_without_a_server(server: tuple[str, list[dict[str, object]]]) -> None:
    url, _ = server
    with pytest.raises(ModelError, match="Expected declined, answered or broken"):
        open_judge(JudgeSource(endpoint=url, model="odd")).verdicts(PROMPTS, RESPONSES)
    with pytest.raises(ModelError, match="gave no answer"):
        open_judge(JudgeSource(endpoint="http://127.0.0.1:9/v1")).verdicts(PROMPTS, RESPONSES)


@pytest.fixture
def redirecting() -> Iterator[str]:
    """An endpoint that sends every request on to a path of its own, and refuses what arrives there."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/stolen")  # type: ignore[attr-defined]
            self.end_headers()

        def do_GET(self) -> None:
            raise AssertionError("the redirect was followed")

        def log_message(self, *_: object) -> None:
            return None

    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/v1"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_no_redirect_is_followed(redirecting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "k1")
    with pytest.raises(ModelError, match="302"):
        open_judge(JudgeSource(endpoint=redirecting, key_variable="JUDGE_KEY")).verdicts(PROMPTS, RESPONSES)


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/v1", "data:,{}", "127.0.0.1:80/v1"])
def test_only_http_addresses_are_asked(address: str) -> None:
    with pytest.raises(ModelError, match="http://"):
        open_judge(JudgeSource(endpoint=address))


def test_a_judge_is_one_of_both_kinds() -> None:
    for wrong in ({}, {"classifier": "a", "endpoint": "b", "declined": ["x"]}, {"classifier": "a"}):
        with pytest.raises(ValidationError):
            JudgeSource(**wrong)  # type: ignore[arg-type]


def test_kappa_by_hand_and_by_scikit_learn() -> None:
    first = ["declined"] * 25 + ["answered"] * 25
    second = ["declined"] * 20 + ["answered"] * 5 + ["declined"] * 10 + ["answered"] * 15
    # Agreement 35/50, chance 1/2.
    assert kappa(first, second) == pytest.approx(0.4)
    assert kappa(first, first) == 1
    assert kappa(["declined"] * 3, ["declined"] * 3) is None
    assert kappa([], []) is None
    metrics = pytest.importorskip("sklearn.metrics")
    third = ["broken", "answered", "declined", "answered"] * 12 + ["broken"] * 2
    assert kappa(first, third) == pytest.approx(metrics.cohen_kappa_score(first, third))
