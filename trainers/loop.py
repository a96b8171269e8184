"""The one training loop: every trainer hands it a task and a source of images.

What happens at step n depends on the seed and n alone: the images (the source's position), the masks and augmentations
(the `key` handed to the task) and the learning rate. So a run that was killed and resumed is the run that was not: on
the same machine with the same number of threads its losses are equal to six decimals. With another number of threads
(OMP_NUM_THREADS, fewer cores to run on) sums are rounded in another order, and losses drift apart.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from trainers.checkpoint import DESCRIPTION, Checkpoint, load_optimizer, load_weights, write_checkpoint
from trainers.command_line import as_recipe, save_config
from trainers.config import TrainerConfig
from trainers.data import Batch, Source, key_of
from trainers.errors import CheckpointError, OutputError, TrainingError
from trainers.logs import Logs
from trainers.optimizer import build_optimizer, set_learning_rate
from trainers.seen import IndexSet
from trainers.timing import Interrupt, SimulationClock, seconds_since_start


class Task(Protocol):
    """What a trainer trains, and how it is judged.

    Attributes:
        model: on the device, bare (not wrapped for several processes).
        about: JSON-able; what a checkpoint says of model, data and transform.
    """

    model: nn.Module
    about: dict[str, Any]

    def loss(self, forward: nn.Module, batch: Batch, key: int) -> Tensor:
        """The scalar loss of a batch; `forward` is the wrapped model, `key` seeds all randomness."""

    def validate(self) -> dict[str, float]:
        """Figures on frozen validation images; called on rank 0 alone."""


@dataclasses.dataclass
class Progress:
    """How far a run is, summed over the sessions that it was resumed in."""

    step: int = 0
    training_seconds: float = 0.0
    simulating_seconds: float = 0.0

    def share_simulating(self) -> float:
        """Fraction of the time in training steps that was spent waiting for images."""
        return self.simulating_seconds / self.training_seconds if self.training_seconds else 0.0


class Loop:
    """Trains a task, logs, validates and writes checkpoints into a folder.

    Args:
        fabric: launched.
        task: what to train.
        source: batches of this rank.
        config: the run's options; `run.steps` may be lowered by `start` to keep `run.minutes`.

    Attributes:
        seen: the images that all ranks trained on, of this and of resumed sessions.
    """

    def __init__(self, fabric: Fabric, task: Task, source: Source, config: TrainerConfig) -> None:
        self.fabric, self.task, self.source, self.config = fabric, task, source, config
        assert config.run.out is not None, "claim_folder comes first"
        self.folder = config.run.out
        self.progress, self.seen = Progress(), IndexSet()
        self.checkpoint: Path | None = None
        self._bare_optimizer = build_optimizer(task.model, config.optimizer, fused=fabric.device.type == "cuda")
        if config.run.compile:
            task.model.compile()
        self._forward, self._optimizer = fabric.setup(task.model, self._bare_optimizer)
        self._clock = SimulationClock(fabric.device)
        self._pending: list[dict[str, Any]] = []
        self._indices: list[Tensor] = []
        self._logs: Logs | None = None

    @property
    def images_per_step(self) -> int:
        """Images that all ranks together take in one step."""
        return self.config.run.batch_size * self.fabric.world_size

    def start(self) -> None:
        """Begins a new run: validates the untrained model, fixes the number of steps, saves the configuration."""
        self._open_logs(up_to_step=-1)
        begin = time.monotonic()
        self._validate()
        validation = time.monotonic() - begin
        if self.config.run.minutes is not None:
            affordable = self._affordable_steps(self.config.run.minutes * 60, validation)
            steps = self.fabric.broadcast(min(self.config.run.steps, affordable))
            self.config = dataclasses.replace(self.config, run=dataclasses.replace(self.config.run, steps=steps))
        if self.fabric.is_global_zero:
            with self.writing():
                save_config(self.config, self.folder)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint.

        Raises:
            CheckpointError: it is of another model, other data or another number of processes, or lacks a part.
        """
        load_weights(self.task.model, checkpoint)
        load_optimizer(self._bare_optimizer, checkpoint.optimizer)
        about = checkpoint.about
        try:
            images_per_step, position = about["images_per_step"], about["stream"]
            self.progress, self.seen = Progress(**about["progress"]), IndexSet(about["seen"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.path} cannot be resumed: its {DESCRIPTION} lacks what a run goes on from, or has it in "
                f"another form ({error!r}); start a new run."
            ) from error
        if images_per_step != self.images_per_step:
            raise CheckpointError(
                f"{checkpoint.path} was trained with {images_per_step} images a step, this run has "
                f"{self.images_per_step}; resume it on as many devices as it was started on."
            )
        try:
            self.source.load_state_dict(position)
        except ValueError as error:
            raise CheckpointError(f"{checkpoint.path} cannot go on with these data: {error}") from error
        self.checkpoint = checkpoint.path
        self._open_logs(up_to_step=self.progress.step)

    def run(self) -> None:
        """Trains to the last step.

        Raises:
            KeyboardInterrupt: Ctrl-C; the step was finished and a checkpoint written.
            TrainingError: the loss is not finite.
            CheckpointError, OutputError: a checkpoint or the logs could not be written.
        """
        run, progress = self.config.run, self.progress
        first = progress.step
        bar = tqdm(
            total=run.steps, initial=first, unit="step", desc="training", dynamic_ncols=True,
            disable=not self.fabric.is_global_zero, mininterval=0.5,
        )  # fmt: skip
        try:
            with Interrupt() as interrupt, bar:
                self._forward.train()
                batches = iter(self.source)
                lap = time.monotonic()
                while progress.step < run.steps:
                    self._train_step(batches)
                    bar.update()
                    step, last = progress.step, progress.step == run.steps
                    validates = last or step % run.validate_every == 0
                    saves = last or step % run.checkpoint_every == 0
                    # several ranks must agree to stop, which they do where they meet anyway
                    stops_at_once = interrupt.asked and self.fabric.world_size == 1
                    if not (validates or saves or stops_at_once or step % run.log_every == 0):
                        continue
                    progress.training_seconds += self._report(bar, lap)
                    stops = self._any_rank(interrupt.asked)
                    if validates:
                        self._validate()
                    if saves or stops:
                        self._save()
                    if stops:
                        raise KeyboardInterrupt
                    lap = time.monotonic()
        finally:
            if self._logs is not None:
                with self.writing():
                    self._logs.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Within it an `OSError`, such as of a full disk, becomes an `OutputError` that says what is saved."""
        try:
            yield
        except OSError as error:
            if self.checkpoint is None:
                saved = "There is no checkpoint yet; make room or mend this, then start the run again."
            else:
                saved = f"{self.checkpoint} is whole; make room or mend this, then go on with --resume {self.folder}."
            raise OutputError(f"the run's output in {self.folder} could not be written: {error}. {saved}") from error

    def _train_step(self, batches: Any) -> None:
        with self._clock:
            batch = next(batches)
        rate = set_learning_rate(self._optimizer, self.config.optimizer, self.progress.step, self.config.run.steps)
        number = self.progress.step * self.fabric.world_size + self.fabric.global_rank
        loss = self.task.loss(self._forward, batch, key_of(self.config.data.seed, "train", number))
        self.fabric.backward(loss)
        if self.config.optimizer.clip is not None:
            self.fabric.clip_gradients(
                self._forward, self._optimizer, max_norm=self.config.optimizer.clip, error_if_nonfinite=False
            )
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.progress.step += 1
        # loss and index stay on the device: reading them at every step would make the GPU wait
        self._indices.append(batch.index)
        self._pending.append({"step": self.progress.step, "loss": loss.detach(), "learning_rate": rate})

    def _report(self, bar: Any, lap: float) -> float:
        """Writes the rows since the last report; returns the seconds that these steps took."""
        of_rank = torch.stack([row["loss"] for row in self._pending])
        losses = cast(Tensor, self.fabric.all_reduce(of_rank, reduce_op="mean")).tolist()  # waits for the device
        indices = cast(Tensor, self.fabric.all_gather(torch.cat(self._indices)))
        self.seen.add(indices.cpu().numpy())
        seconds, simulating = time.monotonic() - lap, self._clock.take()
        self.progress.simulating_seconds += simulating
        for row, loss in zip(self._pending, losses, strict=True):
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss of step {row['step']} is {loss} (seed {self.config.data.seed}, {self.images_per_step} "
                    f"images a step). Lower --optimizer.lr; the last checkpoint is {self.checkpoint}."
                )
            row["loss"] = loss
            row["images"] = row["step"] * self.images_per_step
        rate = len(self._pending) * self.images_per_step / seconds
        share = min(1.0, simulating / seconds)
        for row in self._pending:
            row |= {"images_per_second": round(rate, 1), "share_simulating": round(share, 4)}
        if self._logs is not None:
            with self.writing():
                self._logs.write("train", self._pending)
        bar.set_postfix_str(
            f"loss {losses[-1]:.4f}, {rate:,.0f} images/s, {share:.0%} waiting for images", refresh=False
        )
        self._pending, self._indices = [], []
        return seconds

    def _validate(self) -> None:
        if self._logs is not None:
            self.task.model.eval()
            figures = self.task.validate()
            self.task.model.train()
            with self.writing():
                self._logs.write("validation", [{"step": self.progress.step, **figures}])
        self.fabric.barrier()

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            about = {
                **self.task.about,
                "config": as_recipe(self.config),
                "images_per_step": self.images_per_step,
                "progress": dataclasses.asdict(self.progress),
                "seen": self.seen.intervals(),
                "stream": self.source.state_dict(),
            }
            self.checkpoint = write_checkpoint(
                self.folder, self.progress.step, self.task.model, self._bare_optimizer, about, self.config.run.keep
            )
        self.fabric.barrier()

    def _any_rank(self, asked: bool) -> bool:
        """Whether any rank was interrupted, so that all stop at the same step."""
        if self.fabric.world_size == 1:
            return asked
        votes = self.fabric.all_reduce(torch.tensor(float(asked), device=self.fabric.device), reduce_op="sum")
        return bool(cast(Tensor, votes) > 0)

    def _open_logs(self, up_to_step: int) -> None:
        if self.fabric.is_global_zero:
            with self.writing():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._logs = Logs(self.folder, up_to_step)

    def _affordable_steps(self, budget: float, validation: float) -> int:
        """How many steps fit into the `budget` [s] of the whole run, from the time of a few that are not applied.

        The median is taken of steps after the first, which pay for compilation and for the workers' start, so that it
        does not matter what else the machine does for a moment.
        """
        position, batches, seconds = self.source.state_dict(), iter(self.source), []
        for repeat in range(20):
            begin = time.monotonic()
            loss = self.task.loss(self._forward, next(batches), key_of("timing", repeat))
            self.fabric.backward(loss)
            self._optimizer.zero_grad()
            loss.item()  # waits for the device
            seconds.append(time.monotonic() - begin)
        self.source.load_state_dict(position)
        left = 0.9 * (budget - seconds_since_start()) - 2 * validation
        return max(1, int(left / (statistics.median(seconds[8:]) + validation / self.config.run.validate_every)))
