// Kernels over single rows, compiled once for each instruction set; see rows.cpp.
#pragma once
#include <cstdint>

namespace sinternal {

// A bfloat16 number as its bits, so that this file needs no header of libtorch.
struct Bf16 {
  uint16_t bits;
};

// All sums and intermediate values are float32, whatever T is.
template <typename T>
struct RowKernels {
  // y = x · w / sqrt(mean(x²) + eps), over n elements.
  void (*rms_norm)(const T* x, const T* w, T* y, int64_t n, float eps);
  // dx of the same, and dw added to `dw`.
  void (*rms_norm_backward)(const T* x, const T* w, const T* dy, T* dx, float* dw, int64_t n, float eps);
  // y = silu(gate) · up.
  void (*swiglu)(const T* gate, const T* up, T* y, int64_t n);
  void (*swiglu_backward)(const T* gate, const T* up, const T* dy, T* dgate, T* dup, int64_t n);
  // One head: RMS norm with weights w unless null, then rotation of its halves; n is even and at most MAX_HEAD.
  void (*rotate)(const T* x, const T* w, const float* cos, const float* sin, T* y, int64_t n, float eps);
  void (*rotate_backward)(const T* x, const T* w, const float* cos, const float* sin, const T* dy, T* dx,
                          float* dw, int64_t n, float eps);
  // In place: softmax(scale · s) over [low, high), 0 elsewhere in [0, n).
  void (*softmax)(T* s, int64_t low, int64_t high, int64_t n, float scale);
  // In place on dp: the gradient of s, given p = softmax(scale · s).
  void (*softmax_backward)(const T* p, T* dp, int64_t low, int64_t high, int64_t n, float scale);
  // into += x.
  void (*add)(const T* x, float* into, int64_t n);
  void (*round)(const float* x, T* y, int64_t n);
};

constexpr int64_t MAX_HEAD = 512;

// The best set that this processor runs.
template <typename T>
const RowKernels<T>& row_kernels();

}  // namespace sinternal
