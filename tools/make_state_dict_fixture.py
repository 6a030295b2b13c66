#!/usr/bin/env python3
"""Writes tests/data/timm_state_dicts.txt: the names and shapes of all tensors of timm's twelve DLA networks.

Needs: pip install timm (which brings PyTorch). Usage: tools/make_state_dict_fixture.py > tests/data/timm_state_dicts.txt

A line a module, since a convolution or a batch norm stands for several tensors of known names:

    network dla34
    conv base_layer.0 16 3 7 7        NAME.weight of this shape; "conv+bias": NAME.bias too
    norm base_layer.1 16              NAME.{weight,bias,running_mean,running_var} of this length
"""
import timm
import torch

NETWORKS = [
    "dla34", "dla46_c", "dla46x_c", "dla60x_c", "dla60", "dla60x", "dla102", "dla102x", "dla102x2", "dla169",
    "dla60_res2net", "dla60_res2next",
]

print(f"# timm {timm.__version__}; made by tools/make_state_dict_fixture.py")
for name in NETWORKS:
    model = timm.create_model(name, pretrained=False)
    print("network", name)
    described = set()
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            print("conv" if module.bias is None else "conv+bias", path, *module.weight.shape)
        elif isinstance(module, torch.nn.BatchNorm2d):
            print("norm", path, module.num_features)
        else:
            continue
        described.update(f"{path}.{tensor}" for tensor in module.state_dict())
    missing = set(model.state_dict()) - described
    assert not missing, f"{name}: tensors of other modules: {sorted(missing)}"
