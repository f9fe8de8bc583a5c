"""What hwnuma costs, side by side with what a user would take instead: ``python -m benchmarks``.

A benchmark is no test: a time on a shared machine proves nothing by itself, so no figure here fails anything. What
holds is `benchmarks.counts`, which counts instructions.
"""
