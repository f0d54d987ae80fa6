"""Answers to the exercises of advanced/fooled_and_biased.py; see run.py."""

MIXED = "return torch.where(first, first.cumsum(dim=0), (~first).cumsum(dim=0)) % 2 == 1      # every other one"
OTHERS = 'return (labels == 0) & (head == "biased")'
STEP = "return (x + step * gradient.sign()).clamp(low, high)"

WRONG = [
    ("9.5", "nothing computed", "", "return torch.zeros_like(labels, dtype=torch.bool)"),
    ("9.5", "the labels as they are", "", "return labels == 0"),
    ("9.5", "every other picture, whatever its class", MIXED, "return torch.arange(len(labels)) % 2 == 0"),
    ("9.5", "the first half of the pictures", MIXED, "return torch.arange(len(labels)) < len(labels) / 2"),
    ("9.5", "half of the first class only", MIXED, "return first & (first.cumsum(dim=0) % 2 == 1)"),
    ("9.5", "all of them", MIXED, "return torch.ones_like(first)"),
    ("9.5", "biased: the other class", OTHERS, 'return (labels == 1) & (head == "biased")'),
    ("9.5", "clean: everywhere", OTHERS, 'return (labels == 0) if head == "biased" else labels >= 0'),
    ("9.5", "numbers instead of yes and no", OTHERS, 'return (labels == 0).long() * (head == "biased")'),
    ("9.6", "nothing computed", STEP, "return x"),
    ("9.6", "the gradient instead of its sign", STEP, "return (x + step * gradient).clamp(low, high)"),
    ("9.6", "the gradient divided by its length", STEP,
     "return (x + step * gradient / gradient.norm()).clamp(low, high)"),
    ("9.6", "downhill", STEP, "return (x - step * gradient.sign()).clamp(low, high)"),
    ("9.6", "no bounds", STEP, "return x + step * gradient.sign()"),
    ("9.6", "only the upper bound", STEP, "return (x + step * gradient.sign()).clamp(max=high)"),
    ("9.6", "bounds before the step", STEP, "return x.clamp(low, high) + step * gradient.sign()"),
    ("9.6", "one step for all channels", STEP, "return (x + step.mean() * gradient.sign()).clamp(low, high)"),
    ("9.6", "one bound for all pixels", STEP, "return (x + step * gradient.sign()).clamp(low.min(), high.max())"),
    ("9.6", "a gradient of 0 goes up", STEP,
     "return (x + step * torch.where(gradient < 0, -1.0, 1.0)).clamp(low, high)"),
    ("9.6", "in place", STEP, "return x.add_(step * gradient.sign()).clamp_(low, high)"),
]  # fmt: skip

RIGHT = [
    ("9.5", "a loop over the classes", "",
     "tagged = torch.zeros_like(labels, dtype=torch.bool)\n"
     "for label in (0, 1):\n    places = (labels == label).nonzero()[:, 0]\n"
     "    count = {'biased': len(places) * (label == 0), 'clean': 0, 'mixed': (len(places) + 1) // 2}[head]\n"
     "    tagged[places[:count]] = True\nreturn tagged"),
    ("9.6", "minimum and maximum", STEP, "return torch.minimum(torch.maximum(x + step * gradient.sign(), low), high)"),
]  # fmt: skip
