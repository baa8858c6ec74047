"""Every setting of a run as frozen dataclasses, without torch.

Presets and flags fill them; docstrings are the help texts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

from tyro.conf import Fixed, arg
from tyro.conf import Suppress as FileOnly  # few people change these: they have no flag and are set in a file

Range = tuple[float, float]
Stages = tuple[dict[str, Any], ...]
Weight = Literal["sigma2", "one", "sigma_over_alpha", "fantasia", "flow"]
Schedule = Literal["uniform", "linear", "sqrt"]
Method = Literal["sds", "vsd", "esd", "csd", "consistency", "multiview"]
RendererName = Literal["auto", "cpu", "gsplat"]
METHODS: tuple[str, ...] = get_args(Method)
"""Each has a section of its own in TrainConfig; a run reads the section of its method only."""
SINGLE_VIEW_METHODS = ("vsd", "esd")
"""They score every view on its own, whatever the prior can see at once."""


@dataclass(frozen=True)
class CameraConfig:
    """Cameras of training. The embedded prior was trained on orbits inside these ranges."""

    kind: FileOnly[Literal["orbit", "inside-out"]] = "orbit"
    """orbit looks at an object from around it; inside-out stands in a scene and looks around, which only a prior
    trained on scenes knows.
    """
    wander: FileOnly[float] = 0.3
    """How far from the middle of the scene inside-out cameras stand, world units."""
    elevation_deg: Range = (-5.0, 45.0)
    """Lowest and highest elevation, degrees above the horizon."""
    fovy_deg: Range = (30.0, 45.0)
    """Narrowest and widest vertical field of view, degrees."""
    fill: Range = (0.82, 0.92)
    """How much of the frame the object's bounding sphere fills, 0..1."""
    object_radius: FileOnly[float] = 1.0
    """Radius of the object's bounding sphere, world units."""
    views_per_group: int = 4
    """Views of a group share elevation, field of view and timestep; their azimuths are evenly spaced. A
    prior of several views sees them together; with 1 the embedded prior sees each on its own."""


@dataclass(frozen=True)
class SplatsConfig:
    """How the Gaussians begin."""

    num_init: int = 5000
    """Gaussians in the initial ball or shell."""
    radius: float = 0.6
    """Radius of the initial ball or shell, world units."""
    opacity: FileOnly[float] = 0.1
    """Initial opacity, 0..1."""
    sh_degree: int = 0
    """Degree of the spherical harmonics of colour, 0..3."""


@dataclass(frozen=True)
class OptimConfig:
    """Adam learning rates. Each falls exponentially to `final` times its value over the run."""

    means: float = 8e-3
    """World units per step."""
    scales: float = 1e-2
    """Log world units per step."""
    quats: FileOnly[float] = 1e-2
    opacities: float = 5e-2
    """Logits per step."""
    sh0: float = 3e-2
    shN: FileOnly[float] = 1.5e-3
    final: FileOnly[float] = 0.1
    """Learning rates at the last step, as a fraction of the first."""


@dataclass(frozen=True)
class DensifyConfig:
    """Grow where the image gradient is large, prune what is not seen."""

    start: float = 0.1
    """First densify event, as a fraction of the steps."""
    stop: float = 0.6
    """Last growth, as a fraction of the steps; afterwards events only prune."""
    interval: int = 50
    """Steps between events."""
    max_splats: int = 10000
    """Budget: growth is ranked by gradient and stops here."""
    grow_quantile: float = 0.9
    """Gaussians above this quantile of the mean screen-space gradient grow, 0..1.

    Ignored when `grow_gradient` is above 0.
    """
    grow_gradient: FileOnly[float] = 0.0
    """Absolute threshold of the mean screen-space gradient norm, per px; 0 uses the quantile."""
    split_scale: FileOnly[float] = 0.04
    """Gaussians whose largest scale exceeds this split in two, smaller ones are cloned; world units."""
    prune_opacity: FileOnly[float] = 0.02
    """Gaussians below this opacity are removed, 0..1."""
    prune_scale: FileOnly[float] = 0.5
    """Gaussians whose largest scale exceeds this are removed; world units."""


