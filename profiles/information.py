"""Whether images hold their class: `python -m profiles.information`. Minutes on a CPU.

The partner of an image is the same lens and source without substructure, under other noise. A small network is to say
of each single image which of the two it is. It sees the image, and what the most probable smooth lens leaves of it
(profiles.smooth_fit); from the image alone it would first have to learn how smooth lenses look, to a per cent. It is
judged by systems of the split "test", in bins of their detectability.
"""

from __future__ import annotations

import trainers  # noqa: F401 before torch: it says how torch's threads wait for one another

# isort: split
import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from lensgen.detectability import detectability
from lensgen.draw import draw
from lensgen.errors import require_whole
from lensgen.observation import Noise
from lensgen.rng import RandomSource
from lensgen.simulator import Simulator
from profiles import machine, report
from profiles.plots import draw_information
from profiles.smooth_fit import SmoothModel
from profiles.student import AT_A_TIME, Lessons, Student, bar

BINS = {
    "below 1": (0.0, 1.0),
    "1 to 10": (1.0, 10.0),
    "10 to 100": (10.0, 100.0),
    "above 100": (100.0, float("inf")),
}
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Information:
    """Measures how well images with substructure are told from their partners."""

    preset: str = "model_a"
    """What is simulated: one band, with noise."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of weights and of training images; the test systems are always those of seed 0."""
    lessons: Lessons = field(default_factory=Lessons)
    """How each network learns."""
    screened: int = 8_000
    """Test systems of which those that are judged are taken, by an approximate detectability."""
    test: int = 100
    """Test systems in each bin, at most."""
    out: Path | None = None
    """Results without suffix; profiles/results/information by default."""
    quick: bool = False
    """A few images. Not to be quoted."""

    def __post_init__(self) -> None:
        require_whole("--screened", self.screened, 1, 10**7)
        require_whole("--test", self.test, 1, 10**6)
        for seed in self.seeds:
            require_whole("--seeds", seed, 0, 2**32)


@dataclass(frozen=True)
class TestSet:
    """Indices, exact detectability and class of the systems that are judged, all `[N]`."""

    index: Tensor
    value: Tensor
    label: Tensor


def _in_bin(value: Tensor, name: str) -> Tensor:
    low, high = BINS[name]
    return (value >= low) & (value < high)


def choose_test(config: Information, model: SmoothModel, simulator: Simulator) -> TestSet:
    """The first systems of each bin: screened by an approximate detectability, then binned by the exact one."""
    index = with_substructure(simulator, 0, config.screened)
    screened = [
        model.screen(draw(model.preset, simulator.random, part))
        for part in bar(index.split(AT_A_TIME), "test systems: screen")
    ]
    value = torch.cat(screened)
    index = torch.cat([index[_in_bin(value, name)][: config.test] for name in BINS])
    exact, band = [], model.preset.bands[0]
    for part in bar(index.split(8), "test systems: detectability"):
        systems = draw(model.preset, simulator.random, part)
        noise = Noise(model.preset.recipe, band.detector, systems.exposure[0], simulator.random, part)
        exact.append(detectability(systems, [band.observation], [noise]))
    return TestSet(index, torch.cat(exact), simulator.labels(index))


def with_substructure(simulator: Simulator, first: int, count: int) -> Tensor:
    """The first `count` indices from `first` on whose class is not that without substructure."""
    empty = simulator.class_names.index("no_sub")
    index = torch.arange(first, first + 4 * count)
    return index[simulator.labels(index) != empty][:count]


def measure(config: Information) -> Iterator[dict[str, Any]]:
    """What is known after each seed: the fraction told rightly of each test pair, and what it cost."""
    train = [Simulator(config.preset, seed, "cpu") for seed in config.seeds]
    test = Simulator(config.preset, device="cpu", split="test")
    progress = report.Progress(1 + 4 * len(train))
    progress("test systems")
    begin = time.process_time()
    model = SmoothModel.of(test.preset, RandomSource(0, "train"))
    chosen = choose_test(config, model, test)
    result: dict[str, Any] = {
        "cpu_seconds_choosing": time.process_time() - begin,
        "systems": {
            "index": chosen.index.tolist(),
            "detectability": chosen.value.tolist(),
            "class": [test.class_names[k] for k in chosen.label.tolist()],
        },
        "students": [],
    }
    for simulator in train:
        result["students"].append(taught(Student(config.lessons, model, simulator), test, chosen, progress))
        yield result | {"bins": bins_of(result["systems"], result["students"])}


