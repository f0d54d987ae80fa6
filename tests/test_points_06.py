"""Exercises of lesson 06, with their points."""

import pytest
import torch
import torch.nn.functional as F
from conftest import assert_tensor, drawing, factor, hook_count, kept, seeded, shuffled, unchanged
from torch import nn

EXERCISES = {  # title, difficulty, minutes, when
    "6.1": ("Two rules", 1, 10, "in class"),
    "6.2": ("One hook", 2, 15, "assign"),
    "6.3": ("What ran?", 2, 15, "assign"),
    "6.4": ("Three units on paper", 2, 15, "in class"),
    "6.5": ("Break an assumption", 2, 15, "discuss"),
    "6.6": ("Three gates", 1, 3, "in class"),
    "6.7": ("Another unit", 1, 2, "in class"),
    "6.8": ("Sharp and steady", 2, 3, "in class"),
}

R = torch.tensor([[3.0, -1.0, 2.0, -4.0, 0.0, 5.0]])
X = torch.tensor([[1.0, 2.0, -3.0, -1.0, 1.0, 0.0]])


def three_units() -> nn.Module:
    """S = (1, -2, 3) . ReLU(W x): for x = (1, 2) the hidden inputs are (3, 1, -1)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1, bias=False)).eval()
    model[1].weight = nn.Parameter(torch.tensor([[1.0, 1.0], [1.0, 0.0], [1.0, -1.0]]))
    model[3].weight = nn.Parameter(torch.tensor([[1.0, -2.0, 3.0]]))
    return model


IMAGE = torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)


def deep(inplace: bool = False, shared: bool = False) -> nn.Module:
    """Two ReLUs between three convolutions, float64; `shared`: one and the same ReLU twice."""
    with torch.random.fork_rng():
        torch.manual_seed(seeded(2))
        first, second = nn.ReLU(inplace=inplace), nn.ReLU(inplace=inplace)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), first, nn.Conv2d(4, 4, 3), first if shared else second,
                              nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())  # fmt: skip
    return model.double().eval()


def slow_guided(model: nn.Module, images: torch.Tensor, target: int) -> torch.Tensor:
    """Guided backpropagation through deep(), layer by layer, each piece with autograd and each ReLU by hand."""
    inputs = [images]
    with torch.no_grad():
        for layer in model:
            inputs.append(layer(inputs[-1].clone()))
    signal = torch.zeros_like(inputs[-1])
    signal[:, target] = 1
    for layer, x in reversed(list(zip(model, inputs[:-1], strict=True))):
        if isinstance(layer, nn.ReLU):
            signal = torch.where((signal > 0) & (x > 0), signal, 0)
        else:
            x = x.clone().requires_grad_()
            (signal,) = torch.autograd.grad(layer(x), x, signal)
    return signal


@pytest.mark.points(1, exercise="6.1")
def test_deconvnet_rule(lesson):
    """Here only the signal that comes from above decides. What passes, what is stopped?"""
    assert_tensor(lesson.deconvnet_rule(R, X), torch.tensor([[3.0, 0, 2, 0, 0, 5]]))
    signal, x = torch.randn(2, 2, 4, 5, generator=drawing(0))
    assert_tensor(lesson.deconvnet_rule(signal, x), signal.clamp(min=0))


@pytest.mark.points(1, exercise="6.1")
def test_guided_rule(lesson):
    """Two gates: one looks at the signal from above, the other at what went into the ReLU. Open is open: x > 0."""
    assert_tensor(lesson.guided_rule(R, X), torch.tensor([[3.0, 0, 0, 0, 0, 0]]))
    signal, x = torch.randn(2, 2, 4, 5, generator=drawing(1))
    for strength in (1, 1e-9):
        found = lesson.guided_rule(signal, strength * x)
        assert_tensor(found, torch.where((x > 0) & (signal > 0), signal, 0))


@pytest.mark.points(1, exercise="6.1")
def test_rules_leave_their_arguments_and_keep_the_signal(lesson):
    """What passes, passes as it is: ten times the signal, ten times the result. The arguments stay."""
    signal, x = torch.randn(2, 1, 3, 2, 2, generator=drawing(2))
    with kept(signal, x):
        guided, deconvnet = lesson.guided_rule(signal, x), lesson.deconvnet_rule(signal, x)
    assert_tensor(deconvnet, signal.clamp(min=0))
    assert_tensor(guided, torch.where(x > 0, signal.clamp(min=0), 0))
    assert_tensor(lesson.guided_rule(10 * signal, 7 * x), 10 * guided)


@pytest.mark.points(1, exercise="6.2")
def test_guided_by_hand(lesson):
    """The signals (1, -2, 3) meet the gates (open, open, closed): 1 is left, times the first row of W."""
    model, times = three_units(), factor(0)
    with torch.no_grad():
        model[3].weight.mul_(times)
    assert_tensor(lesson.guided_backpropagation(model, IMAGE, 0), times * torch.ones(1, 1, 1, 2))


@pytest.mark.points(1, exercise="6.2")
def test_guided_through_two_layers(lesson, small_images):
    """The rule holds at every ReLU of the network, not only at the last one."""
    found = lesson.guided_backpropagation(deep(), small_images, 1)
    assert_tensor(found, slow_guided(deep(), small_images, 1))
    x = small_images.clone().requires_grad_()
    (plain,) = torch.autograd.grad(deep()(x)[:, 1].sum(), x)
    assert not torch.allclose(found, plain)


@pytest.mark.points(1, exercise="6.2")
def test_guided_in_place_and_shared(lesson, small_images):
    """The rule holds, too, where ReLUs work in place, and where one module is used twice."""
    expected = slow_guided(deep(), small_images, 2)
    for inplace, shared in ((True, False), (False, True), (True, True)):
        assert_tensor(lesson.guided_backpropagation(deep(inplace, shared), small_images, 2), expected)


@pytest.mark.points(1, exercise="6.2", contract=True)
def test_no_hook_is_left_and_no_image_mixed(lesson, small_images):
    """Afterwards the network's plain gradient is what it was, and no hook is left. No image sees another."""
    model = deep(inplace=True)
    singles = torch.cat([lesson.guided_backpropagation(model, small_images[i : i + 1], i) for i in range(3)])
    with unchanged(model, small_images):
        assert_tensor(lesson.guided_backpropagation(model, small_images, [0, 1, 2]), singles)
    assert hook_count(model) == 0
    x = small_images.clone().requires_grad_()
    (after,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    y = small_images.clone().requires_grad_()
    (plain,) = torch.autograd.grad(deep()(y)[:, 1].sum(), y)
    assert_tensor(after, plain)


class Functional(nn.Module):
    """A ReLU module, then an activation given as a function."""

    def __init__(self, activation) -> None:
        super().__init__()
        self.conv1, self.relu, self.conv2 = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3)
        self.activation = activation
        self.double().eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.activation(self.conv2(self.relu(self.conv1(images)))).sum(dim=(2, 3))


