from __future__ import annotations

import pytest

from lensgen import errors


def test_the_nearest_name_is_suggested():
    error = errors.unknown_name("preset", "modl_a", ["model_b", "model_a", "deeplense_i_legacy"])
    assert str(error) == "unknown preset 'modl_a'. Did you mean 'model_a'? Known: deeplense_i_legacy, model_a, model_b."


def test_no_suggestion_where_nothing_is_near():
    assert "Did you mean" not in str(errors.unknown_name("preset", "zzzzzz", ["model_a"]))


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.ParameterError, ValueError),
        (errors.UnknownNameError, KeyError),
        (errors.PresetError, ValueError),
        (errors.DataError, ValueError),
        (errors.EngineError, RuntimeError),
    ],
)
def test_each_is_also_the_builtin_that_callers_expect(error, builtin):
    assert issubclass(error, builtin) and issubclass(error, errors.LensgenError)


def test_message_of_an_unknown_name_is_not_quoted_twice():
    """KeyError prints the repr of its message."""
    assert str(errors.UnknownNameError("it's 'this'")) == "it's 'this'"
