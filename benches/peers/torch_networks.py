"""The networks of `wavehull::train::models` as torch users write them, with the same names of parameters."""

import struct

import torch
from torch import nn
from torch.nn import functional as F

# 0.2 as an ONNX file can say it: an f32.
SLOPE = struct.unpack("f", struct.pack("f", 0.2))[0]


class Named(nn.Module):
    """A module whose forward is given."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


def mlp(widths):
    layers = {f"fc{i + 1}": nn.Linear(a, b) for i, (a, b) in enumerate(zip(widths, widths[1:]))}

    def forward(m, x):
        for i in range(1, len(widths)):
            x = m.get_submodule(f"fc{i}")(x)
            x = F.relu(x) if i + 1 < len(widths) else x
        return x

    return Named(forward, **layers)


def lenet(classes):
    def forward(m, x):
        x = F.max_pool2d(F.relu(m.conv1(x)), 2)
        x = F.max_pool2d(F.relu(m.conv2(x)), 2)
        return m.fc3(F.relu(m.fc2(F.relu(m.fc1(x.flatten(1))))))

    return Named(forward, conv1=nn.Conv2d(1, 6, 5, padding=2), conv2=nn.Conv2d(6, 16, 5), fc1=nn.Linear(400, 120),
                 fc2=nn.Linear(120, 84), fc3=nn.Linear(84, classes))  # fmt: skip


def block(a, b, stride):
    layers = {"conv1": nn.Conv2d(a, b, 3, stride, 1, bias=False), "bn1": nn.BatchNorm2d(b),
              "conv2": nn.Conv2d(b, b, 3, 1, 1, bias=False), "bn2": nn.BatchNorm2d(b)}  # fmt: skip
    beside = stride != 1 or a != b
    if beside:
        layers["downsample"] = nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(m, x):
        y = m.bn2(m.conv2(F.relu(m.bn1(m.conv1(x)))))
        return F.relu(y + (m.downsample(x) if beside else x))

    return Named(forward, **layers)


def resnet18(classes, width):
    stages = {f"layer{i + 1}": nn.Sequential(block(width << max(i - 1, 0), width << i, 1 if i == 0 else 2),
                                             block(width << i, width << i, 1)) for i in range(4)}  # fmt: skip

    def forward(m, x):
        x = F.relu(m.bn1(m.conv1(x)))
        x = m.layer4(m.layer3(m.layer2(m.layer1(x))))
        return m.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))

    return Named(forward, conv1=nn.Conv2d(3, width, 3, 1, 1, bias=False), bn1=nn.BatchNorm2d(width), **stages,
                 fc=nn.Linear(8 * width, classes))  # fmt: skip


def transform(k):
    def forward(m, x):
        y = F.relu(m.bn1(m.conv1(x)))
        y = F.relu(m.bn2(m.conv2(y)))
        y = F.relu(m.bn3(m.conv3(y))).max(2).values
        y = m.fc3(F.relu(m.bn5(m.fc2(F.relu(m.bn4(m.fc1(y)))))))
        return torch.bmm(x.transpose(2, 1), y.view(-1, k, k)).transpose(2, 1)

    return Named(forward, conv1=nn.Conv1d(k, 64, 1), bn1=nn.BatchNorm1d(64), conv2=nn.Conv1d(64, 128, 1),
                 bn2=nn.BatchNorm1d(128), conv3=nn.Conv1d(128, 1024, 1), bn3=nn.BatchNorm1d(1024),
                 fc1=nn.Linear(1024, 512), bn4=nn.BatchNorm1d(512), fc2=nn.Linear(512, 256), bn5=nn.BatchNorm1d(256),
                 fc3=nn.Linear(256, k * k))  # fmt: skip


def pointnet(classes, transforms):
    layers = {"stn": transform(3), "fstn": transform(64)} if transforms else {}

    def features(m, x):
        x = m.stn(x) if transforms else x
        x = F.relu(m.bn1(m.conv1(x)))
        x = m.fstn(x) if transforms else x
        x = F.relu(m.bn2(m.conv2(x)))
        return m.bn3(m.conv3(x)).max(2).values

    feat = Named(features, **layers, conv1=nn.Conv1d(3, 64, 1), bn1=nn.BatchNorm1d(64), conv2=nn.Conv1d(64, 128, 1),
                 bn2=nn.BatchNorm1d(128), conv3=nn.Conv1d(128, 1024, 1), bn3=nn.BatchNorm1d(1024))  # fmt: skip

    def forward(m, x):
        x = F.relu(m.bn1(m.fc1(m.feat(x))))
        return m.fc3(F.relu(m.bn2(m.dropout(m.fc2(x)))))

    return Named(forward, feat=feat, fc1=nn.Linear(1024, 512), bn1=nn.BatchNorm1d(512), fc2=nn.Linear(512, 256),
                 dropout=nn.Dropout(0.3), bn2=nn.BatchNorm1d(256), fc3=nn.Linear(256, classes))  # fmt: skip


def causal(length, device):
    """What softmax gets added so that no position sees a later one; torch.func cannot batch the fused kernel that needs none."""
    return torch.full((length, length), float("-inf"), device=device).triu(1)


def attention(width, heads, mask):
    """`mask`: None for torch's fused causal kernel, a tensor, or a function of length and device."""

    def forward(m, x):
        n, length, _ = x.shape
        q, k, v = (p(x).view(n, length, heads, -1).transpose(1, 2) for p in (m.q_proj, m.k_proj, m.v_proj))
        if mask is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            added = mask(length, x.device) if callable(mask) else mask
            y = torch.softmax(q @ k.transpose(2, 3) / (width / heads) ** 0.5 + added, -1) @ v
        return m.out_proj(y.transpose(1, 2).reshape(n, length, width))

    parts = ("q_proj", "k_proj", "v_proj", "out_proj")
    return Named(forward, **{part: nn.Linear(width, width) for part in parts})


