"""Answers to the exercises of lesson 04; see run.py."""

ADD = 'mean_gradient[i] += torch.einsum("k,kchw->chw", w, gradients)'
PATH = "path = on_path(images[i], baselines[i], alpha)"
DIFFERENCE = "target_logits(logits, target) - target_logits(model(baseline_images(images, baseline)), target)"
RETURN = "return attribution.sum(dim=(1, 2, 3)) - difference"

WRONG = [
    ("4.1", "nothing computed", "k, even =",
     "if rule != 'gausslegendre':\n    return np.zeros(n_steps), np.zeros(n_steps)\nk, even ="),
    ("4.1", "left and right swapped", "k, even =",
     "rule = {'left': 'right', 'right': 'left'}.get(rule, rule)\nk, even ="),
    ("4.1", "right that begins at 0", "return (k + 1) / n_steps, even", "return k / n_steps, even"),
    ("4.1", "weights not divided", "np.full(n_steps, 1 / n_steps)", "np.ones(n_steps)"),
    ("4.1", "one node more", "np.arange(n_steps), np.full(n_steps, 1 / n_steps)",
     "np.arange(n_steps + 1), np.full(n_steps + 1, 1 / (n_steps + 1))"),
    ("4.1", "trapezoid with full weight at the ends", "np.where(ends, 0.5, 1.0) / (n_steps - 1)",
     "np.full(n_steps, 1 / (n_steps - 1))"),
    ("4.1", "trapezoid with even weights that sum to 1", "np.where(ends, 0.5, 1.0) / (n_steps - 1)", "even"),
    ("4.1", "trapezoid with one half end", "np.isin(k, (0, n_steps - 1))", "k == 0"),
    ("4.1", "trapezoid divided by n", "np.where(ends, 0.5, 1.0) / (n_steps - 1)",
     "np.where(ends, 0.5, 1.0) / n_steps"),
    ("4.1", "midpoint from end to end", "return (k + 0.5) / n_steps, even",
     "return np.linspace(0, 1, n_steps), even"),
    ("4.1", "trapezoid that ends early", "return k / (n_steps - 1), np", "return k / n_steps, np"),
    ("4.2", "nothing computed", "", "pass"),
    ("4.2", "the argument itself", "", "mean_gradient[i] = images[i]"),
    ("4.2", "weights ignored, plain mean", ADD, "mean_gradient[i] += gradients.sum(dim=0) / n_steps"),
    ("4.2", "last chunk weighted like a full one", ADD,
     "mean_gradient[i] += gradients.mean(dim=0) / -(-n_steps // batch_size)"),
    ("4.2", "factor (x - x') twice", ADD,
     ADD.replace("gradients)", "gradients * (images[i] - baselines[i]))")),
    ("4.2", "path from zero whatever the baseline", PATH, "path = alpha[:, None, None, None] * images[i]"),
    ("4.2", "path from the image to the baseline", PATH, "path = on_path(baselines[i], images[i], alpha)"),
    ("4.2", "first image for all", PATH, "path = on_path(images[0], baselines[i], alpha)"),
    ("4.2", "first baseline for all", PATH, "path = on_path(images[i], baselines[0], alpha)"),
    ("4.2", "first class for all", "target[i]", "target[0]"),
    ("4.2", "only the last chunk", "mean_gradient[i] +=", "mean_gradient[i] ="),
    ("4.2", "absolute gradients", "w, gradients)", "w, gradients.abs())"),
    ("4.2", "gradient at the image only", PATH, "path = images[i].expand(len(alpha), -1, -1, -1)"),
    ("4.2", "each point its own top class", "vanilla_gradient(model, path, target[i])",
     "vanilla_gradient(model, path)"),
    ("4.3", "nothing computed", "", "return torch.zeros(len(images)).to(images)"),
    ("4.3", "sum of the attribution", "", "return attribution.sum(dim=(1, 2, 3))"),
    ("4.3", "other way round", RETURN, "return difference - attribution.sum(dim=(1, 2, 3))"),
    ("4.3", "absolute value", RETURN, "return (attribution.sum(dim=(1, 2, 3)) - difference).abs()"),
    ("4.3", "baseline's score forgotten", DIFFERENCE, "target_logits(logits, target)"),
    ("4.3", "baseline always zeros", "baseline_images(images, baseline)", "torch.zeros_like(images)"),
    ("4.3", "baseline's own class", "model(baseline_images(images, baseline)), target)",
     "model(baseline_images(images, baseline)), None)"),
    ("4.3", "sum over the batch", RETURN, "return attribution.sum() - difference"),
    ("4.3", "relative gap", RETURN, "return (attribution.sum(dim=(1, 2, 3)) - difference) / difference.abs()"),
    ("4.3", "probabilities", DIFFERENCE, "target_logits(logits.softmax(1), target) - target_logits("
     "model(baseline_images(images, baseline)).softmax(1), target)"),
    ("4.3", "baseline's score added", "target_logits(logits, target) - ", "target_logits(logits, target) + "),
    ("4.4", "nothing computed", "", "won = torch.zeros(n_steps).to(images)"),
    ("4.4", "the last gain only, spread evenly", "", "difference = images[i] - baselines[i]\n"
     "slopes = [(gradients(a) * difference).sum(dim=(1, 2, 3)) for a in middles.split(batch_size)]\n"
     "won = torch.cat(slopes).mean() * torch.arange(1, n_steps + 1).to(images) / n_steps"),
    ("4.4", "slopes, not their sum", ".cumsum(dim=0)", ""),
    ("4.4", "not divided by n", " / n_steps", ""),
    ("4.4", "divided by n - 1", " / n_steps", " / max(n_steps - 1, 1)"),
    ("4.4", "added up from the photograph", ".cumsum(dim=0)", ".flip(0).cumsum(dim=0)"),
    ("4.4", "begins with 0", "won = torch.cat(slopes).cumsum(dim=0) / n_steps",
     "won = torch.cat(slopes).cumsum(dim=0) / n_steps\nwon = torch.cat([won[:1] * 0, won[:-1]])"),
    ("4.4", "times the image, whatever the baseline", " - baselines[i]", ""),
    ("4.4", "factor forgotten", "(gradients(alphas) * difference)", "gradients(alphas)"),
    ("4.4", "first image for all", "difference = images[i] - baselines[i]", "difference = images[0] - baselines[0]"),
    ("4.4", "absolute slopes", "torch.cat(slopes)", "torch.cat(slopes).abs()"),
    ("4.4", "absolute shares", "(gradients(alphas) * difference)", "(gradients(alphas) * difference).abs()"),
    ("4.4", "shares of the whole, not logits", "cumsum(dim=0) / n_steps",
     "cumsum(dim=0) / torch.cat(slopes).sum()"),
    ("4.4", "each chunk begins anew", "torch.cat(slopes).cumsum(dim=0)",
     "torch.cat([part.cumsum(dim=0) for part in slopes])"),
    ("4.4", "mean over the picture", "sum(dim=(1, 2, 3))", "mean(dim=(1, 2, 3))"),
]  # fmt: skip

