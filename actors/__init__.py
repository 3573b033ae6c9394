"""What ships ready-made: `Counter`, `Queue`, workflows, and `Runtime`, which wires them."""
