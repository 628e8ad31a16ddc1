"""One module a contender: ``train(task, prepared, turns, options)`` trains until ``turns`` ends the process."""
