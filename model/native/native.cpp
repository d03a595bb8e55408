// Fused operations of a transformer layer on the CPU, each with its own backward, for float32 and bfloat16.
//
// libtorch composes these of many elementwise calls, which cost more than the matrix products between them. A backward
// saves the inputs of its operation alone and computes the rest again.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cstring>
#include <string>

#include "rows.h"

namespace sinternal {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// Rows a thread takes at least.
constexpr int64_t GRAIN = 16;

template <typename T>
T* data(const Tensor& t) {
  return reinterpret_cast<T*>(t.data_ptr());
}

// Calls f with a null pointer to the element type.
template <typename F>
void by_kind(const Tensor& t, F f) {
  if (t.scalar_type() == at::kFloat) {
    f(static_cast<float*>(nullptr));
  } else {
    TORCH_CHECK(t.scalar_type() == at::kBFloat16, "native kernels know float32 and bfloat16");
    f(static_cast<Bf16*>(nullptr));
  }
}
#define ELEMENT(null) std::remove_pointer_t<decltype(null)>

// One float32 row of sums for each thread; their total in the kind of `like`.
struct Partial {
  Tensor sums;
  explicit Partial(int64_t n) : sums(at::zeros({at::get_num_threads(), n}, at::kFloat)) {}
  float* row() { return sums.data_ptr<float>() + at::get_thread_num() * sums.size(1); }
  Tensor total(const Tensor& like) { return sums.sum(0).view_as(like).to(like.scalar_type()); }
};

struct RmsNorm : Function<RmsNorm> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x_, const Tensor& w, double eps) {
    Tensor x = x_.contiguous(), y = at::empty_like(x);
    int64_t n = x.size(-1);
    by_kind(x, [&](auto* null) {
      using T = ELEMENT(null);
      const auto& k = row_kernels<T>();
      at::parallel_for(0, x.numel() / n, GRAIN, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
          k.rms_norm(data<T>(x) + i * n, data<T>(w), data<T>(y) + i * n, n, float(eps));
      });
    });
    ctx->save_for_backward({x, w});
    ctx->saved_data["eps"] = eps;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &w = saved[1];
    Tensor dy = grads[0].contiguous(), dx = at::empty_like(x);
    float eps = float(ctx->saved_data["eps"].toDouble());
    int64_t n = x.size(-1);
    Partial dw(n);
    by_kind(x, [&](auto* null) {
      using T = ELEMENT(null);
      const auto& k = row_kernels<T>();
      at::parallel_for(0, x.numel() / n, GRAIN, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
          k.rms_norm_backward(data<T>(x) + i * n, data<T>(w), data<T>(dy) + i * n, data<T>(dx) + i * n, dw.row(), n, eps);
      });
    });
    return {dx, dw.total(w), Tensor()};
  }
};

struct Swiglu : Function<Swiglu> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gate_up_) {
    Tensor gate_up = gate_up_.contiguous();
    int64_t rows = gate_up.size(0), n = gate_up.size(1) / 2;
    Tensor y = at::empty({rows, n}, gate_up.options());
    by_kind(y, [&](auto* null) {
      using T = ELEMENT(null);
      const auto& k = row_kernels<T>();
      at::parallel_for(0, rows, GRAIN, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          const T* row = data<T>(gate_up) + i * 2 * n;
          k.swiglu(row, row + n, data<T>(y) + i * n, n);
        }
      });
    });
    ctx->save_for_backward({gate_up});
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    Tensor gate_up = ctx->get_saved_variables()[0], dy = grads[0].contiguous(), d = at::empty_like(gate_up);
    int64_t n = gate_up.size(1) / 2;
    by_kind(dy, [&](auto* null) {
      using T = ELEMENT(null);
      const auto& k = row_kernels<T>();
      at::parallel_for(0, gate_up.size(0), GRAIN, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          const T* row = data<T>(gate_up) + i * 2 * n;
          T* to = data<T>(d) + i * 2 * n;
          k.swiglu_backward(row, row + n, data<T>(dy) + i * n, to, to + n, n);
        }
      });
    });
    return {d};
  }
};

