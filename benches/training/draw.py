"""The subnets of a step, and the matrix products that they cost."""


def fixed(space, names):
    """The space with the named dimensions held at their largest choice."""
    if isinstance(space, list):
        return [fixed(item, names) for item in space]
    if not isinstance(space, dict):
        return space
    closed = {}
    for key, value in space.items():
        if key in names and isinstance(value, dict):
            value = {**value, "choices": value["choices"][-1:]}
        elif key in names and isinstance(value, list):
            value = value[-1:]
        closed[key] = fixed(value, names)
    return closed


def layers(depth, elastic, choose):
    """One choice of every elastic dimension for each of `depth` layers."""
    chosen = [{"index": index} for index in range(depth)]
    for name, dimension in elastic.items():
        shared = choose(dimension["choices"])
        for layer in chosen:
            layer[name] = choose(dimension["choices"]) if dimension["per"] == "layer" else shared
    return chosen


def vit(space, choose):
    elastic = {name: space[name] for name in ("heads", "mlp-width")}
    return {"embed-dim": choose(space["embed-dim"]), "layers": layers(choose(space["depth"]["choices"]), elastic, choose)}


def conv(space, choose):
    subnet = {"resolution": choose(space["resolution"]), "stem": choose(space["stem"]["width"]), "stages": []}
    for stage in space["stages"]:
        elastic = {name: stage[name] for name in ("kernel", "hidden") if name in stage}
        subnet["stages"].append(
            {"width": choose(stage["width"]), "layers": layers(choose(stage["depth"]["choices"]), elastic, choose)}
        )
    subnet["head"] = choose(space["head"]["width"])
    if space["head"].get("hidden"):
        subnet["head-hidden"] = choose(space["head"]["hidden"])
    return subnet


FAMILIES = {"vit": vit, "conv": conv}


def step(family, space, subnets, rng, pool):
    """The subnets of one step by the sandwich rule; the random ones come from the pool, where there is one."""
    draw = FAMILIES[family]
    chosen = [{family: draw(space, max)}, {family: draw(space, min)}]
    while len(chosen) < subnets:
        chosen.append(rng.choice(pool) if pool else {family: draw(space, rng.choice)})
    return chosen[:subnets]


def products(space, subnet, batch):
    """The matrix products of a vision transformer's forward pass as [how many, rows, inner, columns]."""
    side = space["image-size"] // space["patch-size"]
    tokens, head_dim, embed = side * side, space["head-dim"], subnet["embed-dim"]
    rows = batch * tokens
    found = [[1, rows, space["channels"] * space["patch-size"] ** 2, embed]]
    for layer in subnet["layers"]:
        heads, width = layer["heads"], layer["mlp-width"]
        found += [[1, rows, embed, 3 * heads * head_dim], [1, rows, heads * head_dim, embed]]
        found += [[batch * heads, tokens, head_dim, tokens], [batch * heads, tokens, tokens, head_dim]]
        found += [[1, rows, embed, width], [1, rows, width, embed]]
    return found + [[1, batch, embed, space["classes"]]]


def backward(forward):
    """The products of the backward pass: the gradients of both factors; the images need none."""
    first, *rest = forward
    weights = [[count, inner, rows, columns] for count, rows, inner, columns in [first, *rest]]
    return weights + [[count, rows, columns, inner] for count, rows, inner, columns in rest]
