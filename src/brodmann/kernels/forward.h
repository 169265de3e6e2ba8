// Forward: out = weight x + bias.

#pragma once

#include "groups.h"
#include "numbers.h"
#include "shares.h"

namespace {

constexpr int kDotRows = 8;    // rows of a register tile of dot products: they stay in the first-level cache while the
                               // weights stream by, each read once
constexpr int64_t kPack = 16;  // rows of an area from which on transposing its weight pays

// Outputs of such a tile: the fewer its rows, the more, since a sum that stands alone waits for its own last addition.
constexpr int outputs_beside(int64_t rows) { return rows > 4 ? 2 : rows > 2 ? 4 : 8; }

// out[r * O + o] = x[r] . weight[o] for R rows and O outputs. On its own: amid its callers the compiler runs out of
// registers.
template <int R, int O, class C, class X, class W>
__attribute__((noinline)) void dot_tile(const X* const* x, const W* weight, int64_t inputs, C* out) {
  Vector<C> sums[R][O] = {};
  int64_t i = 0;
  for (; i + Lanes<C>::count <= inputs; i += Lanes<C>::count) {
    decltype(load(weight)) w[O];
    for (int o = 0; o < O; ++o) {
      w[o] = load(weight + o * inputs + i);
      pin(w[o]);
      __builtin_prefetch(weight + (o + O) * inputs + i, 0, 2);  // the next tile's weights
    }
    for (int r = 0; r < R; ++r) {
      auto value = load(x[r] + i);
      pin(value);
      for (int o = 0; o < O; ++o) multiply_add(sums[r][o], value, w[o]);
    }
  }
  sum_lanes<R * O>(&sums[0][0], out);
  for (; i < inputs; ++i) {
    for (int r = 0; r < R; ++r) {
      for (int o = 0; o < O; ++o) out[r * O + o] += product(x[r][i], weight[o * inputs + i]);
    }
  }
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
    decltype(load(weight)) block[lanes], next[lanes];
    for (int64_t o = 0; o < lanes; ++o) {
      block[o] = load(weight + o * inputs + i);
      __builtin_prefetch(weight + o * inputs + i + depth, 0, 2);  // the next block of inputs
    }
    for (int64_t stage = 1; stage < lanes; stage *= 2) {  // log2(lanes) interleavings transpose a square
      for (int64_t o = 0; o < lanes / 2; ++o) {
        next[2 * o] = block[o];
        next[2 * o + 1] = block[o + lanes / 2];
        interleave(next[2 * o], next[2 * o + 1]);
      }
      for (int64_t o = 0; o < lanes; ++o) block[o] = next[o];
    }
    for (int64_t k = 0; k < lanes; ++k) std::memcpy(packed + (i + k) * stride, &block[k], sizeof block[k]);
  }
  for (; i < depth; ++i) {
    for (int64_t o = 0; o < lanes; ++o) copy(packed + i * stride + o, weight[o * inputs + i]);
  }
}

// to[r][0 .. V vectors) += sum over i of x[r][i] packed[i][0 .. V vectors)
template <int R, int V, class C, class X>
inline void packed_tile(const X* const* x, const X* packed, int64_t depth, C* const* to) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[R][V];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) sums[r][v] = load(to[r] + v * lanes);
  }
  for (int64_t i = 0; i < depth; ++i) {
    decltype(load(packed)) w[V];
    for (int v = 0; v < V; ++v) w[v] = load(packed + (i * V + v) * lanes);
    for (int r = 0; r < R; ++r) {
      const auto value = everywhere(x[r][i]);
      for (int v = 0; v < V; ++v) multiply_add(sums[r][v], value, w[v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) std::memcpy(to[r] + v * lanes, &sums[r][v], sizeof(Vector<C>));
  }
}

// Many rows: blocks of the weight are transposed into the first-level cache and then used by all rows.
template <int V, class C, class X, class W>
void forward_packed(const Groups& groups, int64_t group, int64_t o, int64_t inputs, int64_t outputs, const X* x,
                    const W* weight, const C* bias, C* out) {
  constexpr int64_t lanes = Lanes<C>::count, depth = 128;
  alignas(64) X packed[depth * V * lanes];
  for (int64_t place = groups.bounds[group]; place < groups.bounds[group + 1]; ++place) {
    C* to = out + groups.row(place) * outputs + o;
    for (int64_t k = 0; k < V * lanes; ++k) to[k] = bias ? bias[o + k] : C(0);
  }
  for (int64_t i = 0; i < inputs; i += depth) {
    const int64_t here = std::min(depth, inputs - i);
    for (int v = 0; v < V; ++v)
      pack(weight + (o + v * lanes) * inputs + i, inputs, here, packed + v * lanes, V * lanes);
    each_tile(groups, group, kRows, [&](int64_t position, int64_t height) {
      const X* from[kRows];
      C* to[kRows];
      for (int64_t r = 0; r < height; ++r) {
        const int64_t row = groups.row(position + r);
        from[r] = x + row * inputs + i;
        to[r] = out + row * outputs + o;
      }
      as_constant<kRows>(height, [&](auto rows) { packed_tile<rows, V>(from, packed, here, to); });
    });
  }
}

template <class C, class X, class W>
void forward_all(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const X* x, const W* weights,
                 const C* biases, C* out) {
  constexpr int64_t lanes = Lanes<C>::count, block = kVectors * lanes;
  const auto step = [](int64_t rows) { return rows < kPack ? outputs_beside(rows) : block; };
  const auto shares = cut(groups, outputs, inputs, step, threads);
  each(shares, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    const int64_t slot = groups.slot(item.group);
    const W* weight = weights + slot * outputs * inputs;
    const C* bias = biases ? biases + slot * outputs : nullptr;
    int64_t o = item.begin;
    if (groups.rows(item.group) >= kPack) {
      for (; o + block <= item.end; o += block) {
        forward_packed<kVectors>(groups, item.group, o, inputs, outputs, x, weight, bias, out);
      }
      for (; o + lanes <= item.end; o += lanes) {
        forward_packed<1>(groups, item.group, o, inputs, outputs, x, weight, bias, out);
      }
    }
    forward_dots<kDotRows>(groups, item.group, o, item.end, inputs, outputs, x, weight, bias, out);
  });
}

template <class C, class W>
void forward(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const C* x, const W* weights,
             const C* biases, C* out) {
  forward_all(threads, groups, inputs, outputs, x, weights, biases, out);
}

}  // namespace
