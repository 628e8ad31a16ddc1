"""What the state of a CMA-ES search is pickled from: optuna keeps one in a study, and nothing else may be unpickled."""

CLASSES = frozenset(
    {
        ("cmaes._cma", "CMA"),
        ("cmaes._cmawm", "CMAwM"),
        ("cmaes._sepcma", "SepCMA"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "scalar"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy.core.multiarray", "scalar"),
    }
)
"""Module and name of everything that the state of an optimizer of ``cmaes`` is made of."""
