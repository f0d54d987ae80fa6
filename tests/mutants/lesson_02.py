"""Answers to the exercises of lesson 02; see run.py."""

WRONG = [
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
]  # fmt: skip

RIGHT = [
    ("2.1", "product split in two", "return gradient * (images.detach() - zero)",
     "return gradient * images.detach() - gradient * zero"),
    ("2.2", "sum over the flattened shares", "attribution.sum(dim=(1, 2, 3))", "attribution.flatten(1).sum(-1)"),
    ("2.3", "add the negative", "images - self.shift", "torch.add(images, -self.shift)"),
]  # fmt: skip
