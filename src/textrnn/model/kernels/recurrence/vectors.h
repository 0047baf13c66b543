/* Vectors of the CPU's width and the cells' functions: exp, tanh, sigmoid, and one blocked product. */
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef REAL
#define REAL float
#endif
#ifndef LOW
#define LOW 0
#endif
typedef REAL real;

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define MANY_REGISTERS 1
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define MANY_REGISTERS 0
#elif defined(__aarch64__)
#define VECTOR_BYTES 16
#define MANY_REGISTERS 1
#else
#define VECTOR_BYTES 16
#define MANY_REGISTERS 0
#endif

#define VL ((int)(VECTOR_BYTES / sizeof(real)))
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real loose_vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(real)), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

INLINE vec load(const real *p, int n) {
  if (n == VL) return *(const loose_vec *)p;
  vec v = {0};
  memcpy(&v, p, n * sizeof(real));
  return v;
}

INLINE void store(real *p, vec v, int n) {
  if (n == VL)
    *(loose_vec *)p = v;
  else
    memcpy(p, &v, n * sizeof(real));
}

INLINE vec splat(real x) { return x - (vec){0}; }

#define IS_FLOAT (sizeof(real) == sizeof(float))

typedef float fvec __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t ivec __attribute__((vector_size(VECTOR_BYTES)));

INLINE fvec choose(ivec mask, fvec yes, fvec no) { return (fvec)((mask & (ivec)yes) | (~mask & (ivec)no)); }

/* exp by 2^n times a polynomial of degree 6, relative error 1e-7; the constants are those of Cephes' expf. */
INLINE fvec exp_float(fvec x) {
  x = choose(x > 88.0f, (fvec){0} + 88.0f, x); /* NaN stays NaN: comparisons with it are false */
  x = choose(x < -87.0f, (fvec){0} - 87.0f, x);
  fvec n = (x * 1.44269504f + 12582912.0f) - 12582912.0f; /* to the nearest integer */
  fvec f = x - n * 0.693359375f + n * 2.12194440e-4f;
  fvec p = f * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * f + 8.3334519073e-3f;
  p = p * f + 4.1665795894e-2f;
  p = p * f + 1.6666665459e-1f;
  p = p * f + 5.0000001201e-1f;
  p = p * (f * f) + f + 1.0f;
  ivec power = (__builtin_convertvector(n, ivec) + 127) << 23;
  return p * (fvec)power;
}

/* tanh: odd polynomial near 0 (Cephes' tanhf), where 1 - 2 / (exp(2x) + 1) would lose digits. */
INLINE fvec tanh_float(fvec x) {
  fvec z = x * x;
  fvec p = z * -5.70498872745e-3f + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  fvec near = x + x * z * p, far = 1.0f - 2.0f / (exp_float(2.0f * x) + 1.0f);
  return choose(z < 0.390625f, near, far);
}

INLINE vec sigmoid_v(vec x) {
  if (IS_FLOAT) return (vec)(1.0f / (1.0f + exp_float(-(fvec)x)));
  for (int i = 0; i < VL; i++) x[i] = 1 / (1 + exp(-x[i]));
  return x;
}

INLINE vec tanh_v(vec x) {
  if (IS_FLOAT) return (vec)tanh_float((fvec)x);
  for (int i = 0; i < VL; i++) x[i] = tanh(x[i]);
  return x;
}

/* x times relu's derivative where relu gave h; where h is NaN it is 1, as in torch. */
INLINE vec relu_gradient_v(vec h, vec x) {
  if (IS_FLOAT) return (vec)choose((fvec)h <= 0.0f, (fvec){0}, (fvec)x);
  for (int i = 0; i < VL; i++) x[i] = h[i] <= 0 ? 0 : x[i];
  return x;
}

/* max(0, x); NaN stays NaN. */
INLINE vec relu_v(vec x) {
  if (IS_FLOAT) return (vec)choose((fvec)x < 0.0f, (fvec){0}, (fvec)x);
  for (int i = 0; i < VL; i++) x[i] = x[i] < 0 ? 0 : x[i];
  return x;
}

/* What is kept of all tokens (`kept_t`: gates, extra) and what is multiplied (`factor_t`): reals, or with LOW bfloat16,
 * of which the processor multiplies two pairs at a time and adds them in float32. */
#if LOW
#include <immintrin.h>
typedef uint16_t kept_t, factor_t;

INLINE vec load_kept(const kept_t *p, int n) {
  uint16_t part[VL];
  if (n < VL) memcpy(memset(part, 0, sizeof part), p, n * sizeof *p), p = part;
  __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
  return (vec)_mm512_slli_epi32(wide, 16);
}

INLINE void store_kept(kept_t *p, vec v, int n) {
  __m256i low = (__m256i)_mm512_cvtneps_pbh((__m512)v);
  if (n == VL)
    _mm256_storeu_si256((__m256i *)p, low);
  else
    memcpy(p, &low, n * sizeof *p);
}

/* As below, with packed weights [blocks * VL / 2][width][VL][2]. */
INLINE void multiply(vec *sum, const factor_t *packed, const factor_t *factor, int64_t blocks, const int rows,
                     const int width) {
  for (int64_t b = 0; b < blocks; b++, factor += rows * VL)
    for (int k = 0; k < VL; k += 2, packed += width * VL * 2) {
      __m512i weight[4];
      UNROLL for (int w = 0; w < width; w++) weight[w] = _mm512_load_si512(packed + w * VL * 2);
      UNROLL for (int r = 0; r < rows; r++) {
        int32_t pair;
        memcpy(&pair, factor + r * VL + k, sizeof pair);
        __m512bh s = (__m512bh)_mm512_set1_epi32(pair);
        UNROLL for (int w = 0; w < width; w++)
          sum[r * width + w] = (vec)_mm512_dpbf16_ps((__m512)sum[r * width + w], (__m512bh)weight[w], s);
      }
    }
}
#else
typedef real kept_t, factor_t;
#define load_kept load
#define store_kept store

/* sum[r][w] += factor (rows, blocks * VL), kept as [block][row][VL], times packed weights [blocks * VL][width][VL].
 * Of both factors the fewer wait in registers for the others to come one by one, so that all sums stay in registers. */
INLINE void multiply(vec *sum, const factor_t *packed, const factor_t *factor, int64_t blocks, const int rows,
                     const int width) {
  for (int64_t b = 0; b < blocks; b++, factor += rows * VL)
    for (int k = 0; k < VL; k++, packed += width * VL) {
      if (rows < width) {
        vec s[4];
        UNROLL for (int r = 0; r < rows; r++) s[r] = splat(factor[r * VL + k]);
        UNROLL for (int w = 0; w < width; w++) {
          const vec weight = *(const vec *)(packed + w * VL);
          UNROLL for (int r = 0; r < rows; r++) sum[r * width + w] += s[r] * weight;
        }
      } else {
        vec weight[4];
        UNROLL for (int w = 0; w < width; w++) weight[w] = *(const vec *)(packed + w * VL);
        UNROLL for (int r = 0; r < rows; r++) {
          const vec s = splat(factor[r * VL + k]);
          UNROLL for (int w = 0; w < width; w++) sum[r * width + w] += s * weight[w];
        }
      }
    }
}
#endif
