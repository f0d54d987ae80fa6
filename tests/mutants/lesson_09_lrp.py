"""Answers to the exercises of advanced/lrp.py; see run.py."""

EPSILON = "epsilon = EPSILON * z.detach().square().mean(dim=tuple(range(1, z.ndim)), keepdim=True).sqrt()"
P = "return z + (epsilon + TINY) * sign(z)"
PLUS = "return positive_part(layer, a) + TINY"
GAMMA = "return z + GAMMA * torch.where(z < 0, z - plus, plus) + TINY * sign(z)"
HAND = "return [4 * 3 / 6, 0.0, 4 * 1 / 6]"
HOOK = "return p * (z / p).detach()"

WRONG = [
    ("9.1", "nothing computed: zeros", P, "return torch.zeros_like(z)"),
    ("9.1", "no epsilon", P, "return z"),
    ("9.1", "epsilon without the sign", P, "return z + epsilon + TINY"),
    ("9.1", "epsilon subtracted", P, "return z - (epsilon + TINY) * sign(z)"),
    ("9.1", "torch's sign, 0 at 0", P, "return z + (epsilon + TINY) * torch.sign(z)"),
    ("9.1", "absolute value", P, "return z.abs() + epsilon + TINY"),
    ("9.1", "0 / 0 where all sums are 0", P, "return z + epsilon * sign(z)"),
    ("9.1", "a fixed epsilon", EPSILON, "epsilon = EPSILON"),
    ("9.1", "one epsilon for the batch", "z.detach().square().mean(dim=tuple(range(1, z.ndim)), keepdim=True).sqrt()",
     "z.detach().square().mean().sqrt()"),
    ("9.1", "one epsilon per neuron", "dim=tuple(range(1, z.ndim))", "dim=0"),
    ("9.1", "one epsilon per place", "dim=tuple(range(1, z.ndim))", "dim=1"),
    ("9.1", "root forgotten", "keepdim=True).sqrt()", "keepdim=True)"),
    ("9.1", "mean absolute value", "z.detach().square().mean(dim=tuple(range(1, z.ndim)), keepdim=True).sqrt()",
     "z.detach().abs().mean(dim=tuple(range(1, z.ndim)), keepdim=True)"),
    ("9.1", "a gradient through epsilon", "z.detach()", "z"),
    ("9.1", "positive sums instead of positive contributions", PLUS,
     "return zero_rule(layer, a).clamp(min=0) + TINY"),
    ("9.1", "positive weights only", PLUS, "return affine(layer, a, layer.weight.clamp(min=0), layer.bias) + TINY"),
    ("9.1", "without the bias", PLUS, "return positive_part(layer, a, bias=False) + TINY"),
    ("9.1", "z+: 0 / 0", PLUS, "return positive_part(layer, a)"),
    ("9.1", "gamma for positive sums only", GAMMA, "return z + GAMMA * plus + TINY * sign(z)"),
    ("9.1", "gamma of the other sign", GAMMA, "return z + GAMMA * torch.where(z < 0, plus, z - plus) + TINY * sign(z)"),
    ("9.1", "gamma in place of the sum", GAMMA, "return GAMMA * torch.where(z < 0, z - plus, plus) + TINY * sign(z)"),
    ("9.1", "1 + gamma times the sum", GAMMA, "return z * (1 + GAMMA) + TINY * sign(z)"),
    ("9.1", "predicted as if there were no bias", HAND, "return [3.0, 0.0, 1.0]"),
    ("9.1", "predicted by contribution", HAND, "return [3.0, -2.0, 1.0]"),
    ("9.1", "predicted for R = 2", HAND, "return [1.0, 0.0, 1 / 3]"),
    ("9.2", "nothing computed: zeros", HOOK, "return z * 0"),
    ("9.2", "p alone: another value", HOOK, "return p"),
    ("9.2", "z alone: the plain gradient", HOOK, "return z"),
    ("9.2", "nothing held constant", HOOK, "return p * (z / p)"),
    ("9.2", "p held constant", HOOK, "return p.detach() * (z / p)"),
    ("9.2", "value of z, gradient of p without z / p", HOOK, "return p + (z - p).detach()"),
    ("9.2", "ratio upside down", HOOK, "return z * (p / z).detach()"),
    ("9.2", "all detached", HOOK, "return (p * (z / p)).detach().requires_grad_()"),
]  # fmt: skip

RIGHT = [
    ("9.1", "epsilon by torch.where, the norm by torch.linalg",
     "epsilon = EPSILON * z.detach().square().mean(dim=tuple(range(1, z.ndim)), keepdim=True).sqrt()\n"
     "return z + (epsilon + TINY) * sign(z)",
     "size = torch.linalg.vector_norm(z.detach().flatten(1), dim=1) / z[0].numel() ** 0.5\n"
     "e = (EPSILON * size + TINY).reshape(-1, *[1] * (z.ndim - 1))\nreturn torch.where(z < 0, z - e, z + e)"),
    ("9.1", "gamma by cases", GAMMA,
     "minus = z - plus\nreturn torch.where(z < 0, z + GAMMA * minus - TINY, z + GAMMA * plus + TINY)"),
    ("9.1", "rounded by hand", HAND, "return [2, 0, 0.667]"),
    ("9.2", "two steps", HOOK, "ratio = (z / p).detach()\nreturn ratio * p"),
    ("9.2", "value fixed afterwards", HOOK, "scaled = p * (z / p).detach()\nreturn scaled + (z - scaled).detach()"),
]  # fmt: skip
