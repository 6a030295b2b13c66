/* winograd_transform.h - the three linear maps of Winograd's F(4, 3), vectors of channels at a time.
 *
 * Four outputs of a 3-tap filter on six inputs are values of a product of polynomials, so six products suffice instead of
 * twelve: evaluate filter and data at six points, multiply there, interpolate. With points 0, +-a, +-b and infinity,
 *
 *     u = G g      six values of the filter    g0 + g1 p + g2 p^2,  and g2 at infinity
 *     v = B^T d    six values of the data      sum_i d_i c_i(p), c(p) = coefficients of product_{q != p} (x - q)
 *     y = A^T (u * v)                          y_k = sum_p p^k f(p) u_p v_p  [+ u v at infinity for k = 3],
 *                                              f(p) = 1 / product_{q != p} (p - q)
 *
 * In two dimensions each map is applied to columns, then to rows: 36 products for 16 outputs, where the sum over 9 taps needs
 * 144. The usual form folds f into G; here it sits in A, where it costs nothing, so that G is cheap enough to be applied
 * every time a convolution runs.
 *
 * The points decide the rounding error. With a = sqrt(1/2), b = sqrt(2) the powers stay near one and a * b = 1 makes
 * two coefficients vanish; the error of a layer is about 9e-7 of its output's size in float32 (root mean square, 128 channels),
 * a third of what the points 1 and 2 give and not far from a direct sum's.
 *
 * Operations on a line of six: G 6, B^T 12, A^T 12.
 *
 * Where a tile has but two outputs left along a side (14 = 4 + 4 + 4 + 2), the points 0, +-a and infinity suffice there: that is F(2, 3).
 * With f in A^T, its weights are four of the six values u that are there anyway. Such a side is called narrow; points +-b are left out.
 */
#ifndef DLA_CPU_ISA_WINOGRAD_TRANSFORM_H
#define DLA_CPU_ISA_WINOGRAD_TRANSFORM_H

#include "cpu/isa/vector.h"

enum {
    WINOGRAD_OUT = 4, /* outputs a side of a tile */
    WINOGRAD_IN = 6,  /* inputs a side, and points */
    WINOGRAD_POINTS = WINOGRAD_IN * WINOGRAD_IN
};

#define WINOGRAD_A 0.707106781186547524f
#define WINOGRAD_B 1.414213562373095049f
#define WINOGRAD_AA 0.5f           /* a^2 */
#define WINOGRAD_BB 2.0f           /* b^2 */
#define WINOGRAD_FA (-2.0f / 3.0f) /* f(+-a) = 1 / (2 a^2 (a^2 - b^2)); f(0) = 1 / (a b)^2 = 1 */
#define WINOGRAD_FB (1.0f / 6.0f)  /* f(+-b) = 1 / (2 b^2 (b^2 - a^2)) */

/* Points in the order 0, a, -a, b, -b, infinity. */
ALWAYS_INLINE void winograd_weight_line(const vec g0, const vec g1, const vec g2, vec u[WINOGRAD_IN])
{
    vec even_a = vec_fma(vec_all(WINOGRAD_AA), g2, g0);
    vec even_b = vec_fma(vec_all(WINOGRAD_BB), g2, g0);

    u[0] = g0;
    u[1] = vec_fma(vec_all(WINOGRAD_A), g1, even_a);
    u[2] = vec_fnma(vec_all(WINOGRAD_A), g1, even_a);
    u[3] = vec_fma(vec_all(WINOGRAD_B), g1, even_b);
    u[4] = vec_fnma(vec_all(WINOGRAD_B), g1, even_b);
    u[5] = g2;
}

/* c(0) = x^4 - (a^2 + b^2) x^2 + 1, c(+-a) = (x^4 - b^2 x^2) +- a (x^3 - b^2 x), c(infinity) = x c(0). */
ALWAYS_INLINE void winograd_input_line(const vec d[WINOGRAD_IN], vec v[WINOGRAD_IN])
{
    vec sum = vec_all(WINOGRAD_AA + WINOGRAD_BB), aa = vec_all(WINOGRAD_AA), bb = vec_all(WINOGRAD_BB);
    vec even_a = vec_fnma(bb, d[2], d[4]), odd_a = vec_fnma(bb, d[1], d[3]);
    vec even_b = vec_fnma(aa, d[2], d[4]), odd_b = vec_fnma(aa, d[1], d[3]);

    v[0] = vec_fnma(sum, d[2], d[0] + d[4]);
    v[1] = vec_fma(vec_all(WINOGRAD_A), odd_a, even_a);
    v[2] = vec_fnma(vec_all(WINOGRAD_A), odd_a, even_a);
    v[3] = vec_fma(vec_all(WINOGRAD_B), odd_b, even_b);
    v[4] = vec_fnma(vec_all(WINOGRAD_B), odd_b, even_b);
    v[5] = vec_fnma(sum, d[3], d[1] + d[5]);
}

