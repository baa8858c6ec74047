"""A prior of your own: any object with the members of `splatdistill.priors.base.Prior` can teach.

This one has no network. Its images are of one colour, normal about red, so its noise prediction is a formula.

    python examples/04_own_prior.py
"""

import torch

import splatdistill
from splatdistill.priors.base import Condition

RED = torch.tensor([0.7, -0.7, -0.7]).view(3, 1, 1)  # of images in -1..1


class OneColour:
    alphas_cumprod = torch.cumprod(1 - torch.linspace(1e-4, 2e-2, 1000), 0)
    num_views, image_size, dtype, network_engine, origin = 1, 32, "fp32", "torch", "one colour"
    knows_cameras = supports_single_view_cameras = sees_alpha = False

    def begin(self, choice):
        choice.refuse_instances(self.origin)

    def encode(self, rgb):  # [V,H,W,3] in 0..1 to x0 [V,3,H,W]
        return 2 * rgb.permute(0, 3, 1, 2) - 1

    def decode(self, x0):
        return (0.5 * x0 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)

    def embed(self, prompt, cameras, **_):
        return Condition(text=torch.zeros(1, 1, 1), camera=None)

    def predict(self, xt, t, conditions):  # fp32 epsilon like x_t, one for each condition
        kept = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        return [(1 - kept).sqrt() * (xt - kept.sqrt() * RED) / (0.01 * kept + 1 - kept)] * len(conditions)


result = splatdistill.distill("red", prior=OneColour(), method="csd", steps=40, size=32, splats={"num_init": 500})
