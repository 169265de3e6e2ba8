// Update: weights move by their gradient delta^T x, stretch by stretch, as soon as one of it is known. Weights that
// receive the same factors move together: their gradient is computed once.

#pragma once

#include <atomic>
#include <type_traits>
#include <vector>

#include "groups.h"
#include "moves.h"
#include "numbers.h"
#include "prefetch.h"
#include "products.h"
#include "shares.h"

namespace {

constexpr int64_t kFew = 8;         // rows of an area (or pairs of them) from which on laying them out pays
constexpr int64_t kNear = 1 << 17;  // bytes of rows that one output after the other finds in a core's own cache
constexpr int64_t kStretch = 3 << 10;  // bytes of an output's weights that move in one go, as memory likes it

// Rows of an area (or pairs of them) from which on it takes panel after panel of kDepth rows, and for each one tile of the
// gradient after the other: all of its rows would have to come from a more distant cache for every tile.
constexpr int64_t kPanels = 4 * kDepth;
constexpr int64_t kSums = 1 << 18;  // bytes of gradient that are summed at a time

// Few rows: moves V vectors of the weights of one output, `here` numbers of each. factors[r] and from[r] are what row r
// has of the output's delta and of x.
template <int V, class C, class Move, class X, class Count>
__attribute__((always_inline)) inline void update_tile(const Move& move, int64_t at, int64_t rows, const X* factors,
                                                       const X* const* from, int64_t i, Count here) {
  constexpr int64_t lanes = Lanes<C>::count;
  Vector<C> sums[V] = {};
  for (int64_t r = 0; r < rows; ++r) {
    const auto factor = everywhere(factors[r]);
    const X* const row = anchored(from[r] + i);
    UNROLLED for (int v = 0; v < V; ++v) multiply_add(sums[v], factor, load(row + v * lanes, here));
  }
  move(at + i, sums, here);
}

// Few rows: it is the way of the weights from memory that takes time, and one output after the other is one long stretch
// of it.
template <class C, class Move, class X>
void update_few(const Move& move, const Groups& groups, const Item& item, int64_t at, int64_t inputs, int64_t outputs,
                const X* delta, const X* x) {
  constexpr std::integral_constant<int64_t, Lanes<C>::count> lanes;
  const int64_t rows = groups.rows(item.group), first = groups.bounds[item.group];
  const X *from[kFew], *errors[kFew];
  for (int64_t r = 0; r < rows; ++r) {
    from[r] = x + groups.row(first + r) * inputs;
    errors[r] = delta + groups.row(first + r) * outputs;
  }
  for (int64_t o = item.begin; o < item.end; ++o, at += inputs) {
    X factors[kFew];
    for (int64_t r = 0; r < rows; ++r) factors[r] = errors[r][o];
    const int64_t rest = each_vectors<4 * kVectors>(0, inputs, lanes, [&](int64_t i, auto vectors) {
      update_tile<vectors, C>(move, at, rows, factors, from, i, lanes);
    });
    if (rest < inputs) update_tile<1, C>(move, at, rows, factors, from, rest, inputs - rest);
  }
}

template <class X>
constexpr int64_t kWidth = kVectors * Lanes<X>::count;  // inputs of a block

// The rows of one call's groups, laid out as blocks of inputs, (blocks, rows, kWidth), so that a block lies in one piece,
// where rows of x may lie in the same few places of a cache. The last block is padded with zeros. Every thread does so for
// itself, once for all outputs of a group that it works on: fetching what another core has just written would take as
// long. Memory is kept from call to call; what is in it belongs to the one call whose number it bears.
template <class X>
class Blocks {
 public:
  Blocks(const Groups& groups, int64_t inputs, const X* x) : groups(groups), inputs(inputs), x(x) {}

