"""docs/python.md in a real kernel of Jupyter's: its examples run as written, and each thing is shown once."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT

EXAMPLES = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.S)
BUSY = """
from runner.records.notebook_screen import NotebookScreen
from time import sleep
screen, frames = NotebookScreen(), []
screen.animate(lambda: frames.append(0) or f"frame {len(frames)}")
while len(frames) < 3:
    sleep(0.01)
"""
LONG = 'run("model=linear", "trainer.epochs=5000", "tracker=none", "hydra.run.dir=long")'


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """The examples, then a run by itself in a cell, and one that is interrupted; all executed."""
    folder = tmp_path_factory.mktemp("notebook")
    cells = [*EXAMPLES, "one", "grid", "grid.report()", BUSY, "screen._frames.stop()", LONG,
             "Run.open('long').status"]  # fmt: skip
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    book.cells[cells.index(LONG)].metadata["tags"] = ["raises-exception"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        client = NotebookClient(book, timeout=200, resources={"metadata": {"path": str(folder)}})
        client.create_kernel_manager()
        client.km.kernel_spec_manager.ensure_native_kernel = True

        def stop():
            trained = folder / "long" / "metrics.jsonl"
            while not (trained.exists() and trained.stat().st_size):
                time.sleep(0.05)
            os.killpg(client.km.provisioner.pid, signal.SIGINT)  # as Jupyter's stop button

        stopper = threading.Thread(target=stop, daemon=True)
        stopper.start()
        client.execute()
    return dict(zip(cells, book.cells, strict=True)), folder, book


def outputs(cell, kind):
    return [output for output in cell.outputs if output.output_type == kind]


def test_every_example_runs(notebook):
    cells, folder, _ = notebook
    failed = [source for source, cell in cells.items() if outputs(cell, "error") and source != LONG]
    assert failed == []
    assert len(EXAMPLES) == 8
    assert [path.name for path in (folder / "outputs").iterdir() if path.name != "multirun"] != []


def test_a_run_is_shown_by_one_output_that_renews_itself(notebook):
    cells, _, _ = notebook
    cell = cells[EXAMPLES[1]]
    assert outputs(cell, "stream") == []
    (progress,) = outputs(cell, "display_data")
    text = progress.data["text/plain"]
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("Epoch")] == ["Epoch 1/2", "Epoch 2/2"]
    assert re.fullmatch(r"completed, test accuracy \d+\.\d\d%, 0:\d\d", text.splitlines()[-1])
    assert "━" not in text, "the progress bar is gone at the end"
    (value,) = outputs(cell, "execute_result")
    assert value.data["text/plain"].startswith("('completed', 0.")


def test_the_line_moves_while_the_cell_is_busy(notebook):
    cells, _, _ = notebook
    (progress,) = outputs(cells[BUSY], "display_data")
    assert int(progress.data["text/plain"].removeprefix("frame ")) >= 3, "the first one is drawn by the cell itself"
    assert outputs(cells[BUSY], "stream") == outputs(cells[BUSY], "error") == []


def test_what_a_cell_ends_with_is_shown_once(notebook):
    cells, _, _ = notebook
    (one,) = outputs(cells["one"], "execute_result")
    assert one.data["text/html"].count("test accuracy") == 1
    (grid,) = outputs(cells["grid"], "execute_result")  # matplotlib may tell of its fonts
    assert grid.data["text/html"].count("4 completed") == 1
    assert grid.data["text/html"].count("test acc ") == 1, "its table"
    assert outputs(cells["grid"], "display_data") == []
    (page,) = outputs(cells["grid.report()"], "execute_result")
    assert page.data["text/html"].startswith("<iframe srcdoc=")
    sweep = cells[next(example for example in EXAMPLES if "grid = " in example)]
    (progress,) = outputs(sweep, "display_data")
    assert progress.data == {}, "what renewed itself leaves no empty room behind"
    printed = [output.text for output in outputs(sweep, "stream") if output.name == "stdout"]
    assert "".join(printed).count("\n") == 1, "the verdict, which the example prints"


def test_an_interrupted_cell_leaves_a_run_that_goes_on(notebook):
    cells, folder, _ = notebook
    (error,) = outputs(cells[LONG], "error")
    assert error.ename == "KeyboardInterrupt"
    said = "".join(output.text for output in outputs(cells[LONG], "stream"))
    assert said == f"interrupted; goes on with: run(resume='{folder}/long')\n"
    (status,) = outputs(cells["Run.open('long').status"], "execute_result")
    assert status.data["text/plain"] == "'interrupted'"


def test_a_script_of_the_examples_is_typed(tmp_path):
    """By mypy --strict, with the package as it is installed; other libraries' types are not its business."""
    (tmp_path / "script.py").write_text("\n".join(EXAMPLES) + "wrong: int = one.status\n")
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\nfollow_imports = skip\n[mypy-runner.*]\nfollow_imports = silent\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "script.py"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert re.fullmatch(r"script\.py:\d+: error: Incompatible types .*\nFound 1 error .*\n", done.stdout), done.stdout
