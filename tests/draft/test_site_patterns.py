from torch import nn

from v2w_convert.draft.site_patterns import patterns_for, star_path


def model(blocks: int) -> nn.Module:
    """Down and up blocks of a convolution and a norm in a sequence, and an odd block out."""
    root = nn.Module()
    for side in ("down", "up"):
        listed = nn.ModuleList()
        for _ in range(blocks):
            block = nn.Module()
            block.conv1 = nn.Sequential(nn.GroupNorm(1, 2), nn.Conv1d(2, 2, 3))
            block.conv2 = nn.Sequential(nn.GroupNorm(1, 2), nn.Conv1d(2, 2, 3))
            block.out = nn.Conv1d(2, 2, 1)
            listed.append(block)
        root.add_module(side, listed)
    root.last = nn.Conv1d(2, 2, 1)
    return root


def convolution(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Conv1d)


def test_indices_in_lists_are_starred_and_indices_in_sequences_are_not() -> None:
    assert star_path("down.1.conv2.1", model(2)) == "down.*.conv2.1"


def test_paths_that_end_alike_become_one_pattern() -> None:
    paths = [f"{side}.{i}.conv{j}.1" for side in ("down", "up") for i in range(2) for j in (1, 2)]
    assert patterns_for(paths, model(2), model(5), convolution) == ["**.conv[12].1"]


def test_a_pattern_takes_in_nothing_else() -> None:
    paths = [f"{side}.{i}.out" for side in ("down", "up") for i in range(2) if (side, i) != ("up", 1)]
    assert patterns_for(paths, model(2), model(2), convolution) == ["down.*.out", "up.0.out"]


def test_a_pattern_takes_in_nothing_that_does_not_fit_in_the_whole_model() -> None:
    whole = model(3)
    whole.up[2].out = nn.Linear(2, 2)  # type: ignore[index, union-attr]
    paths = ["down.0.out", "down.1.out", "up.0.out", "up.1.out"]
    assert patterns_for(paths, model(2), whole, convolution) == ["down.*.out", "up.0.out", "up.1.out"]
