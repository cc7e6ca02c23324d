"""FlatFunction: trees in and out, and the signature that a plan holds for."""

from __future__ import annotations

from collections import namedtuple

import pytest
import torch
from internals import FlatFunction, describe
from torch.utils import _pytree as pytree

import torchjac as tj
from torchjac import SignatureError

Pair = namedtuple("Pair", "left right")
x = torch.arange(6.0, dtype=torch.float64).reshape(2, 3)


def bound(f, *args, **options):
    function = FlatFunction(f, args, **options)
    return function, function.bind(args)(*function.leaves(args))


def test_leaves_are_named_and_placed_in_the_ravelled_vector():
    tree = {"a": x, "b": [x[0], Pair(x[1], torch.tensor(1.0))]}
    function = FlatFunction(len, (None, tree), 1)
    assert [leaf.path for leaf in function.inputs] == [
        "args[1]['a']",
        "args[1]['b'][0]",
        "args[1]['b'][1].left",
        "args[1]['b'][1].right",
    ]
    assert [(leaf.start, leaf.stop) for leaf in function.inputs] == [(0, 6), (6, 9), (9, 12), (12, 13)]
    assert function.n == 13
    assert str(function.inputs[1]) == "args[1]['b'][0]: float64[3] on cpu"


def test_the_flat_function_puts_every_leaf_back_into_its_place():
    def f(scale, tree, flag):
        return {"out": (scale * tree["a"].sum() + tree["b"], flag * tree["b"])}

    function, out = bound(f, 2.0, {"a": x, "b": x[0]}, True, argnums=1)
    assert torch.equal(out[0], 2 * x.sum() + x[0])
    assert torch.equal(out[1], x[0])
    assert [leaf.path for leaf in function.outputs] == ["f(...)['out'][0]", "f(...)['out'][1]"]
    assert function.m == 6


def test_several_argnums_keep_the_order_they_were_asked_for_in():
    function, _ = bound(lambda a, b: a.sum() + b, x, x[0], argnums=(1, 0))
    assert [leaf.path for leaf in function.inputs] == ["args[1]", "args[0]"]
    nested = function.nest(lambda out, leaf: leaf.path)
    assert nested == ("args[1]", "args[0]")


def test_blocks_nest_outputs_outside_and_inputs_inside():
    function, _ = bound(lambda p: [p["a"], {"c": p["b"][0]}], {"a": x, "b": (x[0],)})
    nested = function.nest(lambda out, leaf: (out.path[6:], leaf.path[7:]))
    assert nested == [
        {"a": ("[0]", "['a']"), "b": (("[0]", "['b'][0]"),)},
        {"c": {"a": ("[1]['c']", "['a']"), "b": (("[1]['c']", "['b'][0]"),)}},
    ]


def test_the_dtype_holds_every_derivative():
    function, _ = bound(lambda a, b: (a.half(), b), x.float(), x, argnums=(0, 1))
    assert function.dtype is torch.float64


def test_aux_is_left_out_of_the_outputs():
    function, out = bound(lambda x: (x * 2, "anything"), x, has_aux=True)
    assert len(out) == len(function.outputs) == 1


@pytest.mark.parametrize(
    ("value", "text"),
    [(x, "float64[2, 3] on cpu"), (3, "int 3"), ("a" * 99, "str '" + "a" * 55), (None, "NoneType None")],
)
def test_a_value_in_words(value, text):
    assert describe(value) == text


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ((x.T, 1), r"args\[0\]  planned float64\[2, 3\] on cpu +called with float64\[3, 2\] on cpu   <--"),
        ((x.float(), 1), r"args\[0\]  planned float64\[2, 3\] on cpu +called with float32\[2, 3\] on cpu   <--"),
        ((x.to("meta"), 1), r"args\[0\]  planned float64\[2, 3\] on cpu +called with float64\[2, 3\] on meta   <--"),
        ((x, 1.0), r"args\[1\]  planned int +called with float   <--"),
        ((x, x), r"args\[1\]  planned int +called with float64\[2, 3\] on cpu   <--"),
        ((x,), r"args\[1\]  planned int +called with nothing   <--"),
        ((x, 1, x), r"args\[2\]  planned nothing +called with float64"),
        (([x], 1), r"args\[0\]\[0\]  planned nothing +called with float64"),
    ],
)
def test_other_arguments_than_planned_are_shown_side_by_side(args, line):
    plan = tj.plan_jacobian(lambda x, k: k * x, x, 1)
    for call in (plan, plan.values, plan.value_and_jacobian, plan.check):
        with pytest.raises(SignatureError, match=f"not those the plan was made for:(.|\n)*{line}") as caught:
            call(*args)
    assert "plan_jacobian(f, *args) again" in str(caught.value)


def test_only_what_differs_is_pointed_at():
    plan = tj.plan_jacobian(lambda x, y: x * y, x, x)
    with pytest.raises(SignatureError) as caught:
        plan(x, x[0])
    marked = [line for line in str(caught.value).splitlines() if line.endswith("<--")]
    assert len(marked) == 1
    assert "args[1]" in marked[0]


def test_other_values_are_no_other_signature():
    plan = tj.plan_jacobian(lambda x, k, t: k * t * x, x, 2, 0.5)
    assert torch.equal(plan(x + 1, 3, 2.0).reshape(6, 6), 6 * torch.eye(6, dtype=torch.float64))


def test_an_output_that_changes_its_shape_is_refused():
    plan = tj.plan_jacobian(lambda x: x[x > 2.5], x)
    with pytest.raises(
        tj.OutputError, match=r"f returned float64\[1\](.|\n)*float64\[3\] on cpu, as when it was first"
    ):
        plan(x - 2)


def test_an_output_that_changes_its_tree_is_refused():
    plan = tj.plan_jacobian(lambda x, flag: [x] if flag else x, x, True)
    with pytest.raises(tj.OutputError, match=r"as when it was first called"):
        plan(x, False)


@pytest.mark.parametrize("selected", [0, 1])
def test_f_works_in_place_on_copies(selected):
    def f(a, b):
        b.mul_(a)
        return a.add_(b) * b

    args = (x.clone(), x + 1)
    function = FlatFunction(f, args, selected)
    values = [function.call(args) for _ in range(2)]
    assert torch.equal(args[0], x)
    assert torch.equal(args[1], x + 1)
    assert torch.equal(values[0], values[1])


def test_what_is_not_written_to_is_not_copied():
    seen = []
    function = FlatFunction(lambda x: seen.append(x.data_ptr()) or x * 2, (x,))
    for _ in range(3):
        function.call((x,))
    assert seen[1:] == [x.data_ptr()] * 2


def test_trees_registered_by_the_user_work():
    class Box:
        def __init__(self, inside):
            self.inside = inside

    pytree.register_pytree_node(Box, lambda b: ([b.inside], None), lambda c, _: Box(c[0]))
    J = tj.jacobian(lambda b: Box(b.inside * 2), Box(x[0]))
    assert torch.equal(J.inside.inside, 2 * torch.eye(3, dtype=torch.float64))
