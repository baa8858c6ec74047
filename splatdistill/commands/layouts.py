"""Objects of `bench` as other benchmarks' scorers read them: T3Bench (2310.02977) and GPTEval3D (2401.04092).

Prompts and scorers are theirs and stay with them. Both have threestudio's world: z is up, and the front faces +x.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from splatdistill.batch.plan import Job
from splatdistill.commands.common import note
from splatdistill.io.runs import SPLATS

if TYPE_CHECKING:
    from splatdistill.rendering.renderer import Renderer
    from splatdistill.scene.gaussians import Splats

VIEWS, SIDE = 120, 512  # of GPTEval3D, once round; pixels
LONGEST = 255  # bytes of the name of a folder
_AXES = [2, 0, 1]  # of ours, which are their x, y and z


@dataclass(frozen=True)
class Layout:
    """name: of its folder below --out. place: where a run's object goes there, from the run, the number of its prompt
    and the name of the suite. fill: writes it there, unless it is whole. fault: why a prompt cannot have a place, or
    nothing. meshes: whether it needs the packages that make them.
    """

    name: str
    place: Callable[[Job, int, str], Path]
    fill: Callable[[Path, Splats, Job, Renderer], None]
    fault: Callable[[str], str] = lambda prompt: ""
    meshes: bool = False

    def check(self, jobs: Sequence[Job]) -> None:
        """ValueError, one sentence, where two objects would have one place, or one can have none."""
        if self.meshes:
            from splatdistill.export import mesh

            mesh.require(mesh.PACKAGES)
        for place, count in Counter(path for _, path in self._places(jobs, "suite")).items():
            if count > 1:
                raise ValueError(f"layouts: {self.name} has one place for {count} runs, {place}; leave out the grid.")
        for job in jobs:
            if fault := self.fault(job.config.prompt):
                raise ValueError(f"layouts: {job.where}: {fault}.")

    def write(self, out: Path, jobs: Sequence[Job], *, runs: Path, suite: str, device: str) -> Path:
        """Writes every object that is not there yet; returns the folder."""
        from splatdistill.io import ply
        from splatdistill.rendering.renderer import make_renderer
        from splatdistill.utils.device import pick_device

        where = pick_device(device)
        renderer = make_renderer(where)
        for job, place in self._places(jobs, suite):
            splats = ply.read(runs / job.run / SPLATS).to(where)
            self.fill(out / self.name / place, splats, job, renderer)
        return out / self.name

    def _places(self, jobs: Sequence[Job], suite: str) -> Iterator[tuple[Job, Path]]:
        prompts = list(dict.fromkeys(job.config.prompt for job in jobs))
        for job in jobs:
            yield job, self.place(job, prompts.index(job.config.prompt), suite)


def _t3bench_place(job: Job, number: int, suite: str) -> Path:
    """The suite `prompt_single.txt` is their group `single`. The scorer reads one object of each method and prompt, so
    every seed after the first is a method.
    """
    config = job.config
    method = config.method + (f"-seed{config.seed}" if config.seed else "")
    group = suite.removeprefix("prompt_")
    folder = Path(f"{method}_{group}", _spelt(config.prompt), "save", f"it{config.steps}-export")
    return Path("outputs_mesh_t3") / folder / "model.obj"


def _spelt(prompt: str) -> str:
    return prompt.replace(" ", "_")


def _t3bench_fault(prompt: str) -> str:
    if "/" in prompt or _spelt(prompt).startswith("."):
        return f"T3Bench names folders after prompts, and {prompt!r:.80} cannot name one"
    if len(_spelt(prompt).encode()) > LONGEST:
        return f"T3Bench names folders after prompts, and {prompt!r:.80} has more than {LONGEST} bytes"
    return ""


def _t3bench_fill(path: Path, splats: Splats, job: Job, renderer: Renderer) -> None:
    from splatdistill.export import mesh, obj

    if path.exists():
        return
    try:
        made, _ = mesh.make(splats, renderer, triangles=mesh.MeshStyle().triangles)
    except ValueError as error:  # its scorer counts an object that is not there
        note(f"{job.run}: {error} T3Bench gets no mesh of it.")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    turned = replace(made, vertices=made.vertices[:, _AXES], normals=made.normals[:, _AXES])
    obj.write(path, turned, material=False)  # beside a material trimesh drops the colours of vertices


def _gpteval3d_place(job: Job, number: int, suite: str) -> Path:
    """The number of a prompt is its place in prompts.json, which the suite has to list in that order."""
    return Path("methods", job.config.method, str(number), str(job.config.seed))


def _gpteval3d_fill(folder: Path, splats: Splats, job: Job, renderer: Renderer) -> None:
    """rgb_0.png to rgb_119.png on white, and normals of the world's axes in 0..1 for -1..1, black where nothing is."""
    from splatdistill.io.video import write_image
    from splatdistill.rendering.channels import Channel
    from splatdistill.rendering.turntable import Turntable

    folder.mkdir(parents=True, exist_ok=True)
    cameras = Turntable(job.config.camera, frames=VIEWS, size=SIDE).cameras()
    for name in ("rgb", "normal"):
        if (folder / f"{name}_{VIEWS - 1}.png").exists():  # the last of them
            continue
        for i, frame in enumerate(Channel(name).frames(renderer, splats, cameras)):
            seen = frame
            if name == "normal":
                empty = (frame == 0.5).all(-1, keepdim=True)  # no unit normal is 0
                seen = frame[..., _AXES].masked_fill(empty, 0.0)
            write_image(folder / f"{name}_{i}.png", seen)


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("t3bench", _t3bench_place, _t3bench_fill, _t3bench_fault, meshes=True),
        Layout("gpteval3d", _gpteval3d_place, _gpteval3d_fill),
    )
}
"""Name, as --layouts takes it, to layout."""
