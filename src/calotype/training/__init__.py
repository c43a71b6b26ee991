"""Running a task: optimizers, averages, checkpoints that survive, and the loop around them."""
