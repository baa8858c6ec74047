"""Every setting of a run as frozen dataclasses, without torch.

Presets and flags fill them; docstrings are the help texts. A method's section is defined in the method's own file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import Ge, Interval
from tyro.conf import Fixed

from splatdistill.config.base import (
    Count,
    Degree,
    FileOnly,
    Fraction,
    NonNegative,
    Positive,
    UpAxis,
    ViewsConfig,
    Whole,
)
from splatdistill.config.registry import Method, load

Stages = tuple[dict[str, Any], ...]
RendererName = Literal["auto", "cpu", "gsplat"]
MAX_THREADS = 1024  # the system refuses to start more in the middle of a run
Elevation = Annotated[float, Interval(ge=-90, le=90)]
FieldOfView = Annotated[float, Interval(gt=0, lt=180)]
Fill = Annotated[float, Interval(gt=0, le=1)]


@dataclass(frozen=True)
class CameraConfig:
    """Cameras of training."""

    kind: FileOnly[Literal["orbit", "outward"]] = "orbit"
    """orbit puts cameras around an object; outward puts them inside a scene, turned outwards, which only a prior
    trained on scenes knows.
    """
    position_jitter: FileOnly[NonNegative] = 0.3
    """How far from the middle of the scene outward cameras stand, world units."""
    elevation_deg: tuple[Elevation, Elevation] = (-5.0, 45.0)
    """Lowest and highest elevation, degrees above the horizon."""
    fovy_deg: tuple[FieldOfView, FieldOfView] = (30.0, 45.0)
    """Narrowest and widest vertical field of view, degrees."""
    fill: tuple[Fill, Fill] = (0.82, 0.92)
    """How much of the frame the object's bounding sphere fills, 0..1."""
    zoom: FileOnly[Annotated[float, Ge(1)]] = 1.0
    """How much longer the focal length is at the same distance: the object grows in the frame, and beyond it."""
    object_radius: FileOnly[Positive] = 1.0
    """Radius of the object's bounding sphere, world units."""
    views_per_group: Count = 4
    """Views of a group share elevation, field of view and timestep; their azimuths are evenly spaced. A
    prior of several views sees them together; with 1 the embedded prior sees each on its own."""


@dataclass(frozen=True)
class SplatsConfig:
    """How the Gaussians begin."""

    num_init: Count = 5000
    """Gaussians in the initial ball or shell."""
    radius: Positive = 0.6
    """Radius of the initial ball or shell, world units."""
    opacity: FileOnly[Annotated[float, Interval(gt=0, lt=1)]] = 0.1
    """Initial opacity, 0..1."""
    sh_degree: Degree = "auto"
    """Degree of the spherical harmonics of colour; auto takes that of the file of --init, and 0 without one."""

    box: FileOnly[tuple[float, ...]] = ()
    """Lowest and highest corner x, y, z, x, y, z of the part of the file of --init that may change, in the world of the
    file (a run's own has +y up); empty is all of it.
    """
    mask: FileOnly[str] = ""
    """A .npy file with true or false for each splat of the file of --init: which may change; empty is all of them."""

    @property
    def own_degree(self) -> int:
        """The degree of splats that come from no file."""
        return 0 if self.sh_degree == "auto" else self.sh_degree


@dataclass(frozen=True)
class OptimConfig:
    """Adam learning rates. Each falls exponentially to `final` times its value over the run."""

    means: NonNegative = 5e-3
    """World units per step."""
    scales: NonNegative = 5e-3
    """Log world units per step."""
    quats: FileOnly[NonNegative] = 5e-3
    opacities: NonNegative = 5e-2
    """Logits per step."""
    sh0: FileOnly[NonNegative] = 1e-2
    shN: FileOnly[NonNegative] = 1.5e-3
    final: FileOnly[Fraction] = 0.1
    """Learning rates at the last step, as a fraction of the first."""


@dataclass(frozen=True)
class DensifyConfig:
    """Grow where the image gradient is large, prune what is not seen."""

    start: Fraction = 0.1
    """First densify event, as a fraction of the steps."""
    stop: Fraction = 0.6
    """Last growth, as a fraction of the steps; afterwards events only prune."""
    interval: Count = 500
    """Steps between events."""
    max_splats: Count = 100000
    """Budget: growth is ranked by gradient and stops here."""
    grow_quantile: Fraction = 0.9
    """Gaussians above this quantile of the mean screen-space gradient grow, 0..1.

    Ignored when `grow_gradient` is above 0.
    """
    grow_gradient: FileOnly[NonNegative] = 0.0
    """Absolute threshold of the mean screen-space gradient norm, per px; 0 uses the quantile."""
    split_scale: FileOnly[NonNegative] = 0.04
    """Gaussians whose largest scale exceeds this split in two, smaller ones are cloned; world units."""
    prune_opacity: FileOnly[Fraction] = 0.02
    """Gaussians below this opacity are removed, 0..1."""
    prune_scale: FileOnly[NonNegative] = 0.5
    """Gaussians whose largest scale exceeds this are removed; world units."""