ALWAYS_INLINE void winograd_output_line(const vec m[WINOGRAD_IN], vec y[WINOGRAD_OUT])
{
    vec even_a = m[1] + m[2], odd_a = m[1] - m[2];
    vec even_b = m[3] + m[4], odd_b = m[3] - m[4];

    y[0] = vec_fma(vec_all(WINOGRAD_FB), even_b, vec_fma(vec_all(WINOGRAD_FA), even_a, m[0]));
    y[1] = vec_fma(vec_all(WINOGRAD_FB * WINOGRAD_B), odd_b, vec_all(WINOGRAD_FA * WINOGRAD_A) * odd_a);
    y[2] = vec_fma(vec_all(WINOGRAD_FB * WINOGRAD_BB), even_b, vec_all(WINOGRAD_FA * WINOGRAD_AA) * even_a);
    y[3] = vec_fma(vec_all(WINOGRAD_FB * WINOGRAD_BB * WINOGRAD_B), odd_b,
                   vec_fma(vec_all(WINOGRAD_FA * WINOGRAD_AA * WINOGRAD_A), odd_a, m[5]));
}

/* For the weights' gradient, d loss / d u_p = f(p) (d loss / d y)(p) v_p: values of the outputs' gradient, a polynomial of four terms. f is
 * left to winograd_tap_line. */
ALWAYS_INLINE void winograd_gradient_line(const vec y[WINOGRAD_OUT], vec m[WINOGRAD_IN])
{
    vec even_a = vec_fma(vec_all(WINOGRAD_AA), y[2], y[0]), odd_a = vec_fma(vec_all(WINOGRAD_AA), y[3], y[1]);
    vec even_b = vec_fma(vec_all(WINOGRAD_BB), y[2], y[0]), odd_b = vec_fma(vec_all(WINOGRAD_BB), y[3], y[1]);

    m[0] = y[0];
    m[1] = vec_fma(vec_all(WINOGRAD_A), odd_a, even_a);
    m[2] = vec_fnma(vec_all(WINOGRAD_A), odd_a, even_a);
    m[3] = vec_fma(vec_all(WINOGRAD_B), odd_b, even_b);
    m[4] = vec_fnma(vec_all(WINOGRAD_B), odd_b, even_b);
    m[5] = y[3];
}

/* G^T f u: from d loss / d u without f to d loss / d g. */
ALWAYS_INLINE void winograd_tap_line(const vec u[WINOGRAD_IN], vec g[3])
{
    vec even_a = u[1] + u[2], odd_a = u[1] - u[2];
    vec even_b = u[3] + u[4], odd_b = u[3] - u[4];

    g[0] = vec_fma(vec_all(WINOGRAD_FB), even_b, vec_fma(vec_all(WINOGRAD_FA), even_a, u[0]));
    g[1] = vec_fma(vec_all(WINOGRAD_FB * WINOGRAD_B), odd_b, vec_all(WINOGRAD_FA * WINOGRAD_A) * odd_a);
    g[2] = vec_fma(vec_all(WINOGRAD_FB * WINOGRAD_BB), even_b, vec_fma(vec_all(WINOGRAD_FA * WINOGRAD_AA), even_a, u[5]));
}

/* F(2, 3): c(0) = x^2 - a^2, c(+-a) = x^2 +- a x, c(infinity) = x c(0); f(0) = -1 / a^2, f(+-a) = 1 / (2 a^2). v[3] and v[4] stay as they are. */
ALWAYS_INLINE void winograd_narrow_input_line(const vec d[WINOGRAD_IN], vec v[WINOGRAD_IN])
{
    v[0] = vec_fnma(vec_all(WINOGRAD_AA), d[0], d[2]);
    v[1] = vec_fma(vec_all(WINOGRAD_A), d[1], d[2]);
    v[2] = vec_fnma(vec_all(WINOGRAD_A), d[1], d[2]);
    v[5] = vec_fnma(vec_all(WINOGRAD_AA), d[1], d[3]);
}

ALWAYS_INLINE void winograd_narrow_output_line(const vec m[WINOGRAD_IN], vec y[WINOGRAD_OUT])
{
    const float f0 = -1.0f / WINOGRAD_AA, fa = 0.5f / WINOGRAD_AA;

    y[0] = vec_fma(vec_all(f0), m[0], vec_all(fa) * (m[1] + m[2]));
    y[1] = vec_fma(vec_all(fa * WINOGRAD_A), m[1] - m[2], m[5]);
}

#endif
