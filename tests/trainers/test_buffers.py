"""Batch norms on several processes, and under steps that only take the time."""

from types import SimpleNamespace

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from trainers import classify
from trainers.buffers import buffers_kept, share_batch_norms
from trainers.loop import Loop
from trainers.models.classifier import build_classifier


def processes(count, device):
    return SimpleNamespace(world_size=count, device=torch.device(device), is_global_zero=True)


def test_batch_norms_are_of_all_gpus_with_the_same_weights_and_activations():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Sequential(BatchNormAct2d(4)))
    before, weights = model.state_dict(), list(model.parameters())
    share_batch_norms(model, processes(1, "cuda"))
    assert isinstance(model[1], nn.BatchNorm2d)
    share_batch_norms(model, processes(2, "cuda"))
    assert isinstance(model[1], nn.SyncBatchNorm) and isinstance(model[2][0], nn.SyncBatchNorm)
    assert isinstance(model[2][0].act, nn.ReLU) and list(model.state_dict()) == list(before)
    assert all(one is two for one, two in zip(weights, model.parameters(), strict=True))


def test_on_cpus_a_warning_says_what_batch_norms_do(recwarn):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    with pytest.warns(UserWarning, match=r"batch norms \(1, \.\.\.\).*differ from those of one process"):
        share_batch_norms(model, processes(2, "cpu"))
    recwarn.clear()
    share_batch_norms(model, processes(1, "cpu"))
    share_batch_norms(model.eval(), processes(2, "cpu"))
    # a frozen encoder's stand still
    description = {"name": "cnn", "image_shape": [1, 16, 16], "classes": 3, "vit": {}, "method": "linear"}
    share_batch_norms(build_classifier(description).train(), processes(2, "cpu"))
    assert not recwarn.list


def test_buffers_are_put_back():
    model = nn.BatchNorm1d(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with buffers_kept(model):
        model(torch.rand(5, 3))
        assert not torch.equal(model.running_mean, before["running_mean"])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_time_limit_leaves_the_batch_norms_of_the_untrained_model(stored, tiny, tmp_path, monkeypatch):
    states = []
    monkeypatch.setattr(Loop, "run", lambda self: states.append(self.task.model.state_dict()) or self._save())
    flags = [flag for flag in tiny if not flag.startswith(("--decoder", "--minutes"))]
    for minutes in ("None", "5"):
        out = tmp_path / minutes
        with pytest.raises(Exception, match="there is no best"):
            classify.main([*flags, "--model=cnn", f"--minutes={minutes}", f"--data={stored}", f"--out={out}"])
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert int(states[1]["layers.2.num_batches_tracked"]) == 0