@dataclass(frozen=True)
class BackgroundConfig:
    """The colour behind the object, drawn once per group of views.

    What is left of probability 1 is a flat random colour.
    """

    white: Fraction = 0.6
    """Probability of white."""
    gray: FileOnly[Fraction] = 0.3
    """Probability of a random gray."""


@dataclass(frozen=True)
class LightConfig:
    """Shading with a point light near every camera, drawn once per group of views: it tells shape from paint.

    What is left of probability 1 is coloured and lit. The defaults are DreamFusion's.
    """

    start: Fraction = 1.0
    """Until this fraction of the steps pictures show plain colours; 1 never lights them."""
    albedo: FileOnly[Fraction] = 0.25
    """Afterwards, probability of plain colours."""
    textureless: FileOnly[Fraction] = 0.375
    """Afterwards, probability of white splats under the light: only their shape shows."""
    ambient: FileOnly[Fraction] = 0.1
    """Light that reaches every side, 0..1; the point light makes up the rest to 1."""
    random_ambient: FileOnly[bool] = False
    """Draw the ambient light between `ambient` and 1."""
    distance: FileOnly[tuple[Positive, Positive]] = (0.8, 1.5)
    """Nearest and furthest the light comes to the middle of the object, world units."""
    spread: FileOnly[NonNegative] = 0.6
    """Standard deviation of the light about the direction of the camera, as a fraction of the camera's distance."""


@dataclass(frozen=True)
class RegularizeConfig:
    """Losses on the splats themselves, summed over pixels or splats, next to the distillation gradient."""

    opacity: NonNegative = 0.0
    """Pulls the alpha image towards 0 or 1: weight of alpha * (1 - alpha)."""
    sparsity: NonNegative = 0.0
    """Weight of the alpha image: removes floaters and fog."""
    scale: NonNegative = 0.0
    """Weight of the squared scale beyond `split_scale` of densify."""
    tv: FileOnly[NonNegative] = 0.0
    """Weight of the squared differences of neighbouring pixels, in colour and depth: smooths."""


@dataclass(frozen=True)
class ReferenceConfig:
    """How the picture of `image` is taken: the whole object, seen at the middle field of view of training."""

    weight: FileOnly[NonNegative] = 1.0
    """How much the splats are held to it; 1 counts as much as one view of a step whose noise has gone."""
    azimuth_deg: FileOnly[Annotated[float, Interval(ge=-180, le=180)]] = 0.0
    """Where its camera stands, degrees: 0 in front, growing to the right."""
    elevation_deg: FileOnly[Elevation] = 15.0
    """How high its camera stands, degrees above the horizon; the first frame of the turntable is seen from as high."""


@dataclass(frozen=True)
class OutputConfig:
    """What a run writes besides its result."""

    log_every: Count = 10
    """Steps between lines of metrics.jsonl."""
    preview_every: Count = 100
    """Steps between pictures in preview/."""
    save_every: Count = 250
    """Steps between checkpoints."""
    keep: FileOnly[Count] = 2
    """Checkpoints kept."""
    size: Count = 256
    """Side of turntable frames and contact-sheet tiles, pixels."""
    frames: Count = 60
    """Frames of the turntable."""


