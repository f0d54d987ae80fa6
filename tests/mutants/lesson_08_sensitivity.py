"""Answers to the exercises of the part on sensitivity; see run.py."""

DROPS = "drops = removal_drops(model, image, masks, top_class(model, image, target))"
NOISE = "noise = radius * (2 * torch.rand(image.shape, generator=generator) - 1)"
RATIO = "(method(model, image + noise.to(image), target) - clean).norm() / clean.norm()"

WRONG = [
    ("8.2", "nothing computed", "", "return 1.0"),
    ("8.2", "nothing but nan", "", "return math.nan"),
    ("8.2", "no correlation, whatever the map", "", "return 0.0"),
    ("8.2", "probabilities", DROPS, "probability = torch.nn.Sequential(model, nn.Softmax(dim=1)).eval()\n"
     "drops = removal_drops(probability, image, masks, top_class(model, image, target))"),
    ("8.2", "everything but the subset removed", "image, masks, top_class", "image, ~masks, top_class"),
    ("8.2", "absolute attributions", "sums_inside(attribution, masks)", "sums_inside(attribution.abs(), masks)"),
    ("8.2", "absolute drops", "masks), drops)", "masks), drops.abs())"),
    ("8.2", "target ignored", "top_class(model, image, target)", "top_class(model, image, None)"),
    ("8.2", "score left instead of score lost", "masks), drops)", "masks), -drops)"),
    ("8.2", "rank correlation", "pearson(sums_inside(attribution, masks), drops)",
     "pearson(sums_inside(attribution, masks).argsort().argsort().double(), drops.argsort().argsort().double())"),
    ("8.2", "first channel only", "sums_inside(attribution, masks)",
     "sums_inside(torch.as_tensor(attribution).reshape(-1, *image.shape[-2:])[0], masks)"),
    ("8.2", "other subsets for the sums", "sums_inside(attribution, masks)", "sums_inside(attribution, masks.flip(0))"),
    ("8.2", "removed by the image's mean", DROPS,
     "grey = image.mean()\ndrops = score_drops(model, image, lambda i, j: torch.where(masks[i:j, None], grey, image), "
     "len(masks), top_class(model, image, target))"),
    ("8.2", "cosine instead of correlation", "pearson(sums_inside(attribution, masks), drops)",
     "torch.nn.functional.cosine_similarity(sums_inside(attribution, masks), drops, dim=0).item()"),
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
    ("8.2", "corrcoef", "", "index, sums = top_class(model, image, target), sums_inside(attribution, masks)\n"
     "drops = removal_drops(model, image, masks, index)\n"
     "if drops.std() == 0 or sums.std() <= 1e-9 * sums.abs().max():\n    return math.nan\n"
     "return torch.corrcoef(torch.stack([sums, drops]))[0, 1].item()"),
    ("8.4", "running maximum", "", "largest = 0.0\nfor _ in range(samples):\n"
     "    noise = (torch.rand(image.shape, generator=generator) * 2 - 1) * radius\n"
     "    moved = method(model, image + noise.to(image), target) - clean\n"
     "    largest = max(largest, float(moved.norm()))\nreturn largest / float(clean.norm())"),
]  # fmt: skip
