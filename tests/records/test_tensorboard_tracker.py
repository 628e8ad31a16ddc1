import math

import numpy as np
import pytest

from runner.config.schema import TrackerConfig
from runner.records.console import SilentConsole
from runner.records.metrics import read_metrics
from runner.records.recorder import Recorder
from runner.records.run_file import FinalMetrics, RunRecord
from runner.records.sink import RunInfo, build_sink

pytest.importorskip("tensorboard")


def test_every_figure_is_read_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    warnings = []
    config = TrackerConfig(target="runner.records.tensorboard_sink.TensorBoardSink", name="tensorboard")
    recorder = Recorder(tmp_path, [build_sink(config, warn=warnings.append)], SilentConsole())
    recorder.start(RunInfo(run_dir=tmp_path, name="r", config={"lr": 0.1}), title="", plan_lines=[])
    for step in range(30):
        recorder.write("train", step=step, epoch=step / 10, loss=1 / (step + 1), note="text")
        recorder.write("val", step=step, epoch=step / 10, loss=math.nan if step == 3 else 2.0)
    recorder.close(RunRecord(name="r", status="completed", metrics=FinalMetrics(test_accuracy=0.5)), 0)
    assert warnings == []

    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["train/epoch", "train/loss", "val/epoch", "val/loss"]
    for kind in ("train", "val"):
        records = [record for record in read_metrics(tmp_path / "metrics.jsonl") if record["kind"] == kind]
        for figure in ("loss", "epoch"):
            expected = [(record["step"], record[figure]) for record in records]
            found = [(event.step, event.value) for event in events.Scalars(f"{kind}/{figure}")]
            assert [step for step, _ in found] == [step for step, _ in expected]
            wanted = [math.nan if value is None else value for _, value in expected]
            np.testing.assert_array_equal(np.float32([value for _, value in found]), np.float32(wanted))
    texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
    assert '"lr": 0.1' in texts["config/text_summary"]
    assert '"test_accuracy": 0.5' in texts["summary/text_summary"]
