"""TensorBoard and Weights & Biases read what a run tells them: their own readers are the oracle."""

from __future__ import annotations

import importlib
import json
import re
import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from splatdistill import cli
from splatdistill.io.runs import METRICS
from splatdistill.training import trackers
from tests.api.helpers import by_command
from tests.packaging.audit import ROOT

BLOCK = 1 << 15


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / METRICS).read_text().splitlines()]


def board(run: Path) -> Any:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = reader.EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    found.Reload()
    return found


def history(run: Path) -> list[dict[str, Any]]:
    """The rows of an offline run, as `wandb sync` reads them: records of Weights & Biases in a log of LevelDB."""
    proto = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    importlib.import_module("wandb").teardown()  # its own process writes the file, and may do so after `finish`
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    rows = []
    for data in records(file.read_bytes()):
        record = proto.Record()
        record.ParseFromString(data)
        items = [(item.key or "/".join(item.nested_key), item.value_json) for item in record.history.item]
        rows += [{key: json.loads(value) for key, value in items}] if items else []
    return rows


def records(data: bytes) -> Iterator[bytes]:
    """Of LevelDB's log format: blocks of 32 KiB with fragments, each behind a checksum, a length and a type. The first
    seven bytes name the program.
    """
    assert data.startswith(b":W&B")
    place, whole = 7, b""
    while place + 7 <= len(data):
        left = BLOCK - place % BLOCK
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last fragment of one
            yield whole
            whole = b""


def test_tensorboard_reads_losses_counts_and_images(tmp_path: Path) -> None:
    run = by_command(tmp_path, "--log", "tensorboard", "--output.preview-every", "3")
    found, written = board(run), metrics(run)
    for name in ("grad_norm", "num_splats"):
        read = {event.step: event.value for event in found.Scalars(f"train/{name}")}
        # The file has float32, whose rounding is 2^-24 of a value.
        assert read == {line["step"]: pytest.approx(line[name], rel=2**-24) for line in written}
    assert [event.step for event in found.Images("preview/front")] == [3, 6]
    assert {tag.partition("/")[2] for tag in found.Tags()["images"]} == {"front", "side", "back", "top"}
    assert found.Images("preview/front")[0].encoded_image_string.startswith(b"\x89PNG")
    assert any(tag.startswith("densify/") for tag in found.Tags()["scalars"])


def test_a_resumed_run_goes_on_in_tensorboard(tmp_path: Path) -> None:
    run = by_command(tmp_path, "--log", "tensorboard")
    assert cli.main(["train", "--resume", str(run), "--steps", "8", "--log", "tensorboard"]) == cli.DONE
    assert [event.step for event in board(run).Scalars("train/grad_norm")] == [2, 4, 6, 8]


def test_weights_and_biases_reads_them_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = by_command(tmp_path, "--log", "wandb,tensorboard", "--output.preview-every", "3")
    rows, written = history(run), metrics(run)
    read = {row["_step"]: row["train/grad_norm"] for row in rows if "train/grad_norm" in row}
    assert read == {line["step"]: line["grad_norm"] for line in written}
    pictures = {row["_step"]: row["preview/front/path"] for row in rows if "preview/front/path" in row}
    assert [*pictures] == [3, 6]
    (files,) = (run / "wandb").glob("offline-run-*/files")
    assert all((files / path).read_bytes().startswith(b"\x89PNG") for path in pictures.values())
    assert (run / "tensorboard").is_dir()
    assert "wandb" not in capfd.readouterr().err


def test_the_splats_are_those_of_a_run_without_them(tmp_path: Path) -> None:
    plain, logged = by_command(tmp_path / "a"), by_command(tmp_path / "b", "--log", "tensorboard")
    assert (plain / "splats.ply").read_bytes() == (logged / "splats.ply").read_bytes()


def test_what_is_not_installed_is_one_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trackers.chosen(" tensorboard, tensorboard,") == ("tensorboard",)
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    said = r"^log: wandb is not installed; pip install 'splatdistill\[log\]' brings it\.$"
    with pytest.raises(ValueError, match=said):
        trackers.chosen("wandb")
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["log"]
    assert {re.split("[^a-z]", wanted)[0] for wanted in extra} == {package for _, package in trackers.TRACKERS.values()}
