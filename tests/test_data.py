"""Images: scale, balance, order, caching, and one-line errors that say what to do."""

import builtins
import math
import re

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from sklearn.datasets import load_digits

from nonsmooth.data import DataError, load_images, resolve_source, shuffled_labels


def test_digits_are_scaled_as_the_paper_scales_images():
    images = load_images("digits", size=8)
    assert images.inputs.shape == (1442, 3, 8, 8)
    assert images.inputs.dtype == torch.float32
    assert (images.inputs.min().item(), images.inputs.max().item()) == (-1.0, 1.0)
    pixels = ((images.inputs[:, 0] * 0.5 + 0.5) * 16).round().flatten(1).numpy()
    originals = {row.tobytes() for row in load_digits().data.astype(np.float32)}
    assert {row.tobytes() for row in pixels} <= originals
    assert torch.equal(images.inputs[:, 0], images.inputs[:, 2])


def test_the_splits_of_the_digits_share_nothing_and_are_balanced():
    train, test = load_images("digits", "train", size=8), load_images("digits", "test", size=8)
    assert len(train) + len(test) == 1797
    share = test.labels.bincount() / (train.labels.bincount() + test.labels.bincount())
    assert share.min() > 0.18
    assert share.max() < 0.21


def test_enlarging_is_bilinear():
    small, large = load_images("digits", limit=3, size=8), load_images("digits", limit=3, size=32)
    expected = torch.nn.functional.interpolate(small.inputs.double(), scale_factor=4, mode="bilinear")
    torch.testing.assert_close(large.inputs.double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("limit", [1, 10, 25, 100])
def test_a_limit_is_balanced_and_the_beginning_of_a_larger_one(limit):
    images, more = load_images("digits", limit=limit), load_images("digits", limit=200)
    counts = images.labels.bincount(minlength=10)
    assert counts.sum() == limit
    assert counts.max() - counts.min() <= 1
    assert torch.equal(images.inputs, more.inputs[:limit])
    assert torch.equal(images.labels, more.labels[:limit])


def test_the_second_load_is_the_same_object():
    assert load_images("digits", "train", 50) is load_images("digits", limit=50)


def test_shuffled_labels_keep_the_counts_and_lose_the_images():
    images = load_images("digits")
    shuffled = shuffled_labels(images, seed=3)
    assert torch.equal(images.labels.bincount(), shuffled.labels.bincount())
    agreement = (images.labels == shuffled.labels).float().mean().item()
    assert agreement < 0.15
    assert torch.equal(shuffled.labels, shuffled_labels(images, seed=3).labels)
    assert not torch.equal(shuffled.labels, shuffled_labels(images, seed=4).labels)


def test_cifar10_in_a_folder_is_decoded_as_it_is_stored(shared_data):
    folder = shared_data / "cifar10"
    images = load_images(str(folder), "test", limit=30)
    assert images.name == "cifar10 test"
    assert images.classes == 10
    table = pq.read_table(next(folder.rglob("test-*.parquet")))
    labels = table["label"].to_numpy()
    first_dog = int(np.flatnonzero(labels == 5)[0])
    picture = datasets.Image().decode_example(table["img"][first_dog].as_py())
    position = int(torch.argmax((images.labels == 5).int()))
    expected = torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).double() / 255 * 2 - 1
    torch.testing.assert_close(images.inputs[position].double(), expected, atol=1e-6, rtol=0)


def test_images_of_another_size_and_colour_are_resampled(tmp_path):
    from PIL import Image  # noqa: PLC0415

    grey = [Image.fromarray(np.full((48, 40), 51 * k, dtype=np.uint8)) for k in range(4)]
    rows = datasets.Dataset.from_dict({"img": grey, "label": [0, 1, 0, 1]})
    rows = rows.cast_column("img", datasets.Image())
    rows.to_parquet(tmp_path / "train.parquet")
    images = load_images(str(tmp_path), size=32)
    assert images.inputs.shape == (4, 3, 32, 32)
    assert images.classes == 2
    torch.testing.assert_close(images.inputs.mean((1, 2, 3)), torch.tensor([0.0, 0.2, 0.4, 0.6]) * 2 - 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "valid"}, "split is 'valid'; accepted are train, test"),
        ({"limit": 0}, "limit is 0"),
        ({"limit": 9999}, "limit is 9999, but digits has 1442 images"),
        ({"size": 0}, "size is 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_images("digits", **arguments)


def one_line(error):
    return "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(DataError, match="there is no folder 'nowhere'; point to one") as error:
        load_images("nowhere")
    assert one_line(error)


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(DataError, match="cannot load split 'train'") as error:
        load_images(str(tmp_path))
    assert one_line(error)


def test_other_columns_are_named(tmp_path):
    datasets.Dataset.from_dict({"text": ["a"], "label": [0]}).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="has no column img; it has text, label"):
        load_images(str(tmp_path))


@pytest.mark.parametrize("package", ["datasets", "PIL"])
def test_without_the_extra_the_error_says_what_to_install(monkeypatch, tmp_path, package):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DataError, match=re.escape(f'{package!r}: pip install "nonsmooth[vision]"')):
        load_images(str(tmp_path))


def test_a_hub_that_cannot_be_reached_is_said_in_one_line(monkeypatch):
    def unreachable(*_arguments, **_options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match=r"the hub could not be reached.*\(no route\)") as error:
        load_images("cifar10", limit=7)
    assert one_line(error)


def test_the_mean_pixel_is_where_the_scale_puts_it():
    """(x - 0.5)/0.5 maps [0, 1] to [-1, 1]: a wrong constant would move the digits' mean."""
    mean = load_digits().data.mean() / 16 * 2 - 1
    both = [load_images("digits", split, size=8).inputs for split in ("train", "test")]
    assert math.isclose(torch.cat(both).double().mean().item(), mean, abs_tol=1e-6)


@pytest.mark.parametrize(
    ("name", "where", "source"),
    [
        ("digits", "digits", "digits"),
        ("digits", "some/folder", "digits"),
        ("cifar10", "digits", "cifar10"),
        ("cifar10", "cifar10", "cifar10"),
        ("cifar10", "some/folder", "some/folder"),
    ],
)
def test_where_the_images_called_by_a_name_come_from(name, where, source):
    assert resolve_source(name, where) == source
