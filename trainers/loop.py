"""The one training loop: every trainer hands it a task and a source of images.

What happens at step n depends on the seed and n alone: the images (the source's position), the masks, dropout and
augmentations (the `draws` handed to the task, keyed by image) and the learning rate. So a run that was killed and
resumed is the run that was not: on the same machine with the same number of threads its losses are equal to six
decimals. With another number of threads (OMP_NUM_THREADS, fewer cores) or of processes sums are rounded in another
order, and losses drift apart slowly.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from trainers.best import Best, better
from trainers.buffers import buffers_kept, share_batch_norms
from trainers.checkpoint import (
    DESCRIPTION,
    Checkpoint,
    checkpoint_path,
    checkpoints,
    load_optimizer,
    load_weights,
    write_checkpoint,
)
from trainers.command_line import as_recipe, save_config
from trainers.config import TrainerConfig
from trainers.data import Batch, Source
from trainers.dropout import KeyedDraws
from trainers.errors import CheckpointError, OutputError, TrainingError
from trainers.failure import require_finite, training_error
from trainers.logs import Logs
from trainers.optimizer import build_optimizer, set_learning_rate
from trainers.recorder import Recorder
from trainers.seen import IndexSet
from trainers.task import Progress, Task
from trainers.timing import Interrupt, SimulationClock, affordable_steps
from trainers.watch import Watch


class Loop:
    """Trains a task, logs, validates and writes checkpoints into a folder.

    Args:
        fabric: launched.
        task: what to train.
        source: batches of this rank.
        config: the run's options; `run.steps` may be lowered by `start` to keep `run.minutes`.

    Attributes:
        seen: the images that all ranks trained on, of this and of resumed sessions.
        checkpoint: the newest; None before the first.

    Raises:
        ConfigError: the model drops something in a way that cannot be keyed by image.
    """

    def __init__(self, fabric: Fabric, task: Task, source: Source, config: TrainerConfig) -> None:
        self.fabric, self.task, self.source, self.config = fabric, task, source, config
        assert config.run.out is not None, "claim_folder comes first"
        self.folder, self.progress, self.seen = config.run.out, Progress(), IndexSet()
        self.checkpoint: Path | None = None
        self._best: Best | None = None
        share_batch_norms(task.model, fabric)
        self._draws = KeyedDraws(task.model, config.data.seed, fabric.device)
        self._bare_optimizer = build_optimizer(task.model, config.optimizer, fused=fabric.device.type == "cuda")
        if config.run.compile:
            task.model.compile()
        self._forward, self._optimizer = fabric.setup(task.model, self._bare_optimizer)
        self._clock = SimulationClock(fabric.device)
        self._recorder = Recorder(fabric)
        self._logs: Logs | None = None
        self._watch = Watch(fabric, self._saved)

    @property
    def images_per_step(self) -> int:
        """Images that all ranks together take in one step."""
        return self.config.run.batch_size * self.fabric.world_size

    @property
    def best(self) -> Path:
        """The checkpoint of the best validation by `Task.selects`; TrainingError if the figure was never finite."""
        if self._best is None:
            raise TrainingError(f"no validation after step 0 had a finite {self.task.selects[1:]}: there is no best.")
        return checkpoint_path(self.folder, self._best.step)

    def start(self) -> None:
        """Begins a new run: validates the untrained model, fixes the number of steps, saves the configuration."""
        self._open_logs(up_to_step=-1)
        with self._watch.guard():
            begin = time.monotonic()
            self._validate()
            validation = time.monotonic() - begin
            steps = asked = self.config.run.steps
            if self.config.run.minutes is not None:
                steps = min(steps, self._affordable_steps(self.config.run.minutes * 60, validation))
            run = dataclasses.replace(self.config.run, steps=self.fabric.broadcast(steps))
            self.config = dataclasses.replace(self.config, run=run)
        if self.fabric.is_global_zero:
            with self.writing():
                save_config(self.config, self.folder)
            if run.steps < asked:
                print(
                    f"{run.steps:,} of {asked:,} steps fit into --minutes {run.minutes:g}, and the learning rate spans "
                    "those; --minutes None takes them all"
                )

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
            # older checkpoints do not say; and one that was deleted since, for a better one, is found again
            best = Best(**about["best"]) if about.get("best") else None
            self._best = best if best and checkpoint_path(self.folder, best.step).is_dir() else None
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
            TrainingError: a loss, a gradient or the weights are not finite.
            CheckpointError, OutputError: a checkpoint or the logs could not be written.
        """
        run, progress = self.config.run, self.progress
        bar = tqdm(
            total=run.steps, initial=progress.step, unit="step", desc="training", dynamic_ncols=True,
            disable=not self.fabric.is_global_zero, mininterval=0.5,
        )  # fmt: skip
        try:
            with Interrupt() as interrupt, bar, self._watch.guard():
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
                    stops = interrupt.asked_anywhere(self.fabric)
                    is_best = validates and self._validate()
                    if saves or stops or is_best:
                        self._save()
                    if stops:
                        self._watch.leave()
                        raise KeyboardInterrupt
                    lap = time.monotonic()
                self._watch.leave()
            self.task.model.eval()  # what is drawn and scored afterwards drops nothing
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

    def _loss(self, batch: Batch, step: int) -> Tensor:
        with self._draws.at(step, batch.index, self.config.run.steps) as draws:
            return self.task.loss(self._forward, batch, draws)

    def _train_step(self, batches: Any) -> None:
        with self._clock:
            batch = next(batches)
        options = self.config.optimizer
        rate = set_learning_rate(self._optimizer, options, self.progress.step, self.config.run.steps)
        loss = self._loss(batch, self.progress.step)
        self.fabric.backward(loss)
        # an infinite bound clips nothing, but the norm is wanted all the same
        norm = self.fabric.clip_gradients(
            self._forward, self._optimizer, max_norm=options.clip or math.inf, error_if_nonfinite=False
        )
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.progress.step += 1
        self._recorder.add(self.progress.step, rate, loss, cast(Tensor, norm), batch)

    def _report(self, bar: Any, lap: float) -> float:
        """Writes the rows since the last report; returns the seconds that these steps took."""
        report = self._recorder.take()  # waits for the device
        self.seen.add(report.index)
        seconds, simulating = time.monotonic() - lap, self._clock.take()
        self.progress.simulating_seconds += simulating
        rate, share = report.index.size / seconds, min(1.0, simulating / seconds)
        if self._logs is not None:
            speed = {"images_per_second": round(rate, 1), "share_simulating": round(share, 4)}
            with self.writing():
                self._logs.write("train", [row | speed for row in report.rows])
        if report.bad is not None:
            self._watch.leave()  # all ranks stop here
            raise training_error(report.bad, self.config.data, self.source, self._newest())
        bar.set_postfix_str(
            f"loss {report.rows[-1]['loss']:.4f}, {rate:,.0f} images/s, {share:.0%} waiting for images", refresh=False
        )
        return seconds

    def _validate(self) -> bool:
        """Writes the figures; whether they are the best of the run. Those of the untrained model never are."""
        best = None
        if self._logs is not None:
            self.task.model.eval()
            # of batches of another size, by which a step would be compiled for batches of any size
            with torch.compiler.set_stance("force_eager"):
                figures = self.task.validate()
            self.task.model.train()
            with self.writing():
                self._logs.write("validation", [{"step": self.progress.step, **figures}])
            best = better(self.task.selects, figures, self.progress.step, self._best)
        best = self.fabric.broadcast(best)  # and the others wait here
        if best is None or self.progress.step == 0:
            return False
        self._best = best
        return True

    def _save(self) -> None:
        require_finite(self.task.model, self.progress.step, self._newest())
        if self.fabric.is_global_zero:
            about = {
                **self.task.about,
                "config": as_recipe(self.config),
                "images_per_step": self.images_per_step,
                "progress": dataclasses.asdict(self.progress),
                "seen": self.seen.intervals(),
                "stream": self.source.state_dict(),
                "best": dataclasses.asdict(self._best) if self._best else None,
            }
            self.checkpoint = write_checkpoint(
                self.folder, self.progress.step, self.task.model, self._bare_optimizer, about, self.config.run.keep
            )
        self.fabric.barrier()

    def _newest(self) -> Path | None:
        """The newest checkpoint, on any rank: `checkpoint` moves on rank 0 alone."""
        return self.checkpoint if self.fabric.is_global_zero else next(reversed(checkpoints(self.folder)), None)

    def _saved(self) -> str:
        if (newest := self._newest()) is None:
            return "There is no checkpoint yet; start the run again."
        return f"{newest} is whole; go on with: python -m trainers.{self.task.about['trainer']} --resume {self.folder}"

    def _open_logs(self, up_to_step: int) -> None:
        if self.fabric.is_global_zero:
            with self.writing():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._logs = Logs(self.folder, up_to_step)

    def _affordable_steps(self, budget: float, validation: float) -> int:
        """How many steps fit into the `budget` [s] of the whole run, from the time of a few that are not applied.

        They are taken as the last step, since late steps may cost more than early ones.
        """
        position, batches = self.source.state_dict(), iter(self.source)

        def step_unapplied() -> None:
            loss = self._loss(next(batches), self.config.run.steps - 1)
            self.fabric.backward(loss)
            self._optimizer.zero_grad()
            loss.item()  # waits for the device

        with buffers_kept(self.task.model):
            steps = affordable_steps(step_unapplied, budget, validation, self.config.run.validate_every)
        self.source.load_state_dict(position)
        return steps
