"""From what people and programs send to tensors, and back."""
