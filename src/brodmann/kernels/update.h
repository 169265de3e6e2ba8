// Update: weights move by their gradient delta^T x, tile by tile, as soon as a tile of it is known. Weights that receive
// the same factors move together: their gradient is computed once.

#pragma once

#include <type_traits>
#include <vector>

#include "groups.h"
#include "moves.h"
#include "numbers.h"
#include "products.h"
#include "shares.h"

namespace {

// Outputs of a tile of an area with so many rows. With few it is the way of the weights from memory that takes time: one
// output after the other is one long stretch of it. With many it is the products, which need tall tiles.
constexpr int64_t outputs_of_tile(int64_t rows) {
  return rows <= 4 ? 1 : rows <= (kRegisters == 32 ? 12 : 6) ? 2 : kRows;
}

// Vectors beside each other in a tile: as many as the registers hold.
constexpr int vectors_of_tile(int outputs) {
  return outputs == 1 ? 4 * kVectors : outputs == 2 ? 2 * kVectors : kVectors;
}

// gradient[o][0 .. V vectors) = sum over rows of delta[row][o] x[row][0 .. V vectors) for O outputs, which lie `across`
// apart; of x there are `count` numbers, the others are zero.
template <int O, int V, class C, class X, class Count>
__attribute__((always_inline)) inline void gradient_tile(const Groups& groups, int64_t group, int64_t inputs,
                                                         int64_t outputs, const X* delta, const X* x, Count count,
                                                         C* gradient, int64_t across) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[O][V];
  UNROLLED for (int o = 0; o < O; ++o) {
    UNROLLED for (int v = 0; v < V; ++v) sums[o][v] = Vector<C>{};
  }
  for (int64_t position = groups.bounds[group]; position < groups.bounds[group + 1]; ++position) {
    const int64_t row = groups.row(position);
    const X *from = x + row * inputs, *error = delta + row * outputs;
    decltype(load(from)) value[V];
    UNROLLED for (int v = 0; v < V; ++v) value[v] = load(from + v * lanes, count - v * lanes);
    UNROLLED for (int o = 0; o < O; ++o) {
      const auto factor = everywhere(error[o]);
      UNROLLED for (int v = 0; v < V; ++v) multiply_add(sums[o][v], factor, value[v]);
    }
  }
  UNROLLED for (int o = 0; o < O; ++o) {
    UNROLLED for (int v = 0; v < V; ++v) store(sums[o][v], gradient + o * across + v * lanes, lanes);
  }
}

// gradient[o][0 .. count) of O outputs, in tiles of V vectors and then of fewer.
template <int O, int V, class C, class X>
inline void gradient_tiles(const Groups& groups, int64_t group, int64_t inputs, int64_t outputs, const X* delta,
                           const X* x, int64_t count, C* gradient, int64_t across) {
  constexpr std::integral_constant<int64_t, V * Lanes<C>::count> width;
  int64_t i = 0;
  for (; i + width <= count; i += width) {
    gradient_tile<O, V>(groups, group, inputs, outputs, delta, x + i, width, gradient + i, across);
  }
  if (i == count) return;
  if constexpr (V > 1) {
    gradient_tiles<O, V / 2>(groups, group, inputs, outputs, delta, x + i, count - i, gradient + i, across);
  } else {
    gradient_tile<O, 1>(groups, group, inputs, outputs, delta, x + i, count - i, gradient + i, across);
  }
}

// Few rows: moves the weights of O outputs, a stretch of inputs at a time.
template <int O, class C, class X, class W>
inline void update_few(const Moves<C, W>& moves, const Groups& groups, int64_t group, int64_t base, int64_t inputs,
                       int64_t outputs, const X* delta, const X* x) {
  constexpr int64_t stretch = 256;
  alignas(64) C gradient[O * stretch];
  for (int64_t i = 0; i < inputs; i += stretch) {
    const W* next = moves.weight() + base + i + stretch;
    for (int64_t o = 0; o < O; ++o) {  // the next stretch arrives while this one's gradient is summed
      for (int64_t k = 0; k < std::min(stretch, inputs); k += 64 / sizeof(W)) {
        __builtin_prefetch(next + o * inputs + k, 1);
      }
    }
    const int64_t count = std::min(stretch, inputs - i);
    gradient_tiles<O, vectors_of_tile(O)>(groups, group, inputs, outputs, delta, x + i, count, gradient, stretch);
    moves(group, base + i, {gradient, O, stretch, inputs, count});
  }
}

