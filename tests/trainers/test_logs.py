"""Logs that a resumed run goes on with."""

from trainers.logs import Logs, Table, read_table


def test_rows_past_the_checkpoint_are_cut_off(tmp_path):
    table = Table(tmp_path / "a.csv", 0)
    table.append([{"step": step, "loss": step / 2} for step in range(1, 8)])
    table.close()
    table = Table(tmp_path / "a.csv", 4)
    table.append([{"step": 5, "loss": 9.0}])
    table.close()
    rows = read_table(tmp_path / "a.csv")
    assert [row["step"] for row in rows] == ["1", "2", "3", "4", "5"] and rows[-1]["loss"] == "9.0"
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_rows_are_on_file_before_the_table_is_closed(tmp_path):
    table = Table(tmp_path / "a.csv", 0)
    table.append([{"step": 1, "loss": 0.5}])
    assert len(read_table(tmp_path / "a.csv")) == 1


def test_a_row_that_a_kill_cut_short_is_left_out(tmp_path):
    (tmp_path / "a.csv").write_text("step,loss\n1,0.5\n2,0.25\n3,0.1")
    assert [row["step"] for row in read_table(tmp_path / "a.csv")] == ["1", "2"]
    (tmp_path / "a.csv").write_text("step,lo")
    table = Table(tmp_path / "a.csv", 5)
    table.append([{"step": 1, "loss": 0.5}])
    assert read_table(tmp_path / "a.csv") == [{"step": "1", "loss": "0.5"}]


def test_tensorboard_gets_what_the_tables_get(tmp_path):
    logs = Logs(tmp_path, 0)
    logs.write("train", [{"step": 1, "loss": 0.5}])
    logs.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert events.Scalars("train/loss")[0].value == 0.5
