"""The text of model.py, a module of PyTorch that loads what `pytorch_export` has written.

It is a text and not a module of this package, because this package does not need torch. All that
differs between networks is in the metadata of model.safetensors, so the text never changes.
"""

MODULE = '''"""The network in model.safetensors. Needs torch and safetensors.

    network = load("model.safetensors")
    features = network(images)["final_avg_pool"]  # images: float32 (n, 3, h, w) in [0, 1]
"""

import json

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F


def load(path):
    """Returns the network, ready for inference. Call .train() to fine-tune it."""
    with safe_open(path, "pt") as file:
        network = Network(json.loads(file.metadata()["tf_simclr"]))
        network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
    return network.eval()


def conv(inputs, outputs, side, stride=1, bias=False):
    return nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=bias)


class SelectiveKernel(nn.Module):
    def __init__(self, width, stride, ratio):
        super().__init__()
        reduced = max(int(width * ratio), 32)
        self.conv, self.bn = conv(width, 2 * width, 3, stride), nn.BatchNorm2d(2 * width)
        self.reduce, self.reduce_bn = conv(width, reduced, 1), nn.BatchNorm2d(reduced)
        self.expand = conv(reduced, 2 * width, 1)

    def forward(self, x):
        first, second = F.relu(self.bn(self.conv(x))).chunk(2, 1)
        pooled = (first + second).mean((2, 3), keepdim=True)
        logits = self.expand(F.relu(self.reduce_bn(self.reduce(pooled))))
        weights = torch.stack(logits.chunk(2, 1)).softmax(0)
        return weights[0] * first + weights[1] * second


class SqueezeExcitation(nn.Module):
    def __init__(self, width, channels, ratio):
        super().__init__()
        reduced = max(1, int(width * ratio))
        self.fc1 = conv(channels, reduced, 1, bias=True)
        self.fc2 = conv(reduced, channels, 1, bias=True)

    def forward(self, x):
        return x * self.fc2(F.relu(self.fc1(x.mean((2, 3), keepdim=True)))).sigmoid()


class Block(nn.Module):
    def __init__(self, inputs, width, stride, s, projects):
        super().__init__()
        outputs = 4 * width if s["bottleneck"] else width
        self.depth, self.stride, self.sk_ratio = 3 if s["bottleneck"] else 2, stride, s["sk_ratio"]
        for n in range(1, self.depth + 1):
            side = 3 if n == 2 or not s["bottleneck"] else 1
            channels = outputs if n == self.depth else width
            if n == 2 and s["bottleneck"] and self.sk_ratio:
                self.sk = SelectiveKernel(width, stride, self.sk_ratio)
            else:
                step = stride if n == (2 if s["bottleneck"] else 1) else 1
                setattr(self, f"conv{n}", conv(inputs if n == 1 else width, channels, side, step))
                setattr(self, f"bn{n}", nn.BatchNorm2d(channels))
        self.se = SqueezeExcitation(width, outputs, s["se_ratio"]) if s["se_ratio"] else None
        step = 1 if self.sk_ratio else stride
        shortcut = [conv(inputs, outputs, 1, step), nn.BatchNorm2d(outputs)]
        self.downsample = nn.Sequential(*shortcut) if projects else None

    def shortcut(self, x):
        if self.downsample is None:
            return x
        if self.sk_ratio and self.stride > 1:  # ResNet-D, with TensorFlow's padding
            x = F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2, self.stride)
        elif self.sk_ratio:
            x = F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 1)
        return self.downsample(x)

    def forward(self, x):
        y = x
        for n in range(1, self.depth + 1):
            if n == 2 and hasattr(self, "sk"):
                y = self.sk(y)
            else:
                y = getattr(self, f"bn{n}")(getattr(self, f"conv{n}")(y))
                y = F.relu(y) if n < self.depth else y
        return F.relu((y if self.se is None else self.se(y)) + self.shortcut(x))


class Network(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s, width = s, s["widths"][0]
        if s["mean"]:
            for name in ("mean", "deviation"):
                value = torch.tensor(s[name]).reshape(1, 3, 1, 1)
                self.register_buffer(name, value, persistent=False)
        half = width // 2
        if s["deep_stem"]:
            first = [conv(3, half, 3, 2), nn.BatchNorm2d(half), nn.ReLU()]
            second = [conv(half, half, 3), nn.BatchNorm2d(half), nn.ReLU()]
            self.stem, self.conv1 = nn.Sequential(*first, *second), conv(half, width, 3)
        elif s["small_stem"]:
            self.conv1 = conv(3, width, 3)
        else:
            self.conv1 = conv(3, width, 7, 2)
        self.bn1, channels = nn.BatchNorm2d(width), width
        for group, (blocks, width) in enumerate(zip(s["blocks"], s["widths"]), 1):
            layers = []
            for block in range(blocks):
                stride = 2 if block == 0 and group > 1 else 1
                projects = block == 0 and not (group == 1 and s["first_shortcut"] == "identity")
                layers.append(Block(channels, width, stride, s, projects))
                channels = 4 * width if s["bottleneck"] else width
            setattr(self, f"layer{group}", nn.Sequential(*layers))
        layers, sizes = [], [channels]
        for width in s["projection"]:
            layers += [nn.Linear(sizes[-1], width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
            sizes.append(width)
        self.projection_head = nn.ModuleDict({"layers": nn.Sequential(*layers[:-1])})
        if s["classes"]:
            name = "head_supervised" if s["ft_proj_selector"] else "fc"
            self.add_module(name, nn.Linear(sizes[s["ft_proj_selector"]], s["classes"]))
        for module in self.modules():
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
                module.momentum = 1 - s["batch_norm_decay"]

    def forward(self, images):
        """Returns {endpoint: (n, width)} of images (n, 3, h, w) in [0, 1]."""
        x = (images - self.mean) / self.deviation if self.s["mean"] else images
        x = F.relu(self.bn1(self.conv1(self.stem(x) if self.s["deep_stem"] else x)))
        if self.s["max_pool_padding"] == "symmetric" and not self.s["small_stem"]:
            x = F.max_pool2d(x, 3, 2, 1)
        elif not self.s["small_stem"]:  # TensorFlow pads before the image only if the side is odd
            x = F.max_pool2d(F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1)), 3, 2)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))
        hiddens = [x]
        for n, layer in enumerate(self.projection_head["layers"], 1):
            x = layer(x)
            if n % 3 == 0:
                hiddens.append(x)
        if len(self.s["projection"]) > 0:
            hiddens.append(x)
        endpoints = {"final_avg_pool": hiddens[0], "proj_head_output": hiddens[-1]}
        if self.s["classes"]:
            head = self.head_supervised if self.s["ft_proj_selector"] else self.fc
            endpoints["logits_sup"] = head(hiddens[self.s["ft_proj_selector"]])
        return endpoints
'''
