"""Options and the words they take."""

from __future__ import annotations

from dataclasses import fields
from typing import Literal, get_args

import pytest
import torch

from torchjac import OptionError
from torchjac._base.words import Check, Mode, choose
from torchjac._plan.options import JacobianOptions, Options


def test_the_typed_keywords_are_the_fields_of_options():
    assert list(JacobianOptions.__annotations__) == [field.name for field in fields(Options)]


def test_every_word_is_taken():
    for mode in get_args(Mode):
        assert Options.parse({"mode": mode}).mode == mode
    for check in get_args(Check):
        assert Options.parse({"check": check}).check == check


def test_defaults():
    options = Options.parse({})
    assert (options.layout, options.ravel, options.mode) == (torch.strided, False, "auto")
    assert (options.sparsity, options.has_aux, options.check) == ("detect", False, "first")


def test_a_pattern_is_not_compared_with_a_word():
    matrix = torch.eye(2)
    assert Options.parse({"sparsity": matrix}).sparsity is matrix


@pytest.mark.parametrize("value", ["a", False])
def test_choose_takes_the_words(value):
    choose("option", value, Literal["a", False])


@pytest.mark.parametrize("value", ["b", 0, None, "", torch.ones(2)])
def test_choose_refuses_everything_else(value):
    with pytest.raises(
        OptionError, match=r"is not an option\n  expected: one of 'a', False\n  write instead: option='a'"
    ):
        choose("option", value, Literal["a", False])


def test_a_name_that_is_like_no_option_may_be_an_argument_of_f():
    with pytest.raises(OptionError) as caught:
        Options.parse({"zzz": 1})
    assert caught.value.instead == "functools.partial(f, zzz=...) instead of f, if zzz is an argument of f"