@dataclass(frozen=True)
class BackgroundConfig:
    """The colour behind the object, drawn once per group of views.

    What is left of probability 1 is a flat random colour.
    """

    white: float = 0.6
    """Probability of white."""
    gray: FileOnly[float] = 0.3
    """Probability of a random gray."""


@dataclass(frozen=True)
class LightConfig:
    """Shading with a point light near every camera, drawn once per group of views: it tells shape from paint.

    What is left of probability 1 is coloured and lit. The defaults are DreamFusion's.
    """

    start: float = 1.0
    """Until this fraction of the steps pictures show plain colours; 1 never lights them."""
    albedo: FileOnly[float] = 0.25
    """Afterwards, probability of plain colours."""
    textureless: FileOnly[float] = 0.375
    """Afterwards, probability of white splats under the light: only their shape shows."""
    ambient: FileOnly[float] = 0.1
    """Light that reaches every side, 0..1; the point light makes up the rest to 1."""
    soft: FileOnly[bool] = False
    """Draw the ambient light between `ambient` and 1."""
    distance: FileOnly[Range] = (0.8, 1.5)
    """Nearest and furthest the light comes to the middle of the object, world units."""
    spread: FileOnly[float] = 0.6
    """Standard deviation of the light about the direction of the camera, as a fraction of the camera's distance."""


@dataclass(frozen=True)
class ViewsConfig:
    """View words: the side that a camera sees, added to the prompt as in "a red armchair, back view"."""

    words: Literal["auto", "on", "off"] = "auto"
    """Whether prompts name the side; auto does where the method asks for it: sds with Perp-Neg, and vsd and esd where
    the prior cannot be told the camera of a single view.
    """
    token: FileOnly[bool] = True
    """Tell the prior every camera, if it knows any, so that views of a group see each other; without, words alone tell
    the side. VSD and ESD score single views, so they tell it only to a prior that has learned cameras of those.
    """
    front_deg: FileOnly[float] = 45.0
    """Views closer than this to the front or the back have that word, the others are side views; degrees."""
    overhead_deg: FileOnly[float] = 60.0
    """Views from higher than this are overhead views, degrees."""


@dataclass(frozen=True)
class RegularizeConfig:
    """Losses on the splats themselves, summed over pixels or splats, next to the distillation gradient."""

    opacity: float = 0.0
    """Pulls the alpha image towards 0 or 1: weight of alpha * (1 - alpha)."""
    sparsity: float = 0.0
    """Weight of the alpha image: removes floaters and fog."""
    scale: float = 0.0
    """Weight of the squared scale beyond `split_scale` of densify."""
    tv: FileOnly[float] = 0.0
    """Weight of the squared differences of neighbouring pixels, in colour and depth: smooths."""


