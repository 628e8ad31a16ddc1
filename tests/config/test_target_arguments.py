"""The arguments that a target takes by name, also those that it hands on to its base."""

import torch

from runner.config.untrusted.target_arguments import target_arguments


class HandingOn(torch.optim.Adam):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


class WithItsOwn(HandingOn):
    def __init__(self, params, mine, *, extra=1, **kwargs):
        super().__init__(params, **kwargs)


def test_a_function_names_its_own():
    found = target_arguments(lambda first, *args, second=1: None)
    assert (list(found.named), found.required, found.takes_others) == (["first", "second"], ("first",), False)


def test_a_class_with_keyword_arguments_takes_those_of_its_bases():
    adam = target_arguments(torch.optim.Adam)
    assert not adam.takes_others
    handing_on = target_arguments(HandingOn)
    assert (set(handing_on.named), handing_on.required, handing_on.takes_others) == (set(adam.named), (), True)
    own = target_arguments(WithItsOwn)
    assert set(own.named) == {*adam.named, "mine", "extra"}
    assert own.required == ("params", "mine")


def test_classes_written_in_c_name_none():
    assert target_arguments(type("Own", (dict,), {"__init__": lambda self, **kwargs: None})).takes_others
