"""``folds=3`` is one command for every fold of a run, or of each cell of a grid."""

import pytest

from runner.config.request.request import check_run, read_request
from runner.errors import RequestError


@pytest.fixture
def asked(composer):
    def asked(*lines, multirun=False):
        return read_request(composer, lines, multirun=multirun, check=check_run)

    return asked


def test_a_run_is_every_fold_of_it(asked):
    request = asked("folds=3", "trainer.epochs=1")
    assert request.multirun
    assert [(run.data.fold, run.data.folds) for run in request.configs] == [(0, 3), (1, 3), (2, 3)]
    # A cell's own line starts that cell alone.
    assert not any(line.startswith("folds=") for lines in request.cells_lines for line in lines)
    assert request.varied == {"data.fold"}


def test_each_cell_of_a_grid_has_the_same_folds_and_seeds(asked):
    request = asked("folds=2", "model=linear,mlp", "seeds=2", multirun=True)
    got = sorted((run.model.name, run.data.fold, run.seed) for run in request.configs)
    assert got == [(model, fold, seed) for model in ("linear", "mlp") for fold in (0, 1) for seed in (0, 1)]


def test_folds_of_another_number_or_beside_a_fold_are_refused(asked):
    for lines in (("folds=1",), ("folds=5", "data.fold=1"), ("folds=5", "data.folds=4")):
        with pytest.raises(RequestError) as caught:
            asked(*lines)
        assert caught.value.key == "folds"
