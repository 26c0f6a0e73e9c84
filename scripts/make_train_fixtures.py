#!/usr/bin/env python3
"""Makes tests/fixtures/train: what torch computes for the networks of src/train/models.rs, in f64.

    python3 scripts/make_train_fixtures.py

Each NAME.txt has the number of parameters and the outputs for one input (every `step`th of them). Weights, statistics and inputs are numbers that
a hash of their name and place gives (`numbers`), so that tests/train_models.rs finds them by itself: the names of
parameters must agree, too. Torch's modules are those of
benches/peers/torch_networks.py.

steps_NAME.txt has 20 steps of training by torch in f64, for tests/train_torch: losses, the loss of an evaluation
afterwards, and of every tensor how far it went. How far torch's own f32 is from that, with batches in several orders,
stands beside it.

    python3 scripts/make_train_fixtures.py [steps|outputs]

Needs torch and numpy.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benches" / "peers"))
from torch_networks import (  # noqa: E402
    SLOPE, Named, attention, dcgan_discriminator, dcgan_generator, lenet, mlp, pointnet, resnet18, transformer,
)  # fmt: skip

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "train"
MASK = (1 << 64) - 1


def numbers(name, count):
    """Multiples of 2^-16 in -1/2..1/2: FNV-1a of the name, then splitmix64 of that plus the place."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 & MASK
    with np.errstate(over="ignore"):
        z = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) + np.uint64(seed)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(48)).astype(np.float64) / 65536 - 0.5