OTHERS_KNOWN = [
    (F.gelu, "Gelu"), (F.softplus, "Softplus"), (F.leaky_relu, "LeakyRelu"), (F.hardswish, "Hardswish"),
    (F.mish, "Mish"), (torch.sin, "Sin"), (torch.exp, "Exp"), (torch.abs, "Abs"), (torch.erf, "Erf"),
]  # fmt: skip


@pytest.mark.points(1, exercise="6.3")
def test_functional_activations_are_refused(lesson, small_images):
    """Others are an activation too, many of them; a sigmoid that weights whole channels is none."""
    gate, mask = (lambda x: x * x.mean(dim=(2, 3), keepdim=True).sigmoid()), (lambda x: x * (x > 0))
    refused = [(F.relu, "Relu"), (torch.tanh, "Tanh"), (F.elu, "Elu"), (mask, "mask"), *shuffled(OTHERS_KNOWN, 3)[:4]]
    for activation, name in shuffled([*refused, *[(gate, None)] * 4], 0):
        if name is None:
            assert lesson.guided_backpropagation(Functional(activation), small_images, 0).any()
            continue
        with pytest.raises(ValueError, match=name):
            lesson.guided_backpropagation(Functional(activation), small_images, 0)


def repeated(activation, times: int):
    """An activation applied so many times, with a shift before each further one."""
    def several(x: torch.Tensor) -> torch.Tensor:
        for _ in range(times):
            x = activation(x) - 0.1
        return x

    return several


