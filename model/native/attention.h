// Causal attention over packed rows in buckets of sequences that begin with equally long prefixes.
//
// A bucket has `batch` sequences of `q` query places and `t` key places, t ≥ q: the query at place i sees the keys up to
// t − q + i. Each place names a row of the pack, or −1 for padding. A prompt that several sequences begin with is a row
// named several times, so it is computed once. Queries go through in blocks, so memory is linear in length; the backward
// computes each block's weights again.
#pragma once

namespace sinternal {
namespace {

// Elements of a block of scores, at most.
constexpr int64_t BLOCK_ELEMENTS = int64_t(1) << 23;
constexpr int64_t BLOCK_QUERIES = 256;

struct Bucket {
  int64_t batch, q, t;
  const int64_t *queries, *keys;
};

// plan: [buckets, 3] of batch, q, t; places of all buckets follow each other.
inline std::vector<Bucket> buckets(const Tensor& plan, const Tensor& queries, const Tensor& keys) {
  std::vector<Bucket> out;
  const int64_t* p = plan.data_ptr<int64_t>();
  const int64_t *query = queries.data_ptr<int64_t>(), *key = keys.data_ptr<int64_t>();
  for (int64_t i = 0; i < plan.size(0); i++, p += 3) {
    out.push_back({p[0], p[1], p[2], query, key});
    query += p[0] * p[1];
    key += p[0] * p[2];
  }
  return out;
}

struct Shape {
  int64_t heads, kv, dim, window;
  int64_t all() const { return heads + 2 * kv; }
  int64_t group() const { return heads / kv; }
};

// Walks places [first, first + count) of `width`: f(row, head, index), where row is that of the pack or −1, head counts from
// 0, and index is the place in a tensor [batch · kv, group · count, dim], in units of dim.
template <typename F>
void each_place(int64_t group, const Shape& s, const int64_t* places, int64_t batch, int64_t width, int64_t first,
                int64_t count, F f) {
  at::parallel_for(0, batch * s.kv, 1, [&](int64_t begin, int64_t end) {
    for (int64_t bk = begin; bk < end; bk++)
      for (int64_t g = 0; g < group; g++)
        for (int64_t i = 0; i < count; i++)
          f(places[(bk / s.kv) * width + first + i], (bk % s.kv) * group + g, (bk * group + g) * count + i);
  });
}

// Rows of the pack, from a head on, to places; padding is 0.
template <typename T>
void gather(const T* from, int64_t stride, int64_t first_head, int64_t group, const Shape& s, const int64_t* places,
            int64_t batch, int64_t width, int64_t first, int64_t count, T* to) {
  each_place(group, s, places, batch, width, first, count, [&](int64_t row, int64_t head, int64_t index) {
    if (row < 0)
      std::memset(to + index * s.dim, 0, sizeof(T) * s.dim);
    else
      std::memcpy(to + index * s.dim, from + row * stride + (first_head + head) * s.dim, sizeof(T) * s.dim);
  });
}

// The other way, for queries, whose rows are named once.
template <typename T>
void scatter(const T* from, int64_t stride, int64_t group, const Shape& s, const int64_t* places, int64_t batch,
             int64_t width, int64_t first, int64_t count, T* to) {
  each_place(group, s, places, batch, width, first, count, [&](int64_t row, int64_t head, int64_t index) {
    if (row >= 0) std::memcpy(to + row * stride + head * s.dim, from + index * s.dim, sizeof(T) * s.dim);
  });
}

// One block of queries of a bucket: places [first, first + count), which see keys in [low, high).
struct Block {
  int64_t first, count, low, high;
};

inline std::vector<Block> blocks(const Bucket& b, const Shape& s) {
  int64_t most = std::max<int64_t>(1, BLOCK_ELEMENTS / std::max<int64_t>(1, b.batch * s.heads * b.t));
  int64_t step = std::min(BLOCK_QUERIES, most);
  std::vector<Block> out;
  for (int64_t first = 0; first < b.q; first += step) {
    int64_t count = std::min(step, b.q - first), place = b.t - b.q + first;
    int64_t low = s.window > 0 ? std::max<int64_t>(0, place + 1 - s.window) : 0;
    out.push_back({first, count, low, place + count});
  }
  return out;
}

// Calls f(row, low, high) for each row of scores [batch · kv, group · count, high − low], bounds relative to the block.
template <typename F>
void each_row(const Bucket& b, const Shape& s, const Block& block, F f) {
  at::parallel_for(0, b.batch * s.heads * block.count, GRAIN, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      int64_t place = b.t - b.q + block.first + row % block.count;
      int64_t low = s.window > 0 ? std::max<int64_t>(0, place + 1 - s.window) : 0;
      f(row, low - block.low, place + 1 - block.low);
    }
  });
}

