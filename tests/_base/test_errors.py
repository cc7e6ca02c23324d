"""Every error and warning says what came, what was expected, why, and what to write instead."""

from __future__ import annotations

import inspect
import re

import pytest
import torch

import torchjac as tj

ERRORS = [c for _, c in inspect.getmembers(tj, inspect.isclass) if issubclass(c, tj.TorchjacError)]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_has_its_parts_as_text_and_as_attributes(error):
    raised = error("three", expected="two", why="because", instead="f(2)")
    assert str(raised) == "three\n  expected: two\n  why: because\n  write instead: f(2)"
    assert (raised.got, raised.expected, raised.why, raised.instead) == ("three", "two", "because", "f(2)")
    assert str(error("three")) == "three"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (tj.InputError, ValueError),
        (tj.OutputError, TypeError),
        (tj.SignatureError, ValueError),
        (tj.PatternError, ValueError),
        (tj.OptionError, ValueError),
        (tj.FileError, ValueError),
        (tj.StalePatternError, RuntimeError),
        (tj.DerivativeMismatchError, RuntimeError),
    ],
)
def test_an_error_is_also_the_builtin_that_one_would_catch(error, builtin):
    assert issubclass(error, builtin)
    assert issubclass(error, tj.TorchjacError)


x, k = torch.rand(3), torch.arange(3)

