"""Keys that are typed twice."""

import pytest

from runner.config.words.override_lines import warn_repeated


@pytest.mark.parametrize(("lines", "told"), [
    (["seed=1", "optimizer.lr=0.1", "optimizer.lr=0.2"],
     "note: optimizer.lr is given as 0.1 and then as 0.2, which counts"
     " (optimizer.lr=0.1,0.2 with --multirun runs each)\n"),
    (["hydra.run.dir=a", "hydra.run.dir=b"], "note: hydra.run.dir is given as a and then as b, which counts\n"),
    (["seed=3", "seed=3"], ""),
    (["~trainer.steps", "+trainer.steps=3"], ""),
    (["precision=fp16", "precision.init_scale=8"], ""),
])  # fmt: skip
def test_two_values_of_a_key_are_told_and_nothing_else(lines, told, capsys):
    warn_repeated(lines, swept=True)
    out, err = capsys.readouterr()
    assert (out, err) == ("", told)


def test_the_last_counts(composer):
    # what a person reads must be what the run takes
    assert composer.compose(["optimizer.lr=0.1", "optimizer.lr=0.2"]).optimizer.lr == 0.2
