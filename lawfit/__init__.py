"""lawfit: from run logs to the learning rate and batch size of the next run."""

__version__ = "0.1.0"