BAD = {
    "f is a number": (lambda: tj.jacobian(3, x), tj.InputError, "f is a int, not a function\n.*maps tensors"),
    "no arguments": (lambda: tj.jacobian(torch.sin), tj.InputError, "without arguments\n.*at least one tensor"),
    "input is a float": (
        lambda: tj.jacobian(torch.sin, 2.0),
        tj.InputError,
        r"args\[0\] is float 2.0\n  expected: a tensor\n  why: only.*\n.*torch.tensor\(2.0, dtype=torch.float64\)",
    ),
    "input is a list of strings": (
        lambda: tj.jacobian(len, ["a"]),
        tj.InputError,
        r"args\[0\]\[0\] is str 'a'\n(.*\n)*.*leave this argument out",
    ),
    "integer input": (
        lambda: tj.jacobian(torch.sin, k),
        tj.InputError,
        r"args\[0\] is int64\[3\] on cpu\n  expected: a floating point.*\n  why: .* int64 .*\n.*x.double\(\)",
    ),
    "boolean input": (lambda: tj.jacobian(torch.sin, k > 1), tj.InputError, r"is bool\[3\] on cpu"),
    "integer in a tree": (
        lambda: tj.jacobian(lambda p: p["w"], {"w": x, "n": k}),
        tj.InputError,
        r"args\[0\]\['n'\] is int64",
    ),
    "empty input": (
        lambda: tj.jacobian(torch.sin, x[:0]),
        tj.InputError,
        r"the input is empty \(args\[0\]: float32\[0\] on cpu\)\n.*at least one element\n.*nothing to differentiate",
    ),
    "empty tree": (lambda: tj.jacobian(lambda p: x, {}), tj.InputError, r"args\[0\] holds no tensors"),
    "sparse input": (
        lambda: tj.jacobian(torch.sin, torch.eye(3).to_sparse()),
        tj.InputError,
        r"args\[0\] is a tensor of layout torch.sparse_coo\n  expected: a strided",
    ),
    "complex input": (
        lambda: tj.jacobian(torch.sin, x + 0j),
        tj.InputError,
        r"complex64\[3\] on cpu is complex\n  expected: real .*\n.*\n.*view_as_real",
    ),
    "complex output": (
        lambda: tj.jacobian(lambda x: x + 0j, x),
        tj.InputError,
        r"f\(...\): complex64\[3\] .* complex\n",
    ),
    "argnums too large": (
        lambda: tj.jacobian(torch.sin, x, argnums=1),
        tj.InputError,
        r"argnums=1 for a function called with 1 argument\n  expected: .* 0 to 0 \(or.*-1 to -1\)\n.*argnums=0",
    ),
    "argnums too small": (
        lambda: tj.jacobian(torch.add, x, x, argnums=(0, -3)),
        tj.InputError,
        r"argnums=\(0, -3\) .* 2 arguments",
    ),
    "argnums twice": (lambda: tj.jacobian(torch.add, x, x, argnums=(0, -2)), tj.InputError, "each named once"),
    "no argnums": (lambda: tj.jacobian(torch.add, x, x, argnums=()), tj.InputError, r"argnums=\(\)\n.*at least one"),
    "argnums a float": (lambda: tj.jacobian(torch.sin, x, argnums=0.0), tj.InputError, "argnums=0.0 for a function"),
    "output is a float": (
        lambda: tj.jacobian(lambda x: 2.0, x),
        tj.OutputError,
        r"f\(...\) is float 2.0\n  expected: a tensor, or a dict.*\n.*only tensors have.*\n.*no .item\(\)",
    ),
    "output is None": (
        lambda: tj.jacobian(lambda x: None, x),
        tj.OutputError,
        r"f\(...\) is NoneType None",
    ),
    "no output": (lambda: tj.jacobian(lambda x: (), x), tj.OutputError, r"f returned \(\), which holds no tensors"),
    "number among the outputs": (
        lambda: tj.jacobian(lambda x: {"loss": x, "step": 3}, x),
        tj.OutputError,
        r"f\(...\)\['step'\] is int 3\n",
    ),
    "integer output": (
        lambda: tj.jacobian(lambda x: x.argsort(), x),
        tj.OutputError,
        r"f\(...\) is int64\[3\] on cpu\n  expected: a floating.*\n  why: integers .* no derivative.*\n.*has_aux=True",
    ),
    "boolean output": (lambda: tj.jacobian(lambda x: x > 0, x), tj.OutputError, r"is bool\[3\]"),
    "sparse output": (
        lambda: tj.jacobian(lambda x: torch.diag(x).to_sparse(), x),
        tj.OutputError,
        r"layout torch.sparse_coo\n(.*\n)*.*to_dense",
    ),
    "aux without a pair": (
        lambda: tj.jacobian(torch.sin, x, has_aux=True),
        tj.OutputError,
        r"f returned Tensor\n  expected: a pair \(output, aux\).*\n.*return y, aux",
    ),
    "unknown option": (
        lambda: tj.jacobian(torch.sin, x, layuot=torch.sparse_csr),
        tj.OptionError,
        "there is no option 'layuot'\n  expected: one of layout, blocksize, ravel, mode.*\n.*layout=torch.sparse_csr",
    ),
    "unknown mode": (
        lambda: tj.jacobian(torch.sin, x, mode="backward"),
        tj.OptionError,
        "mode='backward' is not an option\n  expected: one of 'auto', 'forward', 'reverse', .*\n.*mode='auto'",
    ),
    "unknown check": (
        lambda: tj.jacobian(torch.sin, x, check=True),
        tj.OptionError,
        "check=True is not .*\n.*'first', 'always', False",
    ),
    "unknown layout": (
        lambda: tj.jacobian(torch.sin, x, layout="csr"),
        tj.OptionError,
        "layout='csr'\n.*torch.strided, torch.sparse_coo",
    ),
    "layout that is none of ours": (
        lambda: tj.jacobian(torch.sin, x, layout=torch.jagged),
        tj.OptionError,
        "layout=torch.jagged",
    ),
    "ravel that is no bool": (
        lambda: tj.jacobian(torch.sin, x, ravel="yes"),
        tj.OptionError,
        "ravel='yes' is not an option\n.*True or False",
    ),
    "has_aux that is no bool": (lambda: tj.jacobian(torch.sin, x, has_aux=None), tj.OptionError, "has_aux=None is not"),
    "unknown word for sparsity": (
        lambda: tj.jacobian(torch.sin, x, sparsity="auto"),
        tj.OptionError,
        "sparsity='auto'\n  expected: 'detect', a SparsityPattern, or None",
    ),
    "sparsity of the wrong shape": (
        lambda: tj.jacobian(torch.sin, x, sparsity=torch.eye(4)),
        tj.PatternError,
        r"sparsity of shape \(4, 4\)\n  expected: shape \(3, 3\): 3 ravelled outputs by 3 .*\n.*\n.*jacobian_sparsity",
    ),
    "sparsity of another kind": (
        lambda: tj.jacobian(torch.sin, x, sparsity=3),
        tj.PatternError,
        "a pattern of type int\n",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_what_is_wrong_and_what_to_write(name):
    call, error, text = BAD[name]
    with pytest.raises(error) as caught:
        call()
    assert re.search(text, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("name", ["integer input", "empty input", "argnums too large", "output is a float"])
def test_sparsity_alone_refuses_the_same(name):
    arguments = {
        "integer input": (torch.sin, k),
        "empty input": (torch.sin, x[:0]),
        "argnums too large": (torch.sin, x, 1),
        "output is a float": (lambda x: 2.0, x),
    }[name]
    _, error, text = BAD[name]
    with pytest.raises(error, match=text):
        tj.jacobian_sparsity(*arguments[:2], argnums=arguments[2] if len(arguments) > 2 else 0)


def test_errors_of_f_itself_come_through():
    def f(x):
        raise KeyError("mine")

    def g(x):
        return x @ torch.rand(7)

    with pytest.raises(KeyError, match="mine"):
        tj.jacobian(f, x)
    with pytest.raises(RuntimeError, match=r"size|shapes"):
        tj.jacobian(g, x)