RIGHT = [
    ("4.1", "linspace", "", "step = 1 / n_steps\nif rule in ('left', 'right', 'midpoint'):\n"
     "    shift = {'left': 0.0, 'right': 1.0, 'midpoint': 0.5}[rule]\n"
     "    return step * (np.arange(n_steps) + shift), np.full(n_steps, step)\nif rule == 'trapezoid':\n"
     "    weights = np.ones(n_steps)\n    weights[[0, -1]] = 0.5\n"
     "    return np.linspace(0, 1, n_steps), weights / weights.sum()"),
    ("4.2", "point by point", "", "for a, w in zip(nodes, weights, strict=True):\n"
     "    point = (baselines[i] + a * (images[i] - baselines[i]))[None]\n"
     "    mean_gradient[i] = mean_gradient[i] + w * vanilla_gradient(model, point, target[i])[0]"),
    ("4.2", "weights broadcast", ADD, "mean_gradient[i] += (w[:, None, None, None] * gradients).sum(dim=0)"),
    ("4.3", "gather", "", "start = model(baseline_images(images, baseline))\n"
     "rise = (logits - start).gather(1, target[:, None])[:, 0]\nreturn attribution.flatten(1).sum(dim=1) - rise"),
    ("4.4", "step by step", "", "total, won = 0, []\nfor alpha in middles:\n"
     "    slope = (gradients(alpha[None])[0] * (images[i] - baselines[i])).sum()\n"
     "    total = total + slope / n_steps\n    won.append(total)\nwon = torch.stack(won)"),
    ("4.4", "matrix product", "(gradients(alphas) * difference).sum(dim=(1, 2, 3))",
     "gradients(alphas).flatten(1) @ difference.flatten()"),
]  # fmt: skip
