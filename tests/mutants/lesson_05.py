"""Answers to the exercises of lesson 05; see run.py."""

ALPHA, SUM = "alpha = dA.mean(dim=(2, 3), keepdim=True)", "maps = (alpha * A).sum(dim=1)"

WRONG = [
    ("5.1", "sum instead of mean", "dA.mean", "dA.sum"),
    ("5.1", "weights of the whole batch", ALPHA, "alpha = dA.mean(dim=(0, 2, 3), keepdim=True)"),
    ("5.1", "ReLU on the weights", ALPHA, "alpha = dA.mean(dim=(2, 3), keepdim=True).relu()"),
    ("5.1", "ReLU on the channels before the sum", SUM, "maps = (alpha * A).relu().sum(dim=1)"),
    ("5.1", "always a ReLU", SUM, "maps = (alpha * A).sum(dim=1).relu()"),
    ("5.1", "mean over channels", SUM, "maps = (alpha * A).mean(dim=1)"),
    ("5.1", "accumulator of ones", SUM, "maps = 1 + (alpha * A).sum(dim=1)"),
    ("5.1", "gradient instead of activations", SUM, "maps = (alpha * dA).sum(dim=1)"),
    ("5.1", "no mean: HiResCAM", ALPHA, "alpha = dA"),
    ("5.1", "absolute weights", ALPHA, "alpha = dA.mean(dim=(2, 3), keepdim=True).abs()"),
    ("5.1", "scaled to its maximum", SUM,
     SUM + "\nmaps = maps / maps.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-9)"),
    ("5.1", "first image's weights for all", ALPHA, "alpha = dA[:1].mean(dim=(2, 3), keepdim=True)"),
    ("5.1", "largest gradient instead of the mean", ALPHA, "alpha = dA.amax(dim=(2, 3), keepdim=True)"),
    ("5.1", "H and W swapped", SUM, "maps = (alpha * A).sum(dim=1).transpose(1, 2).reshape(len(A), *A.shape[2:])"),
    ("5.2", "ReLU", "w, A)", "w, A).relu()"),
    ("5.2", "first class for all", "weight[target]", "weight[target[:1]].expand(len(A), -1)"),
    ("5.2", "bias added", "w, A)", "w, A) + linear[0].bias[target][:, None, None]"),
    ("5.2", "mean over channels", "w, A)", "w, A) / A.shape[1]"),
    ("5.2", "absolute weights", "weight[target]", "weight[target].abs()"),
    ("5.2", "divided by the number of places", "w, A)", "w, A) / A[0, 0].numel()"),
    ("5.2", "first image only", 'torch.einsum("bc,bchw->bhw", w, A)',
     'torch.einsum("bc,chw->bhw", w, A[0])'),
    ("5.3", "HiResCAM with the mean", "(dA * A)", "(dA.mean(dim=(2, 3), keepdim=True) * A)"),
    ("5.3", "HiResCAM with ReLU inside", "(dA * A)", "(dA * A).relu()"),
    ("5.3", "HiResCAM with absolute gradients", "(dA * A)", "(dA.abs() * A)"),
    ("5.3", "LayerCAM without ReLU", "(dA.relu() * A)", "(dA * A)"),
    ("5.3", "LayerCAM with ReLU around the product", "(dA.relu() * A)", "(dA * A).relu()"),
    ("5.3", "LayerCAM with absolute gradients", "(dA.relu() * A)", "(dA.abs() * A)"),
    ("5.3", "LayerCAM with ReLU on the activations as well", "(dA.relu() * A)", "(dA.relu() * A.relu())"),
    ("5.3", "LayerCAM with the mean over channels", "(dA.relu() * A).sum(dim=1)", "(dA.relu() * A).mean(dim=1)"),
    ("5.4", "division by zero", "torch.where(denominator != 0, denominator, 1)", "denominator"),
    ("5.4", "a small number against zero", "torch.where(denominator != 0, denominator, 1)", "(denominator + 0.1)"),
    ("5.4", "2 forgotten", "2 * dA**2", "dA**2"),
    ("5.4", "sum over channels in the denominator", "A.sum(dim=(2, 3), keepdim=True) * dA**3",
     "A.sum(dim=1, keepdim=True) * dA**3"),
    ("5.4", "no sum in the denominator", "A.sum(dim=(2, 3), keepdim=True) * dA**3", "A * dA**3"),
    ("5.4", "mean in the denominator", "A.sum(dim=(2, 3), keepdim=True)", "A.mean(dim=(2, 3), keepdim=True)"),
    ("5.4", "no ReLU on the gradient", "alpha * dA.relu()", "alpha * dA"),
    ("5.4", "mean of the weights", "(alpha * dA.relu()).sum", "(alpha * dA.relu()).mean"),
    ("5.4", "alpha is not used", "alpha * dA.relu()", "dA.relu()"),
]  # fmt: skip

RIGHT = [
    ("5.1", "einsum", ALPHA + "                          # eq. 1: (B, C, 1, 1)\n" + SUM,
     'alpha = dA.flatten(2).mean(dim=2)\nmaps = torch.einsum("bc,bchw->bhw", alpha, A)'),
    ("5.2", "broadcast", 'torch.einsum("bc,bchw->bhw", w, A)', "(w[:, :, None, None] * A).sum(1)"),
    ("5.2", "1 x 1 convolution of all classes", "",
     "every = nn.functional.conv2d(A, linear[0].weight[:, :, None, None])\n"
     "maps = every[torch.arange(len(A)), target]"),
    ("5.3", "einsum", "(dA * A).sum(dim=1)", 'torch.einsum("bchw,bchw->bhw", dA, A)'),
    ("5.4", "zero where the gradient is zero", "",
     "denominator = 2 * dA**2 + A.sum(dim=(2, 3), keepdim=True) * dA**3\n"
     "alpha, fine = torch.zeros_like(dA), denominator != 0\nalpha[fine] = (dA**2)[fine] / denominator[fine]\n"
     "maps = ((alpha * dA.clamp(min=0)).flatten(2).sum(-1)[:, :, None, None] * A).sum(1)"),
]  # fmt: skip