// Returns the deltas of some outputs of a group, (outputs, rows of the group).
template <class X>
inline const X* transposed(const Groups& groups, const Item& item, int64_t outputs, const X* delta) {
  static thread_local std::vector<X> kept;
  const int64_t rows = groups.rows(item.group);
  kept.resize((item.end - item.begin) * rows);
  for (int64_t k = 0; k < rows; ++k) {
    const X* from = delta + groups.row(groups.bounds[item.group] + k) * outputs;
    for (int64_t o = item.begin; o < item.end; ++o) kept[(o - item.begin) * rows + k] = from[o];
  }
  return kept.data();
}

// Many rows: moves the weights of an item's outputs, from input i on, V vectors of inputs at a time and then one.
template <int V, class C, class X, class W>
inline void update_many(const Moves<C, W>& moves, const Groups& groups, const Item& item, int64_t base, int64_t i,
                        int64_t inputs, const X* deltas, const X* x) {
  constexpr std::integral_constant<int64_t, V * Lanes<C>::count> width;
  static thread_local std::vector<C> gradient;
  const int64_t height = item.end - item.begin, bounds[] = {0, height};
  const Groups outputs{1, nullptr, bounds, nullptr, nullptr};
  const auto advance = [&](auto count) {
    for (int64_t o = 0; o < height; ++o) __builtin_prefetch(moves.weight() + base + o * inputs + i, 1);
    gradient.assign(height * width, C(0));
    const auto copy = [&](int64_t k, int64_t here, X* block) {
      const int64_t first = groups.bounds[item.group] + k;
      for (int64_t position = first; position < first + here; ++position) {
        block = lay_out<V>(x + groups.row(position) * inputs + i, count, block);
      }
    };
    add_product<V>(outputs, 0, groups.rows(item.group), deltas, copy, gradient.data(), width);
    moves(item.group, base + i, {gradient.data(), height, width, inputs, count});
    i += count;
  };
  while (i + width <= inputs) advance(width);
  if constexpr (V > 1) {
    update_many<1>(moves, groups, item, base, i, inputs, deltas, x);
  } else if (i < inputs) {
    advance(inputs - i);
  }
}

template <class C, class X, class W>
void update_all(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const X* delta, const X* x,
                const Moves<C, W>& moves) {
  const auto shares = cut(groups, outputs, inputs, outputs_of_tile, threads);
  each(shares, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    const int64_t rows = groups.rows(item.group), weight = groups.slot(item.group) * outputs * inputs;
    if (rows >= kMany) {
      const X* deltas = transposed(groups, item, outputs, delta);
      return update_many<kVectors>(moves, groups, item, weight + item.begin * inputs, 0, inputs, deltas, x);
    }
    for (int64_t o = item.begin; o < item.end; o += outputs_of_tile(rows)) {
      as_constant<kRows>(std::min(outputs_of_tile(rows), item.end - o), [&](auto height) {
        update_few<height>(moves, groups, item.group, weight + o * inputs, inputs, outputs, delta + o, x);
      });
    }
  });
}

template <class C, class W>
void update(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const C* delta, const C* x,
            const Moves<C, W>& moves) {
  update_all(threads, groups, inputs, outputs, delta, x, moves);
}

// Biases: as weights on an input that is always one.
template <class C>
void update_bias(const Groups& groups, int64_t outputs, const C* delta, const Moves<C, C>& moves) {
  std::vector<C> gradient(outputs + Lanes<C>::count);
  for (int64_t group = 0; group < groups.count; ++group) {
    std::fill(gradient.begin(), gradient.end(), C(0));
    for (int64_t position = groups.bounds[group]; position < groups.bounds[group + 1]; ++position) {
      const C* row = delta + groups.row(position) * outputs;
      for (int64_t o = 0; o < outputs; ++o) gradient[o] += row[o];
    }
    moves(group, groups.slot(group) * outputs, {gradient.data(), 1, outputs, outputs, outputs});
  }
}

}  // namespace