@pytest.mark.points(1, exercise="6.3")
def test_the_message_counts(lesson, small_images):
    """The sentence names each function that is no module, and how often it is called. Other steps are not named."""
    times = int(torch.randint(2, 40, (1,), generator=drawing(1)))
    model = Functional(lambda x: repeated(F.relu, times)(F.silu(x)))
    with pytest.raises(ValueError, match=rf"Relu \({times} times\)") as error:
        lesson.deconvnet(model, small_images, 0)
    assert "Silu (1 times)" in str(error.value)
    assert "None" not in str(error.value)


@pytest.mark.points(1, exercise="6.3", contract=True)
def test_networks_of_relu_modules_are_accepted(lesson, small_images, tiny):
    """Only what hooks cannot reach is refused. ReLU modules are fine, shared ones, those in place and ReLU6, too."""
    six = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double().eval()
    for model in (deep(), deep(inplace=True, shared=True), tiny, six):
        for method in (lesson.guided_backpropagation, lesson.deconvnet):
            assert method(model, small_images, 0).shape == small_images.shape


@pytest.mark.points(1, exercise="6.3")
def test_networks_without_any_relu_are_refused(lesson, small_images):
    """Without a ReLU the method would be the plain gradient, so it refuses. ReLU6 as a function has another name."""
    model = nn.Sequential(nn.Conv2d(3, 2, 7), nn.Flatten(), nn.Linear(6, 2)).double().eval()
    with pytest.raises(ValueError, match=r"no nn\.ReLU"):
        lesson.guided_backpropagation(model, small_images, 0)
    times = int(torch.randint(2, 40, (1,), generator=drawing(2)))
    with pytest.raises(ValueError, match=rf"Hardtanh \({times} times\)"):
        lesson.guided_backpropagation(Functional(repeated(F.relu6, times)), small_images, 0)


def said_of(lesson, method: str) -> list[float]:
    """The two numbers of a method, in a list, a tuple, an array or a tensor."""
    found = torch.as_tensor(lesson.on_paper()[method], dtype=torch.float64).detach()
    assert found.numel() == 2, f"two numbers are asked for, one for each pixel; got {found.numel()}"
    return found.flatten().tolist()


@pytest.mark.points(0.5, exercise="6.4", prediction=True)
def test_on_paper_gradient(lesson):
    """The signals (1, -2, 3) meet gates that are open, open, closed; what passes times the rows of W, added up."""
    x = IMAGE.clone().requires_grad_()
    (expected,) = torch.autograd.grad(three_units()(x)[0, 0], x)
    assert said_of(lesson, "gradient") == expected.flatten().tolist()


@pytest.mark.points(0.75, exercise="6.4", prediction=True)
def test_on_paper_deconvnet(lesson):
    """The first and the third signal are positive."""
    rows = three_units()[1].weight.detach()
    assert said_of(lesson, "deconvnet") == (1 * rows[0] + 3 * rows[2]).tolist()


@pytest.mark.points(0.75, exercise="6.4", prediction=True)
def test_on_paper_guided(lesson):
    """Only the first signal is positive *and* meets a unit that is on."""
    assert said_of(lesson, "guided") == three_units()[1].weight.detach()[0].tolist()


# BEGIN KEPT BACK
QUESTIONS = {
    "6.6": {
        3: "Its gate asks for the sign of R only. The gradient and guided backpropagation pass 0 here.",
        0: "This is the gradient's answer, whose gate asks for x. What does the deconvnet's gate ask for?",
        -2: "What passes is the signal from above, or nothing.",
        "else": "The signal from above passes, or 0. Which of the two signs does this gate look at?",
    },
    "6.7": {
        -3: "x > 0, so the gate is open, for negative signals as well.",
        0: "This is what guided backpropagation passes. Does the slope of a ReLU care for R?",
        3: "An open gate does not change a sign.",
        "else": "The derivative of the ReLU at x = 2 is 1.",
    },
    "6.8": {
        "a": "A map about a decision must change when what decides is destroyed.",
        "b": "What would a map look like that always shows the same?",
        "c": "It fades when the *lower* layers are made random, which edges would not.",
        "d": "The network's answers are destroyed by this. Only the map is not.",
    },
}


def true_6_6(lesson) -> float:
    return lesson.deconvnet_rule(torch.tensor([3.0]), torch.tensor([-2.0])).item()


def true_6_7(lesson) -> float:
    x = torch.tensor([2.0], requires_grad=True)
    return torch.autograd.grad(x.relu(), x, torch.tensor([-3.0]))[0].item()


