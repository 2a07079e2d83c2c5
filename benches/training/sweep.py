"""How time and memory of a step grow, and how near it is to the speed of matrix products alone."""

import copy

import draw

KINDS = {"subnets": [1, 2, 4, 8], "batch": [32, 64, 128, 256], "width": [1, 2, 3]}


def wider(model, factor):
    """The model with all widths of its vision transformer times a factor."""
    model = copy.deepcopy(model)
    space = model["space"]["vit"]
    space["embed-dim"] = [factor * width for width in space["embed-dim"]]
    for dimension in (space["heads"], space["mlp-width"]):
        dimension["choices"] = [factor * width for width in dimension["choices"]]
    model.pop("subnets", None)
    return model


def table(arguments, model, compare):
    """One race for each value, each in new processes, so that peak memory is that value's own."""
    kind, began = arguments.sweep, False
    for value in KINDS[kind]:
        batch = value if kind == "batch" else arguments.batch
        subnets = value if kind == "subnets" else arguments.subnets
        entered, _ = compare(arguments, wider(model, value) if kind == "width" else model, batch, subnets)
        if not began:
            print(f"| {kind} | " + " | ".join(f"{c.name}, ms a step | peak MB" for c in entered) + " |")
            print("|---|" + "---|---|" * len(entered))
            began = True
        cells = (f"{contestant.median():.1f} | {contestant.peak_megabytes():.0f}" for contestant in entered)
        print(f"| {value} | " + " | ".join(cells) + " |", flush=True)
        for contestant in entered:
            contestant.close()


def peak(entered, space, subnets, batch):
    """Steps of the last drawn subnets beside their matrix products alone, each at its own best time."""
    forward = [draw.products(space, subnet["vit"], batch) for subnet in subnets]
    sizes = [product for products in forward for product in products + draw.backward(products)]
    different = sorted(set(map(tuple, sizes)))
    operations = sum(2 * count * rows * inner * columns for count, rows, inner, columns in sizes)
    print(f"\nthe matrix products of one step: {len(sizes)}, {operations / 1e9:.2f} GFLOP")
    print("| | step, ms | GFLOP/s | products alone, ms | their GFLOP/s | best product, GFLOP/s | share of alone | of best |")
    print("|---|---|---|---|---|---|---|---|")
    for contestant in entered:
        taken = sorted(contestant.run([subnets] * 15))[7]
        times = dict(zip(different, contestant.ask({"products": different})["milliseconds"]))
        alone = sum(times[tuple(size)] for size in sizes)
        best = max(2e-6 * count * m * k * n / times[count, m, k, n] for count, m, k, n in different)
        reached = operations / taken / 1e6
        print(
            f"| {contestant.name} | {taken:.1f} | {reached:.0f} | {alone:.1f} | {operations / alone / 1e6:.0f} | "
            f"{best:.0f} | {alone / taken:.2f} | {reached / best:.2f} |"
        )
