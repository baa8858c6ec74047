"""The prior that knows models as meshes: words choose and paint them, and a network refines what they show."""

from __future__ import annotations

import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from splatdistill.priors import engine as engines
from splatdistill.priors import parts
from splatdistill.priors.base import Choice, Condition, Picture, VariationalScore
from splatdistill.priors.candidates import Candidates, PaintedMeshes, RenderedCandidates, Weighing, alike
from splatdistill.priors.instances import Instances
from splatdistill.priors.mixture import LEAST, apart, choose, seed_logits
from splatdistill.priors.network import keep_bf16, pick_dtype, resize
from splatdistill.priors.oracles import ParticleScore
from splatdistill.priors.paints import GUESSED, Painted, able, assign
from splatdistill.priors.pictured import COMPARED, Match, matched
from splatdistill.priors.prompts import siblings
from splatdistill.priors.refine import Accuracy, Refiner, linear_answer
from splatdistill.priors.schedule import Schedule, alpha_sigma
from splatdistill.priors.vocabulary import MODELS, Advice, Vocabulary, read_meta
from splatdistill.priors.zbuffer import MeshSet, draw
from splatdistill.scene.cameras import camera_token
from splatdistill.scene.types import Cameras
from splatdistill.utils.device import send
from splatdistill.utils.rng import key

ANYTHING, TOKENS, FINE = "anything.safetensors", "tokens.safetensors", "fine.safetensors"


@dataclass(frozen=True)
class KnownCondition(Condition):
    """candidates: None where nothing is asked for, which is then any object. cameras: of the V views."""

    candidates: Candidates | None = field(default=None, kw_only=True)
    cameras: Cameras | None = field(default=None, kw_only=True)


