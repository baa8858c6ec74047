"""Names of priors: paths win, then families and ids in the cache; nothing is fetched in tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from splatdistill import cli, priors
from splatdistill.priors import offload
from splatdistill.priors import resolve as resolve_module
from splatdistill.priors.resolve import ModelSource, model_families, resolve
from tests.priors import families as tiny
from tests.priors.test_diffusion import CPU

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_path_wins_over_a_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sd15").mkdir()
    assert resolve("sd15") == ModelSource(Path("sd15"), "sd15")


def test_the_first_id_that_is_here_is_taken_with_its_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    second = model_families()["sd21-base"]["sources"][1]
    snapshot = tmp_path / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text("{}")

    def cached(repo: str, **settings: Any) -> str:
        asked.append((repo, settings["local_files_only"]))
        if repo != second:
            raise huggingface_hub.errors.LocalEntryNotFoundError("not here")
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    assert resolve("sd21-base") == ModelSource(snapshot, f"{second}@{COMMIT}")
    assert [local for _, local in asked] == [True, True]
    assert resolve(f"{second}@main").origin == f"{second}@{COMMIT}"


def test_a_file_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "snapshots" / COMMIT / "sd-v2.1-base-4view.pt"

    def cached(repo: str, name: str, **settings: Any) -> str:
        return str(file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", cached)
    assert resolve("mvdream") == ModelSource(file, f"MVDream/MVDream@{COMMIT}:sd-v2.1-base-4view.pt")


@pytest.mark.parametrize("name", ["sd15", "somebody/some-model", "mvdream"])
def test_offline_the_places_and_the_command_are_named(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"is not here: there is no .*, and nothing of it in ") as caught:
        priors.load(name, device=CPU, dtype="fp32")
    said = str(caught.value)
    assert str(tmp_path / name) in said and "huggingface" in said and "`hf download " in said and "\n" not in said
    first = model_families()[name]["sources"][0].partition(":")[0] if name in model_families() else name
    assert first in said


@pytest.mark.parametrize(
    "name", ["./nowhere", "/no/such/folder", "no such thing", "~/nothing-here", "x" * 5000, "a\0b"]
)
def test_no_such_path_or_name(name: str) -> None:
    with pytest.raises(ValueError, match=r"prior: there is no (prior or )?folder"):
        resolve(name)


def test_only_plain_safetensors_and_small_files_are_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub.utils import filter_repo_objects

    seen: list[Any] = []

    def record(repo: str, **settings: Any) -> str:
        seen.append(settings["allow_patterns"])
        raise huggingface_hub.errors.LocalEntryNotFoundError("not here")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", record)
    with pytest.raises(ValueError, match="is not here"):
        resolve("somebody/some-model")
    files = [
        "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors", "tokenizer/merges.txt",
        "text_encoder_3/model-00001-of-00002.safetensors", "text_encoder_3/model.safetensors.index.json",
        "scheduler/scheduler_config.json", "transformer/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    ]  # fmt: skip
    others = [
        "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors", "README.md",
        "unet/mv_unet.py", "v1-5-pruned.ckpt",
        "v1-5-pruned.safetensors", "safety_checker/model.safetensors", "unet/model.onnx",
        "unet/diffusion_pytorch_model.non_ema.safetensors", "text_encoder_3/model.fp16-00001-of-00002.safetensors",
    ]  # fmt: skip
    assert list(filter_repo_objects([*files, *others], allow_patterns=seen[0])) == files


def test_families_are_well_formed() -> None:
    for name, facts in model_families().items():
        named = {"what", "predicts", "image_size", "parameters_m", "network", "encoder", "vae", "licence", "gated"}
        assert set(facts) == {*named, "sources"}, name
        assert facts["licence"] and (facts["vae"] in offload.ENCODER_BYTES) == bool(facts["encoder"])
        assert facts["network"] in offload.NETWORK_VALUES
        assert facts["sources"] and all(resolve_module._ID.fullmatch(source) for source in facts["sources"])


def test_prior_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prior", "list"]) == cli.DONE
    out = capsys.readouterr().out
    assert all(name in out and facts["what"] in out for name, facts in model_families().items())
    assert "estimated and not measured" in out
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert all(facts["licence"] in lines[name] for name, facts in model_families().items())
    assert "to be accepted first" in lines["sd35-large"] and "to be accepted" not in lines["z-image"]


@pytest.mark.parametrize(("family", "predicts"), [("sd21", "v_prediction"), ("mvdream", "epsilon"), ("sd3", "flow")])
def test_prior_check(tmp_path: Path, capsys: pytest.CaptureFixture[str], family: str, predicts: str) -> None:
    folder = tiny.FAMILIES[family](tmp_path / "x" / "model")
    assert cli.main(["prior", "check", str(folder), "--device", "cpu", "--dtype", "fp32"]) == cli.DONE
    lines = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    lines = {key: value.strip() for key, value in lines.items()}
    assert lines["predicts"] == predicts and lines["image"] == "16 x 16 pixels"
    assert lines["views"] == ("4 at once" if family == "mvdream" else "one by one")
    assert "estimated, not measured" in lines["memory"] and "gradient norm" in lines["step"]
    layer = {"sd21": "latent-512", "mvdream": "mvdream", "sd3": "flow"}[family]
    assert lines["family"].startswith(f"{layer}: ") and lines["sds.guidance_scale"].startswith("100.0  # ")
    assert "not listed here" in lines["licence"] and "camera.fovy_deg" in lines


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["check"], "say `prior list`, or `prior check NAME` or `prior sample NAME` with the name of one"),
        (["list", "sd15"], "say `prior list`, or `prior check NAME`"),
        (["sample", "x/y"], "prompt is empty; say what to draw"),
        (["sample", "x/y", "--prompt", "a", "--output", "x.txt"], "output: x.txt must end in .png, .jpg or .webp"),
        (["sample", "x/y", "--prompt", "a", "--steps", "0"], "steps must be at least 1; it is 0"),
        (["check", "x/y", "--max-memory", "-1"], "max_memory must not be negative; it is -1"),
        (["check", "nothing"], "there is no prior or folder called 'nothing'"),
    ],
)
def test_prior_messages(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["prior", *arguments]) == cli.USAGE
    assert sentence in capsys.readouterr().err


def test_a_run_records_where_its_prior_came_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = tiny.sd15(tmp_path / "x" / "model")
    arguments = ["train", "--config", "smoke", "--prior", str(folder), "--prompt", "a chair", "--steps", "2"]
    arguments += ["--out", str(tmp_path), "--name", "run", "--device", "cpu", "--size", "16"]
    assert cli.main(arguments) == cli.DONE
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["priors"] == {str(folder): str(folder)}


@pytest.mark.parametrize("group", ["1", "2"])  # it knows no cameras of single views either
def test_groups_that_a_model_does_not_see_are_refused_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], group: str
) -> None:
    folder = tiny.mvdream(tmp_path / "x" / "model")
    arguments = ["train", "--config", "smoke", "--prior", str(folder), "--prompt", "a chair", "--out", str(tmp_path)]
    assert cli.main([*arguments, "--name", "run", "--device", "cpu", "--camera.views-per-group", group]) == cli.USAGE
    wanted = f"camera.views_per_group must be 4, the number of views that this prior sees at once; it is {group}."
    assert wanted in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
