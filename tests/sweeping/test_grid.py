"""The cells of a grid, their order and their seeds."""

import pytest

from runner.config.request.request import cells_of, read_request
from runner.config.rules.rules import check


def cells(composer, *lines, **settings):
    return cells_of(composer.parse(lines), **settings)


def test_the_last_value_moves_first(composer):
    found = cells(composer, "precision=fp32,bf16", "trainer=dp", "optimizer.lr=1,2")
    assert [cell[2] for cell in found] == ["optimizer.lr=1", "optimizer.lr=2"] * 2
    assert [cell[0] for cell in found] == ["precision=fp32"] * 2 + ["precision=bf16"] * 2
    assert {cell[1] for cell in found} == {"trainer=dp"}


def test_every_cell_has_the_same_seeds_and_more_of_them_come_last(composer):
    lines = ("optimizer.lr=1,2", "seed=3")
    two = cells(composer, *lines, seeds=(3, 4))
    assert two == [[f"optimizer.lr={lr}", f"seed={seed}"] for seed in (3, 4) for lr in (1, 2)]
    assert cells(composer, *lines, seeds=(3, 4, 5))[: len(two)] == two


def test_what_stands_beside_a_grid_has_what_all_have(composer):
    beside = [["trainer=standard", "privacy.epsilon=null"]]
    found = cells(composer, "trainer=dp", "privacy.epsilon=1,2", "model=mlp", beside=beside, seeds=(0,))
    assert found[-1] == ["model=mlp", "trainer=standard", "privacy.epsilon=null", "seed=0"]
    assert len(found) == 3


@pytest.mark.parametrize(
    ("lines", "name", "varied"),
    [
        (["seed=3", "precision=fp32,bf16"], "precision=bf16", {"precision"}),
        (["sweep=precision", "seed=3", "seeds=1"], "precision=bf16", {"precision"}),
        (["sweep=precision", "precision=bf16", "seeds=2"], "seed=1", {"seed"}),
    ],
)
def test_a_cell_is_named_for_what_is_its_own(composer, lines, name, varied):
    from runner.search.cell_context import find_context
    from runner.sweeping.driver import SweepDriver

    request = read_request(composer, lines, multirun=True, check=check)
    assert request.varied == varied
    sweep = SweepDriver(composer=composer, request=request, check=check, find_context=find_context)
    overrides = [*(line for line in lines if line.partition("=")[0] not in varied), *name.split()]
    assert sweep.name_of(overrides) == name
