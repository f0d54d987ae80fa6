"""Answers to the exercises of your_own_network.py; see run.py."""

AGES = "ages = torch.full((len(images), 1), age, dtype=images.dtype, device=images.device)"
MEAN = "return network(images)[:, :, region].mean(dim=2)"
STEPS = ("steps = network.conv1, nn.ReLU(), network.conv2, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), "
         "network.fc")  # fmt: skip
MODE = "return nn.Sequential(*steps).train(network.training)"

WRONG = [
    ("9.7", "nothing computed, ages", "return network(images, ages)", "return images.mean(dim=(2, 3))"),
    ("9.7", "nothing computed, region", MEAN, "return images.new_zeros(len(images), images.shape[1])"),
    ("9.7", "one age for the whole batch", AGES, "ages = torch.full((1, 1), age, dtype=images.dtype)"),
    ("9.7", "ages in one dimension", AGES, "ages = torch.full((len(images),), age, dtype=images.dtype)"),
    ("9.7", "ages of PyTorch's own dtype", AGES, "ages = torch.full((len(images), 1), age)"),
    ("9.7", "whole ages", AGES, "ages = torch.full((len(images), 1), int(age), dtype=images.dtype)"),
    ("9.7", "ages of 1", AGES, "ages = torch.ones(len(images), 1, dtype=images.dtype)"),
    ("9.7", "sum over the region", MEAN, "return network(images)[:, :, region].sum(dim=2)"),
    ("9.7", "maximum over the region", MEAN, "return network(images)[:, :, region].amax(dim=2)"),
    ("9.7", "divided by the whole picture", MEAN, "return (network(images) * region).mean(dim=(2, 3))"),
    ("9.7", "the region's bounding box", MEAN,
     "ys, xs = region.nonzero(as_tuple=True)\n"
     "return network(images)[:, :, ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].mean(dim=(2, 3))"),
    ("9.7", "the picture masked, not its scores", MEAN, "return network(images * region).mean(dim=(2, 3))"),
    ("9.7", "mean over the images too", MEAN,
     "return network(images)[:, :, region].mean(dim=(0, 2)).expand(len(images), -1)"),
    ("9.7", "detached", MEAN, "return network(images.detach())[:, :, region].mean(dim=2)"),
    ("9.8", "nothing computed", "", "return network"),
    ("9.8", "the functional network in a box", "", "return nn.Sequential(network)"),
    ("9.8", "one ReLU forgotten", STEPS, STEPS.replace("network.conv2, nn.ReLU()", "network.conv2")),
    ("9.8", "ReLU before the convolution", STEPS,
     STEPS.replace("network.conv2, nn.ReLU()", "nn.ReLU(), network.conv2")),
    ("9.8", "maximum for the mean", STEPS, STEPS.replace("Avg", "Max")),
    ("9.8", "copies of the layers", STEPS,
     "import copy\nnetwork = copy.deepcopy(network)\n" + STEPS),
    ("9.8", "new layers", STEPS,
     STEPS.replace("network.conv1", "nn.Conv2d(3, 6, 3).to(network.conv1.weight)")),
    ("9.8", "always in train mode", MODE, "return nn.Sequential(*steps).train()"),
    ("9.8", "always in eval mode", MODE, "return nn.Sequential(*steps).eval()"),
    ("9.8", "mode forgotten", MODE, "return nn.Sequential(*steps)"),
    ("9.8", "another activation", STEPS, STEPS.replace("network.conv2, nn.ReLU()", "network.conv2, nn.ReLU6()")),
]  # fmt: skip

RIGHT = [
    ("9.7", "zeros plus the age", AGES, "ages = images.new_zeros(len(images), 1) + age"),
    ("9.7", "an average with weights", MEAN,
     "scores = network(images)\nreturn (scores * region).sum(dim=(2, 3)) / region.sum()"),
    ("9.7", "image by image", MEAN,
     "return torch.stack([torch.stack([c[region].mean() for c in scores]) for scores in network(images)])"),
    ("9.8", "names for the steps", STEPS,
     "steps = [nn.Sequential(OrderedDict(conv1=network.conv1, relu1=nn.ReLU(), conv2=network.conv2, relu2=nn.ReLU(),\n"
     "                                   pool=nn.AdaptiveAvgPool2d((1, 1)), flat=nn.Flatten(1), fc=network.fc))]"),
    ("9.8", "one ReLU used twice, in place", STEPS,
     "relu = nn.ReLU(inplace=True)\nsteps = (network.conv1, relu, network.conv2, relu, nn.AdaptiveAvgPool2d(1), "
     "nn.Flatten(), network.fc)"),
]  # fmt: skip
