"""What each family of teachers is run with, and where each value was published. `python -m tests.config.test_families`
writes families.txt anew; read what changed before you commit it.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import splatdistill
from splatdistill import cli, priors
from splatdistill.commands.train import Train, parse_settings
from splatdistill.config import presets, settings, validation, yaml_reader
from splatdistill.config.schema import METHODS
from splatdistill.training.advice import about_origins
from tests.guidance.toys import FOR_ANY_PRIOR

SNAPSHOT = Path(__file__).with_name("families.txt")
PRIORS = {
    "embedded": "embedded", "analytic": "analytic", "sd21-base": "latent-512", "sdxl": "latent-1024",
    "if": "pixel-64", "mvdream": "mvdream", "imagedream": "imagedream", "sd3": "flow",
}  # fmt: skip
WITHOUT_CAMERAS = ("sd21-base", "sdxl", "if", "sd3")
REAL = [prior for prior in PRIORS if prior not in ("embedded", "analytic")]
# What depends on the teacher, as the issue lists it; of a method whatever it has of the last line.
OF_THE_TEACHER = {
    "steps", "size", "stages", "num_views", "splats.num_init", "splats.radius", "splats.opacity", "densify.max_splats",
    "densify.interval", "optim.means", "optim.scales", "optim.quats", "optim.opacities", "optim.sh0", "optim.final",
    "camera.elevation_deg", "camera.fovy_deg", "camera.fill", "background.white", "background.gray", "light.start",
    "views.view_dependent_prompts", "views.front_deg", "regularize.opacity",
    *("guidance_scale", "guidance_scale_final", "negative_prompt", "weight", "t_min", "t_max", "t_max_final", "anneal"),
    *("target", "target_final", "gap", "gap_range", "lora_rank", "lora_lr", "camera_dropout"),
}  # fmt: skip
# Published ranges of reference/parity.md, fault 1: setting -> lowest and highest, in our units.
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "sd21-base": {
        "sds.guidance_scale": (100, 101), "vsd.guidance_scale": (7.5, 7.5), "esd.guidance_scale": (7.5, 7.5),
        "vsd.lora_lr": (1e-4, 1e-4), "esd.lora_lr": (1e-4, 1e-4), "consistency.guidance_scale": (101, 101),
        "consistency.guidance_scale_final": (51, 51), "consistency.target": (0.7, 0.7),
        "consistency.target_final": (0.1, 0.1), "consistency.gap": (0.1, 0.1), "consistency.gap_range": (0.2, 0.2),
        "steps": (500, 25000), "densify.max_splats": (100000, 100000), "optim.means": (5e-3, 1e-2),
        "optim.scales": (5e-3, 5e-3), "optim.quats": (5e-3, 5e-3), "optim.opacities": (5e-2, 5e-2),
        "optim.sh0": (1e-2, 1e-2), "splats.num_init": (4096, 5000), "splats.radius": (0.5, 0.8),
        "splats.opacity": (0.05, 0.2),
        # Of newer methods: the authors' own configurations, which the presets name.
        "ism.guidance_scale": (7.5, 7.5), "ism.interval": (0.025, 0.08), "ism.t_max_final": (0.5, 0.5),
        "sdi.guidance_scale": (7.5, 7.5), "sdi.inversion_scale": (-7.5, -7.5), "sdi.t_min": (0.25, 0.25),
        "rfds.guidance_scale": (100, 100), "rfds.t_min": (0.3, 0.3), "rfds.t_max_final": (0.98, 0.98),
        "cfd.guidance_scale": (71, 76), "cfd.renewal": (1e-4, 1e-2), "cfd.t_max_final": (0.212, 0.212),
        "bridge.guidance_scale": (1, 1), "bridge.t_max": (0.5, 0.5), "nfsd.guidance_scale": (7.5, 7.5),
        "nfsd.boundary": (0.2, 0.2), "dds.guidance_scale": (7.5, 7.5), "dds.t_min": (0.05, 0.05),
        "dds.t_max": (0.95, 0.95), "ssd.guidance_scale": (7.5, 7.5), "ssd.enhancement": (5.5, 7.5),
        "ssd.likeness": (2, 2), "ssd.pull": (0.075, 0.075),
    },
    "mvdream": {"multiview.guidance_scale": (50, 50), "cfd.guidance_scale": (50, 50), "size": (256, 256),
                "steps": (10000, 10000)},
    "imagedream": {"multiview.guidance_scale": (5, 5), "sds.guidance_scale": (5, 5), "multiview.rescale": (0.2, 0.2),
                   "size": (256, 256), "steps": (12500, 12500)},
    "if": {"sds.guidance_scale": (20, 21), "size": (64, 64)},
}  # fmt: skip


def pairs() -> Iterator[tuple[str, str]]:
    for prior in PRIORS:
        for method in METHODS:
            if method == "multiview" and prior in WITHOUT_CAMERAS:
                continue
            if method in FOR_ANY_PRIOR or prior == "embedded":
                yield prior, method


def printed(prior: str, method: str) -> list[str]:
    """The lines of `config`, each under its dotted name."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert cli.main(["config", "--method", method, "--prior", prior, "--prompt", "x"]) == cli.DONE
    lines, section = [], ""
    for line in text.getvalue().splitlines():
        if re.fullmatch(r"\w+:", line):
            section = line.removesuffix(":") + "."
        else:
            lines.append((section if line.startswith(" ") else "") + line.strip())
    return lines


