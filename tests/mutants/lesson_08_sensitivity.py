"""Answers to the exercise of the part on sensitivity; see run.py."""

DROPS = "drops = removal_drops(model, image, masks, top_class(model, image, target))"

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
]  # fmt: skip

RIGHT = [
    ("8.2", "corrcoef", "", "index, sums = top_class(model, image, target), sums_inside(attribution, masks)\n"
     "drops = removal_drops(model, image, masks, index)\n"
     "if drops.std() == 0 or sums.std() <= 1e-9 * sums.abs().max():\n    return math.nan\n"
     "return torch.corrcoef(torch.stack([sums, drops]))[0, 1].item()"),
]  # fmt: skip
