"""Answers to the exercise of the part on sanity checks; see run.py."""

COPY = "damaged = deepcopy(model)"
FIRST = 'yield "as trained", method(damaged, image, target)[0]'
DRAW = "randomize(damaged.get_submodule(stage), generator)"

WRONG = [
    ("8.7", "nothing computed", "", 'for stage in ["as trained", *stages(model)]:\n'
     "    yield stage, torch.zeros(image.shape[-2:])"),
    ("8.7", "nothing is random", DRAW, "pass"),
    ("8.7", "the model itself", COPY, "damaged = model"),
    ("8.7", "from the first layer up", "stages(model)", "stages(model)[::-1]"),
    ("8.7", "one stage at a time", DRAW, "damaged = deepcopy(model)\n    " + DRAW),
    ("8.7", "everything at once", DRAW, "for other in stages(model):\n"
     "        randomize(damaged.get_submodule(other), generator)"),
    ("8.7", "all above drawn again", DRAW, "for other in stages(model)[: stages(model).index(stage) + 1]:\n"
     "        randomize(damaged.get_submodule(other), generator)"),
    ("8.7", "a generator of its own", "(stage), generator)", "(stage), torch.Generator().manual_seed(0))"),
    ("8.7", "maps of the trained network", "yield stage, method(damaged,", "yield stage, method(model,"),
    ("8.7", "class ignored", FIRST, 'target = int(model(image).argmax())\n' + FIRST),
    ("8.7", "without the first map", FIRST, ""),
    ("8.7", "a batch of one", "yield stage, method(damaged, image, target)[0]",
     "yield stage, method(damaged, image, target)"),
    ("8.7", "map before the drawing", DRAW + "\n    yield stage, method(damaged, image, target)[0]",
     "yield stage, method(damaged, image, target)[0]\n    " + DRAW),
    ("8.7", "only the logits", "stages(model)", "stages(model)[:1]"),
]  # fmt: skip

RIGHT = [
    ("8.7", "a list", "", 'network = deepcopy(model)\nfound = [("as trained", method(network, image, target)[0])]\n'
     "for name in stages(network):\n    randomize(dict(network.named_modules())[name], generator)\n"
     "    found.append((name, method(network, image, target)[0]))\nreturn iter(found)"),
    ("8.7", "a fresh copy of the last network", DRAW, "damaged = deepcopy(damaged)\n    " + DRAW),
]  # fmt: skip
