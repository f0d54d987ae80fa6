"""Answers to the exercises of lesson 01; see run.py."""

SCORE = "score = target_logits(model(x), target)"
UNIT = "unit = direction / direction.flatten(1).norm(dim=1)[:, None, None, None]"

WRONG = [
    ("1.1", "loss instead of the logit", SCORE,
     "logits = model(x); labels = target_indices(target, logits)\n"
     "score = -nn.functional.cross_entropy(logits, labels, reduction='none')"),
    ("1.1", "softmax instead of the logit", SCORE,
     "logits = model(x); score = target_logits(logits.softmax(1), target_indices(target, logits))"),
    ("1.1", "log-softmax instead of the logit", SCORE,
     "logits = model(x); score = target_logits(logits.log_softmax(1), target_indices(target, logits))"),
    ("1.1", "mean over the batch", "score.sum()", "score.mean()"),
    ("1.1", "first image only", "score.sum()", "score[0]"),
    ("1.1", "target ignored", SCORE, "score = model(x).max(dim=1).values"),
    ("1.1", "first target for all", SCORE, "logits = model(x); score = logits[:, target_indices(target, logits)[0]]"),
    ("1.1", "sum of all logits", SCORE, "score = model(x).sum(dim=1)"),
    ("1.1", "absolute value", "(w,) = torch.autograd.grad(score.sum(), x)",
     "w = torch.autograd.grad(score.sum(), x)[0].abs()"),
    ("1.1", "gradient accumulated in the parameters", "(w,) = torch.autograd.grad(score.sum(), x)",
     "score.sum().backward()\nw = x.grad"),
    ("1.1", "the caller's tensor is made to require grad", "x = images.detach().clone().requires_grad_()",
     "x = images.requires_grad_()"),
    ("1.1", "normalised by its maximum", "(w,) = torch.autograd.grad(score.sum(), x)",
     "w = torch.autograd.grad(score.sum(), x)[0]\nw = w / w.abs().max()"),
    ("1.2", "no absolute value", "", "w = vanilla_gradient(model, images, target)\n"
     "return w.amax(dim=1) if reduce == 'max' else w.sum(dim=1)"),
    ("1.2", "sum over channels before the absolute value", "", "w = vanilla_gradient(model, images, target)\n"
     "return w.abs().amax(dim=1) if reduce == 'max' else w.sum(dim=1).abs()"),
    ("1.2", "reduce ignored", 'f"{reduce}_abs"', '"max_abs"'),
    ("1.2", "mean instead of sum", "", "w = vanilla_gradient(model, images, target).abs()\n"
     "return w.amax(dim=1) if reduce == 'max' else w.mean(dim=1)"),
    ("1.2", "H and W swapped", 'f"{reduce}_abs")', 'f"{reduce}_abs").transpose(1, 2)'),
    ("1.2", "scaled to its own maximum", "", "w = channel_reduce(vanilla_gradient(model, images, target), "
     "f'{reduce}_abs')\nreturn w / w.amax(dim=(1, 2), keepdim=True)"),
    ("1.3", "softmax over the batch", "logits.softmax(dim=1)", "logits.softmax(dim=0)"),
    ("1.3", "log-softmax", "logits.softmax(dim=1)", "logits.log_softmax(dim=1)"),
    ("1.3", "the logit", "logits.softmax(dim=1)", "logits"),
    ("1.3", "sigmoid", "logits.softmax(dim=1)", "logits.sigmoid()"),
    ("1.3", "target ignored", "target_indices(target, logits)", "None"),
    ("1.3", "probability times the logit's gradient", "", "x = images.detach().clone().requires_grad_()\n"
     "logits = model(x)\nlabels = target_indices(target, logits)\n"
     "(gradient,) = torch.autograd.grad(target_logits(logits, labels).sum(), x)\n"
     "gradient = gradient * target_logits(logits.detach().softmax(dim=1), labels)[:, None, None, None]"),
    ("1.4", "nothing computed", "", "return images.new_zeros(len(images))"),
    ("1.4", "the direction's length forgotten", UNIT, "unit = direction"),
    ("1.4", "one length for the whole batch", UNIT, "unit = direction / direction.norm()"),
    ("1.4", "forward difference", "return (ahead - behind) / (2 * step)",
     "return (ahead - target_logits(model(images), target)) / step"),
    ("1.4", "half the way forgotten", "(2 * step)", "step"),
    ("1.4", "never divided by the step", " / (2 * step)", ""),
    ("1.4", "behind minus ahead", "(ahead - behind)", "(behind - ahead)"),
    ("1.4", "absolute value", "(ahead - behind)", "(ahead - behind).abs()"),
    ("1.4", "largest component for the length", UNIT,
     "unit = direction / direction.flatten(1).abs().amax(dim=1)[:, None, None, None]"),
    ("1.4", "step ignored", UNIT, UNIT + "\nstep = 0.005"),
]  # fmt: skip

RIGHT = [
    ("1.1", "one image at a time", "", "parts = []\nwith torch.no_grad():\n"
     "    labels = target_indices(target, model(images))\nfor image, label in zip(images, labels, strict=True):\n"
     "    x = image[None].detach().clone().requires_grad_()\n"
     "    parts.append(torch.autograd.grad(model(x)[0, label], x)[0])\nw = torch.cat(parts)"),
    ("1.1", "grad_outputs of ones", "score.sum(), x)", "score, x, grad_outputs=torch.ones_like(score))"),
    ("1.2", "abs and max by hand", "", "w = vanilla_gradient(model, images, target).abs()\n"
     "return w.max(dim=1)[0] if reduce == 'max' else w.sum(1)"),
    ("1.3", "softmax written out", "logits.softmax(dim=1)",
     "(logits - logits.logsumexp(dim=1, keepdim=True)).exp()"),
    ("1.4", "both steps in one batch", "", "unit = nn.functional.normalize(direction.flatten(1))\n"
     "unit = unit.reshape(images.shape)\n"
     "both = model(torch.cat([images + step * unit, images - step * unit]))\n"
     "ahead, behind = target_logits(both, target.repeat(2)).chunk(2)\nreturn (ahead - behind) / step / 2"),
]  # fmt: skip
