"""What is done with finished objects: `export`, `compose`, `view`, `render` and `eval`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from splatdistill.commands.common import (
    AS_IT_SAYS,
    DONE,
    File,
    Folder,
    Taken,
    new_file,
    note,
    open_splats,
    placed_cameras,
    print_results,
    read_splats,
)
from splatdistill.config import validation
from splatdistill.config.schema import RendererName, TrainConfig
from splatdistill.export.clients import CLIENTS, Client
from splatdistill.io import kinds
from splatdistill.io.files import replacing
from splatdistill.io.kinds import Assumptions
from splatdistill.io.runs import Run

if TYPE_CHECKING:
    from splatdistill.evaluate import EvalObject
    from splatdistill.scene.types import Cameras

    ExportFormat = Program = str
else:
    ExportFormat = Literal[("auto", *kinds.kinds(), *kinds.MEDIA, kinds.MESH)]
    Program = Literal[("any", *CLIENTS)]


@dataclass(frozen=True)
class Export:
    """Write a run as one file: splats for other programs, a page, a video or a picture."""

    source: Positional[Path]
    """Run folder, or file of splats (.ply, .compressed.ply, .splat, .ksplat, .spz, .sog, .glb)."""
    format: ExportFormat = "auto"
    """Splats (ply in the INRIA layout and glb keep everything), a page, a turntable, the front view, or triangles.
    auto: what --for chooses, or ply.
    """
    program: Annotated[Program, arg(name="for")] = "any"
    """The program that the file is for: chooses its format, axes and harmonics, and says how it will stand there."""
    spz_version: Literal[2, 3, 4] = kinds.SPZ_VERSION
    """Version of a .spz: Spark reads 2 and 3, the page and Niantic's library 4 too."""
    output: File = None
    """File to write; the name of the run in the current folder if not given. A mesh is .obj where this ends so."""
    force: bool = False
    """Replace the output if it is there."""
    frames: int = 60
    """Frames of the turntable."""
    size: int = 512
    """Side of video and picture, pixels."""
    triangles: int = 20_000
    """Triangles of a mesh, at most."""
    texture: int = 0
    """Side of the picture on a mesh, texels, for example 1024; 0 has a colour at each corner instead."""
    taken: Taken = AS_IT_SAYS
    """How a file is taken; a run keeps its frame."""


def export(flags: Export) -> int:
    name = flags.source.resolve().name.partition(".")[0] if flags.source.is_file() else flags.source.resolve().name
    client = CLIENTS.get(flags.program)
    kind = flags.format if flags.format != "auto" else client.kind if client else "ply"
    if flags.spz_version != kinds.SPZ_VERSION and kind != "spz":
        raise ValueError(f"spz_version: .{kind} has no versions; only .spz has.")
    if client:
        _check_client(flags, client, kind)
    suffix = "mesh.glb" if kind == "mesh" else kind
    output = new_file(flags.output or Path(f"{name}.{suffix}"), force=flags.force)
    config = _drawn_as(flags.source, frames=flags.frames, size=flags.size)
    seen = config.camera.object_radius if kind in kinds.FILMED else None
    splats = read_splats(flags.source, flags.taken, seen=seen)
    if kind == "html":
        from splatdistill.viewer.export_html import page_of  # pyright: ignore[reportMissingImports]
        from splatdistill.viewer.rundir import Item  # pyright: ignore[reportMissingImports]

        page = page_of(Item(flags.source, flags.taken))
        with replacing(output) as temporary:
            temporary.write_bytes(page)
    else:
        from splatdistill.export import writer as exports
        from splatdistill.io import formats
        from splatdistill.rendering.turntable import Turntable
        from splatdistill.scene.gaussians import with_sh_degree

        turntable = Turntable(config.camera, frames=flags.frames, size=flags.size)
        degree = None if flags.taken.sh_degree == "auto" else flags.taken.sh_degree
        up = None
        if client:
            splats, up = splats if degree is None else with_sh_degree(splats, degree), client.axes[kind]
            degree = None  # a .ply is filled up again, as programs ask
        how = formats.Written(up, degree, flags.spz_version)
        style = exports.MeshStyle(flags.triangles, flags.texture)
        output = exports.write(
            output, splats, kind=kind, turntable=turntable, style=style, device=config.device, how=how
        )
    print(output)
    if client:
        note(f"{client.stands}.")
    return DONE


@dataclass(frozen=True)
class Compose:
    """Put several objects into one scene. Each flag takes one value for each source, in their order."""

    sources: Positional[tuple[Path, ...]]
    """Run folders, or files of splats."""
    output: Path
    """File to write; its suffix names the format."""
    translate: Annotated[tuple[str, ...], arg(metavar="X,Y,Z ...")] = ()
    """Where each object goes, world units."""
    rotate: Annotated[tuple[str, ...], arg(metavar="X,Y,Z ...")] = ()
    """How far each is turned about x, then y, then z, degrees."""
    scale: Annotated[tuple[float, ...], arg(metavar="S ...")] = ()
    """How many times larger each becomes."""
    force: bool = False
    """Replace the output if it is there."""
    taken: Taken = AS_IT_SAYS
    """How files are taken; runs keep their frame."""