def taught(student: Student, test: Simulator, chosen: TestSet, progress: Callable[[str], None]) -> dict[str, Any]:
    """What became of a student: accuracy in each bin after each epoch, of each pair at the end, and CPU seconds."""
    seconds: dict[str, float] = {}

    def timed(what: str, work: Callable[[], Any]) -> Any:
        progress(f"seed {student.seed}: {what}")
        begin = time.process_time()
        result = work()
        seconds[what] = time.process_time() - begin
        return result

    lessons = student.lessons
    timed("guess", student.learn_to_guess)
    # none of those that the guess has seen
    index = with_substructure(student.simulator, lessons.guesses, lessons.pairs)
    views = timed("fit", lambda: student.views(student.random, index, "fit"))
    unseen = timed("fit test systems", lambda: student.views(test.random, chosen.index, "fit test systems"))
    epochs = timed("judge", lambda: [(loss, student.right(unseen)) for loss in student.learn_to_judge(views)])
    accuracy = [{name: _mean(right[_in_bin(chosen.value, name)]) for name in BINS} for _, right in epochs]
    report.note(", ".join(f"{name}: {value}" for name, value in accuracy[-1].items()))
    return {
        "seed": student.seed,
        "cpu_seconds": seconds,
        "loss": [loss for loss, _ in epochs],
        "accuracy": accuracy,
        "right": epochs[-1][1].tolist(),
    }


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None


def interval(right: Tensor) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over systems of `right` `[N]`."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(right), (_RESAMPLES, len(right)), generator=generator)
    low, high = right[drawn].mean(1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def bins_of(systems: dict[str, Any], students: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Accuracy, its mean over seeds, in each bin and for each class in it."""
    value = torch.tensor(systems["detectability"])
    right = torch.tensor([student["right"] for student in students])
    found = []
    for name in BINS:
        for kind in ("all", *sorted(set(systems["class"]))):
            rows = _in_bin(value, name) & torch.tensor([kind in ("all", k) for k in systems["class"]])
            if rows.any():
                mean = right[:, rows].mean(0)
                low, high = interval(mean)
                found.append(
                    {
                        "bin": name, "class": kind, "systems": int(rows.sum()), "accuracy": float(mean.mean()),
                        "low": low, "high": high, "of_seeds": right[:, rows].mean(1).tolist(),
                        "median_detectability": float(value[rows].median()),
                    }
                )  # fmt: skip
    return found


def text_of(content: dict[str, Any]) -> str:
    """The table."""
    settings, result = content["settings"], content["result"]
    lessons = settings["lessons"]
    rows = [
        [
            record["bin"], record["class"], f"{record['systems']}", report.number(record["median_detectability"]),
            f"**{record['accuracy']:.3f}**", f"{record['low']:.3f} to {record['high']:.3f}",
            ", ".join(f"{value:.3f}" for value in record["of_seeds"]),
        ]
        for record in result["bins"]
    ]  # fmt: skip
    stages = list(result["students"][0]["cpu_seconds"])
    spent = [[f"{s['seed']}", *(f"{s['cpu_seconds'][stage]:.0f}" for stage in stages)] for s in result["students"]]
    curve = [
        [f"{epoch + 1}", *("" if (v := _mean_at(result, epoch, name)) is None else f"{v:.3f}" for name in BINS)]
        for epoch in range(lessons["epochs"])
    ]
    parts = [
        "# Class information",
        machine.one_line(content["machine"]),
        f"`{settings['preset']}`: single images with substructure are told from their partners, the same lens and "
        "source without it under other noise, by a network that sees the image and what the most probable smooth lens "
        f"leaves of it. Each seed: {lessons['guesses']:,} images teach the guess that smooth fits begin at, "
        f"{lessons['pairs']:,} pairs the judge, {lessons['epochs']} epochs. Both kinds are equally many, so chance "
        "is 0.5. Intervals are 95 %, bootstrapped over systems, of the mean over seeds. Test systems are the first of "
        "each bin in the split test; detectability is chi-square after a refit.",
        report.markdown(["detectability", "class", "systems", "its median", "accuracy", "interval", "each seed"], rows),
        "Accuracy after each epoch of the judge, mean over seeds:",
        report.markdown(["epoch", *BINS], curve),
        f"CPU seconds (all threads together), beside {result['cpu_seconds_choosing']:.0f} for choosing test systems:",
        report.markdown(["seed", *stages], spent),
    ]
    if settings["quick"]:
        parts.append("**A quick look at too few images to be quoted.**")
    return "\n\n".join(parts)


def _mean_at(result: dict[str, Any], epoch: int, name: str) -> float | None:
    values = [student["accuracy"][epoch][name] for student in result["students"]]
    return None if None in values else sum(values) / len(values)


def main(argv: list[str] | None = None) -> None:
    """Measures and reports, as the command line says."""
    config = tyro.cli(Information, args=argv, prog="python -m profiles.information")
    if config.quick:
        config = dataclasses.replace(
            config, seeds=config.seeds[:1], screened=64, test=1,
            lessons=Lessons(guesses=64, pairs=32, epochs=2, fit_steps=1, batch=16, width=4),
        )  # fmt: skip
    out = report.where(config.out, "information")
    about = machine.describe()
    settings = {k: v for k, v in dataclasses.asdict(config).items() if k != "out"}
    settings |= {"threads": torch.get_num_threads()}
    for result in measure(config):  # written after each seed: a run that is cut short leaves what it has
        content = {"machine": about, "settings": settings, "result": result}
        report.write(out, "information", content, text_of(content))
        draw_information(result, list(BINS), out.with_suffix(".png"))


if __name__ == "__main__":
    report.run(main)
