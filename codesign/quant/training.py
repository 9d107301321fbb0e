"""Small, deterministic training loops: float networks and quantized ones.

A loop changes only the module it is given, and the one file that it is told to continue from. It runs
on one thread by default: on networks this small more threads cost more than they bring, and on a shared machine
several times so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codesign._files import content_hash
from codesign.data.dataset import Dataset
from codesign.data.sources import Images, Labels
from codesign.errors import UserError
from codesign.quant.calibration import MSE, CalibrationRule
from codesign.quant.checkpoint import Run
from codesign.quant.distill import Distillation
from codesign.quant.placing import array, chosen, placed
from codesign.quant.qat import QatNetwork

Progress = Callable[[str, int, int, Mapping[str, float]], None]
"""Called as (phase, epochs done, epochs in all, metrics) after every epoch."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""Of (N, classes) results and (N,) class numbers, one number."""
Loop = Callable[[nn.Module, Dataset], None]
"""Trains a module in place on a data set's training images; validation images may say when to stop."""


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Run torch on `count` threads within the block; None leaves its setting."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    module: nn.Module,
    images: Images,
    labels: Labels,
    *,
    epochs: int,
    learning_rate: float,
    batch: int = 64,
    weight_decay: float = 1e-4,
    augment: bool = False,
    seed: int = 0,
    scale_rate: float = 1.0,
    before_epoch: Callable[[int], None] | None = None,
    progress: Progress | None = None,
    phase: str = "train",
    num_threads: int | None = 1,
    distillation: Distillation | None = None,
    loss_of: Loss | None = None,
    checkpoint: Path | None = None,
    start: str = "",
) -> list[dict[str, float]]:
    """Train in place by AdamW on the cross entropy, with a linear warm-up and a cosine decay of the rate.

    Args:
        module: gives (N, classes) results for (N, C, H, W) images; left in evaluation mode.
        images, labels: as in `Dataset`.
        learning_rate: the largest one; 0.002 suits float training of the zoo's small networks.
        augment: shift images by up to an eighth of their size and mirror them (not for digits: it mirrors).
        scale_rate: factor on the learning rate of quantizer scales, which are logarithms.
        before_epoch: called with the epoch's number before each one (RMSMP refreshes its assignment here).
        progress: see `Progress`; the metrics are `loss` and `accuracy` on the training images as seen in the epoch.
        phase: the name `progress` gets.
        num_threads: torch's threads during training.
        distillation: adds a teacher to the loss, which is the cross entropy then.
        loss_of: what is minimised instead of the cross entropy; not with a teacher, which has a loss of its own.
        checkpoint: a file that keeps the state after every epoch; if it is there, training continues from it, to the
            result that it would have had without the interruption. Of a finished run nothing is left to do.
        start: what the weights are that training starts from; a checkpoint is of the same.

    Returns:
        The metrics of every epoch.

    Raises:
        UserError: the loss became infinite or NaN, or the checkpoint is of another run.
    """
    generator = np.random.default_rng(seed)
    inputs, targets = placed(images), placed(labels)
    batches = -(-len(targets) // batch)
    optimizer = torch.optim.AdamW(parameter_groups(module, learning_rate, scale_rate, weight_decay))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_cosine(epochs * batches))
    settings = {
        "phase": phase, "epochs": epochs, "learning_rate": learning_rate, "batch": batch, "weight_decay": weight_decay,
        "augment": augment, "seed": seed, "start": start, "scale_rate": scale_rate, "images": list(images.shape),
        "distillation": None if distillation is None else [distillation.temperature, distillation.share],
        "teacher": _hash(distillation.teacher) if distillation is not None and checkpoint is not None else "",
        **({} if loss_of is None else {"loss": getattr(loss_of, "__qualname__", type(loss_of).__qualname__)}),
        "data": content_hash(images.tobytes(), labels.tobytes()) if checkpoint is not None else "",
    }  # fmt: skip
    run = Run(module, optimizer, schedule, generator, settings)
    history = run.restore(checkpoint) if checkpoint is not None else []
    with threads(num_threads):
        for epoch in range(len(history), epochs):
            if before_epoch is not None:
                before_epoch(epoch)
            module.train()
            total, right = 0.0, 0
            order = generator.permutation(len(targets))
            for part in np.array_split(order, batches):
                picked = placed(part)
                x, y = inputs[picked], targets[picked]
                if augment:
                    x = _augmented(x, generator)
                scores = module(x)
                loss = (
                    (loss_of or F.cross_entropy)(scores, y) if distillation is None else distillation.loss(scores, x, y)
                )
                penalty = module.penalty() if isinstance(module, QatNetwork) else None
                if penalty is not None:
                    loss = loss + penalty
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_([p for p in module.parameters() if p.dim() > 1], 5.0)
                optimizer.step()
                schedule.step()
                total += float(loss.detach()) * len(part)
                right += int((scores.argmax(1) == y).sum())
            metrics = {"loss": total / len(targets), "accuracy": right / len(targets)}
            if not math.isfinite(metrics["loss"]):
                raise UserError(
                    f"{phase}: the loss is {metrics['loss']} after epoch {epoch + 1}; lower the learning rate"
                )
            history.append(metrics)
            if checkpoint is not None:
                run.save(checkpoint, history)
            if progress is not None:
                progress(phase, epoch + 1, epochs, metrics)
        module.eval()
    return history