HOOK = "output.register_hook(lambda R: R.clamp(min=0))"
OTHERS = "Counter(name for node, name in activations(logits, image).items() if node not in ran)"
PAPER = 'return {"gradient": [-1.0, 1.0], "deconvnet": [4.0, -2.0], "guided": [1.0, 1.0]}'

WRONG = [
    ("6.1", "nothing computed: the signal itself", "return R * (R > 0) * (x > 0)", "return R"),
    ("6.1", "nothing computed: zeros", "return R * (R > 0) * (x > 0)", "return torch.zeros_like(R)"),
    ("6.1", "guided without the forward gate", "return R * (R > 0) * (x > 0)", "return R * (R > 0)"),
    ("6.1", "guided without the backward gate", "return R * (R > 0) * (x > 0)", "return R * (x > 0)"),
    ("6.1", "guided: either gate", "return R * (R > 0) * (x > 0)", "return R * ((R > 0) | (x > 0))"),
    ("6.1", "guided times the input", "return R * (R > 0) * (x > 0)", "return R.relu() * x.relu()"),
    ("6.1", "guided with inputs of zero let through", "return R * (R > 0) * (x > 0)", "return R * (R > 0) * (x >= 0)"),
    ("6.1", "gates instead of signals", "return R * (R > 0) * (x > 0)", "return ((R > 0) & (x > 0)).to(R.dtype)"),
    ("6.1", "smaller of signal and input", "return R * (R > 0) * (x > 0)",
     "return torch.minimum(R.clamp(min=0), 100 * x.clamp(min=0))"),
    ("6.1", "soft gate", "return R * (R > 0) * (x > 0)", "return R.clamp(min=0) * torch.sigmoid(50 * x)"),
    ("6.1", "guided in place", "return R * (R > 0) * (x > 0)", "return R.clamp_(min=0) * (x > 0)"),
    ("6.1", "absolute signal", "return R * (R > 0) * (x > 0)", "return R.abs() * (x > 0)"),
    ("6.2", "no hook: the plain gradient", HOOK, "pass"),
    ("6.2", "hook whose result is dropped", HOOK, "output.register_hook(lambda R: None)"),
    ("6.2", "negative signals only", "R.clamp(min=0)", "R.clamp(max=0)"),
    ("6.2", "absolute signal", "R.clamp(min=0)", "R.abs()"),
    ("6.2", "backward gate only: deconvnet", HOOK, "output = DeconvnetReLU.apply(inputs[0], output.detach())"),
    ("6.2", "at the first ReLU only", HOOK, "if not ran:\n    " + HOOK),
    ("6.2", "whole channels", HOOK, "output.register_hook(lambda R: R * (R.sum(dim=-1, keepdim=True) > 0))"),
    ("6.2", "hook left behind", HOOK,
     HOOK + "\n_module.register_forward_hook(lambda m, i, o: o)"),
    ("6.2", "hook on the module left behind", HOOK,
     "_module.register_full_backward_hook(lambda m, i, o: (i[0].clamp(min=0),))"),
    ("6.2", "each signal scaled to its maximum", "R.clamp(min=0)",
     "R.clamp(min=0) / R.abs().max().clamp(min=1e-12)"),
    ("6.2", "signals of the whole batch gated by their sum", "R.clamp(min=0)", "R * (R.sum(dim=0, keepdim=True) > 0)"),
    ("6.3", "all activations counted, ours too", " if node not in ran", ""),
    ("6.3", "each name once", OTHERS,
     "Counter({name for node, name in activations(logits, image).items() if node not in ran})"),
    ("6.3", "nothing computed", OTHERS, "Counter()"),
    ("6.3", "only ReLU looked for", OTHERS,
     "Counter(n for node, n in activations(logits, image).items() if node not in ran and n == 'Relu')"),
    ("6.3", "the names of some", " if node not in ran",
     " if node not in ran and (name in ('Relu', 'Tanh', 'Elu', 'Silu', 'Hardtanh') or 'mask' in name)"),
    ("6.3", "ours taken for Relu", OTHERS, "+Counter({name: count - len(ran) * (name == 'Relu') for name, count in "
     "Counter(activations(logits, image).values()).items() if 'Deconv' not in name})"),
    ("6.3", "names compared instead of nodes", "if node not in ran", "if name not in ran"),
    ("6.3", "number of activations compared", OTHERS,
     "Counter(['Relu'] * (len(activations(logits, image)) - len(ran)))"),
    ("6.3", "ours instead of the others", "not in ran", "in ran"),
    ("6.3", "nodes counted instead of names", "Counter(name for", "Counter(node for"),
    ("6.3", "as many left out as ran, whichever", OTHERS,
     "Counter(list(activations(logits, image).values())[len(ran):])"),
    ("6.4", "nothing computed", "", "return {name: [0.0, 0.0] for name in RULES}"),
    ("6.4", "the gradient everywhere", "", "return {name: [-1.0, 1.0] for name in RULES}"),
    ("6.4", "the rules without W", "", "return {'gradient': [1.0, -2.0], 'deconvnet': [1.0, 0.0], "
     "'guided': [1.0, 0.0]}"),
    ("6.4", "the third unit on", "[-1.0, 1.0]", "[2.0, -2.0]"),
    ("6.4", "deconvnet with the forward gate", "[4.0, -2.0]", "[1.0, 1.0]"),
    ("6.4", "guided without the forward gate", '"guided": [1.0, 1.0]', '"guided": [4.0, -2.0]'),
    ("6.4", "guided without the backward gate", '"guided": [1.0, 1.0]', '"guided": [-1.0, 1.0]'),
    ("6.4", "pixels exchanged", "", "return {'gradient': (1, -1), 'deconvnet': (-2, 4), 'guided': (1, 1)}"),
    ("6.4", "one number each", "", "return {'gradient': -1, 'deconvnet': 4, 'guided': 1}"),
    ("6.4", "signals not added up", "[4.0, -2.0]", "[3.0, -3.0]"),
]  # fmt: skip

