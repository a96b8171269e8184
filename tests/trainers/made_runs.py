"""Made-up results of a reproduction's runs, as the trainers write them: what is concluded from them is known."""

import csv
import json

import numpy as np

NAMES = ["no_sub", "cdm", "axion"]


def estimate(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


class Made:
    """Writes results into the folder `root` of a reproduction."""

    def __init__(self, root, images=300):
        self.root, self.index = root, np.arange(images)
        self.label = np.random.default_rng(0).integers(0, 3, images)

    def probability(self, strength, seed):
        """`[N, 3]` of a classifier that sees the class through noise; `strength` is one for all or `[N]`."""
        noise = np.random.default_rng(seed).normal(size=(len(self.label), 3))
        logits = noise + np.reshape(strength, (-1, 1)) * np.eye(3)[self.label]
        return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

    def accuracy(self, probability):
        return float((probability.argmax(1) == self.label).mean())

    def write(self, name, metrics, summary=None, **arrays):
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        summary = {"images_seen": 6400, "images_distinct": 6400} if summary is None else summary
        (folder / "summary.json").write_text(json.dumps(summary))
        (folder / "metrics.json").write_text(json.dumps({"class_names": NAMES, **metrics}))
        np.savez(folder / "predictions.npz", index=self.index, **arrays)

    def pretrained(self, name, strength, untrained, seed, collapse="", **metrics):
        """A pretraining run, of whose linear probes after and before training the strengths are given."""
        after, before = self.probability(strength, seed), self.probability(untrained, 100 + seed)
        figures = [
            {"linear_accuracy": estimate(self.accuracy(p)), "macro_auc": estimate(0.8), "knn_accuracy": estimate(0.5)}
            for p in (after, before)
        ]
        about = {**figures[0], "untrained": figures[1], "feature_rank": 7.0, "collapsed": bool(collapse)}
        about |= {"collapse": collapse, **metrics}
        self.write(name, about, label=self.label, probability=after, untrained_probability=before)

    def trained(self, name, strength, seed, parameters=7_173_654, **metrics):
        """A model of a table of models, with its curves."""
        probability = self.probability(strength, seed)
        summary = {"parameters": parameters, "steps": 35, "images_per_second": 12.0 + seed}
        summary |= {"images_seen": 280, "images_distinct": 140}
        about = {"accuracy": estimate(self.accuracy(probability)), "macro_auc": estimate(0.9)}
        about |= {"auc": {kind: estimate(0.8) for kind in NAMES}, **metrics}
        self.write(name, about, summary, label=self.label, probability=probability)
        with (self.root / name / "validation.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["step", "macro_auc", "accuracy", "loss"])
            rows.writerows([[0, 0.5, 0.3 + 0.01 * seed, 1.1], [35, 0.9, 0.8, 0.5]])
