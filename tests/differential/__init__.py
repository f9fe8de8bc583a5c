"""hwnuma against PyTorch, and against everything that other people have published."""
