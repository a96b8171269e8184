"""What a run leaves behind when it ends: whole or not there, and true of the data that it was trained on."""

import pytest
from safetensors import SafetensorError

from trainers import export, logs
from trainers.errors import OutputError


def test_a_full_disk_during_the_export(train, tmp_path, monkeypatch):
    def no_room(*args, **options):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(export, "save_file", no_room)
    with pytest.raises(OutputError, match=r"No space left.*step_000006 is whole"):
        train()
    assert not list((tmp_path / "run").glob("encoder*")) and not (tmp_path / "run" / "summary.json").exists()


def test_a_json_file_that_cannot_be_written_is_left_as_it_was(tmp_path, monkeypatch):
    def half(path, text):
        with path.open("w") as file:
            file.write(text[:5])
        raise OSError(28, "No space left on device")

    path = tmp_path / "kept.json"
    logs.write_json(path, {"before": 1})
    before = path.read_text()
    monkeypatch.setattr(logs.Path, "write_text", half)
    with pytest.raises(OSError, match="No space"):
        logs.write_json(path, {"after": 2})
    assert path.read_text() == before and [file.name for file in tmp_path.iterdir()] == ["kept.json"]


def test_the_card_of_a_stored_set_claims_no_units_and_names_no_place(train, tmp_path):
    words = (train() / "encoder" / "README.md").read_text()
    assert "in the units of the stored set" in words and "e-/s" not in words
    assert str(tmp_path) not in words and "local-dir:PATH/OF/encoder" in words
