"""Answers to the exercises of lesson 06; see run.py."""

HOOK = "output.register_hook(lambda R: R.clamp(min=0))"
OTHERS = "Counter(activation_name(node) for node in graph_nodes(logits) if node not in ran)"

WRONG = [
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
    ("6.3", "all nodes counted, ours too", " if node not in ran", ""),
    ("6.3", "each name once", OTHERS,
     "Counter({activation_name(node) for node in graph_nodes(logits) if node not in ran})"),
    ("6.3", "operations without a name left in", "others.pop(None, None)", "pass"),
    ("6.3", "nothing is ever found", OTHERS, "Counter()"),
    ("6.3", "only ReLU looked for", OTHERS,
     "Counter(n for n in map(activation_name, set(graph_nodes(logits)) - set(ran)) if n == 'Relu')"),
    ("6.3", "only the last operation looked at", "graph_nodes(logits)", "[logits.grad_fn]"),
    ("6.3", "number of ReLUs compared", OTHERS,
     "Counter(['Relu'] * (len([n for n in graph_nodes(logits) if activation_name(n) == 'Relu']) > len(ran)))"),
    ("6.3", "all other operations named", OTHERS,
     "Counter(node.name() for node in graph_nodes(logits) if node not in ran)"),
]  # fmt: skip

RIGHT = [
    ("6.1", "torch.where", "return R * (R > 0) * (x > 0)",
     "return torch.where((R > 0) & (x > 0), R, torch.zeros_like(R))"),
    ("6.1", "clamp", "return R * (R > 0) * (x > 0)", "return R.clamp(min=0) * (x > 0).to(R)"),
    ("6.2", "a named function", HOOK,
     "def only_positive(R):\n    return R * (R > 0)\n\noutput.register_hook(only_positive)"),
    ("6.2", "hook below the ReLU", HOOK, "inputs[0].register_hook(lambda R: R.clamp(min=0))"),
    ("6.3", "filtered by hand", "",
     "names = [activation_name(node) for node in graph_nodes(logits) if node not in ran]\n"
     "others = Counter(name for name in names if name is not None)"),
]  # fmt: skip