class KnownPrior:
    """The `Prior` protocol on a folder of meshes and a refiner. Pictures are RGBA on white.

    temperature: of the posterior over the models, for `num_views` views together; scale: of the seed's logits.
    """

    knows_cameras = supports_single_view_cameras = sees_alpha = True

    def __init__(
        self,
        refiner: Refiner,
        *,
        instances: Instances,
        anything: dict[str, Tensor],
        schedule: Schedule,
        meta: dict[str, Any],
        dtype: str = "fp32",
        origin: str = "",
    ) -> None:
        """anything: `mean` [4,H,W] and `variance` [1,H,W] of pictures of all models."""
        self.refiner, self.instances = refiner, instances
        self.device = refiner.tokens.device
        self.anything = {name: value.to(self.device) for name, value in anything.items()}
        self.alphas_cumprod = schedule.alphas_cumprod.to(self.device)
        self.num_views, self.image_size = refiner.num_views, meta["image_size"]
        self.dtype, self.origin = dtype, origin
        self.accuracy, self.temperature, self.scale = Accuracy(**meta["accuracy"]), meta["temperature"], meta["scale"]
        self.fine_accuracy = Accuracy(**meta["fine_accuracy"]) if refiner.fine is not None else None
        self.weighing = Weighing(
            self.temperature, self.num_views, self.image_size, accuracy=self.accuracy, fine_accuracy=self.fine_accuracy
        )
        self.paint = {name: torch.tensor(rgb) for name, rgb in meta["paint"].items()}
        self.vocabulary = Vocabulary.from_meta(meta, models=[model.noun for model in instances.known])
        self.choice = Choice()
        self.match: Match | None = None
        """What the picture of the choice shows, where there is one: the number of the model, and its paint."""
        self._candidates: dict[str, Candidates | None] = {}

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str = "cpu",
        dtype: str = "auto",
        engine: str = "torch",
        origin: str | None = None,
    ) -> KnownPrior:
        """Reads a local folder of safetensors and meshes. engine: auto, torch or onnx, as in `engine.pick`.

        ValueError, one sentence, where the folder is not whole or the engine is not there.
        """
        folder = Path(folder)
        meta = read_meta(folder)
        dtype = pick_dtype(dtype, device=device)
        try:
            unet: Any = parts.load_unet(folder)
            schedule, instances = parts.load_schedule(folder), Instances.load((folder / MODELS).parent)
            tokens, anything = load_file(folder / TOKENS)["tokens"], load_file(folder / ANYTHING)
        except (ValueError, OSError, KeyError) as error:
            raise ValueError(f"The prior in {folder} is not whole: {str(error).rstrip('.')}.") from error
        if dtype == "bf16":
            keep_bf16(unet)
        unet = unet.to(memory_format=torch.channels_last)
        refiner = Refiner(unet, tokens=tokens.float(), patch=meta["patch"], num_views=meta["num_views"])
        if (folder / FINE).exists():
            refiner.add_fine().load_state_dict({name: x.float() for name, x in load_file(folder / FINE).items()})
        refiner.to(device).eval().requires_grad_(False)
        for size in (meta["image_size"], 2 * meta["image_size"]) if refiner.fine else (meta["image_size"],):
            with refiner.layers_for(size):
                found = engines.pick(engine, refiner.unet, dtype=dtype, trial=refiner.trial(size))
                if engine == engines.compiler.NAME:
                    found = engines.CompiledUNet(refiner.unet)
                elif graphs := engines.graphs(engine, torch.device(device)):
                    found = engines.GraphedUNet(refiner.unet, graphs)
                if found:
                    refiner.engines[refiner.patch_of(size)] = found
        return cls(
            refiner, instances=instances, anything=anything, schedule=schedule, meta=meta, dtype=dtype,
            origin=origin or str(folder),
        )  # fmt: skip

    @property
    def network_engine(self) -> str:
        return next((engine.name for engine in self.refiner.engines.values()), "torch")

    def begin(self, choice: Choice) -> str | None:
        """ValueError, one sentence, for an object that it does not know, or a model that this has not."""
        if refusal := self.vocabulary.refusal(choice.prompt, nearest=choice.nearest):
            raise ValueError(f"prompt: {refusal}")
        if choice.instance and choice.mixture:
            raise ValueError("prior_mixture: a pinned prior_instance leaves no mixture; leave one of them out.")
        if choice.picture is not None and choice.mixture:
            raise ValueError("prior_mixture: a picture pins the model and leaves no mixture; leave one of them out.")
        noun = self._noun(choice.prompt, nearest=choice.nearest)
        count = len(self.instances.of_noun.get(noun or "", ()))
        if not 0 <= choice.instance <= count:
            raise ValueError(f"prior_instance: this prior knows {count} of '{noun}'; it is {choice.instance}.")
        self.choice, self._candidates, self.match = choice, {}, None
        if noun is None:
            return None
        if choice.picture is not None:
            self.match = self._match(noun, choice.picture)
            self.choice = replace(choice, instance=1 + self.instances.of_noun[noun].index(self.match.place))
        numbers = self._candidates_of(noun, choice.prompt)[0].numbers
        return self.instances.known[numbers[0]].key if len(numbers) == 1 else None

    def encode(self, rgb: Tensor) -> Tensor:
        """In twice the side of `image_size` where the renders have as much and the prior sees as much."""
        fine = self.fine_accuracy is not None and rgb.shape[1] >= 2 * self.image_size
        return resize(rgb, 2 * self.image_size if fine else self.image_size).permute(0, 3, 1, 2) * 2 - 1

    def decode(self, x0: Tensor) -> Tensor:
        return (x0[:, :3] * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def embed(
        self,
        prompt: str | Sequence[str],
        cameras: Cameras | None,
        *,
        use_camera_embedding: bool = True,
        cross_view_attention: bool = True,
    ) -> KnownCondition:
        """ValueError without cameras, or where the views are not of one object. View words change nothing."""
        if cameras is None or not use_camera_embedding:
            raise ValueError(
                "views.camera_embedding must be on: this prior shows what it knows from the cameras of the views."
            )
        read = [self._find(one) for one in ([prompt] if isinstance(prompt, str) else dict.fromkeys(prompt))]
        if any(other is not read[0] and not alike(other, read[0]) for other in read):
            raise ValueError("This prior reads one prompt for all views of an object.")
        tokens = send(camera_token(cameras), self.device)
        return KnownCondition(
            text=self.refiner.tokens.detach().expand(len(cameras), -1, -1), camera=tokens,
            cross_view_attention=cross_view_attention, candidates=read[0], cameras=cameras,
        )  # fmt: skip

    @torch.no_grad()
    def predict(self, xt: Tensor, t: Tensor, conditions: Sequence[Condition]) -> list[Tensor]:
        """fp32 epsilon like xt [V,C,h,w] for each of K conditions at timesteps t [V]; views that attend to each other
        have one timestep in a group.
        """
        alpha, sigma = alpha_sigma(self.alphas_cumprod, t)
        answers = [self._x0(xt, t, condition, alpha=alpha, sigma=sigma) for condition in conditions]
        return [(xt - alpha * x0) / sigma for x0 in answers]

    @torch.no_grad()
    def most_like(self, prompt: str, x0: Tensor, cameras: Cameras) -> int:
        """The number, from 1, of the model that a picture x0 [V,4,H,W] by V cameras shows, among those of the noun of
        `prompt` in its paint; 0 where the prompt names none that is known. It begins anew.
        """
        noun = self._noun(prompt, nearest=False)
        if noun is None:
            return 0
        away: list[float] = []
        for number in range(1, len(self.instances.of_noun[noun]) + 1):  # all of them: a run would weigh a few
            self.begin(Choice(prompt, instance=number))
            candidates, _ = self._candidates_of(noun, prompt)
            (seen,) = self.pictures(candidates, [0], cameras.to(self.device), size=x0.shape[-1])
            away.append(float(apart(seen, x0) + apart(x0, seen)))
        return 1 + away.index(min(away))

    def _match(self, noun: str, picture: Picture) -> Match:
        """The model of a noun that a picture shows, or the one that is asked for, and its paint. place: its number."""
        numbers = self.instances.of_noun[noun]
        if self.choice.instance:
            numbers = [numbers[self.choice.instance - 1]]
        cameras = picture.camera.to(self.device)
        known = [self.instances.known[number] for number in numbers]
        found = matched(
            torch.stack([draw(self.instances.mesh(n).to(self.device), cameras, size=COMPARED)[0] for n in numbers]),
            picture.rgba.to(self.device), luminance=torch.tensor([one.luminance for one in known], device=self.device),
            bare=[one.bare for one in known],
        )  # fmt: skip
        return replace(found, place=numbers[found.place])

    def particle_score(self, *, particles: int, lr: float, dropout: float) -> VariationalScore:
        """The exact score of the renders, as smooth as that of the models: with a sharper one VSD would be SDS."""
        return ParticleScore(particles=particles, temperature=self.temperature / self.num_views)

    def _x0(self, xt: Tensor, t: Tensor, condition: Condition, *, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What the prior takes for x0, like xt [V,C,h,w], at timesteps t [V]; alpha, sigma: [V,1,1,1]."""
        assert isinstance(condition, KnownCondition) and condition.camera is not None
        if condition.candidates is None:
            mean, spread = (
                F.interpolate(self.anything[name][None], xt.shape[-2:], mode="bilinear", align_corners=False)
                for name in ("mean", "variance")
            )
            return linear_answer(xt, mean.expand_as(xt), alpha=alpha, sigma=sigma, spread=spread)[0]
        views = self.num_views if condition.cross_view_attention else 1
        if len(xt) % views:
            raise ValueError(f"The number of views ({len(xt)}) must be a multiple of {views} for this prior.")
        seen: dict[bytes, RenderedCandidates] = {}
        found = []
        for first in range(0, len(xt), views):
            rows = slice(first, first + views)
            assert condition.cameras is not None
            cameras = condition.cameras.select(rows)  # of the CPU, so that reading them waits for no device
            name = cameras.viewmats.cpu().numpy().tobytes() + cameras.Ks.cpu().numpy().tobytes()
            if name not in seen:
                pictures = partial(self.pictures, condition.candidates, cameras=cameras.to(self.device))
                seen[name] = RenderedCandidates(condition.candidates, pictures, weighing=self.weighing)
            found.append(seen[name].posterior(xt[rows], alpha=alpha[first].flatten(), sigma=sigma[first].flatten()))
        features, spread, between = (
            torch.cat([getattr(posterior, part)[0] for posterior in found])
            for part in ("features", "spread", "between")
        )
        with torch.autocast(xt.device.type, torch.bfloat16, enabled=self.dtype == "bf16"):
            out, base, unit = self.refiner(
                xt, t, features=features, spread=spread, between=between, cameras=condition.camera, alpha=alpha,
                sigma=sigma, cross_view_attention=condition.cross_view_attention,
            )  # fmt: skip
        return base + unit * out

    def _noun(self, prompt: str, *, nearest: bool) -> str | None:
        reading = self.vocabulary.read(prompt)
        if reading.nouns:
            return reading.nouns[0]
        near = self.vocabulary.near(reading.head) if nearest and reading.head else []
        return near[0] if near else None

    def _find(self, prompt: str) -> Candidates | None:
        """Computed once per prompt. Says what it does not understand of the run's own as `Advice`, a warning."""
        if prompt in self._candidates:
            return self._candidates[prompt]
        choice, noun = self.choice, self._noun(prompt, nearest=self.choice.nearest)
        found, advice = (None, []) if noun is None else self._candidates_of(noun, prompt)
        if choice.prompt in ("", prompt) and prompt.strip():
            advice += self.vocabulary.about_picture(prompt) if self.match else []
            for sentence in [*self.vocabulary.check(prompt, nearest=choice.nearest), *advice]:
                warnings.warn(sentence, Advice, stacklevel=4)
        self._candidates[prompt] = found
        return found

    def _candidates_of(self, noun: str, prompt: str) -> tuple[Candidates, list[str]]:
        choice, reading, match = self.choice, self.vocabulary.read(prompt), self.match
        if choice.source and prompt in siblings(choice.source):
            match = None
            choice = replace(choice, instance=choice.source_instance, mixture=not choice.source_instance)
        numbers = list(self.instances.of_noun[noun])
        known = [self.instances.known[number] for number in numbers]
        if choice.instance:
            numbers, known = [numbers[choice.instance - 1]], [known[choice.instance - 1]]
        numbers = [numbers[place] for place in able(known, reading)]
        numbers = choose(numbers, seed=choice.seed)
        scale = 0.0 if choice.mixture or len(numbers) == 1 else self.scale
        painted = [assign(self.instances.known[number], reading) for number in numbers]
        tints = torch.stack([self._tints(number, p) for number, p in zip(numbers, painted, strict=True)])
        if match is not None and numbers == [match.place]:
            seen = match.tints.to(tints)
            tints = torch.where(seen.isnan(), tints, seen)
        logits = seed_logits(numbers, seed=choice.seed, scale=scale)
        # What the seed makes unlikely is never drawn: it would cost as much as the others to weigh.
        kept = (torch.softmax(logits, 0) > LEAST).nonzero()[:, 0].tolist() if scale else range(len(numbers))
        numbers, painted = [numbers[place] for place in kept], [painted[place] for place in kept]
        return Candidates(numbers, tints[list(kept)], logits[list(kept)]), _about(noun, reading.parts, painted)

    def _tints(self, number: int, painted: Painted) -> Tensor:
        """[3,3]; a model without a look of its own gets what the prompt does not name from the seed."""
        colours = list(painted.colours)
        if self.instances.known[number].bare:
            draw = random.Random(key(self.choice.seed, number, "paint"))  # noqa: S311 (nothing secret here)
            colours = [colour or draw.choice(sorted(self.paint)) for colour in colours]
        return torch.stack([self.paint[c] if c else torch.full((3,), torch.nan) for c in colours])

    def colours_of(self, prompt: str, number: int) -> tuple[str | None, ...]:
        """The colour that a prompt gives to each paint of a model."""
        return assign(self.instances.known[number], self.vocabulary.read(prompt)).colours

    def pictures(self, candidates: Candidates, places: Sequence[int], cameras: Cameras, *, size: int) -> Tensor:
        """[K,V,4,size,size] of the candidates at K places, in their paint."""
        these = tuple(places)
        if these not in candidates.painted:
            numbers, tints = [candidates.numbers[place] for place in these], candidates.tints[list(these)]
            candidates.painted[these] = PaintedMeshes(
                MeshSet.of([self.instances.mesh(number) for number in numbers]).to(self.device),
                tints=None if tints.isnan().all() else send(tints, self.device),
                luminance=send(torch.tensor([self.instances.known[n].luminance for n in numbers]), self.device),
            )
        return candidates.painted[these].draw(cameras, size=size)


def _about(noun: str, named: Sequence[tuple[str, str]], painted: Sequence[Painted]) -> list[str]:
    """Plain sentences about colours that do not come, or may come elsewhere than asked."""
    if absent := dict.fromkeys(part for one in painted for part in one.absent):
        what = " and ".join(part or "rest" for part in absent)
        return [f"None of this prior's models of '{noun}' has paint of its own for the {what}, which keeps its look."]
    if named and min(one.sure for one in painted) == GUESSED:
        what = " and ".join(part for part, _ in named)
        return [f"This prior's models of '{noun}' do not say which part is the {what}; it takes the likeliest."]
    return []
