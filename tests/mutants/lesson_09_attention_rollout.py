"""Answers to the exercises of attention_rollout.py; see run.py."""

MIX = "A = 0.5 * A + 0.5 * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)"
A_BAR = "A_bar = (dA * A).clamp(min=0).mean(dim=1)"
LAST = "return kept + (1 - kept) / tokens"

WRONG = [
    ("9.3", "nothing computed", MIX, "return A\n" + MIX),
    ("9.3", "nothing rolled out", "R = with_residual(fused) @ R", "R = R.expand(len(A), -1, -1)"),
    ("9.3", "no identity", MIX, "A = 1.0 * A"),
    ("9.3", "identity in full", MIX, "A = A + 0.25 * torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)"),
    ("9.3", "no keepdim", "A.sum(dim=-1, keepdim=True)", "A.sum(dim=-1)"),
    ("9.3", "columns divided", "A.sum(dim=-1, keepdim=True)", "A.sum(dim=-2, keepdim=True)"),
    ("9.3", "not divided", "return A / A.sum(dim=-1, keepdim=True)", "return A"),
    ("9.3", "layers the wrong way round", "R = with_residual(fused) @ R", "R = R @ with_residual(fused)"),
    ("9.3", "first layer forgotten", "R = with_residual(fused) @ R", "R = with_residual(fused)"),
    ("9.3", "sum in place of product", "R = with_residual(fused) @ R", "R = with_residual(fused) + R"),
    ("9.3", "place by place", "R = with_residual(fused) @ R", "R = with_residual(fused) * R"),
    ("9.4", "nothing computed", "", "R = R + 0 * A.mean(dim=1)"),
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
    ("9.9", "nothing computed", "", "return 0.0"),
    ("9.9", "what was never taken away, alone", LAST, "return kept"),
    ("9.9", "all tokens alike", "", "return 1 / tokens"),
    ("9.9", "one layer's, to the power of their number", "", "return (0.5 + 0.5 / tokens) ** layers"),
    ("9.9", "a half, whatever the number of layers", "kept = 0.5**layers", "kept = 0.5"),
    ("9.9", "a layer too many", "kept = 0.5**layers", "kept = 0.5 ** (layers + 1)"),
    ("9.9", "patches without CLS", LAST, "return kept + (1 - kept) / (tokens - 1)"),
    ("9.9", "no residual connection", "", "return float(layers == 0) or 1 / tokens"),
]  # fmt: skip

RIGHT = [
    ("9.3", "half of the sum", MIX, "A = (A + torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)) / 2"),
    ("9.3", "einsum", "R = with_residual(fused) @ R",
     "R = torch.einsum('bij,bjk->bik', with_residual(fused), R.expand(len(fused), -1, -1))"),
    ("9.4", "relu", A_BAR, "A_bar = torch.relu(A * dA).sum(dim=1) / A.shape[1]"),
    ("9.9", "layer by layer", "", "share = 1.0\nfor _ in range(layers):\n"
     "    share = share / 2 + 1 / (2 * tokens)\nreturn share"),
    ("9.9", "a matrix after all", "",
     "mixed = torch.full((tokens, tokens), 0.5 / tokens, dtype=torch.float64) + 0.5 * torch.eye(tokens)\n"
     "return float(torch.linalg.matrix_power(mixed, layers)[0, 0])"),
]  # fmt: skip
