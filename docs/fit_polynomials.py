"""Where the polynomials of csrc/math come from: weighted minimax fits, rounded to float32.

    python docs/fit_polynomials.py

prints each table with its largest relative error after rounding. Needs numpy only.
"""

import numpy as np


def minimax(target, weight, low, high, degree, rounds=200):
    """Lawson's iteration: least squares re-weighted until the weighted error is level.

    One coefficient is rounded to float32 at a time, lowest first, so that the later ones make up
    for the rounding.
    """
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.linspace(0, np.pi, 4001))
    w, powers = weight(x), x[:, None] ** np.arange(degree + 1)
    fixed = np.zeros(0)
    while len(fixed) <= degree:
        rest = powers[:, len(fixed) :]
        left = target(x) - powers[:, : len(fixed)] @ fixed
        lawson = np.ones_like(x)
        best = (np.inf, None)
        for _ in range(rounds):
            s = np.sqrt(lawson) * w
            c, *_ = np.linalg.lstsq(rest * s[:, None], left * s, rcond=None)
            error = np.abs((rest @ c - left) * w)
            best = min(best, (error.max(), c[0]))
            lawson *= error / error.max() + 1e-3
            lawson /= lawson.max()
        fixed = np.append(fixed, np.float64(np.float32(best[1])))
    worst = np.abs((powers @ fixed - target(x)) * w).max()
    return fixed, worst


def show(name, coef, worst):
    print(f"{name}: weighted error 2^{np.log2(worst):.1f}")
    print("    " + ", ".join(f"{float(c).hex()}f" for c in coef))


def in_word(coef):
    """v (c0 + c1 v + ...) with v = (w + 1/2) 2^-32, as a polynomial in w, rounded to float32."""
    v = np.polynomial.Polynomial([2.0**-33, 2.0**-32])
    product = v * sum(c * v**i for i, c in enumerate(coef))
    return [np.float64(np.float32(c)) for c in product.coef]


def main():
    tiny = 1e-4  # the expressions below cancel at 0; a series takes over there

    def minus_log1p_tail(t):  # (-log1p(-t) - t) / t^2
        series = 0.5 + t / 3 + t * t / 4 + t**3 / 5
        return np.where(t < tiny, series, (-np.log1p(-t) - t) / np.maximum(t, tiny) ** 2)

    def log1p_tail(f):  # (log1p(f) - f) / f^2
        near = np.abs(f) < tiny
        series = -0.5 + f / 3 - f * f / 4 + f**3 / 5
        return np.where(near, series, (np.log1p(f) - f) / np.where(near, 1, f) ** 2)

    def relative(value, scale):
        return lambda x: x * x / np.maximum(np.abs(value(x)), scale)

    def exp2_tail(r):  # (2^r - 1) / r
        near = np.abs(r) < 1e-9
        return np.where(near, np.log(2), np.expm1(r * np.log(2)) / np.where(near, 1, r))

    def minus_log1p(v):  # -log(1 - v) / v
        return np.where(v < tiny, 1 + v / 2 + v * v / 3, -np.log1p(-v) / np.maximum(v, tiny))

    # E = t + t^2 P(t): error relative to E.
    weight = relative(lambda t: -np.log1p(-t), 1e-12)
    show("kMinusLog1p", *minimax(minus_log1p_tail, weight, 0, 0.5, 8))
    # log E = f + f^2 Q(f): absolute error, since the result is added to e ln 2 and to logits.
    show("kLog", *minimax(log1p_tail, lambda f: f * f, -1 / 3, 1 / 3, 7))
    # log2(1 - v) = v C(v) on [0, 1/64], for the GPU's fast noise: relative error.
    coef, worst = minimax(minus_log1p, lambda v: 1 / minus_log1p(v), 0, 1 / 64, 1)
    show("log2_of_rest, in the word", in_word(-coef / np.log(2)), worst)
    # 2^r on [-1/2, 1/2] = 1 + r R(r): relative error.
    show("kExp2", *minimax(exp2_tail, lambda r: np.abs(r) / 2**r, -0.5, 0.5, 5))


if __name__ == "__main__":
    main()