def snapshot() -> str:
    """What families say: first to every method, then to each."""
    parts = []
    for prior, family in PRIORS.items():
        of = {m: [x for x in printed(prior, m) if f"# prior {family}: " in x] for p, m in pairs() if p == prior}
        plain = {m: [line.replace(f"prior {family}: ", "") for line in lines] for m, lines in of.items()}
        shared = [line for line in next(iter(plain.values())) if all(line in lines for lines in plain.values())]
        parts.append(f"== {family}, as {prior}\n" + "".join(f"{line}\n" for line in shared))
        for method, lines in plain.items():
            parts.append(f"-- {method}\n" + "".join(f"{line}\n" for line in lines if line not in shared))
    return "\n".join(parts)


def values(prior: str, method: str) -> dict[str, Any]:
    return settings.flatten(presets.load(method, family=PRIORS[prior])[0])


def test_what_families_are_run_with() -> None:
    assert snapshot() == SNAPSHOT.read_text(encoding="utf-8")


@pytest.mark.parametrize("prior", PUBLISHED)
def test_values_are_in_their_published_range(prior: str) -> None:
    found = [values(prior, method) for p, method in pairs() if p == prior]
    for name, (low, high) in PUBLISHED[prior].items():
        of = [v[name] for v in found if name in v]
        assert of and all(low <= value <= high for value in of), name


@pytest.mark.parametrize(("prior", "method"), [pair for pair in pairs() if pair[0] in REAL])
def test_whatever_depends_on_the_teacher_names_its_source(prior: str, method: str) -> None:
    config, origins = presets.load(method, family=PRIORS[prior])
    for name in settings.flatten(config):
        if name in OF_THE_TEACHER or (name.startswith(f"{method}.") and name.partition(".")[2] in OF_THE_TEACHER):
            kind, _, source = origins[name].partition(": ")
            assert kind == f"prior {PRIORS[prior]}" and source, name


def test_every_value_of_a_family_says_where_it_is_from() -> None:
    for path in presets.shipped("priors/embedded").parent.glob("*.yaml"):
        assert path.stem in {*PRIORS.values(), "pretrained"}
        named = {name for name in settings.keys(yaml_reader.read(path)) if not name.startswith("family.")}
        found = yaml_reader.comments(path)
        assert {name for name in named if not found[name]} == set(), path.name