RIGHT = [
    ("6.1", "torch.where", "return R * (R > 0) * (x > 0)",
     "return torch.where((R > 0) & (x > 0), R, torch.zeros_like(R))"),
    ("6.1", "by autograd", "return R * (R > 0) * (x > 0)", "y = x.detach().requires_grad_()\n"
     "with torch.enable_grad():\n    return torch.autograd.grad(y.relu(), y, R.clamp(min=0))[0]"),
    ("6.1", "clamp", "return R * (R > 0) * (x > 0)", "return R.clamp(min=0) * (x > 0).to(R)"),
    ("6.2", "a named function", HOOK,
     "def only_positive(R):\n    return R * (R > 0)\n\noutput.register_hook(only_positive)"),
    ("6.2", "hook below the ReLU", HOOK, "inputs[0].register_hook(lambda R: R.clamp(min=0))"),
    ("6.3", "counted in a loop", "",
     "others = Counter()\nfor node, name in activations(logits, image).items():\n"
     "    if node not in ran:\n        others[name] += 1"),
    ("6.3", "counts subtracted", "", "seen = activations(logits, image)\n"
     "others = Counter(seen.values()) - Counter(seen[node] for node in ran if node in seen)"),
    ("6.3", "ours taken out first", "", "seen = activations(logits, image)\nfor node in ran:\n"
     "    seen.pop(node, None)\nothers = Counter(seen.values())"),
    ("6.4", "worked out in code", PAPER, "W, v, x = three_units()[1].weight, torch.tensor([1.0, -2.0, 3.0]), "
     "torch.tensor([1.0, 2.0])\nreturn {name: (rule(v, W @ x) @ W).tolist() for name, rule in RULES.items()}"),
    ("6.4", "tuples", PAPER, "return {'gradient': (-1, 1), 'deconvnet': (4.0, -2.0), 'guided': (1, 1)}"),
    ("6.4", "tensors", PAPER, "return {name: torch.tensor(pair) for name, pair in "
     "{'gradient': [-1, 1], 'deconvnet': [4, -2], 'guided': [1, 1]}.items()}"),
    ("6.4", "maps of one image", PAPER, "return {name: method(three_units(), torch.tensor([1.0, 2.0]).reshape(1, 1, "
     "1, 2), 0) for name, method in METHODS.items()}"),
    ("6.4", "as whole numbers", PAPER, "return {'gradient': [-1, 1], 'deconvnet': [4, -2], 'guided': [1, 1]}"),
]  # fmt: skip
# END KEPT BACK
