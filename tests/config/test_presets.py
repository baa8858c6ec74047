"""Settings: strict, later sources win, every value knows where it came from, and the dump reads back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from splatdistill import cli
from splatdistill.config import presets, settings, validation, yaml_reader
from splatdistill.config.schema import METHODS, CameraConfig, DensifyConfig, TrainConfig
from splatdistill.priors.families import family_of

RECIPES = ("dreamfusion", "magic3d", "magic3d-if-sd", "prolificdreamer")  # they name their method
GOOD = TrainConfig(prompt="a red armchair")


def write(folder: Path, text: str) -> Path:
    path = folder / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def shipped() -> set[str]:
    return {path.stem for path in presets.shipped("smoke").parent.glob("*.yaml")}


def test_every_shipped_preset_loads_and_is_valid() -> None:
    assert shipped() == {*RECIPES, "8gb", "scene", "smoke"}
    for name in shipped():
        for method in [yaml_reader.read(presets.shipped(name)).get("method")] if name in RECIPES else METHODS:
            config, origins = presets.load(method, file=Path(name))
            assert validation.validate(replace(config, prompt="a red ball")) == []
            assert {origin.partition(":")[0] for origin in origins.values()} <= {"default", "prior embedded", "file"}


def test_the_defaults_are_what_the_command_line_uses(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--method", "sds", "--prompt", "a red armchair"]) == cli.DONE
    printed = settings.merge(TrainConfig(), yaml.safe_load(capsys.readouterr().out), where="config")
    asked = replace(presets.load("sds")[0], prompt=GOOD.prompt)
    assert settings.flatten(printed) == settings.flatten(asked)
    for method in METHODS:
        assert presets.load(method, family="")[0] == replace(TrainConfig(), method=method)


@pytest.mark.parametrize("name", sorted(shipped()))
def test_presets_state_only_differences(name: str) -> None:
    """Against what their prior is run with by their method, or by each whose section they hold."""
    values = yaml_reader.read(presets.shipped(name))
    for method in {values.get("method", "sds"), *(values.keys() & set(METHODS))}:
        default = presets.load(method, family=family_of(values.get("prior", "embedded")))[0]
        before, after = (settings.flatten(c) for c in (default, settings.merge(default, values, where=name)))
        named = {key for key in _named(values) - {"method"} if key in before}
        assert [key for key in named if before[key] == after[key]] == []


def _named(values: dict, prefix: str = "") -> set[str]:
    return {
        name
        for key, value in values.items()
        for name in (_named(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"})
    }


def test_a_run_holds_the_section_of_its_method_alone(tmp_path: Path) -> None:
    config, _ = presets.load("csd")
    names = settings.flatten(config)
    assert "csd.t_min" in names and not any(name.startswith(("sds.", "multiview.")) for name in names)
    file = write(tmp_path, "method: csd\nsds: {t_min: 0.1}\n")
    with pytest.raises(ValueError, match=r"my\.yaml: --method csd does not read 'sds'\."):
        presets.load("csd", file=file)
    shared = write(tmp_path, "sds: {t_min: 0.1}\ncsd: {t_min: 0.2}\n")
    assert presets.load("csd", file=shared)[0].csd.t_min == 0.2
    assert presets.load("csd", file=shared)[1]["csd.t_min"] == "file"


def test_later_sources_win_and_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below.yaml").write_text(
        "family: {about: x, camera_conditioned: true}\nsteps: 5  # a\nsize: 16  # b\noptim: {sh0: 2}  # c\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "family: {about: y, base: below}\nsteps: 10  # d\nsize: 32  # e\noptim: {means: 1}  # ours\n"
        "of_methods:\n  csd, sds: {seed: 4}  # g\n  vsd: {seed: 5}\n"
    )
    monkeypatch.setattr(presets, "shipped", lambda name: tmp_path / f"{name.removeprefix('priors/')}.yaml")
    file = write(tmp_path, "steps: 20\nsds:\n  t_min: 1e-3\ncamera:\n  fill: [0.5, 1]\n")
    config, origins = presets.load("sds", file=file, family="mine")
    assert (config.steps, config.size, config.num_views) == (20, 32, TrainConfig().num_views)
    assert (config.optim.means, config.optim.sh0, config.seed) == (1.0, 2.0, 4)
    assert isinstance(config.optim.means, float)
    assert config.sds.t_min == 1e-3
    assert config.camera == replace(CameraConfig(), fill=(0.5, 1.0))
    named = {name: origin for name, origin in origins.items() if origin != "default"}
    assert named == {
        "steps": "file", "size": "prior mine: e", "optim.means": "prior mine: ours", "optim.sh0": "prior mine: c",
        "seed": "prior mine: g", "sds.t_min": "file", "camera.fill": "file",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("densfy:\n  interval: 3", "unknown key 'densfy'; did you mean 'densify'?"),
        ("densify:\n  intervall: 3", "unknown key 'densify.intervall'; did you mean 'densify.interval'?"),
        ("zzz: 1", "unknown key 'zzz'."),
        ("1: 2", "unknown key '1'."),
        ("steps: true", "steps must be a whole number; it is True."),
        ("steps: 1.5", "steps must be a whole number; it is 1.5."),
        ("optim: {means: fast}", "optim.means must be a number; it is 'fast'."),
        ("prompt: 7", "prompt must be text; it is 7."),
        ("device: tpu", "device must be one of auto, cpu, cuda; it is 'tpu'."),
        ("camera: {fill: 0.5}", "camera.fill must be a list of 2 values; it is 0.5."),
        ("camera: 3", "camera must hold settings as 'key: value'; it is 3."),
        ("[1, 2]", "must hold settings as 'key: value'."),
        ("a: [", "is not YAML at line 1."),
        ("a: !!python/object/apply:os.system [ls]", "has a tag (!) at line 1; settings need none."),
        ("a: &a [1]", "has an anchor or alias (& or *) at line 1; write the settings out."),
        ("a: " + "9" * 6000, "has a value of 6000 characters at line 1; put it into quotes."),
        ("a: [[[[[[[[1]]]]]]]]", "has more entries, or deeper ones, than are read, at line 1."),
        ("a: [" + "1," * 5000 + "]", "has more entries, or deeper ones, than are read, at line 1."),
        ("#" * 70_000, "is larger than 64 KiB; more is not read."),
        ("a: 2001-99-99", "has a value that is neither a number nor a date; put it into quotes."),
        ("steps: 99999999999999999999", "steps is larger than any setting can be; it is 99999999999999999999."),
    ],
)
def test_bad_files_are_explained(tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(ValueError, match=r"my\.yaml") as caught:
        presets.load("sds", file=file)
    assert str(caught.value).endswith(message)


def test_a_missing_file_and_an_unknown_method(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.yaml cannot be read: No such file"):
        presets.load("sds", file=tmp_path / "none.yaml")
    with pytest.raises(ValueError, match="method: 'sdx' is unknown; the methods are sds"):
        presets.load("sdx")


def test_the_dump_reads_back() -> None:
    config = replace(
        GOOD,
        prompt='yes: "no" # 1e5 \U0001fa91 ' + "long " * 50,
        init="ply:a b.ply",
        optim=replace(GOOD.optim, means=1e-7, scales=3.0),
        sds=replace(GOOD.sds, negative_prompt="null"),
    )
    sections = {name.split(".")[0] for name in settings.flatten(config) if "." in name}
    for origins in (None, dict.fromkeys(settings.flatten(config), "flag")):
        text = settings.to_yaml(config, origins)
        assert settings.merge(TrainConfig(), yaml.safe_load(text), where="dump") == config
        assert len(text.splitlines()) == len(settings.flatten(config)) + len(
            sections
        )  # one line a value, one a section
        assert text.count("# flag") == (len(settings.flatten(config)) if origins else 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "  "}, "prompt is empty; say what to make"),
        ({"prompt": "a\0b"}, "prompt must be one line of text"),
        ({"prompt": "a \ud800"}, "prompt must be one line of text"),
        ({"steps": 0}, "steps must be above 0; it is 0."),
        ({"steps": -5}, "steps must be above 0; it is -5."),
        ({"size": 0}, "size must be above 0"),
        ({"seed": -1}, "seed must not be negative"),
        ({"num_views": 6}, "num_views must be a multiple of camera.views_per_group (4); it is 6."),
        ({"optim.means": float("nan")}, "optim.means must be finite; it is nan."),
        ({"optim.means": -0.1}, "optim.means must not be negative; it is -0.1."),
        ({"densify.stop": 1.5}, "densify.stop must be within 0 and 1; it is 1.5."),
        ({"densify.interval": 0}, "densify.interval must be above 0"),
        ({"sds.t_min": 0.6}, "sds.t_min must not exceed sds.t_max and sds.t_max_final."),
        ({"sds.anneal": 2.0}, "sds.anneal must be within 0 and 1; it is 2."),
        ({"sds.t_min_first": 0.99}, "sds.t_min_first must not exceed sds.t_max."),
        ({"sds.clamp": (0.0, 2.0)}, "sds.clamp must be above 0 at both ends, or 0 0 for none."),
        ({"method": "vsd", "vsd.particles": 0}, "vsd.particles must be at least 1; it is 0."),
        ({"method": "esd", "esd.entropy": 1.6}, "esd.entropy must be within 0 and 1.5; it is 1.6."),
        ({"method": "esd", "esd.entropy": -0.1}, "esd.entropy must not be negative; it is -0.1."),
        ({"method": "esd", "esd.camera_dropout": 0.0}, "esd.camera_dropout must be above 0"),
        ({"sds.rescale": 1.5}, "sds.rescale must be within 0 and 1; it is 1.5."),
        (
            {"method": "consistency", "consistency.t_min": 0.95},
            "consistency.t_max must be at least consistency.t_min +",
        ),
        (
            {"camera.elevation_deg": (-100.0, 0.0)},
            "camera.elevation_deg must be within -90 and 90 degrees",
        ),
        ({"camera.fovy_deg": (45.0, 30.0)}, "camera.fovy_deg must be the lower value, then the higher"),
        ({"camera.fovy_deg": (45.0, 180.0)}, "camera.fovy_deg must be above 0 and below 180 degrees"),
        ({"background.white": 0.8}, "together they must not exceed 1"),
        ({"light.albedo": 0.8, "light.textureless": 0.3}, "light.albedo and light.textureless are probabilities"),
        ({"light.distance": (1.5, 0.8)}, "light.distance must be the lower value, then the higher"),
        ({"sds.perp_neg": True, "views.view_dependent_prompts": "off"}, "must not be off with sds.perp_neg"),
        ({"splats.opacity": 1.0}, "splats.opacity must be above 0 and below 1"),
        ({"splats.sh_degree": 4}, "splats.sh_degree must be one of auto, 0, 1, 2, 3; it is 4."),
        ({"output.size": 33}, "output.size must be even"),
        ({"output.frames": 0}, "output.frames must be above 0"),
    ],
)
def test_settings_no_run_can_have(changes: dict, message: str) -> None:
    nested: dict = {}
    for name, value in changes.items():
        *parents, key = name.split(".")
        (nested.setdefault(parents[0], {}) if parents else nested)[key] = value
    with pytest.raises(ValueError, match=r"must|is empty") as caught:
        validation.validate(settings.merge(GOOD, nested, where="test"))
    assert message in str(caught.value)


def test_schedules_that_never_fire_are_warned_of() -> None:
    assert validation.validate(GOOD) == []
    late = validation.validate(replace(GOOD, densify=DensifyConfig(start=0.7, stop=0.6)))
    assert len(late) == 1
    assert "will not grow" in late[0]
    assert "only be pruned" in validation.validate(replace(GOOD, densify=DensifyConfig(max_splats=10)))[0]


def test_differences_names_the_fields() -> None:
    other = replace(GOOD, seed=3, optim=replace(GOOD.optim, sh0=0.0))
    assert settings.differences(GOOD, other) == ["seed", "optim.sh0"]
    assert settings.differences(GOOD, replace(GOOD)) == []