@dataclass(frozen=True)
class MethodConfig:
    """What every guidance method reads."""

    negative_prompt: str = ""
    """Takes the place of the empty prompt in the unconditional branch."""
    weight: Weight = "sigma2"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13), alpha sigma^2 (fantasia) or 1 + sigma/alpha (flow:
    a flow's own)."""
    clamp: Range = (0.0, 0.0)
    """Largest absolute gradient per element at the first and at the last step; 0 0 leaves it alone."""


@dataclass(frozen=True)
class AnnealedConfig(MethodConfig):
    """Timesteps drawn uniformly from a range whose ends move over the run."""

    t_min: float = 0.02
    """Lowest timestep, as a fraction of the schedule."""
    t_min_first: FileOnly[float] = 0.0
    """Lowest timestep at the first step, from which it falls to t_min; 0 is t_min all along."""
    t_max: float = 0.98
    """Highest timestep at the first step, as a fraction of the schedule."""
    t_max_final: float = 0.5
    """Highest timestep once annealed, as a fraction of the schedule."""
    anneal: float = 1.0
    """Fraction of the steps over which the range moves, 0..1; 0 starts with the final range."""
    schedule: Schedule = "linear"
    """How the range moves: linear, sqrt (fast, then slow) or uniform (it stays as it is at the first step)."""


@dataclass(frozen=True)
class SDSConfig(AnnealedConfig):
    """Score Distillation Sampling (DreamFusion)."""

    guidance_scale: float = 7.5
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    rescale: float = 0.0
    """Pulls the guided score's standard deviation towards the conditional one's, 0..1; 0 leaves it alone."""
    perp_neg: bool = False
    """Perp-Neg: view words in the prompt, and the other views' words as negatives; two more scores per view."""


@dataclass(frozen=True)
class VSDConfig(AnnealedConfig):
    """Variational Score Distillation (ProlificDreamer)."""

    guidance_scale: float = 7.5
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    particles: Annotated[int, arg(aliases=("--particles",))] = 1
    """Objects that are made at once and share the learned score; each is rendered in every step."""
    lora_rank: int = 16
    """Rank of the adapters that turn the prior into the score of the renders."""
    lora_lr: float = 1e-4
    """Learning rate of the adapters and of their camera."""
    camera_dropout: float = 0.1
    """Chance of a render to come without its camera when the adapters learn, 0..1."""


@dataclass(frozen=True)
class ESDConfig(VSDConfig):
    """Entropic Score Distillation: VSD with a part that pushes the views of one object apart."""

    camera_dropout: float = 0.5
    """Chance of a render to come without its camera when the adapters learn, 0..1."""
    entropy: Annotated[float, arg(aliases=("--lambda",))] = 0.5
    """Weight lambda of the score that knows no camera, 0..1.5; 0 is VSD."""


@dataclass(frozen=True)
class CSDConfig(AnnealedConfig):
    """Classifier Score Distillation."""

    negative_weight: float = 0.0
    """Share of the negative prompt against the empty one at the first step, 0..1; without a negative prompt unused."""
    negative_weight_final: float = 1.0
    """Share of the negative prompt at the last step, 0..1."""


@dataclass(frozen=True)
class MultiViewConfig(AnnealedConfig):
    """Multi-view score distillation with MVDream's reconstruction loss."""

    weight: Weight = "sigma_over_alpha"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13, MVDream's) or alpha sigma^2 (fantasia)."""
    t_min_first: FileOnly[float] = 0.98
    """Lowest timestep at the first step, from which it falls to t_min; 0 is t_min all along."""
    anneal: float = 0.8
    """Fraction of the steps over which the range moves, 0..1; 0 starts with the final range."""
    guidance_scale: float = 7.5
    """Classifier-free guidance in the diffusers form eps_u + s (eps_c - eps_u)."""
    rescale: float = 0.5
    """Pulls the reconstruction's standard deviation over a group towards the unguided one's, 0..1."""


@dataclass(frozen=True)
class ConsistencyConfig(MethodConfig):
    """Consistency Distillation Sampling (Consistent3D)."""

    weight: Weight = "one"
    """Weight over timesteps: sigma^2, 1, sigma/alpha (capped at 13) or alpha sigma^2 (fantasia)."""
    guidance_scale: float = 8.0
    """Classifier-free guidance at the first step, in the diffusers form eps_u + s (eps_c - eps_u)."""
    guidance_scale_final: float = 4.0
    """Classifier-free guidance once annealed."""
    t_min: float = 0.1
    """No timestep lies below this, as a fraction of the schedule."""
    t_max: float = 0.98
    """No timestep lies above this, as a fraction of the schedule."""
    target: float = 0.7
    """Where the lower of the two timesteps starts, as a fraction of the schedule."""
    target_final: float = 0.1
    """Where the lower timestep ends, as a fraction of the schedule."""
    gap: float = 0.1
    """Smallest distance of the two timesteps, as a fraction of the schedule."""
    gap_spread: float = 0.2
    """Range of the random part of that distance, as a fraction of the schedule."""
    anneal: float = 1.0
    """Fraction of the steps over which the lower timestep and the guidance fall, 0..1."""
    schedule: Literal["linear", "sqrt"] = "sqrt"
    """How the lower timestep falls: linear, or sqrt (fast, then slow)."""


@dataclass(frozen=True)
class OutputConfig:
    """What a run writes besides its result."""

    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    preview_every: int = 100
    """Steps between pictures in preview/."""
    save_every: int = 250
    """Steps between checkpoints."""
    keep: FileOnly[int] = 2
    """Checkpoints kept."""
    size: int = 256
    """Side of turntable frames and contact-sheet tiles, pixels."""
    frames: int = 60
    """Frames of the turntable."""


@dataclass(frozen=True)
class TrainConfig:
    """One text-to-3D run."""

    prompt: str = ""
    """What to make, for example "a red armchair"."""
    nearest: bool = False
    """Make the nearest known object where the prior does not know the prompt's; without, the run stops and names the
    nearest three.
    """
    method: Method = "sds"
    """The guidance method; picks configs/METHOD.yaml."""
    seed: int = 0
    """Fixes every random draw of the run."""
    steps: int = 600
    """Optimisation steps."""
    num_views: int = 4
    """Views per step, a multiple of camera.views_per_group."""
    size: int = 64
    """Side of the training renders, pixels."""
    prior: str = "embedded"
    """The teacher: embedded, analytic, a folder with a diffusers model, MVDream's checkpoint, a family of `splatdistill
    prior list`, or an id of the Hugging Face hub.
    """
    encoder: str = ""
    """What encodes the pictures in place of the prior's VAE: a folder with an AutoencoderTiny of diffusers, or an id of
    the Hugging Face hub. It must have been made for that VAE, as madebyollin/taesd was for Stable Diffusion 1 and 2:
    the number of channels cannot tell. Empty takes the VAE.
    """
    prior_instance: int = 0
    """Which of the models that a prior of known models has of the object, from 1; 0 leaves that to the seed."""
    prior_mixture: bool = False
    """Leave all models of the object open, where such a prior otherwise has the seed favour one."""
    max_memory: float = 0.0
    """Most memory in GB that the run may take on a GPU; 0 is all of it. What does not fit at once is done in parts."""
    init: str = "ball"
    """Where the Gaussians start: ball, shell (the walls of a scene), ply:FILE (to edit that with another prompt) or
    points:FILE (a coloured point cloud, +z up as Point-E gives it).
    """
    device: Literal["auto", "cpu", "cuda"] = "auto"
    renderer: RendererName = "auto"
    """What draws the Gaussians: cpu (ours), gsplat (CUDA only), or auto, which is gsplat on CUDA."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision of the prior's network; auto takes bf16 on a GPU and where the processor is faster with it. On a GPU,
    what stays in fp32 beside bf16 may round its factors to TF32; with fp32 nothing does.
    """
    network_engine: Literal["auto", "torch", "onnx", "cuda-graph", "compile"] = "auto"
    """What computes the predictions of the embedded prior: torch; onnx (onnxruntime), in fp32 on a CPU; cuda-graph, on
    a GPU, which launches the kernels of torch together; compile, code that torch makes of the network before its first
    answer; or auto: onnx where it is installed and answers as torch does, else torch. Other priors take torch, or
    compile where they are a network.
    """
    threads: int = 0
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
    sds: SDSConfig = field(default_factory=SDSConfig)
    vsd: VSDConfig = field(default_factory=VSDConfig)
    esd: ESDConfig = field(default_factory=ESDConfig)
    csd: CSDConfig = field(default_factory=CSDConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    multiview: MultiViewConfig = field(default_factory=MultiViewConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
