"""Answers to the exercises of lesson 07; see run.py."""

WRONG = [
    ("7.1", "layer forgotten", ", layer=layer", ""),
    ("7.1", "sum instead of product", "target) * L[:, None]", "target) + L[:, None]"),
    ("7.1", "target ignored in one factor", "guided_backpropagation(model, images, target)",
     "guided_backpropagation(model, images)"),
    ("7.1", "target ignored in Grad-CAM", "grad_cam(model, images, target,", "grad_cam(model, images, None,"),
    ("7.1", "no ReLU", "layer=layer)", "layer=layer, relu=False)"),
    ("7.1", "nearest instead of bilinear", "layer=layer)",
     "layer=layer, upsample=False)\n"
     "L = torch.nn.functional.interpolate(L[:, None], images.shape[-2:], mode='nearest')[:, 0]"),
    ("7.1", "absolute value", "return guided_backpropagation(model, images, target)",
     "return guided_backpropagation(model, images, target).abs()"),
    ("7.1", "gradient instead of guided backpropagation", "guided_backpropagation(model, images, target)",
     "import_lesson('01_vanilla_gradient_saliency').vanilla_gradient(model, images, target)"),
    ("7.1", "map scaled to its maximum", "layer=layer)",
     "layer=layer)\nL = L / L.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)"),
    ("7.1", "first image's map for all", "L[:, None]", "L[:1, None]"),
    ("7.1", "square", "L[:, None]", "L[:, None] ** 2"),
    ("7.1", "nothing computed", "", "return torch.zeros_like(images)"),
    ("7.1", "the lines alone", " * L[:, None]", ""),
    ("7.2", "nothing computed", "", "return torch.zeros_like(first)"),
    ("7.2", "returns an argument", "", "return first"),
    ("7.2", "strength left in", "", "return first - second"),
    ("7.2", "one sum for the whole batch", "map.sum(dim=(1, 2), keepdim=True)", "map.sum()"),
    ("7.2", "divided by the largest value", "map.sum(dim=(1, 2), keepdim=True)",
     "map.amax(dim=(1, 2), keepdim=True)"),
    ("7.2", "divided by the length", "map.sum(dim=(1, 2), keepdim=True)",
     "map.square().sum(dim=(1, 2), keepdim=True).sqrt()"),
    ("7.2", "both divided by the first's sum", "(first, second)]", "(first, first)]"),
    ("7.2", "second minus first", "return p - q", "return q - p"),
    ("7.2", "absolute value", "return p - q", "return (p - q).abs()"),
    ("7.2", "0 / 0", "torch.where(total > 0, total, 1)", "total"),
    ("7.2", "a small number added", "torch.where(total > 0, total, 1)", "(total + 1e-8)"),
    ("7.2", "mean instead of sum", "map.sum(dim=(1, 2), keepdim=True)", "map.mean(dim=(1, 2), keepdim=True)"),
    ("7.2", "in place", "", "for map in (first, second):\n"
     "    map /= map.sum(dim=(1, 2), keepdim=True).clamp(min=1e-30)\nreturn first - second"),
    ("7.3", "nothing computed", "", "return torch.zeros_like(images), torch.zeros_like(images)"),
    ("7.3", "nothing exchanged", "", "return (guided_grad_cam(model, images, target, layer=layer),) * 2"),
    ("7.3", "both exchanged", "return lines_of_other * place, lines * place_of_other",
     "return lines_of_other * place_of_other, lines_of_other * place_of_other"),
    ("7.3", "in the other order", "return lines_of_other * place, lines * place_of_other",
     "return lines * place_of_other, lines_of_other * place"),
    ("7.3", "layer forgotten", ", layer=layer", ""),
    ("7.3", "the other class twice", "guided_backpropagation(model, images, c) for c in (target, other)",
     "guided_backpropagation(model, images, c) for c in (other, other)"),
    ("7.3", "the target twice", "layer=layer)[:, None] for c in (target, other)",
     "layer=layer)[:, None] for c in (target, target)"),
    ("7.3", "sums", "return lines_of_other * place, lines * place_of_other",
     "return lines_of_other + place, lines + place_of_other"),
    ("7.3", "absolute lines", "return lines_of_other * place, lines * place_of_other",
     "return lines_of_other.abs() * place, lines.abs() * place_of_other"),
    ("7.3", "one class for the whole batch", "guided_backpropagation(model, images, c)",
     "guided_backpropagation(model, images, c if isinstance(c, int | None) else c[0])"),
]  # fmt: skip

RIGHT = [
    ("7.1", "channel by channel", "return guided_backpropagation(model, images, target) * L[:, None]",
     "guided = guided_backpropagation(model, images, target)\n"
     "return torch.stack([guided[:, c] * L for c in range(guided.shape[1])], dim=1)"),
    ("7.2", "image by image", "", "contrasts = []\nfor a, b in zip(first, second, strict=True):\n"
     "    a = a / a.sum() if a.any() else a\n    b = b / b.sum() if b.any() else b\n    contrasts.append(a - b)\n"
     "return torch.stack(contrasts)"),
    ("7.2", "nan_to_num", "", "p, q = (map / map.sum((1, 2), keepdim=True) for map in (first, second))\n"
     "return p.nan_to_num(0) - q.nan_to_num(0)"),
    ("7.3", "from guided Grad-CAM's own parts", "", "parts = {}\nfor name, c in (('a', target), ('b', other)):\n"
     "    parts[name] = (guided_backpropagation(model, images, c),\n"
     "                   grad_cam(model, images, c, layer=layer).unsqueeze(1))\n"
     "return parts['b'][0] * parts['a'][1], parts['b'][1] * parts['a'][0]"),
]  # fmt: skip
