"""Systems built on Holdfast, each runnable and tested."""
