"""Answers to the exercises of lesson 06; see run.py."""

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
    ("6.1", "guided in place", "return R * (R > 0) * (x > 0)", "return R.clamp_(min=0) * (x > 0)"),
    ("6.1", "absolute signal", "return R * (R > 0) * (x > 0)", "return R.abs() * (x > 0)"),
    ("6.2", "no hook: the plain gradient", HOOK, "pass"),
    ("6.2", "hook whose result is dropped", HOOK, "output.register_hook(lambda R: None)"),
    ("6.2", "negative signals only", "R.clamp(min=0)", "R.clamp(max=0)"),
    ("6.2", "absolute signal", "R.clamp(min=0)", "R.abs()"),
    ("6.2", "backward gate only: deconvnet", HOOK, "output = DeconvnetReLU.apply(inputs[0], output.detach())"),
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
    ("6.4", "signals not added up", "[4.0, -2.0]", "[3.0, -3.0]"),
]  # fmt: skip

RIGHT = [
    ("6.1", "torch.where", "return R * (R > 0) * (x > 0)",
     "return torch.where((R > 0) & (x > 0), R, torch.zeros_like(R))"),
    ("6.1", "clamp", "return R * (R > 0) * (x > 0)", "return R.clamp(min=0) * (x > 0).to(R)"),
    ("6.2", "a named function", HOOK,
     "def only_positive(R):\n    return R * (R > 0)\n\noutput.register_hook(only_positive)"),
    ("6.2", "hook below the ReLU", HOOK, "inputs[0].register_hook(lambda R: R.clamp(min=0))"),
    ("6.3", "counted in a loop", "",
     "others = Counter()\nfor node, name in activations(logits, image).items():\n"
     "    if node not in ran:\n        others[name] += 1"),
    ("6.3", "ours taken out first", "", "seen = activations(logits, image)\nfor node in ran:\n"
     "    seen.pop(node, None)\nothers = Counter(seen.values())"),
    ("6.4", "worked out in code", PAPER, "W, v, x = three_units()[1].weight, torch.tensor([1.0, -2.0, 3.0]), "
     "torch.tensor([1.0, 2.0])\nreturn {name: (rule(v, W @ x) @ W).tolist() for name, rule in RULES.items()}"),
    ("6.4", "as whole numbers", PAPER, "return {'gradient': [-1, 1], 'deconvnet': [4, -2], 'guided': [1, 1]}"),
]  # fmt: skip
