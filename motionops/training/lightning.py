"""The parts of Lightning that a training run is made of, or the line that says what to install."""

try:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
    from lightning.pytorch.loggers import Logger, TensorBoardLogger
    from lightning.pytorch.plugins.environments import SLURMEnvironment
    from lightning.pytorch.plugins.io import TorchCheckpointIO
    from lightning.pytorch.strategies import DDPStrategy
    from lightning.pytorch.utilities import rank_zero_only
except ImportError as error:
    raise ImportError("training runs need lightning: pip install 'motionops[train]'") from error

__all__ = [
    "Callback",
    "DDPStrategy",
    "LightningDataModule",
    "LightningModule",
    "Logger",
    "SLURMEnvironment",
    "TensorBoardLogger",
    "TorchCheckpointIO",
    "Trainer",
    "rank_zero_only",
    "seed_everything",
]
