"""Answers to the exercises of lesson 07; see run.py."""

PARTIAL = 'partial = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}.part")'
REPLACE = "    os.replace(partial, file)"

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
     "lesson_01.vanilla_gradient(model, images, target)"),
    ("7.1", "map scaled to its maximum", "layer=layer)",
     "layer=layer)\nL = L / L.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)"),
    ("7.1", "first image's map for all", "L[:, None]", "L[:1, None]"),
    ("7.1", "square", "L[:, None]", "L[:, None] ** 2"),
    ("7.2", "written in place", "", "with file.open('wb') as stream:\n    fill(stream)"),
    ("7.2", "one temporary name for all threads", PARTIAL, "partial = file.with_name(f'.{file.name}.part')"),
    ("7.2", "a name for a process, not a thread", "-{threading.get_ident()}", ""),
    ("7.2", "left behind when fill raises", "", PARTIAL + "\nwith partial.open('wb') as stream:\n    fill(stream)\n"
     "os.replace(partial, file)"),
    ("7.2", "renamed even after an exception", "", PARTIAL + "\ntry:\n    with partial.open('wb') as stream:\n"
     "        fill(stream)\nfinally:\n    os.replace(partial, file)"),
    ("7.2", "only Exception cleaned up", "", PARTIAL + "\ntry:\n    with partial.open('wb') as stream:\n"
     "        fill(stream)\n    os.replace(partial, file)\nexcept Exception:\n    partial.unlink()\n    raise"),
    ("7.2", "exception swallowed", "", PARTIAL + "\ntry:\n    with partial.open('wb') as stream:\n"
     "        fill(stream)\n    os.replace(partial, file)\nexcept BaseException:\n    partial.unlink()"),
    ("7.2", "copied, not renamed", REPLACE, "    file.write_bytes(partial.read_bytes()[:-1])"),
    ("7.2", "old file removed first", "try:\n    with", "file.unlink(missing_ok=True)\ntry:\n    with"),
    ("7.3", "zip", "", "yield from zip(items, targets)"),
    ("7.3", "zip_longest with None", "nothing = object()", "nothing = None"),
    ("7.3", "only missing targets noticed", "item is nothing or target is nothing", "target is nothing"),
    ("7.3", "only missing items noticed", "item is nothing or target is nothing", "item is nothing"),
    ("7.3", "all read before the first", "", "items, targets = list(items), list(targets)\n"
     "if len(items) != len(targets):\n    raise ValueError('target has another length')\n"
     "yield from zip(items, targets)"),
    ("7.3", "pairs swapped", "yield item, target", "yield target, item"),
    ("7.3", "strict zip with its own message", "", "yield from zip(items, targets, strict=True)"),
    ("7.3", "stops quietly", "raise ValueError(\"target has more or fewer classes than there are inputs; "
     "give one for all, or one each\")", "return"),
    ("7.3", "falsy items end it", "item is nothing or target is nothing", "not item or target is nothing"),
]  # fmt: skip

RIGHT = [
    ("7.1", "channel by channel", "return guided_backpropagation(model, images, target) * L[:, None]",
     "guided = guided_backpropagation(model, images, target)\n"
     "return torch.stack([guided[:, c] * L for c in range(guided.shape[1])], dim=1)"),
    ("7.2", "tempfile", "", "import tempfile\nhandle, name = tempfile.mkstemp(dir=file.parent)\ntry:\n"
     "    with os.fdopen(handle, 'wb') as stream:\n        fill(stream)\n    os.replace(name, file)\n"
     "except BaseException:\n    os.unlink(name)\n    raise"),
    ("7.3", "iterators by hand", "", "items, targets, end = iter(items), iter(targets), object()\nwhile True:\n"
     "    item, target = next(items, end), next(targets, end)\n    if item is end and target is end:\n        return\n"
     "    if item is end or target is end:\n        raise ValueError('target and inputs differ in number')\n"
     "    yield item, target"),
]  # fmt: skip
