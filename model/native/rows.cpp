// The row kernels in plain loops that a compiler vectorises. Built with VARIANT = portable, avx2 and avx512.
#include "rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace sinternal {
namespace VARIANT {
namespace {

inline float load(const float* p) { return *p; }
inline void store(float* p, float x) { *p = x; }

inline float load(const Bf16* p) {
  uint32_t bits = uint32_t(p->bits) << 16;
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}

// To nearest, ties to even; NaN stays NaN.
inline void store(Bf16* p, float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  p->bits = uint16_t((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

// e^x within 2 units in the last place: 2^k · e^r with |r| ≤ ln 2 / 2, e^r by its Taylor polynomial of degree 7.
inline float exponential(float x) {
  x = std::min(std::max(x, -87.3f), 88.7f);
  float k = std::nearbyint(x * 1.44269504f);
  float r = x - k * 0.693359375f + k * 2.12194440e-4f;
  float e = 1.0f + r * (1.0f + r * (0.5f + r * (1.6666667e-1f + r * (4.1666668e-2f + r * (8.3333338e-3f + r * (1.3888889e-3f + r * 1.9841270e-4f))))));
  int32_t bits = (int32_t(k) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, 4);
  return e * power;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

template <typename T>
float inverse_rms(const T* x, int64_t n, float eps) {
  float sum = 0;
  for (int64_t i = 0; i < n; i++) {
    float v = load(x + i);
    sum += v * v;
  }
  return 1.0f / std::sqrt(sum / float(n) + eps);
}

template <typename T>
void rms_norm(const T* x, const T* w, T* y, int64_t n, float eps) {
  float r = inverse_rms(x, n, eps);
  for (int64_t i = 0; i < n; i++) store(y + i, load(x + i) * r * load(w + i));
}

// With g = dy · w: dx = r · g − x · r³ · mean(g · x), dw = dy · x · r.
template <typename T>
void rms_norm_backward(const T* x, const T* w, const T* dy, T* dx, float* dw, int64_t n, float eps) {
  float r = inverse_rms(x, n, eps);
  float dot = 0;
  for (int64_t i = 0; i < n; i++) dot += load(dy + i) * load(w + i) * load(x + i);
  float c = dot * r * r * r / float(n);
  for (int64_t i = 0; i < n; i++) {
    float v = load(x + i), d = load(dy + i);
    dw[i] += d * v * r;
    store(dx + i, d * load(w + i) * r - v * c);
  }
}

template <typename T>
void swiglu(const T* gate, const T* up, T* y, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float g = load(gate + i);
    store(y + i, g * sigmoid(g) * load(up + i));
  }
}

template <typename T>
void swiglu_backward(const T* gate, const T* up, const T* dy, T* dgate, T* dup, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    float g = load(gate + i), d = load(dy + i), s = sigmoid(g);
    store(dup + i, d * g * s);
    store(dgate + i, d * load(up + i) * s * (1.0f + g * (1.0f - s)));
  }
}

template <typename T>
void rotate(const T* x, const T* w, const float* cos, const float* sin, T* y, int64_t n, float eps) {
  float v[MAX_HEAD];
  float r = w ? inverse_rms(x, n, eps) : 1.0f;
  for (int64_t i = 0; i < n; i++) v[i] = load(x + i) * r;
  if (w)
    for (int64_t i = 0; i < n; i++) v[i] *= load(w + i);
  int64_t h = n / 2;
  for (int64_t i = 0; i < h; i++) {
    store(y + i, v[i] * cos[i] - v[i + h] * sin[i]);
    store(y + i + h, v[i + h] * cos[i + h] + v[i] * sin[i + h]);
  }
}

template <typename T>
void rotate_backward(const T* x, const T* w, const float* cos, const float* sin, const T* dy, T* dx, float* dw,
                     int64_t n, float eps) {
  float g[MAX_HEAD];
  int64_t h = n / 2;
  for (int64_t i = 0; i < h; i++) {
    float a = load(dy + i), b = load(dy + i + h);
    g[i] = a * cos[i] + b * sin[i + h];
    g[i + h] = b * cos[i + h] - a * sin[i];
  }
  if (!w) {
    for (int64_t i = 0; i < n; i++) store(dx + i, g[i]);
    return;
  }
  float r = inverse_rms(x, n, eps);
  float dot = 0;
  for (int64_t i = 0; i < n; i++) {
    float v = load(x + i);
    dw[i] += g[i] * v * r;
    g[i] *= load(w + i);
    dot += g[i] * v;
  }
  float c = dot * r * r * r / float(n);
  for (int64_t i = 0; i < n; i++) store(dx + i, g[i] * r - load(x + i) * c);
}

template <typename T>
void softmax(T* s, int64_t low, int64_t high, int64_t n, float scale) {
  float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
  for (int64_t i = low; i < high; i++) largest = std::max(largest, load(s + i));
  float sum = 0;
  for (int64_t i = low; i < high; i++) sum += exponential((load(s + i) - largest) * scale);
  float inverse = 1.0f / sum;
  for (int64_t i = low; i < high; i++) store(s + i, exponential((load(s + i) - largest) * scale) * inverse);
  for (int64_t i = 0; i < low; i++) store(s + i, 0.0f);
  for (int64_t i = high; i < n; i++) store(s + i, 0.0f);
}

template <typename T>
void softmax_backward(const T* p, T* dp, int64_t low, int64_t high, int64_t n, float scale) {
  float dot = 0;
  for (int64_t i = low; i < high; i++) dot += load(p + i) * load(dp + i);
  for (int64_t i = low; i < high; i++) store(dp + i, load(p + i) * (load(dp + i) - dot) * scale);
  for (int64_t i = 0; i < low; i++) store(dp + i, 0.0f);
  for (int64_t i = high; i < n; i++) store(dp + i, 0.0f);
}

template <typename T>
void add(const T* x, float* into, int64_t n) {
  for (int64_t i = 0; i < n; i++) into[i] += load(x + i);
}

template <typename T>
void round(const float* x, T* y, int64_t n) {
  for (int64_t i = 0; i < n; i++) store(y + i, x[i]);
}

}  // namespace

template <typename T>
const RowKernels<T>& kernels() {
  static const RowKernels<T> all{rms_norm<T>, rms_norm_backward<T>, swiglu<T>,           swiglu_backward<T>, rotate<T>,
                                 rotate_backward<T>, softmax<T>,    softmax_backward<T>, add<T>,             round<T>};
  return all;
}

template const RowKernels<float>& kernels<float>();
template const RowKernels<Bf16>& kernels<Bf16>();

}  // namespace VARIANT
}  // namespace sinternal
