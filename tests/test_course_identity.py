"""course/identity.py: functions that may give other results have other texts, and each has the same in every run."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import PixelFunction
from torch import nn

from course.explainer import ATTRIBUTIONS, attribution_method
from course.identity import identity
from utils import PROJECT_ROOT


def times(factor):
    """A function that closes over its argument."""
    return lambda x: x * factor


def decorated(factor):
    """The same behind a decorator of torch."""

    @torch.no_grad()
    def function(x):
        return x * factor

    return function


def scaled(factor):
    """A decorator with an argument."""

    def decorate(function):
        @functools.wraps(function)
        def wrapper(x):
            return factor * function(x)

        return wrapper

    return decorate


class Times:
    """A callable object."""

    def __init__(self, factor) -> None:
        self.factor = factor

    def __call__(self, x):
        return x * self.factor


def linear(weight: float, dtype: torch.dtype = torch.float32) -> nn.Module:
    """One weight."""
    layer = nn.Linear(1, 1, bias=False).to(dtype)
    nn.init.constant_(layer.weight, weight)
    return layer


VALUES = [0, 1, 1.0, True, "1", None, (1, 2), [1, 2], (2, 1), {"a": 1}, {"a": 2}, {1, 2}, torch.float32, torch.ones(2),
          torch.ones(2, dtype=torch.float64), torch.zeros(2), np.arange(3), np.ones(3), range(3), ...]  # fmt: skip
FUNCTIONS = {
    "code": [lambda x: x + 1, lambda x: x + 2, lambda x: x - 1, lambda x: x],
    "name looked up": [lambda x: x.sin(), lambda x: x.cos()],
    "inside": [lambda x: [y + 1 for y in x], lambda x: [y + 2 for y in x], lambda x: (lambda y: y + 1)(x)],
    "closure": [times(value) for value in VALUES], "object": [Times(value) for value in VALUES],
    "method": [Times(1).__call__, Times(2).__call__], "decorated": [decorated(1), decorated(2)],
    "decorator": [scaled(1)(abs), scaled(2)(abs), scaled(1)(round)],
    "partial": [functools.partial(times, 1), functools.partial(times, 2), functools.partial(times, factor=1),
                functools.partial(decorated, 1)],
    "cached": [functools.cache(times(1)), functools.cache(times(2))],
    "network": [times(linear(1.0)), times(linear(2.0)), times(linear(1.0, torch.float64)), times(nn.ReLU())],
    "network of a formula": [times(PixelFunction(formula)) for formula in (None, lambda x: x + 1, lambda x: x + 2)],
    "built in": [torch.sin, torch.cos, torch.Tensor.sin, np.maximum, np.minimum, min],
}  # fmt: skip


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_others_have_other_texts(kind):
    texts = [identity(function) for function in FUNCTIONS[kind]]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("make", [times, decorated, Times, lambda factor: functools.partial(times, factor)])
def test_the_same_made_twice_has_the_same_text(make):
    for value in VALUES:
        assert identity(make(value)) == identity(make(value))


def test_a_function_may_refer_to_itself():
    def countdown(n):
        return countdown(n - 1) if n else 0

    assert "itself" in identity(countdown)


def test_the_courses_methods_are_told_apart():
    texts = {identity(attribution_method(name)) for name in ATTRIBUTIONS}
    assert len(texts) == len(ATTRIBUTIONS)


def test_what_cannot_be_read_is_refused_in_one_sentence():
    for value in (torch.Generator(), iter([1]), object()):
        with pytest.raises(ValueError, match=f"uses a {type(value).__name__}, whose value cannot be read"):
            identity(times(value))


@pytest.mark.slow
def test_a_script_counts_its_global_values_and_each_run_gives_the_same():
    """Sets of texts have another order in each run."""
    code = f"""
import sys; sys.path.insert(0, {str(PROJECT_ROOT)!r})
from course.identity import identity
LEVEL, OTHER = 0.1, 5
def helper(x): return x * LEVEL
method = lambda x: helper(x) in {{"a", "b", "c", "d", "e"}}
first = identity(method); LEVEL = 0.2; second = identity(method); OTHER = 6; third = identity(method)
assert first != second == third
print(first)
"""
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            for _ in range(2)]  # fmt: skip
    assert runs[0] == runs[1] != ""
