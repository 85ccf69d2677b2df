"""Both forms of an importance matrix say the same."""

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from heretic.errors import ExportError
from heretic.export.ggml.imatrix import read_imatrix

SUMS = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
COUNTS = np.array([[2], [4], [0]], dtype=np.float32)


def write_gguf(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "")
    writer.add_type("imatrix")
    writer.add_tensor("blk.0.ffn_down.weight.in_sum2", SUMS[:1])
    writer.add_tensor("blk.0.ffn_down.weight.counts", COUNTS[:1])
    writer.add_tensor("blk.0.ffn_down_exps.weight.in_sum2", SUMS)
    writer.add_tensor("blk.0.ffn_down_exps.weight.counts", COUNTS)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_dat(path: Path) -> Path:
    name = b"blk.0.ffn_down.weight"
    # The older form stores means, times the number of calls.
    values = (SUMS[0] / 2 * 7).astype("<f4").tobytes()
    content = struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", 7, 4) + values
    path.write_bytes(content + struct.pack("<ii", 7, 4) + b"text")
    return path


def test_both_forms_give_mean_squares(tmp_path: Path) -> None:
    for path in (write_gguf(tmp_path / "imatrix.gguf"), write_dat(tmp_path / "imatrix.dat")):
        found = read_imatrix(path).of("blk.0.ffn_down.weight", 4)
        assert found is not None
        np.testing.assert_allclose(found, SUMS[0] / 2, rtol=1e-6)
        assert read_imatrix(path).of("blk.1.ffn_down.weight", 4) is None


def test_an_expert_that_saw_nothing_counts_all_columns_the_same(tmp_path: Path) -> None:
    found = read_imatrix(write_gguf(tmp_path / "imatrix.gguf")).of("blk.0.ffn_down_exps.weight", 4, 3)
    assert found is not None
    np.testing.assert_allclose(found, [SUMS[0] / 2, SUMS[1] / 4, np.ones(4)])


def test_the_matrix_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="another model"):
        read_imatrix(write_dat(tmp_path / "imatrix.dat")).of("blk.0.ffn_down.weight", 8)


@pytest.mark.parametrize("content", [b"", b"GGUF", b"nothing of the kind", struct.pack("<ii", 1, 9) + b"cut"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(content)
    with pytest.raises(ExportError, match="importance matrix"):
        read_imatrix(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="llama-imatrix"):
        read_imatrix(tmp_path / "none.dat")
