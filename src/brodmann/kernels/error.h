// Error down: below += delta weight, or (below + delta weight) relu'(..), the derivative where a ReLU's output is known.

#pragma once

#include "groups.h"
#include "numbers.h"
#include "products.h"
#include "relu.h"
#include "shares.h"

namespace {

// below[r][0 .. V vectors) += sum over o of delta[r][o] weight[o][0 .. V vectors), of the last vector `here` numbers alone
// (V = 1). On its own: see dot_tile.
template <int R, int V, class C, class W, class Count>
__attribute__((noinline)) void error_tile(const C* const* delta, const W* weight, int64_t inputs, int64_t outputs,
                                          C* const* below, int64_t i, Count here) {
  constexpr int64_t lanes = Lanes<C>::count;
  weight += i;
  Vector<C> sums[R][V];
  UNROLLED for (int r = 0; r < R; ++r) {
    UNROLLED for (int v = 0; v < V; ++v) sums[r][v] = load(below[r] + i + v * lanes, here);
  }
  const W* ahead = weight + kAhead / int64_t(V * lanes * sizeof(W)) * inputs;
  for (int64_t o = 0; o < outputs; ++o, ahead += inputs) {
    Vector<C> w[V];
    UNROLLED for (int v = 0; v < V; ++v) {
      w[v] = load(weight + o * inputs + v * lanes, here);
      pin(w[v]);
      fetch(ahead + v * lanes);
    }
    UNROLLED for (int r = 0; r < R; ++r) {
      auto value = everywhere(delta[r][o]);
      pin(value);
      UNROLLED for (int v = 0; v < V; ++v) multiply_add(sums[r][v], value, w[v]);
    }
  }
  UNROLLED for (int r = 0; r < R; ++r) {
    UNROLLED for (int v = 0; v < V; ++v) store(sums[r][v], below[r] + i + v * lanes, here);
  }
}

// Rows of an area from which on copying a block pays: later than for outputs, since the weights lie in order as they are,
// but soon where tiles are narrow.
constexpr int64_t kManyErrors = kRegisters == 32 ? 3 * kMany : kMany;

// Many rows: blocks of the weight are copied into the first-level cache and then used by all of them.
template <int V, class C, class W>
void error_many(const Groups& groups, int64_t group, int64_t i, int64_t inputs, int64_t outputs, const C* deltas,
                const W* weight, C* belows) {
  constexpr std::integral_constant<int64_t, V * Lanes<C>::count> width;
  const auto copy = [&](int64_t o, int64_t here, C* block) {
    for (int64_t k = 0; k < here; ++k) block = lay_out<V>(weight + (o + k) * inputs + i, width, block);
  };
  const auto next = [&](int64_t o) {
    return Block<width, W>{o < outputs ? weight + o * inputs + i : weight + i + width, kDepth, inputs};
  };
  add_product<V>(groups, group, outputs, deltas, copy, next, belows + i, inputs);
}

template <class C, class W>
void error(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const C* deltas, const W* weights,
           C* belows, const C* relu) {
  constexpr int64_t lanes = Lanes<C>::count;
  constexpr std::integral_constant<int64_t, lanes> full;
  const auto shares = cut(groups, inputs, outputs, [](int64_t) { return kVectors * lanes; }, threads);
  work_off(shares, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    const W* weight = weights + groups.slot(item.group) * outputs * inputs;
    int64_t start = item.begin;
    if (groups.rows(item.group) >= kManyErrors) {
      start = each_vectors<kVectors>(start, item.end, lanes, [&](int64_t i, auto vectors) {
        error_many<vectors>(groups, item.group, i, inputs, outputs, deltas, weight, belows);
      });
    }
    if (start < item.end) each_tile(groups, item.group, kRows, [&](int64_t position, int64_t height) {
      const C* delta[kRows];
      C* below[kRows];
      for (int64_t r = 0; r < height; ++r) {
        const int64_t row = groups.row(position + r);
        delta[r] = deltas + row * outputs;
        below[r] = belows + row * inputs;
      }
      const auto tile = [&](int64_t i, auto vectors, auto here) {
        as_constant<kRows>(height, [&](auto rows) {
          error_tile<rows, vectors>(delta, weight, inputs, outputs, below, i, here);
        });
      };
      const int64_t rest =
          each_vectors<kVectors>(start, item.end, lanes, [&](int64_t i, auto vectors) { tile(i, vectors, full); });
      if (rest < item.end) tile(rest, std::integral_constant<int, 1>{}, item.end - rest);
    });
    if (relu) silence(groups, item, inputs, relu, belows);
  });
}

}  // namespace
