"""Safetensors read in place and written in blocks: round trips, and every kind of damage."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from neurosim.models.tensor_files import (
    INDEX,
    SINGLE,
    TensorFolder,
    TensorWriter,
    check_finite,
)

Arrays = dict[str, np.ndarray[Any, Any]]
GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "braingpt"


def raw_file(path: Path, header: dict[str, Any] | bytes, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=(7, 5)).astype(np.float32),
        "codes": rng.integers(-127, 128, (3, 3)).astype(np.int8),
        "packed": rng.integers(0, 256, (3, 5)).astype(np.uint8),
        "wide": rng.normal(size=(2, 3)),
        "scalar": np.float32(3).reshape(()),
        "none": np.zeros((0, 4), np.float32),
        "half": rng.normal(size=(9, 1)).astype(np.float16).astype(np.float32),
    }


TYPES = {"a": "F32", "codes": "I8", "packed": "U8", "wide": "F64"} | {
    "scalar": "F32",
    "none": "F32",
    "half": "F16",
}


def write(folder: Path, arrays: Arrays, **options: Any) -> TensorFolder:
    specs = {name: (TYPES[name], array.shape) for name, array in arrays.items()}
    with TensorWriter(folder, specs, {"made": "here"}, **options) as writer:
        for name, array in arrays.items():
            for start in range(0, len(array), 2) if array.ndim else [None]:
                writer.write(name, array if start is None else array[start : start + 2])
    return TensorFolder(folder)


@pytest.mark.parametrize("shard_bytes", [1 << 30, 100, 1])
def test_what_is_written_is_read_back(tmp_path: Path, arrays: Arrays, shard_bytes: int) -> None:
    found = write(tmp_path, arrays, shard_bytes=shard_bytes)
    assert (tmp_path / INDEX).is_file() == (shard_bytes < 1 << 30)
    assert set(found.names) == set(arrays)
    assert found.metadata["made"] == "here"
    for name, array in arrays.items():
        assert found.dtype(name) == TYPES[name]
        assert found.shape(name) == array.shape
        np.testing.assert_array_equal(found.read(name), array)
    np.testing.assert_array_equal(found.read("a", 2, 5), arrays["a"][2:5])
    assert found.read("a", 3, 3).shape == (0, 5)


def test_other_software_reads_the_file(tmp_path: Path, arrays: Arrays) -> None:
    write(tmp_path, {name: arrays[name] for name in ("a", "codes", "packed", "half")})
    for name, array in mx.load(str(tmp_path / SINGLE)).items():
        np.testing.assert_array_equal(np.asarray(array), arrays[name])


def test_bfloat16_rounds_as_mlx_does_and_keeps_infinity_and_nan(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=(64, 33)).astype(np.float32)
    values[0, :6] = [np.inf, -np.inf, np.nan, 0, 1.00390625, 3.4e38]  # a tie, an overflow
    with TensorWriter(tmp_path, {"a": ("BF16", values.shape)}) as writer:
        writer.write("a", values)
    expected = np.asarray(mx.array(values).astype(mx.bfloat16).astype(mx.float32))
    np.testing.assert_array_equal(TensorFolder(tmp_path).read("a"), expected)


def test_bfloat16_of_mlx_is_read(tmp_path: Path) -> None:
    values = mx.random.normal((5, 7)).astype(mx.bfloat16)
    mx.save_safetensors(str(tmp_path / SINGLE), {"a": values})
    found = TensorFolder(tmp_path).read("a", 1, 4)
    np.testing.assert_array_equal(found, np.asarray(values.astype(mx.float32))[1:4])


def test_integers_are_views_that_cannot_be_written(tmp_path: Path, arrays: Arrays) -> None:
    found = write(tmp_path, arrays)
    view = found.read("codes", 1)
    assert view.base is not None
    assert not view.flags.writeable
    assert found.view("a").flags.aligned
    assert not found.view("a").flags.writeable
    found.release("a")
    np.testing.assert_array_equal(found.view("a"), arrays["a"])


def test_a_single_file_may_have_any_name_but_not_two(tmp_path: Path, arrays: Arrays) -> None:
    write(tmp_path, {"a": arrays["a"]})
    (tmp_path / SINGLE).rename(tmp_path / "weights.safetensors")
    assert TensorFolder(tmp_path).names == TensorFolder(tmp_path / "weights.safetensors").names
    (tmp_path / "more.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="found 2 .safetensors files and no index"):
        TensorFolder(tmp_path)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected model\.safetensors .* found none"):
        TensorFolder(tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        TensorFolder(tmp_path / "absent")


def entry(**changes: Any) -> dict[str, Any]:
    return {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"\xff" * 20, b"", "not valid JSON"),
        (b"[]", b"", "expected a JSON object"),
        (b'{"t": 1, "t": 2}', b"", "'t' occurs twice"),
        (b"[" * 50_000, b"", "not valid JSON"),
        ({"t": 1}, b"", "tensor t: expected dtype, shape and two data_offsets"),
        (entry(shape=[-2]), bytes(8), "tensor t: expected dtype, shape"),
        (entry(shape=[True]), bytes(8), "tensor t: expected dtype, shape"),
        (entry(data_offsets=[0]), bytes(8), "tensor t: expected dtype, shape"),
        (entry(dtype="F31"), bytes(8), "unknown dtype 'F31'"),
        (entry(shape=[3]), bytes(8), "needs 12 bytes, its entry covers 8"),
        (entry(shape=[2**40, 2**40]), bytes(8), "needs"),
        (entry(), bytes(7), "tensor t ends at byte .* the file has only"),
        (entry(), bytes(9), "expected a file of"),
        (entry(data_offsets=[4, 12]), bytes(12), "no gaps, no overlap"),
        (entry() | {"u": entry()["t"]}, bytes(8), "no gaps, no overlap"),
    ],
    ids=lambda value: None,
)
def test_damage_is_named(
    tmp_path: Path, header: dict[str, Any] | bytes, data: bytes, message: str
) -> None:
    path = raw_file(tmp_path / SINGLE, header, data)
    with pytest.raises(ValueError, match=message) as error:
        TensorFolder(tmp_path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("keep", [0, 4, 8, 30, -1])
def test_a_truncated_shard_is_named(tmp_path: Path, arrays: Arrays, keep: int) -> None:
    write(tmp_path, arrays, shard_bytes=100)
    shard = next(path for path in sorted(tmp_path.glob("*.safetensors")))
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(ValueError, match=f"{shard.name}.*fetch or write it again"):
        TensorFolder(tmp_path)


def test_a_wrong_index_is_named(tmp_path: Path, arrays: Arrays) -> None:
    write(tmp_path, arrays, shard_bytes=100)
    index = json.loads((tmp_path / INDEX).read_text())

    def changed(**changes: str) -> None:
        (tmp_path / INDEX).write_text(
            json.dumps({"weight_map": index["weight_map"] | changes}), encoding="utf-8"
        )

    changed(extra=index["weight_map"]["a"])
    with pytest.raises(ValueError, match="no tensor extra, which .* promises"):
        TensorFolder(tmp_path)
    changed(extra="absent.safetensors")
    with pytest.raises(ValueError, match="names absent.safetensors, which is missing"):
        TensorFolder(tmp_path)
    changed(extra="../a.safetensors")
    with pytest.raises(ValueError, match="expected plain names"):
        TensorFolder(tmp_path)
    (tmp_path / INDEX).write_text("{}")
    with pytest.raises(ValueError, match="expected a JSON object with a weight_map"):
        TensorFolder(tmp_path)


def test_a_limit_of_address_space_is_named(
    tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, arrays)

    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("mmap.mmap", full)
    with pytest.raises(ValueError, match=r"model\.safetensors: .* cannot be mapped .*ulimit -v"):
        TensorFolder(tmp_path)


def test_reading_what_is_not_there(tmp_path: Path, arrays: Arrays) -> None:
    found = write(tmp_path, arrays)
    with pytest.raises(ValueError, match="no tensor b"):
        found.read("b")
    with pytest.raises(ValueError, match="expected rows between 0 and 7, got 5 to 8"):
        found.read("a", 5, 8)


def test_writing_too_much_too_little_or_another_type(tmp_path: Path) -> None:
    specs = {"a": ("F32", (4, 2)), "b": ("I8", (2,))}
    rows = np.zeros((3, 2), np.float32)
    with (
        pytest.raises(ValueError, match="tensors not written to their end: a"),
        TensorWriter(tmp_path, specs) as writer,
    ):
        writer.write("a", rows)
        writer.write("b", np.zeros(2, np.int8))
    assert not list(tmp_path.iterdir())
    for name, wrong, message in (
        ("a", np.zeros((3, 3), np.float32), "expected rows of shape"),
        ("a", np.zeros((5, 2), np.float32), "more rows than its shape"),
        ("a", np.zeros((3, 2)), "expected float32 rows"),
        ("c", rows, "no tensor c was announced"),
    ):
        with pytest.raises(ValueError, match=message), TensorWriter(tmp_path, specs) as writer:
            writer.write(name, wrong)
        assert not list(tmp_path.iterdir())


def test_nan_is_named_by_row() -> None:
    values = np.zeros((4, 3), np.float32)
    check_finite(values, "w")
    values[2, 1] = np.nan
    with pytest.raises(ValueError, match="w: row 102 holds NaN"):
        check_finite(values, "w", 100)
    check_finite(np.zeros(3, np.int8), "codes")


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="no golden data beside the repository")
@pytest.mark.parametrize("name", ["micro", "trained", "trained/qwen2"])
def test_published_layout(name: str) -> None:
    found = TensorFolder(GOLDEN / name)
    expected = mx.load(str(GOLDEN / name / SINGLE))
    assert set(found.names) == set(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(found.read(key), np.asarray(array))
