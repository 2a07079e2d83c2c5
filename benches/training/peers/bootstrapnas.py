"""BootstrapNAS of `nncf`: the elastic groups and the layers that may be left out are named by hand.

Of the vision transformer they are depth and MLP widths, as AutoNAS finds them.
"""

import nncf
from nncf.experimental.torch.nas.bootstrapNAS.elasticity.elasticity_dim import ElasticityDim
from nncf.experimental.torch.nas.bootstrapNAS.training.model_creator_helpers import (
    create_compressed_model_from_algo_names,
)
from nncf.torch.model_creation import create_nncf_network

import plain
import step


def build(family, space):
    network, elasticity, config = {"vit": vit, "conv": conv}[family](space)
    side = space["image-size"]
    settings = nncf.NNCFConfig.from_dict({
        "input_info": {"sample_size": [2, space["channels"], side, side]},
        "bootstrapNAS": {"training": {
            "algorithm": "progressive_shrinking",
            "batchnorm_adaptation": {"num_bn_adaptation_samples": 0},
            "elasticity": {"available_elasticity_dims": list(elasticity), **elasticity},
        }},
    })
    model = create_nncf_network(network, settings)
    control, model = create_compressed_model_from_algo_names(model, settings, ["progressive_shrinking"], False)
    handler = control.multi_elasticity_handler
    handler.enable_all()
    if handler.depth_handler is not None:
        # How many layers of one stage may be left out; it starts at 1.
        handler.depth_handler.depth_indicator = len(handler.depth_handler.get_minimum_config())

    def forward(images, subnet):
        chosen = {ElasticityDim(name): value for name, value in config(subnet).items()}
        if ElasticityDim.KERNEL in chosen:
            kernels = chosen[ElasticityDim.KERNEL]
            operations = handler.kernel_handler._elastic_kernel_ops
            chosen[ElasticityDim.KERNEL] = [kernels.get(o.node_name, o.max_kernel_size) for o in operations]
        handler.activate_subnet_for_config(chosen)
        return model(images)

    return model, forward


def vit(space):
    depth, widths = space["depth"]["choices"], space["mlp-width"]["choices"]
    block, found = "Vit/Sequential[blocks]/Block[{}]/", range(max(depth))
    skippable = list(range(min(depth), max(depth)))
    end = lambda index: block.format(index) + "__add___1"
    elasticity = {
        "width": {
            "overwrite_groups": [[block.format(index) + "NNCFLinear[fc1]/linear_0"] for index in found],
            "overwrite_groups_widths": [list(widths) for _ in found],
        },
        "depth": {"skipped_blocks": [[end(index - 1), end(index)] for index in skippable]},
    }

    def config(subnet):
        kept = len(subnet["layers"])
        width = {index: max(widths) for index in found}
        width |= {layer["index"]: layer["mlp-width"] for layer in subnet["layers"]}
        return {"width": width, "depth": [position for position, index in enumerate(skippable) if index >= kept]}

    return plain.Vit(space), elasticity, config


def conv(space):
    groups, widths, skipped, places = [], [], [], {}
    for number, stage in enumerate(space["stages"]):
        layer = f"Conv/ModuleList[stages]/Sequential[{number}]/InvertedResidual[{{}}]/"
        hidden = stage.get("hidden", {}).get("choices", [])
        network = plain.Conv(space)
        for index in range(max(stage["depth"]["choices"])):
            here, places[number, index] = layer.format(index), len(groups)
            if hidden:
                group = [here + f"Sequential[{part}]/NNCFConv2d[0]/conv2d_0" for part in ("expand", "depthwise")]
                if stage.get("squeeze-excite", False):
                    group.append(here + "Squeeze[squeeze]/NNCFConv2d[expand]/conv2d_0")
                groups.append(group)
                widths.append(list(hidden))
                if stage.get("squeeze-excite", False):
                    groups.append([here + "Squeeze[squeeze]/NNCFConv2d[reduce]/conv2d_0"])
                    widths.append([plain.squeeze_width(choice) for choice in hidden])
            if index >= min(stage["depth"]["choices"]):
                residual = network.stages[number][index - 1].residual
                ends = "__add___0" if residual else "Sequential[project]/NNCFBatchNorm2d[1]/batch_norm_0"
                skipped.append((number, index, [layer.format(index - 1) + ends, here + "__add___0"]))
    elasticity = {
        "width": {"overwrite_groups": groups, "overwrite_groups_widths": widths},
        "depth": {"skipped_blocks": [names for *_, names in skipped]},
        "kernel": {},
    }

    def config(subnet):
        kernels, width = {}, {group: max(choices) for group, choices in enumerate(widths)}
        for number, stage in enumerate(subnet["stages"]):
            for layer in stage["layers"]:
                place = f"Sequential[{number}]/InvertedResidual[{layer['index']}]"
                name = f"Conv/ModuleList[stages]/{place}/Sequential[depthwise]/NNCFConv2d[0]/conv2d_0"
                kernels[name] = layer["kernel"]
                if "hidden" in layer:
                    group = places[number, layer["index"]]
                    width[group] = layer["hidden"]
                    if space["stages"][number].get("squeeze-excite", False):
                        width[group + 1] = plain.squeeze_width(layer["hidden"])
        kept = [len(stage["layers"]) for stage in subnet["stages"]]
        left_out = [position for position, (number, index, _) in enumerate(skipped) if index >= kept[number]]
        return {"width": width, "depth": left_out, "kernel": kernels}

    return plain.Conv(space), elasticity, config


if __name__ == "__main__":
    step.serve(build)
