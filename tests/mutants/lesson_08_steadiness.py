"""Answers to the exercise of the part on steadiness; see run.py."""

NOISE = "noise = radius * (2 * torch.rand(image.shape, generator=generator) - 1)"
RATIO = "(method(model, image + noise.to(image), target) - clean).norm() / clean.norm()"

WRONG = [
    ("8.4", "nothing computed", "", "return 0.0"),
    ("8.4", "the radius", "", "return radius"),
    ("8.4", "mean instead of max", "max(moved).item()", "(sum(moved) / len(moved)).item()"),
    ("8.4", "last instead of max", "max(moved).item()", "moved[-1].item()"),
    ("8.4", "not divided by the clean norm", " / clean.norm()", ""),
    ("8.4", "running maximum divided in every round", "", "largest = torch.tensor(0.0)\nfor _ in range(samples):\n"
     "    " + NOISE + "\n    now = (method(model, image + noise.to(image), target) - clean).norm()\n"
     "    largest = torch.maximum(largest, now) / clean.norm()\nreturn largest.item()"),
    ("8.4", "noise from 0 to r", "(2 * torch.rand(image.shape, generator=generator) - 1)",
     "torch.rand(image.shape, generator=generator)"),
    ("8.4", "Gaussian noise", "(2 * torch.rand(image.shape, generator=generator) - 1)",
     "torch.randn(image.shape, generator=generator)"),
    ("8.4", "noise reused", "moved = []\nfor _ in range(samples):\n    " + NOISE,
     "moved = []\n" + NOISE + "\nfor _ in range(samples):"),
    ("8.4", "norm of the map instead of the difference", RATIO,
     "method(model, image + noise.to(image), target).norm() / clean.norm()"),
    ("8.4", "the disturbed image's own class", "image + noise.to(image), target)", "image + noise.to(image), None)"),
    ("8.4", "noise added up", "moved.append(", "image = image + noise.to(image)\nmoved.append("),
    ("8.4", "a tensor", ".item()", ""),
    ("8.4", "one sample less", "range(samples)", "range(samples - 1)"),
    ("8.4", "divided by the radius", "max(moved).item()", "max(moved).item() / max(radius, 1e-12)"),
    ("8.4", "same number for every pixel", "torch.rand(image.shape, generator=generator)",
     "torch.rand(1, generator=generator)"),
]  # fmt: skip

RIGHT = [
    ("8.4", "running maximum", "", "largest = 0.0\nfor _ in range(samples):\n"
     "    noise = (torch.rand(image.shape, generator=generator) * 2 - 1) * radius\n"
     "    moved = method(model, image + noise.to(image), target) - clean\n"
     "    largest = max(largest, float(moved.norm()))\nreturn largest / float(clean.norm())"),
]  # fmt: skip
