"""Training on a mixture of streams, by the ``Trainer`` of transformers.

A stream is a function of the step and of a generator, and the generator is
seeded by the run, the stream and the step. A run that was killed therefore
goes on from its last checkpoint as if nothing had happened: the same batches,
and the same weights in the end. Under ``torchrun`` the processes share every
batch, and the run is the same up to rounding.
"""

from gnnbridge.models.training.checkpoints import loss_history as loss_history
from gnnbridge.models.training.mixture import Stream as Stream
from gnnbridge.models.training.mixture import StreamMixture as StreamMixture
from gnnbridge.models.training.run import train as train
from gnnbridge.models.training.trainer import MixtureTrainer as MixtureTrainer
