"""Tables follow their tensors, numbers reach their rows, and tensors that do not lie alike are turned away."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings

import pytest
import torch

import nonsmooth.kernels
from nonsmooth.kernels.numbers import Numbers, Row
from nonsmooth.kernels.tables import Table, qualifies


def test_programs_run_on_devices_and_on_a_cpu_only_where_they_are_interpreted(monkeypatch):
    cpu, cuda, meta = (torch.device(name) for name in ("cpu", "cuda", "meta"))
    monkeypatch.setattr(nonsmooth.kernels, "_works_on", lambda device: True)
    monkeypatch.setattr(nonsmooth.kernels, "INTERPRETED", False)
    assert [nonsmooth.kernels.runs_on(device) for device in (cpu, cuda, meta)] == [False, True, False]
    monkeypatch.setattr(nonsmooth.kernels, "INTERPRETED", True)
    assert [nonsmooth.kernels.runs_on(device) for device in (cpu, cuda, meta)] == [True, False, False]
    monkeypatch.setattr(nonsmooth.kernels, "_works_on", lambda device: False)
    assert not nonsmooth.kernels.runs_on(cpu)


def test_a_warning_says_where_kernels_are_interpreted():
    """Somebody may have set it for programs of their own."""
    nonsmooth.kernels._works_on.cache_clear()
    with pytest.warns(RuntimeWarning, match="TRITON_INTERPRET is 1"):
        assert nonsmooth.kernels._works_on(torch.device("cpu"))
    nonsmooth.kernels._works_on.cache_clear()


def test_where_triton_fails_a_warning_says_so_once_and_steps_go_on():
    """A stand-in for an old GPU, or for a machine without a C compiler: a device that there is no driver of."""
    nowhere = torch.device("xpu" if torch.cuda.is_available() else "cuda", 7)
    nonsmooth.kernels._works_on.cache_clear()
    with pytest.warns(RuntimeWarning, match="Triton cannot run on"):
        assert not nonsmooth.kernels._works_on(nowhere)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not nonsmooth.kernels._works_on(nowhere)
    nonsmooth.kernels._works_on.cache_clear()


@pytest.mark.processes
@pytest.mark.parametrize("value", ["0", "1"])
def test_the_environment_decides_at_import_and_triton_is_not_imported(value):
    code = (
        "import sys, torch, nonsmooth.kernels as k, nonsmooth.kernels.tables, nonsmooth.kernels.numbers;"
        "print(k.INTERPRETED, k.runs_on(torch.device('cpu')), 'triton' in sys.modules)"
    )
    environment = {"TRITON_INTERPRET": value, "PYTHONPATH": ":".join(sys.path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(value == "1"), str(value == "1"), "False"]


def test_blocks_know_their_tensors(device):
    points = [torch.zeros(size, device=device) for size in (33, 0, 16, 1)]
    (launch,) = Table(device, block=16).launches((points, None, points))
    assert launch.layout.tolist() == [[33, 16, 1], [0, 3, 4], [0, 2, 3]]
    assert launch.owners.tolist() == [0, 0, 0, 1, 2]
    assert launch.blocks == 5
    assert launch.dtypes == (torch.float32, None, torch.float32)
    addresses = [point.data_ptr() for point in points if point.numel()]
    assert launch.addresses.tolist() == [addresses, [0, 0, 0], addresses]


def test_each_combination_of_dtypes_is_a_launch(device):
    points = [torch.zeros(3, dtype=dtype, device=device) for dtype in (torch.half, torch.float, torch.half)]
    squares = [torch.zeros(3, device=device) for _ in points]
    launches = list(Table(device).launches((points, squares)))
    assert [launch.layout[2].tolist() for launch in launches] == [[0, 2], [1]]
    assert [launch.dtypes[0] for launch in launches] == [torch.half, torch.float]


def test_a_table_is_kept_until_a_tensor_moves_or_changes(device):
    table, points = Table(device), [torch.zeros(40, device=device), torch.zeros(5, device=device)]
    (first,) = table.launches((points,))
    (second,) = table.launches((points,))
    assert second is first
    points[1] = torch.zeros(5, device=device)
    (moved,) = table.launches((points,))
    assert moved.addresses[0, 1] == points[1].data_ptr()
    assert moved.layout is first.layout
    assert first.addresses[0, 1] != points[1].data_ptr()  # a launch that is still to run keeps its own
    points[1] = points[1][:4]
    (shorter,) = table.launches((points,))
    assert shorter.layout[0].tolist() == [40, 4]
    points[1] = points[1].double()
    assert len(list(table.launches((points,)))) == 2


def test_a_capture_keeps_what_it_uses_and_leaves_nothing_to_later_steps(device, monkeypatch):
    """What is copied in a capture is on the device once the graph is replayed, and what it uses may not be freed."""
    table, points, numbers = Table(device), [torch.zeros(40, device=device)], Numbers(device, 1)
    (before,) = table.launches((points,))
    told = numbers({Row.STEP: 1.0})
    others = [torch.zeros(40, device=device)]
    with monkeypatch.context() as patch:
        patch.setattr("nonsmooth.kernels.upload.Upload.capturing", lambda _: True)
        (same,) = table.launches((points,))
        (captured,) = table.launches((others,))
        assert numbers({Row.STEP: 1.0}).data_ptr() == told.data_ptr()
        baked = numbers({Row.STEP: 2.0})
    assert same is before
    kept = {each.data_ptr() for each in [*table._upload._kept, *numbers._upload._kept]}
    assert {before.addresses.data_ptr(), captured.addresses.data_ptr(), told.data_ptr(), baked.data_ptr()} <= kept
    (after,) = table.launches((others,))
    assert after is not captured
    assert numbers({Row.STEP: 2.0}).data_ptr() != baked.data_ptr()


def test_addresses_that_are_no_multiple_of_16_bytes_are_noticed(device):
    whole = torch.zeros(41, device=device)
    (aligned,) = Table(device).launches(([whole],))
    (shifted,) = Table(device).launches(([whole[1:]],))
    assert (aligned.aligned, shifted.aligned) == (True, False)


def test_numbers_of_the_host_and_of_the_device_reach_their_rows(device):
    rate = torch.tensor(0.1, device=device)
    counts = [torch.tensor(float(n), device=device) for n in (3, 4, 5)]
    many = torch.tensor([7.0, 8.0, 9.0], dtype=torch.float64, device=device)
    found = Numbers(device, 3)(
        {
            Row.STEP: rate,
            Row.COUNT: counts,
            Row.SCALE: many,
            Row.STRENGTH: 1 / 3,
            Row.EPSILON: [1e-8, 2e-8, 3e-8],
            Row.FULL: [0.5, torch.tensor(2.5, device=device), 0.7],
        }
    )
    assert found.dtype == torch.float64
    assert found.shape == (len(Row), 3)
    assert found[Row.STEP].tolist() == [float(rate)] * 3
    assert found[Row.COUNT].tolist() == [3, 4, 5]
    assert found[Row.SCALE].tolist() == [7, 8, 9]
    assert found[Row.STRENGTH].tolist() == [1 / 3] * 3
    assert found[Row.EPSILON].tolist() == [1e-8, 2e-8, 3e-8]
    assert found[Row.FULL].tolist() == [0.5, 2.5, 0.7]
    assert found[Row.HALTED].tolist() == [0, 0, 0]
    assert all(math.isnan(value) for value in found[Row.SLACK].tolist())


def test_numbers_are_kept_while_they_stay_the_same(device):
    numbers = Numbers(device, 2)
    first = numbers({Row.STEP: 0.5, Row.STRENGTH: 0.1})
    assert numbers({Row.STEP: 0.5, Row.STRENGTH: 0.1}).data_ptr() == first.data_ptr()
    changed = numbers({Row.STEP: 0.25, Row.STRENGTH: 0.1})
    assert changed[Row.STEP].tolist() == [0.25, 0.25]
    assert first[Row.STEP].tolist() == [0.5, 0.5]
    count = torch.tensor(1.0, device=device)
    for expected in (1.0, 2.0):
        assert numbers({Row.STEP: 0.25, Row.COUNT: count})[Row.COUNT].tolist() == [expected] * 2
        count += 1


@pytest.mark.parametrize("entry", [[1.0], torch.ones(3), [1.0, 2.0, 3.0]])
def test_rows_of_another_length_are_refused(entry, device):
    with pytest.raises(ValueError, match="accepted are"):
        Numbers(device, 2)({Row.STEP: entry})


def test_tensors_qualify_that_lie_in_memory_alike_and_without_gaps():
    point = torch.randn(4, 3, 2, 2)
    channels_last = point.to(memory_format=torch.channels_last)
    assert qualifies(point)
    assert qualifies(point, torch.zeros_like(point), torch.zeros_like(point, dtype=torch.uint8))
    assert qualifies(channels_last, torch.zeros_like(channels_last))
    assert qualifies(torch.randn(5, 3).t(), torch.randn(5, 3).t())
    assert qualifies(torch.tensor(1.0), torch.tensor(2.0))
    assert qualifies(torch.empty(0, 3), torch.empty(0, 3))
    assert qualifies(torch.randn(1, 3), torch.randn(3, 1).t())
    assert not qualifies(channels_last, point)
    assert not qualifies(point, channels_last)
    assert not qualifies(torch.randn(4, 6)[:, ::2])
    assert not qualifies(torch.randn(4, 6), torch.randn(4, 12)[:, ::2])
    assert not qualifies(torch.randn(1).expand(4))
    assert not qualifies(point, point[:2])
    assert not qualifies(torch.randn(4, dtype=torch.complex64))
    assert not qualifies(torch.arange(4))
    assert not qualifies(torch.randn(3), torch.randn(3).to_sparse())
    assert not qualifies(torch.randn(3, dtype=torch.complex64).conj().imag)
    assert not qualifies(torch.randn(3), torch.empty(3, device="meta"))
