"""How far apart the classes are in what layers read (PDB, Chu et al. 2021)."""

from __future__ import annotations

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.sensitivities.subject import Subject
from codesign.errors import UserError
from codesign.quant.placing import array


def separability(features: FloatArray, labels: IntArray) -> float:
    """Scatter between classes over scatter within them, trace by trace (Fisher); infinite where classes are points.

    Args:
        features: (images, ...).
        labels: (images,) class numbers.
    """
    values = np.asarray(features, dtype=np.float64).reshape(len(labels), -1)
    between = within = 0.0
    mean = values.mean(axis=0)
    for label in np.unique(labels):
        mine = values[labels == label]
        middle = mine.mean(axis=0)
        between += len(mine) * float(np.square(middle - mean).sum())
        within += float(np.square(mine - middle).sum())
    if within == 0:
        return np.inf if between > 0 else 0.0
    return between / within


def layer_separability(subject: Subject) -> dict[str, float]:
    """Of the map that each layer reads in the float network, by layer.

    Raises:
        UserError: images have no class numbers, or are all of one class.
    """
    labels = array(subject.labels)
    if not len(labels) or labels.min() < 0:
        raise UserError(f"network '{subject.space.network.name}': no images with classes, which separability is of")
    if len(np.unique(labels)) < 2:
        raise UserError(
            f"network '{subject.space.network.name}': {len(labels)} images of one class, at least two classes are "
            "needed to tell how far they are apart"
        )
    return {name: separability(array(values), labels) for name, values in subject.maps.items()}
