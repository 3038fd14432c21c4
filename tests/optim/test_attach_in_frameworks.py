"""`attach` inside the frameworks that build or wrap the optimiser themselves; skipped where they are not installed."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from nonsmooth.optim import ProxAdamW, attach, certify, penalize
from nonsmooth.penalties import L1

STRENGTH = 0.05


def data():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 6, generator=generator)
    return inputs, inputs[:, :1].clone()


def network():
    torch.manual_seed(0)
    return nn.Linear(6, 1)


def by_hand(steps=24):
    """The weights that the package's own optimiser ends with on the batches that the frameworks see."""
    model, (inputs, targets) = network(), data()
    optimizer = ProxAdamW(model.parameters(), lr=0.05, weight_decay=0.0, penalty=L1(STRENGTH))
    for step in range(steps):
        chosen = slice(16 * (step % 4), 16 * (step % 4) + 16)
        optimizer.zero_grad()
        (model(inputs[chosen]) - targets[chosen]).square().mean().backward()
        optimizer.step()
    return model.weight.detach()


def test_accelerate():
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerator = accelerate.Accelerator(cpu=True)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.0)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(TensorDataset(*data()), batch_size=16))
    attach(optimizer, L1(STRENGTH))
    for _ in range(6):
        for inputs, targets in loader:
            optimizer.zero_grad()
            accelerator.backward((model(inputs) - targets).square().mean())
            optimizer.step()
    assert torch.equal(accelerator.unwrap_model(model).weight.detach(), by_hand())
    assert bool((model.weight == 0).any())


def test_lightning():
    lightning = pytest.importorskip("lightning", reason="lightning is not installed")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = network()

        def training_step(self, batch, _):
            inputs, targets = batch
            return (self.network(inputs) - targets).square().mean()

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=0.05, weight_decay=0.0)
            return attach(optimizer, L1(STRENGTH))

    module = Module()
    trainer = lightning.Trainer(
        max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(TensorDataset(*data()), batch_size=16))
    assert torch.equal(module.network.weight.detach(), by_hand())


class Examples(Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        inputs, targets = data()
        return {"inputs": inputs[index], "labels": targets[index]}


class WithLoss(nn.Module):
    """What the Trainer trains: a module that returns its loss."""

    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, inputs, labels):
        return {"loss": (self.network(inputs) - labels).square().mean()}


@pytest.mark.parametrize("way", ["attached", "handed over"])
def test_transformers_trainer(tmp_path, way):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    model = WithLoss()
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=24, per_device_train_batch_size=16, learning_rate=0.05, weight_decay=0.0,
        lr_scheduler_type="constant", max_grad_norm=0.0, report_to=[], use_cpu=True, save_strategy="no",
        logging_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    handed = {}
    if way == "handed over":
        groups = penalize(model, L1(STRENGTH), include=["*bias"])
        handed["optimizers"] = (ProxAdamW(groups, lr=0.05, weight_decay=0.0), None)
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=Examples(), **handed)
    if way == "attached":
        trainer.create_optimizer()
        attach(trainer.optimizer, L1(STRENGTH))
    trainer.train()
    weights = model.network.weight
    assert bool((weights == 0).any())
    inputs, targets = data()
    found = certify(trainer.optimizer, lambda: model(inputs, targets)["loss"])
    assert found.zeros >= int((weights == 0).sum()) > 0