@dataclass(frozen=True)
class CommonConfig:
    """What a run of every method reads, but for `output`."""

    prompt: str = ""
    """What to make, for example "a red armchair"."""
    image: str = ""
    """A picture of it (.png, .jpg or .webp), alone on a transparent or a plain ground. The splats are held to it as its
    camera sees them, and a prior of known models takes the model and the colours from it.
    """
    nearest: bool = False
    """Make the nearest known object where the prior does not know the prompt's; without, the run stops and names the
    nearest three.
    """
    method: MethodName = "sds"
    """The guidance method."""
    seed: Whole = 0
    """Fixes every random draw of the run."""
    # This and what else depends on the teacher is what threestudio-3dgs and gsgen take for Stable Diffusion; a file of
    # configs/priors says it for each family.
    steps: Count = 5000
    """Optimisation steps."""
    num_views: Count = 4
    """Views per step, a multiple of camera.views_per_group."""
    size: Count = 64
    """Side of the training renders, pixels."""
    prior: str = "embedded"
    """The teacher: embedded (what comes with the package), analytic, a folder with a diffusers
    model, MVDream's checkpoint, a family of `splatdistill prior list`, or an id of the Hugging Face hub.
    """
    encoder: str = ""
    """What encodes the pictures in place of the prior's VAE: a folder with an AutoencoderTiny of diffusers, or an id of
    the Hugging Face hub. It must have been made for that VAE, as madebyollin/taesd was for Stable Diffusion 1 and 2:
    the number of channels cannot tell. Empty takes the VAE.
    """
    lora: tuple[str, ...] = ()
    """LoRAs that are added to a diffusion model as the prior: each a file of safetensors, or an id of the Hugging Face
    hub, with :FILE for one of its files, and then :WEIGHT if that is not 1.
    """
    prior_size: Whole = 0
    """Side in pixels of the pictures that a diffusion model as the prior sees; 0 is what it was made for. A smaller one
    takes less memory and time, and the model may know such pictures less well.
    """
    prior_instance: Whole = 0
    """Which of the models that a prior of known models has of the object, from 1; 0 leaves that to the seed."""
    prior_mixture: bool = False
    """Leave all models of the object open, where such a prior otherwise has the seed favour one."""
    max_memory: NonNegative = 0.0
    """Most memory in GB that the run may take on a GPU; 0 is all of it. What does not fit at once is done in parts."""
    init: str = "ball"
    """Where the Gaussians start: ball, shell (the walls of a scene), a FILE of splats (to edit that with another
    prompt) or points:FILE (a coloured point cloud, +z up as Point-E gives it, or a mesh with colours).
    """
    up: UpAxis = "auto"
    """The axis of the file of --init that points up. auto: what the file says; without that -y for splats (+y for .glb)
    and +z for points.
    """
    fit: bool = False
    """Move and scale the splats of --init so that they fill the ball that the cameras look at; points always are."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    renderer: RendererName = "auto"
    """What draws the Gaussians: cpu (ours), gsplat (CUDA only), or auto, which is gsplat on CUDA."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the prior's network; auto takes bf16 on a GPU and where the processor is faster with it. On a GPU,
    what stays in fp32 where the rest is bf16 may round its factors to TF32; with fp32 nothing does.
    """
    network_engine: Literal["auto", "torch", "onnx", "cuda-graph", "compile"] = "auto"
    """What computes the predictions of the embedded prior: torch; onnx (onnxruntime), in fp32 on a CPU; cuda-graph, on
    a GPU, which launches the kernels of torch together; compile, code that torch makes of the network before its first
    answer; or auto: onnx where it is installed and answers as torch does, else torch. Other priors take torch, or
    compile where they are a network.
    """
    threads: Annotated[int, Interval(ge=0, le=MAX_THREADS)] = 0
    """CPU threads; 0 leaves the choice to torch."""
    stages: FileOnly[Fixed[Stages]] = ()
    """Settings that change on the way: a list of settings, each with `start`, a fraction of the steps."""
    camera: CameraConfig = field(default_factory=CameraConfig)
    splats: SplatsConfig = field(default_factory=SplatsConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    densify: DensifyConfig = field(default_factory=DensifyConfig)
    background: BackgroundConfig = field(default_factory=BackgroundConfig)
    light: LightConfig = field(default_factory=LightConfig)
    views: ViewsConfig = field(default_factory=ViewsConfig)
    regularize: RegularizeConfig = field(default_factory=RegularizeConfig)
    reference: ReferenceConfig = field(default_factory=ReferenceConfig)


GUIDANCE: dict[str, type[Method]] = load(taken=[*(field.name for field in fields(CommonConfig)), "output"])
METHODS: tuple[str, ...] = tuple(GUIDANCE)
"""Each has a section in TrainConfig; a run reads the section of its method only."""
if TYPE_CHECKING:
    MethodName = str
    WithMethods = CommonConfig  # sections of methods are read by name
else:
    MethodName = Literal[METHODS]
    WithMethods = make_dataclass(
        "WithMethods",
        [(name, method.Settings, field(default_factory=method.Settings)) for name, method in GUIDANCE.items()],
        bases=(CommonConfig,),
        frozen=True,
    )


@dataclass(frozen=True)
class TrainConfig(WithMethods):
    """One text-to-3D run. What is left out is a default; `presets.load` adds what the family of a prior says.

    Lengths are in world units, where the object lies in a ball of radius 1; sizes in pixels; angles in degrees where a
    name ends in _deg. Renders of a step are [num_views,size,size,3]. Sections are dataclasses of the same kind.

    Raises: nothing here; `configure` and the command line check ranges, a ValueError in one sentence.
    Source: `configs/priors` has each value that depends on the teacher together with where it is from.

    Example:
        >>> import splatdistill
        >>> splatdistill.Config(prompt="a red ball").densify.interval
        500
    """

    output: OutputConfig = field(default_factory=OutputConfig)
