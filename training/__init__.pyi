from .options import LearnOptions as LearnOptions
from .runs.ensemble import learn_ensemble as learn_ensemble
from .runs.finetune import finetune as finetune
from .runs.learn import learn as learn
