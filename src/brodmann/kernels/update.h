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

constexpr int64_t kAhead = 256;  // weights

// Few rows: moves V vectors of the weights of one output, `here` numbers of each. factors[r] and from[r] are what row r
// has of the output's delta and of x.
template <int V, class C, class X, class W, class Count>
__attribute__((always_inline)) inline void update_tile(const Moves<C, W>& moves, int64_t group, int64_t at,
                                                       int64_t rows, const X* factors, const X* const* from, int64_t i,
                                                       Count here) {
  constexpr int64_t lanes = Lanes<C>::count;
  if (rows > 4) {  // with fewer the processor itself looks ahead far enough
    const W* next = moves.weight() + at + i + kAhead;
    for (int64_t k = 0; k < V * lanes; k += 64 / sizeof(W)) __builtin_prefetch(next + k, 1);
  }
  Vector<C> sums[V] = {};
  for (int64_t r = 0; r < rows; ++r) {
    const auto factor = everywhere(factors[r]);
    UNROLLED for (int v = 0; v < V; ++v) multiply_add(sums[v], factor, load(from[r] + i + v * lanes, here));
  }
  moves.each(group, [&](const auto& move) __attribute__((always_inline)) {
    UNROLLED for (int v = 0; v < V; ++v) move(at + i + v * lanes, sums[v], here);
  });
}

// Few rows: it is the way of the weights from memory that takes time, and one output after the other is one long stretch
// of it.
template <class C, class X, class W>
void update_few(const Moves<C, W>& moves, const Groups& groups, const Item& item, int64_t at, int64_t inputs,
                int64_t outputs, const X* delta, const X* x) {
  constexpr std::integral_constant<int64_t, Lanes<C>::count> lanes;
  constexpr int V = 4 * kVectors;
  const int64_t rows = groups.rows(item.group), first = groups.bounds[item.group];
  const X *from[kMany], *errors[kMany];
  for (int64_t r = 0; r < rows; ++r) {
    from[r] = x + groups.row(first + r) * inputs;
    errors[r] = delta + groups.row(first + r) * outputs;
  }
  for (int64_t o = item.begin; o < item.end; ++o, at += inputs) {
    X factors[kMany];
    for (int64_t r = 0; r < rows; ++r) factors[r] = errors[r][o];
    int64_t i = 0;
    for (; i + V * lanes <= inputs; i += V * lanes) {
      update_tile<V>(moves, item.group, at, rows, factors, from, i, lanes);
    }
    for (; i + kVectors * lanes <= inputs; i += kVectors * lanes) {
      update_tile<kVectors>(moves, item.group, at, rows, factors, from, i, lanes);
    }
    for (; i + lanes <= inputs; i += lanes) update_tile<1>(moves, item.group, at, rows, factors, from, i, lanes);
    if (i < inputs) update_tile<1>(moves, item.group, at, rows, factors, from, i, inputs - i);
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
  const auto step = [](int64_t rows) { return rows < kMany ? 1 : kRows; };
  const auto shares = cut(groups, outputs, inputs, step, threads);
  each(shares, groups.rows() * inputs * outputs, threads, [&](const Item& item) {
    const int64_t at = (groups.slot(item.group) * outputs + item.begin) * inputs;
    if (groups.rows(item.group) < kMany) {
      return update_few<C>(moves, groups, item, at, inputs, outputs, delta, x);
    }
    const X* deltas = transposed(groups, item, outputs, delta);
    update_many<kVectors>(moves, groups, item, at, 0, inputs, deltas, x);
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