def transformer(vocab, context, width, heads, layers, mask=None):
    def one(m, x):
        x = x + m.attn(m.ln1(x))
        return x + m.mlp.proj(F.gelu(m.mlp.fc(m.ln2(x)), approximate="tanh"))

    def blocks():
        return Named(one, ln1=nn.LayerNorm(width), attn=attention(width, heads, mask), ln2=nn.LayerNorm(width),
                     mlp=Named(None, fc=nn.Linear(width, 4 * width), proj=nn.Linear(4 * width, width)))  # fmt: skip

    def forward(m, ids):
        x = m.wte(ids) + m.wpe(torch.arange(context, device=ids.device))
        return m.lm_head(m.ln_f(m.h(x)))

    return Named(forward, wte=nn.Embedding(vocab, width), wpe=nn.Embedding(context, width),
                 h=nn.Sequential(*(blocks() for _ in range(layers))), ln_f=nn.LayerNorm(width),
                 lm_head=nn.Linear(width, vocab, bias=False))  # fmt: skip


def dcgan_generator(noise, colours, width):
    sizes = [noise, 8 * width, 4 * width, 2 * width, width, colours]
    layers = {}
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        layers[f"deconv{i + 1}"] = nn.ConvTranspose2d(a, b, 4, *((1, 0) if i == 0 else (2, 1)), bias=False)
        if i < 4:
            layers[f"bn{i + 1}"] = nn.BatchNorm2d(b)

    def forward(m, x):
        for i in range(1, 5):
            x = F.relu(m.get_submodule(f"bn{i}")(m.get_submodule(f"deconv{i}")(x)))
        return torch.tanh(m.deconv5(x))

    return Named(forward, **layers)


def dcgan_discriminator(colours, width):
    sizes = [colours, width, 2 * width, 4 * width, 8 * width, 1]
    layers = {}
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        layers[f"conv{i + 1}"] = nn.Conv2d(a, b, 4, *((1, 0) if i == 4 else (2, 1)), bias=False)
        if 0 < i < 4:
            layers[f"bn{i}"] = nn.BatchNorm2d(b)

    def forward(m, x):
        x = F.leaky_relu(m.conv1(x), SLOPE)
        for i in range(1, 4):
            x = F.leaky_relu(m.get_submodule(f"bn{i}")(m.get_submodule(f"conv{i + 1}")(x)), SLOPE)
        return m.conv5(x).flatten(1)

    return Named(forward, **layers)
