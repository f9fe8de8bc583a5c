"""What fits hwnuma to one launcher each. Nothing here is imported by ``import hwnuma``."""
