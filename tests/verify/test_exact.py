import torch

from v2w_convert.verify.exact import exact

THIRD = torch.tensor([1.0], dtype=torch.float64) / 3


def test_no_cast_narrows_float64() -> None:
    like = torch.zeros(1)
    with exact():
        for cast in (
            THIRD.float(),
            THIRD.half(),
            THIRD.to(torch.float32),
            THIRD.to(dtype=torch.bfloat16),
            THIRD.to(like),
            THIRD.to(tensor=like),
            torch.linalg.vector_norm(THIRD, dtype=torch.float32),
        ):
            assert torch.equal(cast.view(1), THIRD)
    assert THIRD.float().dtype == torch.float32


def test_tables_are_made_in_float64() -> None:
    with exact():
        assert torch.arange(3, dtype=torch.float32).dtype == torch.float64
        assert torch.linspace(0, 1, 3, dtype=torch.float32).dtype == torch.float64
        assert torch.arange(3).dtype == torch.int64


def test_other_dtypes_and_casts_are_left_alone() -> None:
    with exact():
        assert THIRD.to(torch.int64).dtype == torch.int64
        assert torch.zeros(1).half().dtype == torch.float16
        assert torch.zeros(1, dtype=torch.float32).dtype == torch.float32
