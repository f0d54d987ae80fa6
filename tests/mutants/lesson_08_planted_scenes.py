"""Answers to the exercise of evaluation/planted_scenes.py; see run.py."""

HIT = "return bool(((ys - y) ** 2 + (xs - x) ** 2).min() <= tolerance**2)"

WRONG = [
    ("8.3", "nothing computed: always a hit", "", "return True"),
    ("8.3", "nothing computed: never a hit", "", "return False"),
    ("8.3", "nothing computed: no answer", "", "return None"),
    ("8.3", "tolerance excluded", "<= tolerance**2", "< tolerance**2"),
    ("8.3", "distance in one direction at a time", HIT,
     "return bool(torch.maximum((ys - y).abs(), (xs - x).abs()).min() <= tolerance)"),
    ("8.3", "city block distance", HIT, "return bool(((ys - y).abs() + (xs - x).abs()).min() <= tolerance)"),
    ("8.3", "x and y swapped", "y, x = (map", "x, y = (map"),
    ("8.3", "last maximum", ".nonzero()[0]", ".nonzero()[-1]"),
    ("8.3", "distance to the centre of the region", HIT,
     "return bool((ys.double().mean() - y) ** 2 + (xs.double().mean() - x) ** 2 <= tolerance**2)"),
    ("8.3", "tolerance not squared", "tolerance**2", "tolerance"),
    ("8.3", "largest absolute value", "map == map.max()", "map.abs() == map.abs().max()"),
    ("8.3", "any maximum may hit", "", "hits = [((mask.nonzero() - place) ** 2).sum(1).min() <= tolerance**2\n"
     "        for place in (map == map.max()).nonzero()]\nreturn any(bool(hit) for hit in hits)"),
    ("8.3", "no tolerance", HIT, "return bool(mask[y, x])"),
    ("8.3", "mask inverted", "mask.nonzero", "(~mask).nonzero"),
    ("8.3", "a tensor", "bool(", "("),
    ("8.3", "bounding box", HIT, "return bool(ys.min() - tolerance <= y <= ys.max() + tolerance "
     "and xs.min() - tolerance <= x <= xs.max() + tolerance)"),
]  # fmt: skip

RIGHT = [
    ("8.3", "divmod of argmax", "y, x = (map == map.max()).nonzero()[0]",
     "y, x = divmod(int((map == map.max()).flatten().float().argmax()), map.shape[1])"),
    ("8.3", "distances as floats", HIT,
     "return bool(torch.hypot((ys - y).double(), (xs - x).double()).min() <= tolerance)"),
    ("8.3", "distance transform", "", "from scipy.ndimage import distance_transform_edt\n"
     "distance = distance_transform_edt(~mask.numpy())\n"
     "return distance[np.unravel_index(map.numpy().argmax(), map.shape)] <= tolerance"),
]  # fmt: skip