  const X* of(int64_t group) const {
    static thread_local std::vector<X> kept;
    static thread_local int64_t kept_call = 0, kept_group = 0;
    if (kept_call == call && kept_group == group) return kept.data();
    kept_call = call, kept_group = group;
    constexpr int64_t width = kWidth<X>;
    const int64_t rows = groups.rows(group);
    kept.resize(rows * tiles_of(inputs, width) * width);
    for (int64_t k = 0; k < rows; ++k) {
      const X* from = x + groups.row(groups.bounds[group] + k) * inputs;
      X* to = kept.data() + k * width;
      int64_t i = 0;
      for (; i + width <= inputs; i += width, to += rows * width) std::memcpy(to, from + i, width * sizeof(X));
      if (i < inputs) std::fill(std::copy(from + i, from + inputs, to), to + width, X{});
    }
    return kept.data();
  }

 private:
  static inline std::atomic<int64_t> calls{0};  // of all updates whose rows share the memory, whatever their weights are

  const Groups& groups;
  const int64_t inputs;
  const X* const x;
  const int64_t call = ++calls;
};

// Lays out the deltas that some rows, from position `first` on, have at outputs begin .. end as tiles, (tiles, rows,
// kRows). Tiles of fewer outputs are padded with zeros.
template <class X>
const X* in_tiles(const Groups& groups, int64_t first, int64_t rows, int64_t begin, int64_t end, int64_t outputs,
                  const X* delta) {
  static thread_local std::vector<X> kept;
  kept.resize(tiles_of(end - begin, kRows) * kRows * rows);
  X* to = kept.data();
  each_tile(end - begin, kRows, [&](int64_t, int64_t o, int64_t here) {
    for (int64_t k = 0; k < rows; ++k, to += kRows) {
      const X* from = delta + groups.row(first + k) * outputs + begin + o;
      if (here == kRows) {
        std::memcpy(to, from, kRows * sizeof(X));
      } else {
        std::fill(std::copy(from, from + here, to), to + kRows, X{});
      }
    }
  });
  return kept.data();
}

template <class C, int R, int V>
using Tile = Vector<C>[R][V];

// sums[r][v] += sum over k of delta[k][r] block[k][v], for the R outputs of a tile and the V vectors of a block that is
// Width vectors wide.
template <class C, int Width, int R, int V, class X>
__attribute__((always_inline)) inline void add_gradient(const X* delta, const X* block, int64_t rows,
                                                        Vector<C> (&sums)[R][V]) {
  constexpr int64_t lanes = Lanes<C>::count;
  for (int64_t k = 0; k < rows; ++k, delta += kRows, block += Width * lanes) {
    decltype(load(block)) x[V];
    UNROLLED for (int v = 0; v < V; ++v) x[v] = load(block + v * lanes);
    UNROLLED for (int r = 0; r < R; ++r) {
      const auto value = everywhere(delta[r]);
      UNROLLED for (int v = 0; v < V; ++v) multiply_add(sums[r][v], value, x[v]);
    }
  }
}

// Writes a tile's gradient, its outputs `stride` apart. On its own: see dot_tile.
template <int R, int V, class C, class X>
__attribute__((noinline)) void gradient_tile(const X* delta, const X* block, int64_t rows, C* gradient,
                                             int64_t stride) {
  constexpr int64_t lanes = Lanes<C>::count;
  Tile<C, R, V> sums = {};
  add_gradient<C, kVectors>(delta, block, rows, sums);
  UNROLLED for (int r = 0; r < R; ++r) {
    UNROLLED for (int v = 0; v < V; ++v) store(sums[r][v], gradient + r * stride + v * lanes, lanes);
  }
}

// Moves a tile's weights, from `at` on, by a gradient that never leaves the registers: beside it they have room for
// plain descent. The next tile's weights set out: its own would come too late. On its own: see dot_tile.
template <int R, int V, class C, class Move, class X>
__attribute__((noinline)) void descend_tile(const Move& move, int64_t at, int64_t inputs, const X* delta,
                                            const X* block, int64_t rows) {
  constexpr std::integral_constant<int64_t, Lanes<C>::count> lanes;
  UNROLLED for (int r = 0; r < R; ++r) move.fetch_weights(at + (R + r) * inputs, V * lanes);
  Tile<C, R, V> sums = {};
  add_gradient<C, kVectors>(delta, block, rows, sums);
  UNROLLED for (int r = 0; r < R; ++r) move(at + r * inputs, sums[r], lanes);
}

// More rows: moves long stretches of a tile's outputs, as memory likes it.
template <class C, class Move, class X>
void update_tiles(const Move& move, const Groups& groups, const Item& item, int64_t at, int64_t inputs, const X* tiles,
                  const X* blocks) {
  constexpr int64_t lanes = Lanes<C>::count, width = kWidth<C>, longest = kStretch / int64_t(sizeof(C)) / width * width;
  const int64_t rows = groups.rows(item.group), height = item.end - item.begin;
  const int64_t stretch = std::clamp<int64_t>(kNear / (rows * sizeof(X)), width, longest) / width * width;
  alignas(64) C gradient[kRows * longest];
  for (int64_t begin = 0; begin < inputs; begin += stretch) {
    const int64_t end = std::min(begin + stretch, inputs);
    each_tile(height, kRows, [&](int64_t tile, int64_t o, int64_t here) {
      as_constant<kRows>(here, [&](auto tall) {
        const X* const delta = tiles + tile * kRows * rows;
        const int64_t first = at + o * inputs;
        int64_t done = begin;
        if constexpr (Move::kind == kDescent) {
          done = each_vectors<kVectors>(begin, end, lanes, [&](int64_t i, auto vectors) {
            const X* const block = blocks + i / width * width * rows + i % width;
            descend_tile<tall, vectors, C>(move, first + i, inputs, delta, block, rows);
          });
        }
        if (done == end) return;
        const int64_t rest = done / width * width;  // where its block begins
        for (int64_t i = rest; i < end; i += width) {
          for (int64_t r = 0; r < here; ++r) move.fetch_weights(first + r * inputs + i, width);
          gradient_tile<tall, kVectors>(delta, blocks + i * rows, rows, gradient + i - rest, stretch);
        }
        move(first + done, Part<C>{gradient + done - rest, here, stretch, inputs, end - done});
      });
    });
  }
}

// Adds a panel's part of a tile's gradient, whose outputs lie `stride` apart. On its own: see dot_tile.
template <int V, class C, class X>
__attribute__((noinline)) void add_panel(const X* delta, const X* block, int64_t rows, C* gradient, int64_t stride) {
  constexpr int64_t lanes = Lanes<C>::count;
  Tile<C, kRows, V> sums;
  UNROLLED for (int r = 0; r < kRows; ++r) {
    UNROLLED for (int v = 0; v < V; ++v) sums[r][v] = load(gradient + r * stride + v * lanes);
  }
  add_gradient<C, V>(delta, block, rows, sums);
  UNROLLED for (int r = 0; r < kRows; ++r) {
    UNROLLED for (int v = 0; v < V; ++v) store(sums[r][v], gradient + r * stride + v * lanes, lanes);
  }
}

// Many rows: moves the weights of an item's inputs, for as many outputs at a time as their sums have room.
template <class C, class Move, class X>
void update_panels(const Move& move, const Groups& groups, const Item& item, int64_t at, int64_t inputs,
                   int64_t outputs, const X* delta, const X* x) {
  static thread_local std::vector<C> gradient;
  constexpr int64_t lanes = Lanes<C>::count;
  const int64_t stride = tiles_of(item.end - item.begin, lanes) * lanes;
  const int64_t most = std::max<int64_t>(kSums / int64_t(sizeof(C)) / stride / kRows, 1) * kRows;
  const int64_t rows_end = groups.bounds[item.group + 1];
  alignas(64) X block[kDepth * kWidth<X>];
  for (int64_t begin = 0; begin < outputs; begin += most) {
    const int64_t end = std::min(begin + most, outputs), height = end - begin;
    gradient.assign(tiles_of(height, kRows) * kRows * stride, C(0));
    for (int64_t first = groups.bounds[item.group]; first < rows_end; first += kDepth) {
      const int64_t rows = std::min(kDepth, rows_end - first);
      const X* const tiles = in_tiles(groups, first, rows, begin, end, outputs, delta);
      for (int64_t i = item.begin; i < item.end; i += kWidth<X>) {
        const int64_t here = std::min(kWidth<X>, item.end - i);
        as_constant<kVectors>(tiles_of(here, lanes), [&](auto vectors) {
          X* to = block;
          for (int64_t k = 0; k < rows; ++k) to = lay_out<vectors>(x + groups.row(first + k) * inputs + i, here, to);
          C* sums = gradient.data() + i - item.begin;
          for (int64_t tile = 0; tile < tiles_of(height, kRows); ++tile, sums += kRows * stride) {
            add_panel<vectors>(tiles + tile * kRows * rows, block, rows, sums, stride);
          }
        });
      }
    }
    each_tile(height, kRows, [&](int64_t tile, int64_t o, int64_t here) {
      const C* const sums = gradient.data() + tile * kRows * stride;
      move(at + (begin + o) * inputs + item.begin, Part<C>{sums, here, stride, inputs, item.end - item.begin});
    });
  }
}

template <class C, class X, class W>
void update(int threads, const Groups& groups, int64_t inputs, int64_t outputs, const X* delta, const X* x,
            const Moves<C, W>& moves) {
  const int64_t size = outputs * inputs, work = groups.rows() * size;
  const auto of_panels = [](int64_t rows) { return rows < kPanels ? 0 : kWidth<X>; };
  work_off(cut(groups, inputs, outputs, of_panels, threads), work, threads, [&](const Item& item) {
    moves.of(item.group, [&](const auto& move) {
      update_panels<C>(move, groups, item, groups.slot(item.group) * size, inputs, outputs, delta, x);
    });
  });
  const auto step = [](int64_t rows) { return rows < kFew ? 1 : rows < kPanels ? kRows : 0; };
  const Blocks<X> blocks(groups, inputs, x);
  work_off(cut(groups, outputs, inputs, step, threads), work, threads, [&](const Item& item) {
    const int64_t at = groups.slot(item.group) * size + item.begin * inputs;
    const int64_t rows = groups.rows(item.group), first = groups.bounds[item.group];
    moves.of(item.group, [&](const auto& move) {
      if (rows < kFew) return update_few<C>(move, groups, item, at, inputs, outputs, delta, x);
      const X* const tiles = in_tiles(groups, first, rows, item.begin, item.end, outputs, delta);
      update_tiles<C>(move, groups, item, at, inputs, tiles, blocks.of(item.group));
    });
  });
}

// Moves the only group's weights, `size` numbers, by their gradient.
template <class C, class W>
void move_by(int threads, const Groups& groups, int64_t size, const C* gradient, const Moves<C, W>& moves) {
  constexpr int64_t piece = 1 << 13, work = 8;  // multiply-adds that a number takes, about
  deal(tiles_of(size, piece), size * work, threads, [&](int64_t index) {
    const int64_t begin = index * piece, count = std::min(piece, size - begin);
    moves.of(0, [&](const auto& move) {
      move(groups.slot(0) * size + begin, Part<C>{gradient + begin, 1, count, count, count});
    });
  });
}

// Biases: as weights on an input that is always one.
template <class C>
void update_bias(const Groups& groups, int64_t outputs, const C* delta, const Moves<C, C>& moves) {
  const Flushed flushed;
  std::vector<C> gradient(outputs);
  for (int64_t group = 0; group < groups.count; ++group) {
    std::fill(gradient.begin(), gradient.end(), C(0));
    each_row_of(groups, group, [&](int64_t row) {
      const C* from = delta + row * outputs;
      for (int64_t o = 0; o < outputs; ++o) gradient[o] += from[o];
    });
    moves.of(group, [&](const auto& move) {
      move(groups.slot(group) * outputs, Part<C>{gradient.data(), 1, outputs, outputs, outputs});
    });
  }
}

}  // namespace
