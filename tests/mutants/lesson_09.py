"""Answers to the exercises of lesson 09; see run.py."""

GAMMA = "return z + GAMMA * torch.where(z < 0, z - plus, plus) + TINY * sign(z)"
HOOK = "return p * (z / p).detach()"
MIX = "A = 0.5 * A + 0.5 * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)"
A_BAR = "A_bar = (dA * A).clamp(min=0).mean(dim=1)"

WRONG = [
    ("9.1", "no epsilon", "return z + EPSILON * sign(z)", "return z"),
    ("9.1", "epsilon without the sign", "return z + EPSILON * sign(z)", "return z + EPSILON"),
    ("9.1", "epsilon subtracted", "return z + EPSILON * sign(z)", "return z - EPSILON * sign(z)"),
    ("9.1", "torch's sign, 0 at 0", "return z + EPSILON * sign(z)", "return z + EPSILON * torch.sign(z)"),
    ("9.1", "absolute value", "return z + EPSILON * sign(z)", "return z.abs() + EPSILON"),
    ("9.1", "positive sums instead of positive contributions", "return positive_part(layer, a) + TINY",
     "return zero_rule(layer, a).clamp(min=0) + TINY"),
    ("9.1", "positive weights only", "return positive_part(layer, a) + TINY",
     "return affine(layer, a, layer.weight.clamp(min=0), layer.bias) + TINY"),
    ("9.1", "without the bias", "return positive_part(layer, a) + TINY",
     "return positive_part(layer, a) - layer.bias.clamp(min=0) + TINY"),
    ("9.1", "0 / 0", "return positive_part(layer, a) + TINY", "return positive_part(layer, a)"),
    ("9.1", "gamma for positive sums only", GAMMA, "return z + GAMMA * plus + TINY * sign(z)"),
    ("9.1", "gamma of the other sign", GAMMA, "return z + GAMMA * torch.where(z < 0, plus, z - plus) + TINY * sign(z)"),
    ("9.1", "gamma in place of the sum", GAMMA, "return GAMMA * torch.where(z < 0, z - plus, plus) + TINY * sign(z)"),
    ("9.1", "1 + gamma times the sum", GAMMA, "return z * (1 + GAMMA) + TINY * sign(z)"),
    ("9.2", "p alone: another value", HOOK, "return p"),
    ("9.2", "z alone: the plain gradient", HOOK, "return z"),
    ("9.2", "nothing held constant", HOOK, "return p * (z / p)"),
    ("9.2", "p held constant", HOOK, "return p.detach() * (z / p)"),
    ("9.2", "value of z, gradient of p without z / p", HOOK, "return p + (z - p).detach()"),
    ("9.2", "ratio upside down", HOOK, "return z * (p / z).detach()"),
    ("9.2", "all detached", HOOK, "return (p * (z / p)).detach().requires_grad_()"),
    ("9.3", "no identity", MIX, "A = 1.0 * A"),
    ("9.3", "identity in full", MIX, "A = A + 0.25 * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)"),
    ("9.3", "no keepdim", "A.sum(dim=-1, keepdim=True)", "A.sum(dim=-1)"),
    ("9.3", "columns divided", "A.sum(dim=-1, keepdim=True)", "A.sum(dim=-2, keepdim=True)"),
    ("9.3", "not divided", "return A / A.sum(dim=-1, keepdim=True)", "return A"),
    ("9.3", "layers the wrong way round", "R = with_residual(fused) @ R", "R = R @ with_residual(fused)"),
    ("9.3", "first layer forgotten", "R = with_residual(fused) @ R", "R = with_residual(fused)"),
    ("9.3", "sum in place of product", "R = with_residual(fused) @ R", "R = with_residual(fused) + R"),
    ("9.3", "place by place", "R = with_residual(fused) @ R", "R = with_residual(fused) * R"),
    ("9.4", "no gradient", A_BAR, "A_bar = A.mean(dim=1)"),
    ("9.4", "gradient alone", A_BAR, "A_bar = dA.clamp(min=0).mean(dim=1)"),
    ("9.4", "no clamp", A_BAR, "A_bar = (dA * A).mean(dim=1)"),
    ("9.4", "clamp after the mean", A_BAR, "A_bar = (dA * A).mean(dim=1).clamp(min=0)"),
    ("9.4", "absolute value", A_BAR, "A_bar = (dA * A).abs().mean(dim=1)"),
    ("9.4", "sum of the heads", A_BAR, "A_bar = (dA * A).clamp(min=0).sum(dim=1)"),
    ("9.4", "first image only", A_BAR, "A_bar = (dA * A).clamp(min=0).mean(dim=1)[:1]"),
    ("9.4", "without what was there", "R = R + A_bar @ R", "R = A_bar @ R"),
    ("9.4", "from the right", "R = R + A_bar @ R", "R = R + R @ A_bar"),
    ("9.4", "last layer only", "R = R + A_bar @ R", "R = torch.eye(R.shape[-1]).to(R) + A_bar"),
]  # fmt: skip

RIGHT = [
    ("9.1", "epsilon by torch.where", "return z + EPSILON * sign(z)",
     "return torch.where(z < 0, z - EPSILON, z + EPSILON)"),
    ("9.1", "gamma by cases", GAMMA,
     "minus = z - plus\nreturn torch.where(z < 0, z + GAMMA * minus - TINY, z + GAMMA * plus + TINY)"),
    ("9.2", "two steps", HOOK, "ratio = (z / p).detach()\nreturn ratio * p"),
    ("9.2", "value fixed afterwards", HOOK, "scaled = p * (z / p).detach()\nreturn scaled + (z - scaled).detach()"),
    ("9.3", "half of the sum", MIX, "A = (A + torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)) / 2"),
    ("9.3", "einsum", "R = with_residual(fused) @ R",
     "R = torch.einsum('bij,bjk->bik', with_residual(fused), R.expand(len(fused), -1, -1))"),
    ("9.4", "relu", A_BAR, "A_bar = torch.relu(A * dA).sum(dim=1) / A.shape[1]"),
]  # fmt: skip
