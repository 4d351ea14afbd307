"""Losses, and one LightningModule per training objective."""
