"""The ``Trainer`` of transformers on mixtures, in one process or several."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.utils import get_total_norm
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback

from gnnbridge.models.training.checkpoints import load_weights
from gnnbridge.models.training.split import Part, SplitSteps


class MixtureTrainer(Trainer):
    """A ``Trainer`` whose loss is the weighted sum of the streams' losses.

    Batches start at the step of the run. Of several processes each takes a
    part of every step (:class:`SplitSteps`), and gradients are averaged once
    all streams have gone backward: ``DistributedDataParallel`` expects one
    forward pass before each backward pass, and the same parameters in all.

    Raises:
        NotImplementedError: If weights are to be spread over processes.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(callbacks=[_Progress()], **kwargs)
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            raise NotImplementedError(
                'Expected every process to hold the whole model (got FSDP or '
                'DeepSpeed). Start the processes with torchrun alone.'
            )
        # Labels are counted by stream, and not by the trainer.
        self.model_accepts_loss_kwargs = False
        self._unchecked: Any = 0.0
        if self.args.world_size > 1:
            self._join()

    def get_train_dataloader(self) -> Any:
        """The steps of the mixture from that of the run on."""
        return _StepsToTake(self)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Part],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Returns the loss of one step of a :class:`SplitSteps`."""
        outputs, losses = {}, []
        for name, (weight, batch) in inputs.items():
            if batch is not None:
                outputs[name] = model(**batch)
                losses.append(weight * outputs[name].loss)
        # Other processes may have labels where this one has none.
        none = torch.zeros((), device=self.args.device, requires_grad=True)
        loss = sum(losses) if losses else none
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Computes the gradients of a step, the same in all processes.

        Raises:
            FloatingPointError: If they or the loss are not finite.
        """
        loss: Tensor = super().training_step(*args, **kwargs)
        self._unchecked = self._unchecked + loss
        if self.accelerator.sync_gradients:
            total, self._unchecked = self._unchecked, 0.0
            if self.args.world_size > 1:
                total = self._average_gradients(total)
            self._refuse_infinite(total)
        return loss

    def floating_point_ops(self, inputs: dict[str, Part]) -> int:
        """The number of operations of a step."""
        batches = [batch for _, batch in inputs.values() if batch is not None]
        return sum(
            super(MixtureTrainer, self).floating_point_ops(batch)
            for batch in batches
        )

    def _join(self) -> None:
        """Makes this process one of several that train one model."""
        # Autocast and all else, but no wrapper that averages gradients too.
        self.accelerator.prepare_model = partial(
            self.accelerator.prepare_model, evaluation_mode=True
        )
        for value in self.model.state_dict().values():
            first = value.contiguous()
            distributed.broadcast(first, 0)
            value.copy_(first)
        # Else all would drop the same features of their rows.
        torch.manual_seed(self.args.seed + self.args.process_index)

    def _average_gradients(self, loss: Tensor) -> Tensor:
        """Gives all processes the mean gradients; returns the mean loss."""
        trained = [p for p in self.model.parameters() if p.requires_grad]
        # A parameter that no process has used keeps having no gradient.
        used = torch.tensor(
            [float(p.grad is not None) for p in trained], device=loss.device
        )
        gradients = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in trained
        ]
        flat = torch.cat(
            [loss.view(1), used, *(g.flatten() for g in gradients)]
        )
        distributed.all_reduce(flat)
        flat /= self.args.world_size
        sizes = [1, len(used), *(p.numel() for p in trained)]
        mean_loss, used, *means = flat.split(sizes)
        for p, count, mean in zip(trained, used.tolist(), means, strict=True):
            if count > 0:
                p.grad = mean.view_as(p).to(p.dtype)
        return mean_loss

    def _refuse_infinite(self, loss: Tensor) -> None:
        values = {'loss': loss}
        # A scaler skips the steps whose scaled gradients overflow.
        if self.accelerator.scaler is None:
            values['gradient'] = get_total_norm(
                p.grad for p in self.model.parameters() if p.grad is not None
            )
        for name, value in values.items():
            if not value.isfinite():
                raise FloatingPointError(
                    f'Expected a finite {name} (got {value.item()} at step '
                    f'{self.state.global_step}, counted from 0). Lower the '
                    f'learning rate, or see what is drawn at that step; the '
                    f'last checkpoint is from before it.'
                )

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: Any = None
    ) -> None:
        # The trainer's own drops heads that are saved under other names.
        load_weights(self.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        try:
            super()._load_optimizer_and_scheduler(checkpoint)
        except ValueError as error:
            trained = sum(p.requires_grad for p in self.model.parameters())
            raise ValueError(
                f'Expected the optimizer and the trained parameters of '
                f"'{checkpoint}' (got {trained} parameters to train: {error}). "
                f'Freeze what was frozen there, or use another directory.'
            ) from error

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The first process then says that the checkpoint is complete.
        self.accelerator.wait_for_everyone()


class _Progress(TrainerCallback):
    """Counts the part of a run that is done over all its starts."""

    def on_step_end(
        self, args: Any, state: Any, control: Any, **kwargs: Any
    ) -> None:
        state.epoch = state.global_step / state.max_steps


class _StepsToTake:
    """The steps that a run has still to take, each time they are asked for."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[dict[str, Part]]:
        args, state = self.trainer.args, self.trainer.state
        each = args.gradient_accumulation_steps
        first = state.global_step * each
        loader: DataLoader[Any] = DataLoader(
            SplitSteps(
                self.trainer.train_dataset, args.process_index, args.world_size
            ),
            batch_size=None,
            sampler=range(first, state.max_steps * each),
            collate_fn=_as_drawn,
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            pin_memory=args.dataloader_pin_memory,
        )
        # Loaders draw a seed at their start. Where a run goes on, its random
        # state is that of the checkpoint, from after this draw.
        with torch.random.fork_rng(devices=[], enabled=first > 0):
            return iter(loader)


def _as_drawn(step: Any) -> Any:
    return step
