from splatdistill.api.choices import Config as Config
from splatdistill.api.choices import configure as configure
from splatdistill.api.choices import list_methods as list_methods
from splatdistill.api.choices import list_priors as list_priors
from splatdistill.api.choices import load_prior as load_prior
from splatdistill.api.distilling import Result as Result
from splatdistill.api.distilling import distill as distill
from splatdistill.api.judgement import judge as judge
from splatdistill.api.splats import Splats as Splats
from splatdistill.api.splats import orbit as orbit
from splatdistill.api.steps import Step as Step
from splatdistill.api.steps import Trainer as Trainer
from splatdistill.scene.types import Cameras as Cameras

__version__: str
__all__: list[str]