def start(name, shape):
    """Weights get smaller with their fan; scales of normalisations and variances are around 1."""
    data = numbers(name, int(np.prod(shape)))
    if len(shape) > 1:
        fan = int(np.prod(shape[1:]))
        return data * 2.0 ** (1 - fan.bit_length() // 2)
    return data + 1 if name.endswith(("weight", "running_var")) else data


def begin(module, dtype, factor=1):
    """The module with the weights and statistics that both sides know; `factor` is of convolutions of images."""
    module = module.to(dtype)
    for layer in module.modules():
        if hasattr(layer, "eps"):
            layer.eps = float(np.float32(layer.eps))
    known = module.state_dict()
    tensors = {key: torch.tensor(start(key, tuple(value.shape)), dtype=dtype).view(value.shape)
               * (factor if value.dim() == 4 else 1) for key, value in known.items() if value.dim() > 0}  # fmt: skip
    module.load_state_dict(tensors, strict=False)
    return module


def write(name, module, shape, vocab=None):
    module = begin(module, torch.float64).eval()
    data = numbers("input", int(np.prod(shape)))
    x = torch.tensor(data).view(1, *shape)
    if vocab:
        x = ((x + 0.5) * 65536).long() % vocab
    with torch.no_grad():
        y = module(x).flatten().tolist()
    count = sum(p.numel() for p in module.parameters())
    step = 1 if len(y) < 200 else 61
    lines = [f"# torch {torch.__version__.split('+')[0]}", f"parameters {count}", f"step {step}"]
    lines.append("outputs " + " ".join(map(repr, y[::step])))
    (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n")
    print(f"{name}: {count} parameters, outputs {min(y)} to {max(y)}")


def export(name, module, x):
    """What torch's exporter makes of a network: tokens are of INT64, Gelu comes in pieces, equal vectors are one."""
    kept = torch.onnx.TrainingMode.PRESERVE
    module = begin(module, torch.float32).eval()
    torch.onnx.export(module, x, str(FOLDER / f"{name}.onnx"), opset_version=17, training=kept)


def outputs():
    write("mlp", mlp([6, 5, 4, 3]), [6])
    write("lenet", lenet(10), [1, 28, 28])
    write("resnet18", resnet18(10, 4), [3, 32, 32])
    write("pointnet", pointnet(5, False), [3, 12])
    write("pointnet_transforms", pointnet(5, True), [3, 12])
    write("transformer", transformer(11, 6, 8, 2, 2), [6], vocab=11)
    write("dcgan_generator", dcgan_generator(5, 2, 1), [5, 1, 1])
    write("dcgan_discriminator", dcgan_discriminator(2, 2), [2, 64, 64])
    mask = torch.triu(torch.full((6, 6), -1e9), 1)
    export("transformer", transformer(11, 6, 8, 2, 2, mask), torch.zeros(1, 6, dtype=torch.int64))
    for name, module in {"resnet18(10, 64)": resnet18(10, 64), "pointnet(40)": pointnet(40, False),
                         "pointnet(40, transforms)": pointnet(40, True), "transformer": transformer(65, 64, 128, 4, 4),
                         "dcgan_generator(100, 3, 64)": dcgan_generator(100, 3, 64),
                         "dcgan_discriminator(3, 64)": dcgan_discriminator(3, 64)}.items():  # fmt: skip
        print(name, sum(p.numel() for p in module.parameters()))


STEPS = 20
# Runs in f32: f32's distance from f64 depends on the order in which a batch stands.
RUNS = 12
# Every second of them starts from weights that are off by a rounding or two: which winner a pool has, and on which side of a
# ReLU's kink a number is, can turn on that.
OFF = 2.0**-23


def images(shape, classes, samples):
    """Two thirds the pattern of a class and one third noise."""
    labels = ((numbers("labels", samples) + 0.5) * 65536).astype(np.int64) % classes
    size = int(np.prod(shape))
    patterns = np.stack([numbers(f"pattern{c}", size) for c in range(classes)])
    return (2 * patterns[labels] + numbers("noise", samples * size).reshape(samples, size)).reshape(samples, *shape), labels


def values(shape, outputs, samples, probabilities):
    """Mirrored sums of inputs, or whether they are positive."""
    x = numbers("noise", samples * shape[0]).reshape(samples, -1)
    y = x[:, :outputs] - x[:, ::-1][:, :outputs]
    return x, (y > 0).astype(np.float64) if probabilities else y


def tokens(vocab, context, samples):
    """Each token follows from the last one, but for every eighth."""
    drawn = ((numbers("tokens", samples * (context + 1)) + 0.5) * 65536).astype(np.int64).reshape(samples, -1)
    text = drawn // 8 % vocab
    for i in range(context):
        text[:, i + 1] = np.where(drawn[:, i + 1] % 8 == 0, text[:, i + 1], (5 * text[:, i] + 3) % vocab)
    return text[:, :-1], text[:, 1:]


def sgd(lr, **more):
    return lambda p: torch.optim.SGD(p, lr=lr, **more)


def adam(lr, **more):
    return lambda p: torch.optim.Adam(p, lr=lr, **more)


def adam_w(lr, **more):
    return lambda p: torch.optim.AdamW(p, lr=lr, **more)


def rms_prop(lr, **more):
    return lambda p: torch.optim.RMSprop(p, lr=lr, **more)


def cosine(o):
    return torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=STEPS, eta_min=1e-4)


def by_steps(o):
    return torch.optim.lr_scheduler.StepLR(o, step_size=6, gamma=0.5)


def warm_up(o):
    return torch.optim.lr_scheduler.LinearLR(o, start_factor=1 / 6, total_iters=5)


def one_cycle(o):
    return torch.optim.lr_scheduler.OneCycleLR(o, o.param_groups[0]["lr"], total_steps=STEPS, cycle_momentum=False)


# Optimiser, schedule, largest norm of the gradient; tests/train_torch has the same.
MEMBERS = {
    "sgd": (sgd(0.1), None, None),
    "sgd_decay": (sgd(0.1, weight_decay=0.05), None, None),
    "momentum": (sgd(0.05, momentum=0.9), None, None),
    "dampening": (sgd(0.1, momentum=0.8, dampening=0.5), None, None),
    "nesterov": (sgd(0.05, momentum=0.9, nesterov=True, weight_decay=0.01), None, None),
    "clip": (sgd(0.3, momentum=0.5), None, 0.3),
    "steps": (sgd(0.2), by_steps, None),
    "cosine": (sgd(0.05, momentum=0.9), cosine, None),
    "warm_up": (sgd(0.2), warm_up, None),
    "one_cycle": (sgd(0.3), one_cycle, None),
    "adam": (adam(0.003), None, None),
    "adam_decay": (adam(0.003, betas=(0.8, 0.95), weight_decay=0.05), None, None),
    "adam_w": (adam_w(0.003, weight_decay=0.5), None, None),
    "adam_w_all": (adam_w(0.005, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.1), cosine, 0.5),
    "rms_prop": (rms_prop(0.001), None, None),
    "rms_prop_all": (rms_prop(0.001, alpha=0.9, momentum=0.5, eps=1e-6, weight_decay=0.05), warm_up, 0.5),
    "paper": (sgd(0.0005, momentum=0.9, weight_decay=5e-4), cosine, None),
    "steep": (sgd(0.01, momentum=0.9, weight_decay=5e-4), None, None),
    "plain": (sgd(0.002), None, None),
    "gpt": (adam_w(0.002, betas=(0.9, 0.95), weight_decay=0.1), warm_up, 1.0),
}


def smooth(x, y):
    return F.cross_entropy(x, y, label_smoothing=float(np.float32(0.1)))


def run(make, member, loss, data, batch, dtype, factor, count, number=None):
    """Losses of steps, loss and right ones of an evaluation, tensors at the end."""
    module = begin(make(), dtype, factor).train()
    draw = np.random.default_rng(number)
    order = np.arange(batch) if number is None else draw.permutation(batch)
    if number is not None and number % 2 == 1:
        with torch.no_grad():
            for p in module.parameters():
                p *= 1 + OFF * torch.tensor(draw.standard_normal(p.shape), dtype=dtype)
    optimiser, schedule, clip = MEMBERS[member]
    optimiser = optimiser(list(module.parameters()))
    schedule = schedule and schedule(optimiser)
    x, y = (torch.tensor(part) for part in data)
    x, y = (part.to(dtype) if part.is_floating_point() else part for part in (x, y))

    def one(x, y):
        out = module(x)
        return out, loss(out.flatten(0, -2), y.flatten()) if y.dtype == torch.int64 else loss(out, y)

    losses = []
    for i in range(count):
        rows = i * batch + order
        optimiser.zero_grad()
        value = one(x[rows], y[rows])[1]
        value.backward()
        if clip:
            nn.utils.clip_grad_norm_(module.parameters(), clip)
        optimiser.step()
        if schedule:
            schedule.step()
        losses.append(value.item())
    with torch.no_grad():
        module.eval()
        out, value = one(x, y)
    right = out.argmax(-1) == y if y.dtype == torch.int64 else (out > 0) == (y > 0.5)
    right = 0.0 if loss is F.mse_loss else right.double().mean().item()
    tensors = {key: value.double().flatten().numpy() for key, value in module.state_dict().items() if value.dim() > 0}
    return np.array(losses), value.item(), right, tensors


def steps(name, make, members, data, batch, loss=F.cross_entropy, factor=1, count=STEPS):
    lines = [f"# torch {torch.__version__.split('+')[0]}, {count} steps of {batch} samples"]
    say = lambda *line: lines.append(" ".join(v if isinstance(v, str) else f"{v:.12g}" for v in line))  # noqa: E731
    for member in members:
        losses, value, right, tensors = run(make, member, loss, data, batch, torch.float64, factor, count)
        others = [run(make, member, loss, data, batch, torch.float32, factor, count, number) for number in range(RUNS)]
        noise = np.max([np.abs(losses - other[0]) for other in others], axis=0)
        evaluation = max(abs(value - other[1]) for other in others)
        first = {key: value.flatten().numpy() for key, value in begin(make(), torch.float64, factor).state_dict().items()}
        say("member", member)
        say("losses", *losses)
        say("noise", *(f"{v:.2g}" for v in noise))
        say("evaluation", value, f"{evaluation:.2g}", right)
        for key, end in tensors.items():
            moved = end - first[key]
            off = max(np.linalg.norm(end - other[3][key]) for other in others)
            say("tensor", key, np.linalg.norm(moved), moved @ numbers("probe " + key, moved.size), f"{off:.2g}")
        print(f"{name} {member}: {losses[0]:.4f} .. {losses[-1]:.4f}, evaluation {value:.4f} ({right:.3f}), f32 is "
              f"{noise.max():.1e} / {evaluation:.1e} off")  # fmt: skip
    (FOLDER / f"steps_{name}.txt").write_text("\n".join(lines) + "\n")


def all_steps():
    torch.set_num_threads(1)
    sgds = ["sgd", "sgd_decay", "momentum", "dampening", "nesterov", "clip", "steps", "cosine", "warm_up", "one_cycle"]
    adams, rms_props = ["adam", "adam_decay", "adam_w", "adam_w_all"], ["rms_prop", "rms_prop_all"]
    dense = lambda outputs: lambda: mlp([12, 24, 16, outputs])  # noqa: E731
    batch = 16
    some = STEPS * batch
    steps("mlp", dense(5), sgds + adams + rms_props, images([12], 5, some), batch)
    steps("mlp_smoothing", dense(5), ["momentum"], images([12], 5, some), batch, smooth)
    steps("mlp_square", dense(4), ["momentum"], values([12], 4, some, False), batch, F.mse_loss)
    steps("mlp_logits", dense(4), ["adam"], values([12], 4, some, True), batch, F.binary_cross_entropy_with_logits)
    batch = 8
    some = STEPS * batch
    some_images = lambda shape, classes: images(shape, classes, some)  # noqa: E731
    steps("lenet", lambda: lenet(10), sgds + adams + rms_props, some_images([1, 28, 28], 10), batch)
    # Weights of the size that the paper starts with: with those of `start` and larger steps f32 gets 1e-2 off in 20 steps.
    residual = lambda: resnet18(10, 8)  # noqa: E731
    steps("resnet18", residual, ["paper"], some_images([3, 32, 32], 10), batch, factor=4)
    # Tensors are told apart more sharply after a few larger steps.
    steps("resnet18_start", residual, ["steep"], some_images([3, 32, 32], 10), batch, factor=4, count=3)
    # Small steps and few points: when the winner of a pool changes, what f32 is off by jumps to 1e-3 at larger ones.
    steps("pointnet", lambda: still(pointnet(5, False)), ["plain"], images([3, 8], 5, 2 * some), 2 * batch)
    x, y = some_images([2, 64, 64], 2)
    scored = (x, y.astype(np.float64).reshape(-1, 1))
    steps("dcgan_discriminator", lambda: dcgan_discriminator(2, 2), ["plain"], scored, batch,
          F.binary_cross_entropy_with_logits, count=6)  # fmt: skip
    steps("image_layers", image_layers, ["momentum"], some_images([3, 12, 10], 5), batch)
    words = (tokens(11, 10, some)[0], images([1], 5, some)[1])
    steps("sequence_layers", sequence_layers, ["momentum"], words, batch)
    steps("transformer", lambda: transformer(29, 12, 16, 2, 2), ["gpt"], tokens(29, 12, some), batch)


def image_layers():
    """What the other networks leave out, for [3, 12, 10]."""

    def forward(m, x):
        x = F.leaky_relu(m.gn1(m.conv1(x)), SLOPE)
        x = torch.cat([x, m.conv3(m.conv2(x))], 1)
        x = torch.tanh(m.bn1(m.deconv1(F.max_pool2d(x, 3, 2, 1))))
        x = F.adaptive_avg_pool2d(F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (3, 2))
        return m.fc2(torch.sigmoid(m.fc1(x.flatten(1))))

    return Named(forward, conv1=nn.Conv2d(3, 8, (3, 2), padding=1), gn1=nn.GroupNorm(4, 8),
                 conv2=nn.Conv2d(8, 8, 3, padding=1, groups=8), conv3=nn.Conv2d(8, 8, 3, 1, 2, 2, groups=2),
                 deconv1=nn.ConvTranspose2d(16, 6, 4, 2, 1), bn1=nn.BatchNorm2d(6), fc1=nn.Linear(36, 24),
                 fc2=nn.Linear(24, 5))  # fmt: skip


def sequence_layers():
    """What the other networks leave out, for [10]."""

    def forward(m, x):
        x = m.embedding1(x) + m.positions1.weight
        x = (x + m.attn1(m.ln1(x))).transpose(1, 2)
        x = F.gelu(m.bn1(m.conv1(x)) + m.positions2.weight, approximate="tanh")
        x = torch.cat([x.max(2).values, x.mean(2)], 1)
        return m.fc2(torch.softmax(3 * m.fc1(x), 1))

    return Named(forward, embedding1=nn.Embedding(11, 8, padding_idx=3), positions1=nn.Embedding(10, 8),
                 ln1=nn.LayerNorm(8), attn1=attention(8, 2, torch.zeros(1)), conv1=nn.Conv1d(8, 6, 3, padding=1),
                 bn1=nn.BatchNorm1d(6), positions2=nn.Embedding(6, 10), fc1=nn.Linear(12, 12),
                 fc2=nn.Linear(12, 5))  # fmt: skip


def still(module):
    """Without dropout, of which every engine has its own."""
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return module


torch.manual_seed(0)
FOLDER.mkdir(exist_ok=True)
wanted = sys.argv[1:] or ["outputs", "steps"]
if "outputs" in wanted:
    outputs()
if "steps" in wanted:
    all_steps()
