"""A whole run of training, or what is left of it."""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers import PreTrainedModel, TrainingArguments

from gnnbridge.models.training.checkpoints import (
    checkpoints,
    load_weights,
    remove_unfinished,
)
from gnnbridge.models.training.mixture import StreamMixture
from gnnbridge.models.training.trainer import MixtureTrainer

# Settings that are given otherwise or not at all, with what to do instead.
_TAKEN = {
    'output_dir': "give 'directory'",
    'max_steps': "give 'steps'",
    'seed': 'give it to the mixture',
    'per_device_train_batch_size': 'streams draw as many rows as they like',
    'auto_find_batch_size': 'streams draw as many rows as they like',
    'remove_unused_columns': 'streams return what the model takes',
    'ignore_data_skip': 'no step is drawn again',
    'label_smoothing_factor': "the model's own loss is what is trained",
}


def train(
    model: PreTrainedModel,
    mixture: StreamMixture,
    directory: str | Path,
    *,
    steps: int,
    **settings: Any,
) -> PreTrainedModel:
    """Trains a model in place, going on from a checkpoint if there is one.

    A run that was killed at any time goes on from its last complete
    checkpoint, and a finished one is loaded. The model has to be made as
    before, with the same remedies and inserted tokens, which are saved and
    loaded with it; mixture and settings should be the same too.

    Started by ``torchrun``, each of W processes draws the batch of a step
    and takes its rows ``rank::W`` of every stream; gradients are those of one
    process that takes all rows, up to rounding. What the model itself draws,
    such as dropout, is other than in one process. All processes need to see
    the directory, in which the first one writes (each its own random state);
    another number of them can go on with the run. A process group is made
    unless there is one, for all runs of the process, and closed at its end.

    Args:
        model: The model, initialised; on any device but ``'meta'``. It is
            trained on the GPU of the process where there is one.
        mixture: What to train it on; its seed is the seed of the run.
        directory: Where checkpoints go and are looked for. One that was being
            written when a run was killed is removed.
        steps: The number of steps at the end of the whole run.
        **settings: Further ``TrainingArguments``, such as ``learning_rate``,
            ``save_steps`` (200), ``logging_steps`` (50), ``bf16`` or
            ``disable_tqdm``. The learning rate falls as a cosine by default.

    Returns:
        ``model``, in evaluation mode.

    Raises:
        ImportError: If accelerate is not installed.
        TypeError: If this is no model of ``transformers``.
        ValueError: If steps or settings are not as described, the model is on
            ``'meta'``, or the checkpoints are not of this model and run.
        FloatingPointError: If a loss or a gradient is not finite; the last
            checkpoint is from before.
    """
    _check(model, steps, settings)
    found = checkpoints(directory)
    last = max(found, default=0)
    if last > steps:
        raise ValueError(
            f"Expected checkpoints of at most {steps} steps in '{directory}' "
            f"(got '{found[last].name}'). Ask for {last} steps or more, or use "
            f'another directory.'
        )
    Path(directory).mkdir(parents=True, exist_ok=True)
    with _as_it_was(model):
        trainer = _trainer(model, mixture, directory, steps, settings)
        _agree(trainer, last)
        if trainer.args.process_index == 0:
            remove_unfinished(directory)
        trainer.accelerator.wait_for_everyone()
        if last == steps:
            # The trainer would take a step more than it was asked for.
            load_weights(model, found[last])
        else:
            _refuse_without_optimizer(found.get(last))
            trainer.train(
                resume_from_checkpoint=str(found[last]) if last else None
            )
    return model.eval()


def _trainer(
    model: PreTrainedModel,
    mixture: StreamMixture,
    directory: str | Path,
    steps: int,
    settings: Mapping[str, Any],
) -> MixtureTrainer:
    had_group = _has_group()
    arguments = TrainingArguments(
        output_dir=str(directory),
        max_steps=steps,
        per_device_train_batch_size=1,
        remove_unused_columns=False,
        # Steps start where the run stands: there is nothing to skip.
        ignore_data_skip=True,
        seed=mixture.seed,
        **{
            'adam_beta2': 0.98,
            'dataloader_pin_memory': False,
            'logging_nan_inf_filter': False,
            'logging_steps': 50,
            'lr_scheduler_type': 'cosine',
            'report_to': 'none',
            'save_steps': 200,
            'save_total_limit': 1,
            'use_cpu': not torch.cuda.is_available(),
            **settings,
        },
    )
    if _has_group() and not had_group:
        atexit.register(_close_group)
    # One process has one GPU; several GPUs take several processes.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return MixtureTrainer(model=model, args=arguments, train_dataset=mixture)


def _has_group() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _close_group() -> None:
    """Ends the threads of the process group while there is an interpreter.

    One that still holds tensors when Python is gone aborts the process, now
    and then, and with it a run that had been finished (torch 2.13, gloo).
    """
    if _has_group():
        distributed.destroy_process_group()


def _check(model: Any, steps: Any, settings: Mapping[str, Any]) -> None:
    if find_spec('accelerate') is None:
        raise ImportError(
            "Expected the package 'accelerate', by which models are trained "
            "(got none). Install it: pip install 'gnnbridge[train]'."
        )
    if not isinstance(model, PreTrainedModel):
        raise TypeError(
            f'Expected a model of transformers (got '
            f"'{type(model).__name__}'). Build one with from_pretrained or "
            f'from_config.'
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise ValueError(
            f"Expected 'steps' to be at least 1 (got {steps!r}). Give the "
            f'number of steps of the whole run.'
        )
    for name in sorted(settings.keys() & _TAKEN.keys()):
        raise ValueError(
            f"Expected settings without '{name}' (got "
            f'{settings[name]!r}): {_TAKEN[name]}.'
        )
    on_meta = [n for n, p in model.state_dict().items() if p.is_meta]
    if on_meta:
        raise ValueError(
            f"Expected a model with weights (got one with '{on_meta[0]}' on "
            f"the device 'meta'). Load it, or build it outside of "
            f"torch.device('meta')."
        )


def _agree(trainer: MixtureTrainer, last: int) -> None:
    """Raises unless all processes have found the same checkpoint."""
    own = torch.tensor([last], device=trainer.args.device)
    found = trainer.accelerator.gather(own).tolist()
    if len(set(found)) > 1:
        raise ValueError(
            f'Expected all processes to find one last checkpoint (got those '
            f'of steps {found}). Use a directory that all of them see.'
        )


def _refuse_without_optimizer(checkpoint: Path | None) -> None:
    if checkpoint is not None and not (checkpoint / 'optimizer.pt').is_file():
        raise ValueError(
            f"Expected a checkpoint to go on from (got '{checkpoint}', which "
            f'holds the model alone). Train without save_only_model.'
        )


@contextmanager
def _as_it_was(model: PreTrainedModel) -> Iterator[None]:
    """Takes off the model again what is put on it for training."""
    state: dict[str, Any] = model.__dict__
    marks = ('forward', '_original_forward', '_is_accelerate_prepared')
    before = {name: state[name] for name in marks if name in state}
    use_cache = getattr(model.config, 'use_cache', None)
    try:
        yield
    finally:
        for name in marks:
            state.pop(name, None)
        state.update(before)
        if use_cache is not None:
            model.config.use_cache = use_cache
