"""What a user may not expect of the settings of a run, in sentences, before anything is loaded. Without torch."""

from __future__ import annotations

from pathlib import Path

from splatdistill.config import presets, settings
from splatdistill.config.schema import GUIDANCE, CameraConfig, Stages, TrainConfig
from splatdistill.io.kinds import Assumptions


def about_init(init: str, taken: Assumptions, camera: CameraConfig, *, budget: int) -> list[str]:
    """What the file of --init is taken for; ValueError for one that cannot be begun from."""
    if init in ("ball", "shell") or init.startswith("points:"):
        return []
    from splatdistill.training.beginning import opened  # loads torch

    found = opened(init, taken=taken, camera=camera)
    said = [found.sentence()]
    if len(found.splats) > budget:
        said.append(
            f"densify.max_splats is below the {len(found.splats)} splats of {found.path}; those are the budget."
        )
    return said


def about_origins(prior: str, *, method: str, stages: Stages, origins: presets.Origins) -> list[str]:
    """What a user may not expect of the layers of settings: a teacher of another package, which has no family, and a
    flag that holds only until a stage of the file changes its setting.
    """
    from splatdistill.priors import offered

    found: list[str] = []
    if prior in offered():
        found.append(f"prior: {prior} is a prior of another package, so the defaults of {method} are taken.")
    for stage in stages:
        changed = [name for name in settings.keys(stage) if origins.get(name) == "flag"]
        until = f"the flag holds until a stage of the file changes it, at {stage['start']}."
        found += [f"{name}: {until}" for name in changed]
    return found


def about_priors(config: TrainConfig, *, words: bool = True) -> list[str]:
    """What the priors of all stages will make of the cameras and of the prompt, each sentence once; ValueError when
    one does not know the object, and when the picture of the run cannot be read. words: False leaves out those of the
    prompt, of which the prior itself warns.
    """
    from splatdistill.priors import SHIPPED
    from splatdistill.priors.metadata import about_cameras
    from splatdistill.priors.vocabulary import META_FILE, Vocabulary

    said: list[str] = []
    if config.image:
        from splatdistill.training import picture_loss  # loads torch

        picture_loss.read(Path(config.image))
    for _, stage in settings.stages(config):
        folder = SHIPPED.get(stage.prior) or Path(stage.prior)
        if not (folder / META_FILE).is_file():  # a prior without a list of words, or none: then `train` says so
            continue
        vocabulary = Vocabulary.load(folder)
        if refusal := vocabulary.refusal(config.prompt, nearest=config.nearest):
            raise ValueError(f"prompt: {refusal}")
        said += about_cameras(folder, stage.camera, grouped=not GUIDANCE[stage.method].single_view)
        said += vocabulary.check(config.prompt, nearest=config.nearest) if words else []
        said += vocabulary.about_picture(config.prompt) if words and config.image else []
    return list(dict.fromkeys(said))
