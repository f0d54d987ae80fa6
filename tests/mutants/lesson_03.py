"""Answers to the exercises of lesson 03; see run.py."""

RANGE = "images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))"
GRADIENTS = "gradients = vanilla_gradient(model, images[i] + sigma[i] * noise, int(target[i]))"

WRONG = [
    ("3.1", "divided by the range", "noise_level * (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3)))",
     "noise_level / (images.amax(dim=(1, 2, 3)) - images.amin(dim=(1, 2, 3))).clamp(min=1e-12)"),
    ("3.1", "range of the whole batch", RANGE, "(images.max() - images.min()).expand(len(images))"),
    ("3.1", "squared", "", f"sigma = (noise_level * ({RANGE})) ** 2"),
    ("3.1", "root", "", f"sigma = (noise_level * ({RANGE})).sqrt()"),
    ("3.1", "standard deviation of the image", RANGE, "images.std(dim=(1, 2, 3))"),
    ("3.1", "maximum only", RANGE, "images.amax(dim=(1, 2, 3))"),
    ("3.1", "range taken for 1", f"({RANGE})", "torch.ones_like(images[:, 0, 0, 0])"),
    ("3.1", "half the range", f"({RANGE})", f"({RANGE}) / 2"),
    ("3.1", "sum of the extremes", " - images.amin", " + images.amin"),
    ("3.2", "first image for all", "images[i]", "images[0]"),
    ("3.2", "first class for all", "int(target[i])", "int(target[0])"),
    ("3.2", "first sigma for all", "sigma[i]", "sigma[0]"),
    ("3.2", "noise instead of the noisy image", "images[i] + sigma[i] * noise", "sigma[i] * noise"),
    ("3.2", "sigma forgotten", "sigma[i] * noise", "noise"),
    ("3.2", "only the last chunk counts", "total[i] += gradients", "total[i] = gradients"),
    ("3.2", "mean of a chunk instead of its sum", "total[i] += gradients.sum(dim=0)",
     "total[i] += gradients.mean(dim=0)"),
    ("3.2", "square of the sum", "gradients.square().sum(dim=0)", "gradients.sum(dim=0).square()"),
    ("3.2", "absolute gradients", "total[i] += gradients.sum", "total[i] += gradients.abs().sum"),
    ("3.2", "noise reused: the first copy for all", "sigma[i] * noise", "sigma[i] * noise[:1].expand_as(noise)"),
    ("3.2", "squares forgotten", "gradients.square()", "gradients"),
    ("3.2", "image added up as it gets noisier", "images[i] + sigma[i] * noise",
     "images[i] + (sigma[i] * noise).cumsum(dim=0)"),
    ("3.3", "standard deviation", "(mean_square - mean.square()).clamp(min=0)",
     "(mean_square - mean.square()).clamp(min=0).sqrt()"),
    ("3.3", "no clamp", ".clamp(min=0)", ""),
    ("3.3", "square of the mean", "return mean_square\n", "return mean.square()\n"),
    ("3.3", "not divided", "total / n_samples, total_square / n_samples", "total, total_square"),
    ("3.3", "divided by n - 1", "total / n_samples, total_square / n_samples",
     "total / n_samples, total_square / max(n_samples - 1, 1)"),
    ("3.3", "divided by the chunk", "total / n_samples, total_square / n_samples",
     "total / batch_size, total_square / batch_size"),
    ("3.3", "mean not squared", "mean.square()", "mean"),
    ("3.3", "absolute mean", "return mean\n", "return mean.abs()\n"),
    ("3.4", "plain average of means", "(done * means[done] + (count - done) * more) / count",
     "(means[done] + more) / 2 if done else more"),
    ("3.4", "noise reused: no generator", ", generator=generator", ""),
    ("3.4", "begins anew each time", "n_samples=count - done", "n_samples=count"),
    ("3.4", "not divided", "(done * means[done] + (count - done) * more) / count",
     "done * means[done] + (count - done) * more"),
    ("3.4", "weights swapped", "(done * means[done] + (count - done) * more) / count",
     "((count - done) * means[done] + done * more) / count if done else more"),
    ("3.4", "only the new samples", "(done * means[done] + (count - done) * more) / count", "more"),
    ("3.4", "all anew with the same noise", "",
     "more = smoothgrad(model, image, target, n_samples=count, noise_level=noise_level,\n"
     "                  generator=torch.Generator().manual_seed(seed))\nmeans[count] = more"),
]  # fmt: skip

RIGHT = [
    ("3.1", "flattened", RANGE, "images.flatten(1).max(dim=1).values - images.flatten(1).min(dim=1).values"),
    ("3.2", "copy by copy", "", "for z in noise:\n"
     "    gradient = vanilla_gradient(model, (images[i] + sigma[i] * z)[None], int(target[i]))[0]\n"
     "    total[i] = total[i] + gradient\n    total_square[i] = total_square[i] + gradient**2"),
    ("3.3", "torch.where against rounding", "(mean_square - mean.square()).clamp(min=0)",
     "torch.relu(mean_square - mean * mean)"),
    ("3.4", "moved towards the new mean", "(done * means[done] + (count - done) * more) / count",
     "means[done] + (more - means[done]) * ((count - done) / count)"),
]  # fmt: skip