def compose(flags: Compose) -> int:
    from splatdistill.export import writer as exports
    from splatdistill.io import formats

    kinds.kind_of(flags.output)
    scene = exports.compose(
        [read_splats(source, flags.taken) for source in flags.sources],
        translate=[exports.vector("translate", text) for text in flags.translate],
        rotate=[exports.vector("rotate", text) for text in flags.rotate],
        scale=flags.scale,
    )
    formats.write(new_file(flags.output, force=flags.force), scene)
    print(flags.output)
    return DONE


@dataclass(frozen=True)
class View:
    """Show runs and files of splats in the browser, and begin new runs there, until Ctrl-C."""

    paths: Positional[tuple[Path, ...]] = ()
    """Run folders, folders of run folders, or files of splats; the folder runs if none is given."""
    host: str = "127.0.0.1"
    """Address to listen on. Any but this machine's own makes the page readable for who has the printed token."""
    port: int = 8017
    """Port to listen on; a taken one gives way to the next free one, and 0 takes any."""
    no_browser: bool = False
    """Only print the address."""
    taken: Taken = AS_IT_SAYS
    """How files are taken; runs keep their frame."""


def view(flags: View) -> int:
    from splatdistill.viewer.rundir import home_of  # pyright: ignore[reportMissingImports]
    from splatdistill.viewer.server import serve  # pyright: ignore[reportMissingImports]

    paths = flags.paths or tuple(path for path in (Path("runs"),) if path.exists())
    home = home_of(paths)
    serve(paths, host=flags.host, port=flags.port, browser=not flags.no_browser, taken=flags.taken, home=home)
    return DONE


@dataclass(frozen=True)
class Render:
    """Draw the turntable and the contact sheet of 8 views, or pictures of what given cameras see."""

    source: Positional[Path]
    """Run folder, or file of splats."""
    output: Folder = None
    """Folder to write to; the run folder, or the file's name without its suffix, if not given."""
    frames: int = 60
    """Frames of the turntable."""
    size: int = 256
    """Side of the frames and tiles, pixels."""
    what: Literal["rgb", "depth", "normal", "alpha"] = "rgb"
    """What each picture shows; depth (.npy) is in world units along the view, 0 where nothing is, and normals are along
    the axes of the world.
    """
    camera: File = None
    """transforms.json with the cameras to draw from, in the world of the file; if not given, those of the turntable."""
    pictures: bool = False
    """Write a picture for each frame, and the cameras as transforms.json, in place of the video."""
    renderer: RendererName = "auto"
    """What draws: cpu (ours), gsplat (CUDA only), or auto, which is gsplat on CUDA."""
    light: Annotated[str, arg(metavar="AZ,EL")] = ""
    """Light the splats from this azimuth (0 in front, growing to the right) and elevation, degrees."""
    taken: Taken = AS_IT_SAYS
    """How a file is taken; a run keeps its frame."""


def render(flags: Render) -> int:
    is_run = flags.source.is_dir()
    config = _drawn_as(flags.source, frames=flags.frames, size=flags.size)
    light = _direction(flags.light) if flags.light else None
    given = _given_cameras(flags)
    found = open_splats(flags.source, flags.taken, seen=config.camera.object_radius if given is None else None)
    splats = found.splats
    folder = flags.output or (flags.source if is_run else flags.source.with_suffix(""))
    from splatdistill.rendering.renderer import make_renderer
    from splatdistill.rendering.turntable import Turntable, write_views
    from splatdistill.utils.device import pick_device
    from splatdistill.utils.progress import Progress

    device = pick_device("auto")
    renderer = make_renderer(device, flags.renderer)
    turntable = Turntable(config.camera, frames=flags.frames, size=flags.size, light=light)
    if flags.pictures or given is not None or flags.what != "rgb":
        from splatdistill.rendering.channels import Channel, write_channel

        ours, theirs = placed_cameras(given, turntable.cameras(), up="+y" if is_run or flags.taken.fit else found.up)
        print(*write_channel(folder, Channel(flags.what), renderer, splats.to(device), ours, listed=theirs), sep="\n")
        return DONE
    folder.mkdir(parents=True, exist_ok=True)
    with Progress(total=flags.frames) as progress:
        write_views(folder, renderer, splats.to(device), turntable, progress)
    print_results(folder, "turntable.mp4", "turntable_frames", "contact.png")
    return DONE


