"""A playground in two dimensions: where methods move 64 points under the exact score of three Gaussians.

python examples/09_playground_2d.py"""

import os

import matplotlib.pyplot as plt
import torch

import splatdistill
from splatdistill.config.schema import GUIDANCE
from splatdistill.guidance import make_guidance
from splatdistill.priors.analytic import AnalyticPrior, Gaussian

STEPS = 5 if "SPLATDISTILL_SMOKE" in os.environ else 400
MODES, STD = torch.tensor([[-1.0, -0.5], [1.0, -0.5], [0.0, 1.0]]).view(3, 1, 2, 1, 1), 0.2


class Mixture:
    def epsilon(self, x, alpha, sigma):  # [V,2,1,1]: -sigma times the score of the noised density
        variance, away = alpha**2 * STD**2 + sigma**2, x - alpha * MODES
        share = torch.softmax(-away.square().sum((2, 3, 4), keepdim=True) / (2 * variance), 0)
        return sigma * (share * away).sum(0) / variance


wide, cameras = Gaussian(torch.zeros(2, 1, 1), 1.2), splatdistill.orbit([0.0] * 64)
prior = AnalyticPrior(lambda prompt, _: Mixture() if prompt else wide, image_size=1)
methods = [m for m, kind in GUIDANCE.items() if not (kind.needs_source or kind.needs_surface or kind.fits_views)]
figure, axes = plt.subplots(-(-len(methods) // 6), 6, figsize=(18, 6))
for axis, method in zip(axes.flat, methods, strict=False):
    more = {method: {"particles": 64}} if method in ("vsd", "esd") else {}
    guidance = make_guidance(splatdistill.configure("x", method=method, prior="analytic", steps=STEPS, **more))
    guidance.bind(prior)
    x = 1.5 * torch.randn(64, 2, 1, 1, generator=torch.Generator().manual_seed(0))  # the points
    for step in range(STEPS):
        found = guidance.residual(guidance.noise(x, cameras, prior, seed=0, step=step), prior, step=step)
        x = x - 0.05 * torch.einsum("kv,kvcij->vcij", found.coef * found.weight, torch.stack(found.terms))
    axis.plot(*x[:, :, 0, 0].T, "b.", *MODES[:, 0, :, 0, 0].T, "rx")
    axis.set(title=method, xlim=(-2.5, 2.5), ylim=(-2, 2.5))
figure.savefig("playground.png", dpi=120, bbox_inches="tight")
