"""The score of a run's own renders, which VSD and ESD subtract: exact where a prior has it in closed form, else learned
by adapters on the prior's network.
"""

from __future__ import annotations

from splatdistill.priors.base import Prior, VariationalScore
from splatdistill.priors.network import NetworkPrior
from splatdistill.priors.profiled import ProfiledPrior, ProfiledScore


def make_score(
    prior: Prior, prompt: str, *, particles: int, rank: int, lr: float, dropout: float, seed: int
) -> VariationalScore:
    """The score of renders of `particles` objects made for a prompt. rank, lr: of what learns it; dropout: chance of a
    render to come without its camera.

    A prior with a score of its own has a method `particle_score(particles=, lr=, dropout=)`. ValueError, one sentence,
    for one that has neither that nor a network which could learn.
    """
    if isinstance(prior, ProfiledPrior):
        score = make_score(prior.inner, prompt, particles=particles, rank=rank, lr=lr, dropout=dropout, seed=seed)
        return ProfiledScore(score, prior, particles=particles)
    exact = getattr(prior, "particle_score", None)
    if exact is not None:
        return exact(particles=particles, lr=lr, dropout=dropout)
    if not isinstance(prior, NetworkPrior):
        raise ValueError(
            f"method: vsd and esd learn on the prior's network, and the prior {prior.origin} has none; take sds."
        )
    from splatdistill.priors.lora import LoRAScore  # peft loads here only

    return LoRAScore.attach(prior, prompt=prompt, particles=particles, rank=rank, lr=lr, dropout=dropout, seed=seed)
