"""The contrastive loss and the distillation loss, as pure functions."""