@pytest.mark.parametrize(("prior", "method"), [*pairs()])
def test_a_run_of_every_family_has_settings_that_a_run_can_have(prior: str, method: str) -> None:
    config, _ = presets.load(method, family=PRIORS[prior])
    config = settings.merge(config, {"prompt": "x", "prior": prior}, where="test")
    assert validation.validate(config) == []
    *_, (_, last) = settings.stages(config)
    native = {"embedded": 64, "analytic": 64, "if": 64, "mvdream": 256, "imagedream": 256, "sdxl": 1024}
    finer = {("embedded", "sds"): 128, ("embedded", "sample_fit"): 256}
    assert last.size == finer.get((prior, method), native.get(prior, 512))


@pytest.mark.parametrize("prior", WITHOUT_CAMERAS)
def test_other_pairs_are_refused_in_one_sentence(prior: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--method", "multiview", "--prior", prior, "--prompt", "x"]) == cli.USAGE
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "multiview tells views apart by their cameras" in said


@pytest.mark.parametrize("prior", [prior for prior in PRIORS if prior != "embedded"])
def test_views_are_fitted_only_where_a_prior_draws_them_with_alpha(
    prior: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["config", "--method", "sample-fit", "--prior", prior, "--prompt", "x"]) == cli.USAGE
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "method: sample_fit fits splats to pictures with alpha, and those of " in said


def test_the_usual_method_is_taken_where_no_other_is_meant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file := tmp_path / "own.yaml").write_text("sds: {guidance_scale: 3.0}\n")
    (staged := tmp_path / "staged.yaml").write_text("stages: [{start: 0.5, size: 64}]\n")
    asked = {
        (): "sample_fit  # prior embedded: ours", ("--method", "sds"): "sds  # default",
        ("--config", str(file)): "sds  # default", ("--config", str(staged)): "sds  # default",
        ("--prior", "analytic"): "sds  # default", ("--prior", "sd21-base"): "sds  # default",
        ("--method=sample-fit",): "sample_fit  # default",
        ("--prior", "embedded"): "sample_fit  # prior embedded: ours",
    }  # fmt: skip
    for flags, expected in asked.items():
        assert cli.main(["config", *flags]) == cli.DONE
        assert f"method: {expected}" in capsys.readouterr().out, flags
    assert splatdistill.configure("a car").method == "sample_fit"
    assert splatdistill.configure("a car", sds={"guidance_scale": 3.0}).method == "sds"


def test_a_flag_wins_over_the_stages_of_a_family_and_over_no_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("stages:\n  - {start: 0.5, size: 128, sds: {t_max: 0.9}}\n")
    base = ["config", "--prior", "sd15", "--prompt", "x"]
    for flags, wanted in (
        ([], "stages: [{start: 0.3, size: 256}, {start: 0.6, size: 512}]"),
        (["--size", "128"], "stages: []"),  # the value it has, but asked for
        (["--config", str(file), "--size", "64"], "stages: [{start: 0.5, size: 128, sds: {t_max: 0.9}}]"),
    ):
        assert cli.main([*base, *flags]) == cli.DONE
        assert wanted in capsys.readouterr().out
    file.write_text("size: 96\n")
    assert cli.main([*base, "--config", str(file)]) == cli.DONE
    assert "stages: []" in capsys.readouterr().out


def test_what_a_user_may_not_expect_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priors, "offered", lambda: {"flat": None})
    file = tmp_path / "mine.yaml"
    file.write_text("stages:\n  - {start: 0.5, size: 128}\n")

    def said(*flags: str) -> list[str]:
        _, config, origins = parse_settings(Train, ["--prompt", "x", *flags], verb="train")
        return about_origins(config.prior, method=config.method, stages=config.stages, origins=origins)

    assert said() == said("--prior", "sd15", "--size", "64") == said("--config", str(file)) == []
    assert said("--config", str(file), "--size", "32") == [
        "size: the flag holds until a stage of the file changes it, at 0.5."
    ]
    assert said("--prior", "nobody/nothing") == []  # `priors.load` says what is wrong with that
    assert said("--prior", "flat") == ["prior: flat is a prior of another package, so the defaults of sds are taken."]


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
