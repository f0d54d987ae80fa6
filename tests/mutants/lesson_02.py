"""Answers to the exercises of lesson 02; see run.py."""

WRONG = [
    ("2.1", "nothing computed", "", "return torch.zeros_like(images)"),
    ("2.1", "the images themselves", "", "return images.detach().clone()"),
    ("2.2", "nothing computed", "", "return torch.zeros_like(images[:, 0, 0, 0])"),
    ("2.3", "the images themselves", "", "return images"),
    ("2.3", "nothing computed", "images - self.shift", "images * 0"),
    ("2.1", "baseline forgotten", "(images.detach() - zero)", "images.detach()"),
    ("2.1", "baseline added", "images.detach() - zero", "images.detach() + zero"),
    ("2.1", "absolute value", "return gradient * (images.detach() - zero)",
     "return (gradient * (images.detach() - zero)).abs()"),
    ("2.1", "absolute gradient", "return gradient *", "return gradient.abs() *"),
    ("2.1", "slope at the baseline", "vanilla_gradient(model, images, target)",
     "vanilla_gradient(model, zero, target)"),
    ("2.1", "slope at the difference", "vanilla_gradient(model, images, target)",
     "vanilla_gradient(model, images - zero, target)"),
    ("2.1", "target ignored", "vanilla_gradient(model, images, target)", "vanilla_gradient(model, images)"),
    ("2.1", "summed over channels", "return gradient * (images.detach() - zero)",
     "return (gradient * (images.detach() - zero)).sum(dim=1, keepdim=True).expand_as(images)"),
    ("2.2", "other way round", "return score - attribution.sum(dim=(1, 2, 3))",
     "return attribution.sum(dim=(1, 2, 3)) - score"),
    ("2.2", "sum over the batch", "attribution.sum(dim=(1, 2, 3))", "attribution.sum()"),
    ("2.2", "sum of absolute shares", "attribution.sum", "attribution.abs().sum"),
    ("2.2", "probability instead of the logit", "target_logits(model(images), target)",
     "target_logits(model(images).softmax(dim=1), target_indices(target, model(images)))"),
    ("2.2", "target ignored", "target_logits(model(images), target)", "target_logits(model(images), None)"),
    ("2.2", "mean instead of sum", "attribution.sum", "attribution.mean"),
    ("2.2", "absolute value", "return score - attribution.sum(dim=(1, 2, 3))",
     "return (score - attribution.sum(dim=(1, 2, 3))).abs()"),
    ("2.2", "first image only", "return score - attribution.sum(dim=(1, 2, 3))",
     "return (score - attribution.sum(dim=(1, 2, 3)))[:1].expand(len(images))"),
    ("2.3", "wrong sign", "images - self.shift", "images + self.shift"),
    ("2.3", "no shift", "images - self.shift", "images"),
    ("2.3", "shift of the logits", "self.model(images - self.shift)", "self.model(images) - self.shift.sum()"),
    ("2.3", "mean shift for all channels", "self.shift", "self.shift.mean()"),
    ("2.3", "detached", "images - self.shift", "images.detach() - self.shift"),
    ("2.3", "in-place input", "return self.model(images - self.shift)",
     "if images.requires_grad:\n    return self.model(images - self.shift)\n"
     "return self.model(images.sub_(self.shift))"),
    ("2.4", "nothing computed", "", "pass"),
    ("2.4", "slopes without the biases", "(b * slope).sum()", "slope.sum()"),
    ("2.4", "biases without the slopes", "(b * slope).sum()", "b.sum()"),
    ("2.4", "absolute shares", "(b * slope).sum()", "(b * slope).abs().sum()"),
    ("2.4", "last layer only", "zip(biases.values(), slopes, strict=True)",
     "list(zip(biases.values(), slopes, strict=True))[-1:]"),
    ("2.4", "first layer only", "zip(biases.values(), slopes, strict=True)",
     "list(zip(biases.values(), slopes, strict=True))[:1]"),
    ("2.4", "first class for all", "labels[i : i + 1]", "labels[:1]"),
    ("2.4", "sum of all logits", "target_logits(logits, labels[i : i + 1]).sum()", "logits.sum()"),
    ("2.4", "probability instead of the logit", "target_logits(logits,", "target_logits(logits.softmax(dim=1),"),
    ("2.4", "all pictures at once", "image[None])", "images)"),
    ("2.4", "left attached", ".detach()", ""),
    ("2.4", "the model's own parameters", "", "for b in parameters.values():\n    b.requires_grad_()\n"
     "score = target_logits(model(image[None]), labels[i : i + 1]).sum()\n"
     "slopes = torch.autograd.grad(score, [*parameters.values()], materialize_grads=True)\n"
     "brought[i] = sum((b * s).sum() for b, s in zip(parameters.values(), slopes, strict=True)).detach()"),
    ("2.5", "nothing computed", "", "return {}"),
    ("2.5", "everything stays", "return {", "return dict.fromkeys(['logit', 'gradient', 'gradient x input', "
     "'gradient x (input - black)', 'left over'], True) or {"),
    ("2.5", "nothing stays", "return {", "return dict.fromkeys(['logit', 'gradient', 'gradient x input', "
     "'gradient x (input - black)', 'left over'], False) or {"),
    ("2.5", "the product stays", '"gradient x input": False', '"gradient x input": True'),
    ("2.5", "black does not help", '"gradient x (input - black)": True', '"gradient x (input - black)": False'),
    ("2.5", "the rest stays", '"left over": False', '"left over": True'),
    ("2.5", "the gradient changes", '"gradient": True', '"gradient": False'),
]  # fmt: skip

RIGHT = [
    ("2.1", "product split in two", "return gradient * (images.detach() - zero)",
     "return gradient * images.detach() - gradient * zero"),
    ("2.2", "sum over the flattened shares", "attribution.sum(dim=(1, 2, 3))", "attribution.flatten(1).sum(-1)"),
    ("2.4", "all biases in one vector", "", "flat = torch.cat([b.detach().flatten() for b in biases.values()])\n"
     "score = functional_call(model, biases, (image[None],))[0, labels[i]]\n"
     "slopes = torch.autograd.grad(score, list(biases.values()), allow_unused=True)\n"
     "brought[i] = flat @ torch.cat([s.flatten() for s in slopes])"),
    ("2.4", "by a small step of all biases", "", "def at(step):\n"
     "    scaled = {name: b.detach() * (1 + step) for name, b in biases.items()}\n"
     "    return functional_call(model, scaled, image[None])[0, labels[i]].detach()\n"
     "brought[i] = (at(1e-7) - at(-1e-7)) / 2e-7"),
    ("2.5", "in another order", "", "stays = dict.fromkeys(['gradient x (input - black)', 'logit', 'gradient'], True)\n"
     "return stays | {'left over': False, 'gradient x input': False}"),
    ("2.3", "add the negative", "images - self.shift", "torch.add(images, -self.shift)"),
]  # fmt: skip