def _given_cameras(flags: Render) -> Cameras | None:
    """The cameras of --camera. ValueError where they cannot be drawn, or other flags would move what they look at."""
    if flags.light and (flags.camera is not None or flags.pictures or flags.what != "rgb"):
        raise ValueError("light: only the turntable is lit; leave out --camera, --pictures and --what.")
    if flags.camera is None:
        return None
    if flags.taken.fit:
        raise ValueError("camera: its cameras belong to the place of the splats in the file; leave out --fit.")
    from splatdistill.io import camera_files

    found = camera_files.read(flags.camera)
    for said in found.notes:
        note(f"{flags.camera}: {said}.")
    return found.cameras


@dataclass(frozen=True)
class Eval:
    """Evaluate finished objects: is each prompt read in its object, and how does that compare with real renders?"""

    sources: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...")]
    """Run folders, or .ply files with --prompt."""
    prompt: str = ""
    """Prompt of the .ply files; run folders have their own."""
    prompts: File = None
    """Text file with the prompts to tell the objects' own from, one a line. If not given: the prompts of all runs, and
    a pool of 40 (10 objects in 4 colours) where these are fewer than 10.
    """
    clip: Annotated[str, arg(metavar="FOLDER_OR_ID")] = ""
    """Judge by this CLIP model, a local folder or an id of the hub, instead of the small judge that is shipped."""
    external: bool = False
    """Judge by an ImageNet classifier too, along with real renders of the same things: pip install
    'splatdistill[external]'."""
    output: Path = Path("evaluation")
    """Folder for eval.json and report.html."""
    taken: Taken = AS_IT_SAYS
    """How files are taken; runs keep their frame."""


def evaluate(flags: Eval) -> int:
    subjects = [_eval_object(source, flags.prompt, flags.taken) for source in flags.sources]
    if not subjects:
        raise ValueError("Name at least one run folder or .ply file to evaluate.")
    from splatdistill.embedded.judge import shipped
    from splatdistill.evaluate import report, wording
    from splatdistill.rendering.renderer import make_renderer
    from splatdistill.utils.device import pick_device

    device = pick_device("auto")
    result, pictures = shipped.evaluate(
        [replace(subject, splats=subject.splats.to(device)) for subject in subjects],
        renderer=make_renderer(device),
        prompts=None if flags.prompts is None else wording.read_prompts(flags.prompts),
        clip=flags.clip,
        external=flags.external,
    )
    files = report.write(flags.output, result, pictures)
    print(report.sentence(result), report.summary_line(result["overall"]), sep="\n")
    if flags.external:
        print(report.external_sentence(result["external"]), *report.external_lines(result["objects"]), sep="\n")
    print(*files, sep="\n")
    return DONE


def _check_client(flags: Export, client: Client, kind: str) -> None:
    """ValueError where the program of --for is asked to take what it does not."""
    if kind not in client.axes:
        given = ", ".join(f".{name}" for name in client.axes)
        raise ValueError(f"for: {flags.program} is given {given}, not .{kind}; leave out --format, or --for.")
    if kind == "spz" and flags.spz_version not in client.spz_versions:
        known = " and ".join(map(str, client.spz_versions))
        raise ValueError(f"spz_version: {flags.program} reads versions {known}; leave out --spz-version, or --for.")


def _drawn_as(source: Path, *, frames: int, size: int) -> TrainConfig:
    """The settings of a run, or the defaults for a file, with videos and pictures of this length and size."""
    config = Run(source).settings() if source.is_dir() else TrainConfig()
    config = replace(config, output=replace(config.output, frames=frames, size=size))
    validation.validate(replace(config, prompt=config.prompt or "a file"))
    return config


def _direction(text: str) -> tuple[float, float]:
    """AZ,EL in degrees as radians."""
    try:
        azimuth, elevation = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"light must be AZ,EL in degrees, for example --light -45,30; it is {text!r}.") from error
    if not math.isfinite(azimuth) or not -90 <= elevation <= 90:
        raise ValueError(
            f"light: the elevation must be within -90 and 90 degrees and the azimuth finite; it is {text!r}."
        )
    return math.radians(azimuth), math.radians(elevation)


def _eval_object(source: Path, prompt: str, taken: Assumptions) -> EvalObject:
    """The object of a run folder, or of a file together with a prompt."""
    if not source.exists():
        raise ValueError(f"There is no run folder or .ply file called {source}.")
    is_run = source.is_dir()
    config = Run(source).settings() if is_run else TrainConfig(prompt=prompt)
    if is_run:
        validation.validate(config)
    elif not prompt:
        raise ValueError(f"{source} is a file and has no prompt of its own; give it with --prompt.")
    splats = read_splats(source, taken, seen=config.camera.object_radius)
    from splatdistill.evaluate import EvalObject

    summary = Run(source).summary() if is_run else {}
    return EvalObject(source.resolve().name, config.prompt, splats, config.camera, summary)
