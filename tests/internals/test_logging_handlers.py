"""A caller's handlers survive whoever configures logging, and so do resolvers."""

import io
import logging
import logging.config

import pytest
from omegaconf import OmegaConf

from runner.internals.logging_handlers import handlers_unlisted
from runner.internals.omegaconf_nodes import resolvers


class Handler(logging.StreamHandler):
    closed = False

    def close(self):
        self.closed = True
        super().close()


@pytest.fixture
def handler():
    made = Handler(io.StringIO())
    made.set_name("a caller's")
    yield made
    made.close()


def configure():
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})


def test_handlers_are_not_closed_inside_and_are_found_afterwards(handler):
    with handlers_unlisted():
        configure()
    assert not handler.closed
    configure()
    assert handler.closed, "else it was lost from the lists"


def test_without_it_they_are_closed(handler):
    configure()
    assert handler.closed


def test_resolvers_that_are_put_back_work():
    OmegaConf.register_resolver("of_a_caller", lambda: 7)
    kept = dict(resolvers())
    OmegaConf.clear_resolver("of_a_caller")
    resolvers().update(kept)
    assert OmegaConf.create({"a": "${of_a_caller:}"}).a == 7
    OmegaConf.clear_resolver("of_a_caller")
