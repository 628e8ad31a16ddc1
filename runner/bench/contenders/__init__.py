"""One module a contender: ``train(task, prepared, turns, options)`` trains until ``timed_steps`` ends the process."""
