"""Answers to the exercises of the part on deletion and insertion; see run.py."""

TRAPEZOID = "torch.trapezoid(curve, dx=1 / (len(curve) - 1)).item()"
SORT = "map.flatten().argsort(descending=True, stable=True)"

WRONG = [
    ("8.1", "nothing computed", TRAPEZOID, "0.0"),
    ("8.1", "its argument", TRAPEZOID, "curve"),
    ("8.1", "plain mean", TRAPEZOID, "curve.mean().item()"),
    ("8.1", "left sum", TRAPEZOID, "curve[:-1].mean().item()"),
    ("8.1", "right sum", TRAPEZOID, "curve[1:].mean().item()"),
    ("8.1", "divided by the number of points", "(len(curve) - 1)", "len(curve)"),
    ("8.1", "not divided", "dx=1 / (len(curve) - 1)", "dx=1"),
    ("8.1", "sum", TRAPEZOID, "curve.sum().item()"),
    ("8.1", "a tensor", ".item()", ""),
    ("8.6", "nothing computed", "", "return torch.zeros(map.shape, dtype=torch.long)"),
    ("8.6", "its argument", "", "return map"),
    ("8.6", "row by row, whatever the map", "", "return torch.arange(map.numel()).reshape(map.shape)"),
    ("8.6", "numbers of the pixels in order", "places[order] = torch.arange(len(order), device=order.device)",
     "places = order"),
    ("8.6", "rising order", "descending=True", "descending=False"),
    ("8.6", "negative map in falling order", "map.flatten()", "(-map).flatten()"),
    ("8.6", "absolute values", "map.flatten()", "map.abs().flatten()"),
    ("8.6", "ties from the bottom right", SORT, "map.flatten().flip(0).argsort(descending=True, stable=True)\n"
     "order = len(order) - 1 - order"),
    ("8.6", "ties share a rank", "", "return torch.stack([(map > value).sum() for value in map.flatten()])"
     ".reshape(map.shape)"),
    ("8.6", "counted from 1", "torch.arange(len(order), device=order.device)",
     "torch.arange(1, len(order) + 1, device=order.device)"),
    ("8.6", "column by column", SORT, "map.T.flatten().argsort(descending=True, stable=True)"),
    ("8.6", "flat", "places.reshape(map.shape)", "places"),
    ("8.6", "each row for itself", "", "return map.argsort(dim=1, descending=True, stable=True).argsort(dim=1)"),
]  # fmt: skip

RIGHT = [
    ("8.1", "end points half", TRAPEZOID, "float((curve.sum() - (curve[0] + curve[-1]) / 2) / (len(curve) - 1))"),
    ("8.1", "mean of neighbours", TRAPEZOID, "((curve[1:] + curve[:-1]) / 2).mean().item()"),
    ("8.6", "argsort twice", "", "return map.flatten().argsort(descending=True, stable=True).argsort()"
     ".reshape(map.shape)"),
    ("8.6", "python's sort", "", "values, places = map.flatten().tolist(), [0] * map.numel()\n"
     "for rank, pixel in enumerate(sorted(range(len(values)), key=lambda i: -values[i])):\n    places[pixel] = rank\n"
     "return torch.tensor(places).reshape(map.shape)"),
]  # fmt: skip
