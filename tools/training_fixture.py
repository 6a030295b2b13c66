"""Parameters and images from formulas that C shares (tests/test_train_pytorch.c): no file has to carry them.

The numbers are those of make_timm_fixture.py, but the point is another: training needs one that is well conditioned. A random
network is not: an activation within rounding of zero is on one side of its relu in float32 and on the other in float64, and
each such flip moves gradients by far more than rounding does; PyTorch's own float32 gradients of a freshly initialised dla34
differ from its float64 ones by some 1e-2. Here each batch norm's bias is three of its deviations away from zero, upwards for
most channels and downwards for the others.
"""
import numpy as np
from make_timm_fixture import formula


def parameter(name, shape):
    random = formula(name, int(np.prod(shape))).astype(np.float64)
    if len(shape) == 4:
        values = random * np.sqrt(3.0 / (shape[1] * shape[2] * shape[3]))
    elif name.endswith("running_var"):
        values = np.ones_like(random)
    elif name.startswith("fc.") or name.endswith("running_mean"):
        values = 0.1 * random
    elif name.endswith("weight"):
        values = 0.5 + 0.1 * random
    else:
        values = np.where(random < 0.4, 1.5, -1.5) + 0.2 * random
    return values.astype(np.float32).reshape(shape)


def load(net):
    """Gives a timm network the formula's parameters."""
    import torch

    state = net.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            state[name] = torch.from_numpy(parameter(name, tuple(tensor.shape)))
    net.load_state_dict(state)


def images(batch, height, width):
    """(batch, height, width, 3)."""
    return formula("images", batch * height * width * 3).reshape(batch, height, width, 3)