def run_loop(loop: Loop, module: nn.Module, dataset: Dataset, phase: str) -> None:
    """Train in place by a loop of the user's; the module is in training mode for it, and in evaluation mode after it.

    Raises:
        UserError: weights are infinite or NaN then.
    """
    module.train()
    loop(module, dataset)
    module.eval()
    for name, parameter in module.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise UserError(f"{phase}: '{name}' is not finite after the training loop that was given")


@torch.no_grad()
def results(module: nn.Module, images: Images, batch: int = 256, num_threads: int | None = 1) -> Tensor:
    """(N, classes) results of the module in evaluation mode."""
    module.eval()
    with threads(num_threads):
        return torch.cat(
            [module(part.to(torch.get_default_device())).cpu() for part in torch.split(torch.from_numpy(images), batch)]
        )


def accuracy(module: nn.Module, images: Images, labels: Labels, num_threads: int | None = 1) -> float:
    """Share of images whose largest result is their class."""
    return float(np.mean(results(module, images, num_threads=num_threads).argmax(1).numpy() == labels))


def calibrate(
    model: QatNetwork,
    images: Images,
    count: int = 256,
    seed: int = 0,
    rule: CalibrationRule = MSE,
    fixed: Collection[str] = (),
) -> None:
    """Fit the activation scales of a training model on `count` images chosen at random, but for the `fixed` tensors'.

    Raises:
        UserError: there are no images, or all their pixels have one value, which gives no ranges.
    """
    if not len(images) or not np.isfinite(images).all() or images.min() == images.max():
        what = "there are none" if not len(images) else f"all pixels are {float(images.flat[0]):g}"
        if len(images) and not np.isfinite(images).all():
            what = "they hold values that are not finite"
        raise UserError(f"calibration images: {what}; activation ranges cannot be found from them")
    chosen = np.random.default_rng(seed).permutation(len(images))[:count]
    with threads(1):
        model.calibrate(placed(images[chosen]), rule, fixed)


def _hash(module: nn.Module) -> str:
    return content_hash(*(array(value).tobytes() for value in module.state_dict().values()))


def parameter_groups(module: nn.Module, rate: float, scale_rate: float, decay: float) -> list[dict[str, object]]:
    """Groups for an optimizer: weight decay acts on weights only, not on biases, norms and scales.

    Args:
        module: whose parameters they are.
        rate: of learning; of quantizer scales times `scale_rate`.
        decay: of the weights.
    """
    weights: list[nn.Parameter] = []
    scales: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if name.endswith(("log_alpha", "log_scale", "offset")):
            scales.append(parameter)
        else:
            (weights if parameter.dim() > 1 else others).append(parameter)
    if isinstance(module, QatNetwork):
        # The image's own scale follows from its range, not from the loss.
        fixed = module.quantizer(module.fused.input.name).log_scale
        scales = [parameter for parameter in scales if parameter is not fixed]
    return [
        {"params": weights, "lr": rate, "weight_decay": decay},
        {"params": others, "lr": rate, "weight_decay": 0.0},
        {"params": scales, "lr": rate * scale_rate, "weight_decay": 0.0},
    ]


def warm_cosine(steps: int) -> Callable[[int], float]:
    """The factor on the learning rate by step: a linear warm-up of a twentieth, then half a cosine down to 0."""
    warm = max(1, steps // 20)

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    return factor


def _augmented(x: Tensor, generator: np.random.Generator) -> Tensor:
    """Every image mirrored or not, and moved by its own whole pixels; zeros come in at the border."""
    count, _, height, width = x.shape
    mirrored = placed(generator.random(count) < 0.5)[:, None, None, None]
    x = torch.where(mirrored, x.flip(3), x)
    reach = max(1, min(height, width) // 8)
    padded = F.pad(x, (reach, reach, reach, reach))
    rows = chosen(generator, 2 * reach + 1, count)[:, None] + torch.arange(height)
    columns = chosen(generator, 2 * reach + 1, count)[:, None] + torch.arange(width)
    image = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
