"""Streams that are closed, end early or encode few characters end no run."""

import io
import os
import subprocess
import sys

import pytest

from heretic.cli.streams import LastingStream, lasting_streams

ANSWER = "import sys; from heretic.cli import main; sys.exit(main(sys.argv[1:]))"


class Ended(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_stream_whose_reader_has_gone_takes_everything() -> None:
    stream = LastingStream(Ended())  # type: ignore[arg-type]
    assert stream.write("text") == 4
    assert stream.write("more") == 4
    stream.flush()


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_characters_that_the_encoding_lacks_are_replaced(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    monkeypatch.setattr(sys, name, io.TextIOWrapper(content, encoding="cp1252"))
    with lasting_streams():
        getattr(sys, name).write("模型 é")
    assert content.getvalue() == "?? é".encode("cp1252")


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_closed_streams_are_replaced_and_given_back(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)
    with lasting_streams():
        assert getattr(sys, name) is not None
        print("text")
    assert getattr(sys, name) is None


def test_a_pipe_that_ends_early_gives_no_traceback() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", ANSWER, "completion", "bash"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
