// Forward: out = weight x + bias + beside, or relu(weight x + bias + beside).

#pragma once

#include "groups.h"
#include "numbers.h"
#include "products.h"
#include "relu.h"
#include "shares.h"

namespace {

// Rows of a register tile of dot products: they stay in the first-level cache while the weights stream by, each read
// once.
constexpr int kDotRows = kRegisters == 32 ? 8 : 4;

// Outputs of such a tile: the fewer its rows, the more, since a sum that stands alone waits for its own last addition.
constexpr int outputs_beside(int64_t rows) {
  return kRegisters == 32 ? (rows > 4 ? 2 : rows > 2 ? 4 : 8) : (rows > 2 ? 3 : 4);
}

// out[r * O + o] = x[r] . weight[o] for R rows and O outputs. On its own: amid its callers the compiler runs out of
// registers.
template <int R, int O, class C, class X, class W>
__attribute__((noinline)) void dot_tile(const X* const* x, const W* weight, int64_t inputs, C* out) {
  Vector<C> sums[R][O] = {};
  if (const int64_t left = inputs % Lanes<C>::count) {  // behind the loop it would cost the loop registers
    const int64_t i = inputs - left;
    decltype(load(weight)) w[O];
    UNROLLED for (int o = 0; o < O; ++o) w[o] = load(weight + o * inputs + i, left);
    UNROLLED for (int r = 0; r < R; ++r) {
      const auto value = load(x[r] + i, left);
      UNROLLED for (int o = 0; o < O; ++o) multiply_add(sums[r][o], value, w[o]);
    }
  }
  int64_t i = 0;
  for (; i + Lanes<C>::count <= inputs; i += Lanes<C>::count) {
    decltype(load(weight)) w[O];
    UNROLLED for (int o = 0; o < O; ++o) {
      w[o] = load(weight + o * inputs + i);
      pin(w[o]);
      fetch(weight + o * inputs + i + kAhead / sizeof(W));
    }
    UNROLLED for (int r = 0; r < R; ++r) {
      auto value = load(x[r] + i);
      pin(value);
      UNROLLED for (int o = 0; o < O; ++o) multiply_add(sums[r][o], value, w[o]);
    }
  }
  sum_lanes<R * O>(&sums[0][0], out);
}

// Outputs o .. o + O - 1 of a group whose tiles have Rows rows at most.
template <int Rows, int O, class C, class X, class W>
inline void dot_outputs(const Groups& groups, int64_t group, int64_t o, int64_t inputs, int64_t outputs, const X* x,
                        const W* weight, const C* bias, C* out) {
  each_tile(groups, group, Rows, [&](int64_t position, int64_t height) {
    const X* from[Rows];
    C result[Rows * O];
    for (int64_t r = 0; r < height; ++r) from[r] = x + groups.row(position + r) * inputs;
    as_constant<Rows>(height, [&](auto rows) { dot_tile<rows, O>(from, weight + o * inputs, inputs, result); });
    for (int64_t r = 0; r < height; ++r) {
      C* to = out + groups.row(position + r) * outputs + o;
      for (int k = 0; k < O; ++k) to[k] = result[r * O + k] + (bias ? bias[o + k] : C(0));
    }
  });
}

// Few rows: every output is a dot product, which reads each weight once and needs no copy of it.
template <int Rows, class C, class X, class W>
void forward_dots(const Groups& groups, int64_t group, int64_t begin, int64_t end, int64_t inputs, int64_t outputs,
                  const X* x, const W* weight, const C* bias, C* out) {
  if constexpr (Rows > 2) {
    if (groups.rows(group) <= Rows / 2) {
      return forward_dots<Rows / 2>(groups, group, begin, end, inputs, outputs, x, weight, bias, out);
    }
  }
  constexpr int side = outputs_beside(Rows);
  int64_t o = begin;
  for (; o + side <= end; o += side) dot_outputs<Rows, side>(groups, group, o, inputs, outputs, x, weight, bias, out);
  for (; o < end; ++o) dot_outputs<Rows, 1>(groups, group, o, inputs, outputs, x, weight, bias, out);
}

inline void copy(Pair* to, Pair from) { *to = from; }

template <class C, class W>
inline void copy(C* to, W from) {
  *to = widen(from);
}

// packed[i][o] = weight[o][i] for one vector of outputs and `depth` inputs; rows of `packed` are `stride` apart.
template <class X, class W>
inline void pack(const W* weight, int64_t inputs, int64_t depth, X* packed, int64_t stride) {
  constexpr int64_t lanes = Lanes<X>::count;
  int64_t i = 0;
  for (; i + lanes <= depth; i += lanes) {
    decltype(load(weight)) block[lanes];
    for (int64_t o = 0; o < lanes; ++o) {
      block[o] = load(weight + o * inputs + i);
    }
    transpose<lanes / 2>(block);
    for (int64_t k = 0; k < lanes; ++k) std::memcpy(packed + (i + k) * stride, &block[k], sizeof block[k]);
  }
  for (; i < depth; ++i) {
    for (int64_t o = 0; o < lanes; ++o) copy(packed + i * stride + o, weight[o * inputs + i]);
  }
}

// Many rows: blocks of the weight are transposed into the first-level cache and then used by all of them.
template <int V, class C, class X, class W>
void forward_many(const Groups& groups, int64_t group, int64_t o, int64_t inputs, int64_t outputs, const X* x,
                  const W* weight, const C* bias, C* out) {
  constexpr int64_t lanes = Lanes<C>::count;
  each_row_of(groups, group, [&](int64_t row) {
    C* to = out + row * outputs + o;
    for (int64_t k = 0; k < V * lanes; ++k) to[k] = bias ? bias[o + k] : C(0);
  });
  const auto turn = [&](int64_t i, int64_t here, X* block) {
    for (int v = 0; v < V; ++v) pack(weight + (o + v * lanes) * inputs + i, inputs, here, block + v * lanes, V * lanes);
  };
  const auto next = [&](int64_t i) {
    const W* begin = i < inputs ? weight + o * inputs + i : weight + (o + V * lanes) * inputs;
    return Block<kDepth, W>{begin, V * lanes, inputs};
  };
  add_product<V>(groups, group, inputs, x, turn, next, out + o, outputs);
}

// Adds what stands beside a part of the output, which is still in its core's cache: both (N, outputs).
template <class C>
void add_beside(const Groups& groups, const Item& item, int64_t outputs, const C* beside, C* out) {
  each_row_of(groups, item.group, [&](int64_t row) {
    const C* const from = beside + row * outputs;
    C* const to = out + row * outputs;
    for (int64_t o = item.begin; o < item.end; ++o) to[o] += from[o];
  });
}

template <class C, class X, class W>
void forward(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const X* x, const W* weights,
             const C* biases, const C* beside, C* out, bool relu) {
  constexpr int64_t lanes = Lanes<C>::count, block = kVectors * lanes;
  const auto step = [](int64_t rows) { return rows < kMany ? outputs_beside(rows) : block; };
  const auto shares = cut(groups, outputs, inputs, step, threads);
  work_off(shares, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    const int64_t slot = groups.slot(item.group);
    const W* weight = weights + slot * outputs * inputs;
    const C* bias = biases ? biases + slot * outputs : nullptr;
    int64_t o = item.begin;
    if (groups.rows(item.group) >= kMany) {
      o = each_vectors<kVectors>(o, item.end, lanes, [&](int64_t at, auto vectors) {
        forward_many<vectors>(groups, item.group, at, inputs, outputs, x, weight, bias, out);
      });
    }
    forward_dots<kDotRows>(groups, item.group, o, item.end, inputs, outputs, x, weight, bias, out);
    if (beside) add_beside(groups, item, outputs, beside, out);
    if (relu) rectify(groups, item, outputs, out);
  });
}

}  // namespace
