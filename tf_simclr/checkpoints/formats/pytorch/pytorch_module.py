"""The text of model.py, a module of PyTorch that loads what `pytorch_export` has written.

It is a text and not a module of this package, because this package does not need torch. All that
differs between networks is in model.safetensors, so the text never changes.
"""

MODULE = '''"""The network in model.safetensors. Needs torch and safetensors.

    network = load("model.safetensors")
    features = network(images)["final_avg_pool"]  # images: float32 (n, 3, h, w) in [0, 1]
"""

import json
import re

import torch
from safetensors import safe_open
from torch import nn
from torch.nn import functional as F


def load(path):
    """Returns the network, ready for inference. Call .train() to fine-tune it."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
        return Network(tensors, json.loads(file.metadata()["tf_simclr"])).eval()


class Network(nn.Module):
    """A ResNet with heads. The shapes of its tensors determine its layers."""

    def __init__(self, tensors, settings):
        super().__init__()
        self.s = settings
        self.layers = sorted({name.rpartition(".")[0] for name in tensors})
        self.depth = 3 if "layer1.0.conv3.weight" in tensors else 2
        strided = r"conv2|sk\\.conv" if self.depth == 3 else "conv1"
        strided += "" if settings["resnet_d"] else r"|downsample\\.0"
        strided = rf"stem\\.0|layer[2-4]\\.0\\.({strided})"
        for name in self.layers:
            size, bias = tensors[f"{name}.weight"].shape, f"{name}.bias" in tensors
            if len(size) == 4:
                stride = 2 if size[3] == 7 or re.fullmatch(strided, name) else 1
                layer = nn.Conv2d(size[1], size[0], size[3], stride, size[3] // 2, bias=bias)
            elif len(size) == 2:
                layer = nn.Linear(size[1], size[0], bias=bias)
            else:
                norm = nn.BatchNorm1d if name.startswith("projection") else nn.BatchNorm2d
                layer = norm(size[0], momentum=1 - settings["batch_norm_decay"])
            module, (*parents, last) = self, name.split(".")
            for parent in parents:
                if parent not in module._modules:
                    module.add_module(parent, nn.Module())
                module = module._modules[parent]
            module.add_module(last, layer)
        self.load_state_dict(tensors)

    def apply_layers(self, x, *names, relu=True):
        for name in names:
            x = self.get_submodule(name)(x)
        return F.relu(x) if relu else x

    def block(self, x, name):
        y = x
        for n in range(1, self.depth + 1):
            if f"{name}conv{n}" in self.layers:
                y = self.apply_layers(y, f"{name}conv{n}", f"{name}bn{n}", relu=n < self.depth)
            else:
                y = self.selective_kernel(y, f"{name}sk.")
        if f"{name}se.fc1" in self.layers:
            gate = self.apply_layers(y.mean((2, 3), keepdim=True), f"{name}se.fc1")
            y = y * self.apply_layers(gate, f"{name}se.fc2", relu=False).sigmoid()
        if f"{name}downsample.0" in self.layers:
            if self.s["resnet_d"] and name.startswith("layer1"):
                x = F.avg_pool2d(F.pad(x, (0, 1, 0, 1), mode="replicate"), 2, 1)
            elif self.s["resnet_d"]:  # with TensorFlow's padding
                x = F.avg_pool2d(F.pad(x, (0, 1, 0, 1)), 2)
            x = self.apply_layers(x, f"{name}downsample.0", f"{name}downsample.1", relu=False)
        return F.relu(x + y)

    def selective_kernel(self, x, name):
        first, second = self.apply_layers(x, f"{name}conv", f"{name}bn").chunk(2, 1)
        pooled = (first + second).mean((2, 3), keepdim=True)
        reduced = self.apply_layers(pooled, f"{name}reduce", f"{name}reduce_bn")
        logits = self.apply_layers(reduced, f"{name}expand", relu=False)
        weights = torch.stack(logits.chunk(2, 1)).softmax(0)
        return weights[0] * first + weights[1] * second

    def forward(self, images):
        """Returns {endpoint: (n, width)} of images (n, 3, h, w) in [0, 1]."""
        x = images
        if self.s["mean"]:
            mean, deviation = map(x.new_tensor, (self.s["mean"], self.s["deviation"]))
            x = (x - mean[:, None, None]) / deviation[:, None, None]
        if "stem.0" in self.layers:
            x = self.apply_layers(x, "stem.0", "stem.1")
            x = self.apply_layers(x, "stem.3", "stem.4")
        x = self.apply_layers(x, "conv1", "bn1")
        if self.s["max_pool"] == "symmetric":
            x = F.max_pool2d(x, 3, 2, 1)
        elif self.s["max_pool"] == "same":  # TensorFlow pads before odd sides only
            x = F.max_pool2d(F.pad(x, (x.shape[3] % 2, 1, x.shape[2] % 2, 1)), 3, 2)
        for name in self.s["blocks"]:
            x = self.block(x, name)
        hiddens = [x.mean((2, 3))]
        for i in range(self.s["projection_layers"]):
            names = (f"projection_head.layers.{3 * i + n}" for n in (0, 1))
            is_last = i == self.s["projection_layers"] - 1
            hiddens.append(self.apply_layers(hiddens[-1], *names, relu=not is_last))
        endpoints = {"final_avg_pool": hiddens[0], "proj_head_output": hiddens[-1]}
        selected = self.s["ft_proj_selector"]
        head = "head_supervised" if selected else "fc"
        if head in self.layers:
            endpoints["logits_sup"] = self.apply_layers(hiddens[selected], head, relu=False)
        return endpoints
'''