template <typename T>
Tensor weights(const Tensor& q, const Tensor& k, const Bucket& b, const Shape& s, const Block& block) {
  Tensor scores = at::bmm(q, k.transpose(1, 2));
  int64_t n = scores.size(2);
  float scale = 1.0f / std::sqrt(float(s.dim));
  const auto& kernels = row_kernels<T>();
  each_row(b, s, block, [&](int64_t row, int64_t low, int64_t high) {
    kernels.softmax(data<T>(scores) + row * n, low, high, n, scale);
  });
  return scores;
}

struct Attention : Function<Attention> {
  static Tensor forward(AutogradContext* ctx, const Tensor& qkv_, const Tensor& plan, const Tensor& queries,
                        const Tensor& keys, int64_t heads, int64_t kv, int64_t window) {
    Tensor qkv = qkv_.contiguous();
    Shape s{heads, kv, qkv.size(2), window};
    Tensor out = at::empty({qkv.size(0), heads * s.dim}, qkv.options());
    by_kind(qkv, [&](auto* null) {
      using T = ELEMENT(null);
      const int64_t stride = s.all() * s.dim;
      for (const Bucket& b : buckets(plan, queries, keys)) {
        Tensor k = at::empty({b.batch * kv, b.t, s.dim}, qkv.options()), v = at::empty_like(k);
        gather(data<T>(qkv), stride, heads, 1, s, b.keys, b.batch, b.t, 0, b.t, data<T>(k));
        gather(data<T>(qkv), stride, heads + kv, 1, s, b.keys, b.batch, b.t, 0, b.t, data<T>(v));
        for (const Block& block : blocks(b, s)) {
          Tensor q = at::empty({b.batch * kv, s.group() * block.count, s.dim}, qkv.options());
          gather(data<T>(qkv), stride, 0, s.group(), s, b.queries, b.batch, b.q, block.first, block.count, data<T>(q));
          int64_t seen = block.high - block.low;
          Tensor p = weights<T>(q, k.narrow(1, block.low, seen), b, s, block);
          Tensor o = at::bmm(p, v.narrow(1, block.low, seen));
          scatter(data<T>(o), heads * s.dim, s.group(), s, b.queries, b.batch, b.q, block.first, block.count,
                  data<T>(out));
        }
      }
    });
    ctx->save_for_backward({qkv, plan, queries, keys});
    ctx->saved_data["shape"] = std::vector<int64_t>{heads, kv, window};
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    auto saved = ctx->get_saved_variables();
    const Tensor &qkv = saved[0], &plan = saved[1], &queries = saved[2], &keys = saved[3];
    auto shape = ctx->saved_data["shape"].toIntVector();
    Shape s{shape[0], shape[1], qkv.size(2), shape[2]};
    Tensor dout = grads[0].contiguous(), dqkv = at::empty_like(qkv);
    // Keys and values of a shared prompt gather the gradients of several sequences: in float32.
    Tensor dkv = at::zeros({qkv.size(0), 2 * s.kv, s.dim}, at::kFloat);
    by_kind(qkv, [&](auto* null) {
      using T = ELEMENT(null);
      for (const Bucket& b : buckets(plan, queries, keys)) bucket_backward<T>(qkv, dout, b, s, dqkv, dkv);
      const auto& kernels = row_kernels<T>();
      int64_t width = 2 * s.kv * s.dim, stride = s.all() * s.dim;
      at::parallel_for(0, qkv.size(0), GRAIN, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
          kernels.round(dkv.data_ptr<float>() + i * width, data<T>(dqkv) + i * stride + s.heads * s.dim, width);
      });
    });
    Tensor none;
    return {dqkv, none, none, none, none, none, none};
  }

  template <typename T>
  static void bucket_backward(const Tensor& qkv, const Tensor& dout, const Bucket& b, const Shape& s,
                              const Tensor& dqkv, const Tensor& dkv) {
    const int64_t stride = s.all() * s.dim;
    auto options = qkv.options();
    Tensor k = at::empty({b.batch * s.kv, b.t, s.dim}, options), v = at::empty_like(k);
    gather(data<T>(qkv), stride, s.heads, 1, s, b.keys, b.batch, b.t, 0, b.t, data<T>(k));
    gather(data<T>(qkv), stride, s.heads + s.kv, 1, s, b.keys, b.batch, b.t, 0, b.t, data<T>(v));
    float scale = 1.0f / std::sqrt(float(s.dim));
    const auto& kernels = row_kernels<T>();
    for (const Block& block : blocks(b, s)) {
      Tensor q = at::empty({b.batch * s.kv, s.group() * block.count, s.dim}, options), d = at::empty_like(q);
      gather(data<T>(qkv), stride, 0, s.group(), s, b.queries, b.batch, b.q, block.first, block.count, data<T>(q));
      gather(data<T>(dout), s.heads * s.dim, 0, s.group(), s, b.queries, b.batch, b.q, block.first, block.count,
             data<T>(d));
      int64_t seen = block.high - block.low;
      Tensor k_seen = k.narrow(1, block.low, seen), v_seen = v.narrow(1, block.low, seen);
      Tensor p = weights<T>(q, k_seen, b, s, block);
      Tensor dp = at::bmm(d, v_seen.transpose(1, 2));
      each_row(b, s, block, [&](int64_t row, int64_t low, int64_t high) {
        kernels.softmax_backward(data<T>(p) + row * seen, data<T>(dp) + row * seen, low, high, seen, scale);
      });
      Tensor dq = at::bmm(dp, k_seen);
      scatter(data<T>(dq), stride, s.group(), s, b.queries, b.batch, b.q, block.first, block.count, data<T>(dqkv));
      add_keys<T>(at::bmm(dp.transpose(1, 2), q), b, s, block, 0, dkv);
      add_keys<T>(at::bmm(p.transpose(1, 2), d), b, s, block, s.kv, dkv);
    }
  }

  // Adds [batch · kv, seen, dim] to the rows that the places name; each thread has heads of its own.
  template <typename T>
  static void add_keys(const Tensor& from_, const Bucket& b, const Shape& s, const Block& block, int64_t first_head,
                       const Tensor& dkv) {
    Tensor from = from_.contiguous();
    const auto& kernels = row_kernels<T>();
    int64_t seen = block.high - block.low;
    at::parallel_for(0, s.kv, 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; k++)
        for (int64_t i = 0; i < b.batch; i++)
          for (int64_t j = 0; j < seen; j++) {
            int64_t row = b.keys[i * b.t + block.low + j];
            if (row >= 0)
              kernels.add(data<T>(from) + ((i * s.kv + k) * seen + j) * s.dim,
                          dkv.data_ptr<float>() + (row * 2 * s.kv + first_head + k) * s.dim, s.dim);
          }
    });
  }
};

}  // namespace
}  // namespace sinternal