// x [n, heads + 2·kv, dim]: queries and keys normed (if there are weights) and rotated, values as they are.
struct Rotate : Function<Rotate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x_, const Tensor& positions, const Tensor& cos,
                        const Tensor& sin, int64_t heads, int64_t kv, const std::optional<Tensor>& q_given,
                        const std::optional<Tensor>& k_given, double eps) {
    Tensor q_norm = q_given.value_or(Tensor()), k_norm = k_given.value_or(Tensor());
    Tensor x = x_.contiguous(), y = at::empty_like(x);
    int64_t all = x.size(1), dim = x.size(2);
    TORCH_CHECK(dim <= MAX_HEAD, "head_dim ", dim, " exceeds ", MAX_HEAD);
    by_kind(x, [&](auto* null) {
      using T = ELEMENT(null);
      const auto& k = row_kernels<T>();
      const T* qw = q_norm.defined() ? data<T>(q_norm) : nullptr;
      const T* kw = k_norm.defined() ? data<T>(k_norm) : nullptr;
      const int64_t* at = positions.data_ptr<int64_t>();
      at::parallel_for(0, x.size(0), GRAIN, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
          const T* from = data<T>(x) + i * all * dim;
          T* to = data<T>(y) + i * all * dim;
          const float *c = cos.data_ptr<float>() + at[i] * dim, *s = sin.data_ptr<float>() + at[i] * dim;
          for (int64_t h = 0; h < heads + kv; h++)
            k.rotate(from + h * dim, h < heads ? qw : kw, c, s, to + h * dim, dim, float(eps));
          std::memcpy(to + (heads + kv) * dim, from + (heads + kv) * dim, sizeof(T) * kv * dim);
        }
      });
    });
    // What is normed is needed again, what is only rotated is not.
    ctx->save_for_backward({q_norm.defined() ? x : Tensor(), positions, cos, sin, q_norm, k_norm});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["kv"] = kv;
    ctx->saved_data["eps"] = eps;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &positions = saved[1], &cos = saved[2], &sin = saved[3];
    const Tensor &q_norm = saved[4], &k_norm = saved[5];
    int64_t heads = ctx->saved_data["heads"].toInt(), kv = ctx->saved_data["kv"].toInt();
    float eps = float(ctx->saved_data["eps"].toDouble());
    Tensor dy = grads[0].contiguous(), dx = at::empty_like(dy);
    int64_t all = dy.size(1), dim = dy.size(2);
    Partial dw(2 * dim);
    by_kind(dy, [&](auto* null) {
      using T = ELEMENT(null);
      const auto& k = row_kernels<T>();
      const T* qw = q_norm.defined() ? data<T>(q_norm) : nullptr;
      const T* kw = k_norm.defined() ? data<T>(k_norm) : nullptr;
      const int64_t* at = positions.data_ptr<int64_t>();
      at::parallel_for(0, dy.size(0), GRAIN, [&](int64_t begin, int64_t end) {
        float* sums = dw.row();
        for (int64_t i = begin; i < end; i++) {
          const T* from = data<T>(dy) + i * all * dim;
          const T* before = qw ? data<T>(x) + i * all * dim : from;
          T* to = data<T>(dx) + i * all * dim;
          const float *c = cos.data_ptr<float>() + at[i] * dim, *s = sin.data_ptr<float>() + at[i] * dim;
          for (int64_t h = 0; h < heads + kv; h++)
            k.rotate_backward(before + h * dim, h < heads ? qw : kw, c, s, from + h * dim, to + h * dim,
                              h < heads ? sums : sums + dim, dim, eps);
          std::memcpy(to + (heads + kv) * dim, from + (heads + kv) * dim, sizeof(T) * kv * dim);
        }
      });
    });
    Tensor none, dq, dk;
    if (q_norm.defined()) {
      Tensor total = dw.sums.sum(0);
      dq = total.narrow(0, 0, dim).to(q_norm.scalar_type());
      dk = total.narrow(0, dim, dim).to(k_norm.scalar_type());
    }
    return {dx, none, none, none, none, none, dq, dk, none};
  }
};

}  // namespace
}  // namespace sinternal

#include "attention.h"

namespace {

thread_local std::string last_error;

// Runs f; a thrown error becomes a null pointer, and its first line is kept for sinternal_error.
template <typename F>
at::Tensor* guarded(F f) {
  try {
    return new at::Tensor(f());
  } catch (const c10::Error& e) {
    last_error = e.what_without_backtrace();
  } catch (const std::exception& e) {
    last_error = e.what();
  }
  return nullptr;
}

std::optional<at::Tensor> if_given(const at::Tensor* t) {
  return t ? std::optional<at::Tensor>(*t) : std::nullopt;
}

}  // namespace

extern "C" {

const char* sinternal_error() { return last_error.c_str(); }

at::Tensor* sinternal_rms_norm(const at::Tensor* x, const at::Tensor* w, double eps) {
  return guarded([&] { return sinternal::RmsNorm::apply(*x, *w, eps); });
}

at::Tensor* sinternal_swiglu(const at::Tensor* gate_up) {
  return guarded([&] { return sinternal::Swiglu::apply(*gate_up); });
}

at::Tensor* sinternal_rotate(const at::Tensor* x, const at::Tensor* positions, const at::Tensor* cos,
                             const at::Tensor* sin, int64_t heads, int64_t kv, const at::Tensor* q_norm,
                             const at::Tensor* k_norm, double eps) {
  return guarded([&] {
    return sinternal::Rotate::apply(*x, *positions, *cos, *sin, heads, kv, if_given(q_norm), if_given(k_norm),
                                    eps);
  });
}

at::Tensor* sinternal_attention(const at::Tensor* qkv, const at::Tensor* plan, const at::Tensor* queries,
                                const at::Tensor* keys, int64_t heads, int64_t kv, int64_t window) {
  return guarded([&] { return sinternal::Attention::apply(*qkv, *plan, *queries, *keys, heads, kv, window); });
}
}
